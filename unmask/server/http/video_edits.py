"""From bodies of requests for videos, and their files, to what is asked of a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unmask.clips import Clip, ClipLimits
from unmask.clips.reading import read_picture_or_clip
from unmask.editing import (
    DEFAULT_SHARE,
    MAX_PIXELS,
    FrameMasks,
    extend,
    fitted,
    fitted_masks,
    inpaint_clip,
    interpolate,
    interpolate_through,
    outpaint_clip,
    pin,
    restyle_clip,
    revise_clip,
    select,
    still_clip,
)
from unmask.encoding import Size
from unmask.errors import RequestError
from unmask.images import ImageLimits
from unmask.pipeline import MAX_FRAMES, ModelInfo, Scene, whole_slots
from unmask.server.http.bodies import PINS, AnyBody, FileName, Upload
from unmask.server.http.video_schemas import (
    EditVideoBody,
    ExtendVideoBody,
    RemixBody,
    SyncVideoBody,
)

Wanted = dict[str, Any]  # of a model, beside what all bodies tell
LAST: FileName = "last_reference"
REFERENCES: tuple[FileName, ...] = ("input_reference", LAST)


@dataclass(frozen=True)
class VideoReading:
    """How the files of a request to a model are read."""

    info: ModelInfo
    max_bytes: int

    def clip(self, upload: Upload[AnyBody], name: str, param: str | None = None) -> Clip:
        """A clip, or a picture as one of one frame, in pixels of its own. RequestError, naming the
        param."""
        source = self.source(upload, name, param)
        return source if isinstance(source, Clip) else still_clip(source, source.size, self.rate)

    def pins(self, upload: Upload[AnyBody], size: Size) -> dict[int, Clip]:
        """What stands at frames, fitted to a size."""
        pins = upload.pins.items()
        return {frame: fitted(self.clip(upload, name, PINS), size) for frame, name in pins}

    def fitted(self, clip: Clip) -> Clip:
        """The clip at the size of the model."""
        return fitted(clip, self.size)

    @property
    def size(self) -> Size:
        """Width and height of what the model draws."""
        return self.info.width, self.info.height

    def source(self, upload: Upload[AnyBody], name: str, param: str | None = None) -> Any:
        """A picture or a clip, as the content of a file tells. RequestError, naming the param."""
        seconds = MAX_FRAMES / self.rate
        clips = ClipLimits(max_bytes=self.max_bytes, max_seconds=seconds)
        pictures = ImageLimits(self.max_bytes, MAX_PIXELS)
        data = upload.files[name]
        return read_picture_or_clip(data, param or name, pictures, clips, self.rate)

    @property
    def rate(self) -> float:
        """Frames a second of the model."""
        assert self.info.rate is not None, "it draws clips"
        return self.info.rate


Want = Callable[[Upload[Any], VideoReading], Wanted]


def new_video(upload: Upload[SyncVideoBody], reading: VideoReading) -> Wanted:
    """What /v1/videos asks for."""
    body, info = upload.body, reading.info
    length = info.length(body.given_seconds, body.frames)
    if not upload.files:
        scenes = [
            Scene(scene.prompt, whole_slots(float(scene.seconds), info.clip_slot, "scenes"))
            for scene in body.scenes or []
        ]
        return {"frames": length, "scenes": scenes}
    references = [name for name in REFERENCES if name in upload.files]
    given = [*references, PINS]
    if body.scenes:
        raise RequestError(f"scenes: they do not go with {given[0]}: choose one", "scenes")
    if not references:
        return {"edit": pin(reading.pins(upload, reading.size), length)}
    if upload.pins:
        raise RequestError(f"at: it does not go with {given[0]}: choose one", PINS)
    clip, *others = (reading.fitted(reading.clip(upload, name)) for name in references)
    if others:
        return {"edit": interpolate(clip, others[0], length)}
    if length <= len(clip):
        raise RequestError(
            f"{given[0]}: it has {len(clip)} frames, and the video is to have {length}: ask for "
            "more seconds",
            "seconds",
        )
    if given[0] == LAST:
        return {"edit": pin({length - len(clip): clip}, length)}
    return {"edit": extend(clip, length - len(clip))}


def edited_video(upload: Upload[EditVideoBody], reading: VideoReading) -> Wanted:
    """What /v1/videos/edits asks for."""
    body, clip = upload.body, reading.clip(upload, "video")
    mask = reading.source(upload, "mask") if "mask" in upload.files else None
    masks = select(clip, mask, body.mask_mode or "auto", body.box, body.last_box)
    kept = select(clip, None, "auto", body.keep, body.last_keep, "keep")
    _check_one_way(upload, masks is not None)
    clip = fitted(clip, body.width_height or clip.size)
    if upload.pins:
        pins = reading.pins(upload, clip.size)
        return {"edit": interpolate_through(clip, pins, body.strength, body.share)}
    if kept is not None or any(body.sides.values()):
        boxes = None if kept is None else fitted_masks(kept, clip.size)
        return {"edit": outpaint_clip(clip, boxes, **body.sides)}
    if masks is not None:
        masks = fitted_masks(masks, clip.size)
        if body.strength is None and body.share is None:
            return {"edit": inpaint_clip(clip, masks)}
    return _changed(clip, body.strength, body.share, masks)


def _check_one_way(upload: Upload[EditVideoBody], masked: bool) -> None:
    """RequestError for what says in two ways what of a video may change."""
    body = upload.body
    ways: dict[str, bool] = {
        "box or a mask": masked,
        "keep": body.keep is not None,
        **{side: pixels > 0 for side, pixels in body.sides.items()},
        PINS: bool(upload.pins),
        "share": body.share is not None,
        "strength": body.strength is not None,
        "size": body.width_height is not None,
    }
    given = [way for way, there in ways.items() if there]
    outpainting = ["keep", *body.sides]
    company = {"keep": [*outpainting, "size"], PINS: ["strength", "share", "size"]}
    for way in (*outpainting, PINS):
        allowed = company.get(way, outpainting)
        others = [other for other in given if other != way and other not in allowed]
        if way in given and others:
            raise RequestError(f"{way}: it does not go with {others[0]}: choose one", way)


def _changed(
    clip: Clip, strength: float | None, share: float | None, masks: FrameMasks | None = None
) -> Wanted:
    """A clip that is drawn anew in part, or else revised."""
    if strength is not None and share is not None:
        raise RequestError("share: give it or a strength, not both", "share")
    if strength is not None:
        return {"edit": restyle_clip(clip, strength, masks)}
    return {"edit": revise_clip(clip, DEFAULT_SHARE if share is None else share, masks)}


def extended_video(upload: Upload[ExtendVideoBody], reading: VideoReading) -> Wanted:
    """What /v1/videos/extensions asks for."""
    body, info = upload.body, reading.info
    more = info.length(body.given_seconds, body.frames, begun=True)
    return {"edit": extend(reading.fitted(reading.clip(upload, "video")), more)}


def remixed_video(upload: Upload[RemixBody], reading: VideoReading) -> Wanted:
    """What /v1/videos/{id}/remix asks for."""
    body, clip = upload.body, reading.clip(upload, "video")
    return _changed(fitted(clip, body.width_height or clip.size), body.strength, body.share)

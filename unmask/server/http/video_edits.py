"""From bodies of requests for videos, and their files, to what is asked of a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unmask.clips import Clip, ClipLimits
from unmask.clips.reading import read_picture_or_clip
from unmask.editing import (
    DEFAULT_SHARE,
    MAX_PIXELS,
    extend,
    fitted,
    fitted_masks,
    inpaint_clip,
    restyle_clip,
    revise_clip,
    select,
    still_clip,
)
from unmask.errors import RequestError
from unmask.images import ImageLimits
from unmask.pipeline import MAX_FRAMES, ModelInfo, Scene, whole_slots
from unmask.server.http.bodies import AnyBody, FileName, Upload
from unmask.server.http.video_schemas import (
    EditVideoBody,
    ExtendVideoBody,
    RemixBody,
    SyncVideoBody,
)

Wanted = dict[str, Any]  # of a model, beside what all bodies tell


@dataclass(frozen=True)
class VideoReading:
    """How the files of a request to a model are read."""

    info: ModelInfo
    max_bytes: int

    def clip(self, upload: Upload[AnyBody], name: FileName) -> Clip:
        """A clip, or a picture as one of one frame, in pixels of its own. RequestError."""
        source = self.source(upload, name)
        return source if isinstance(source, Clip) else still_clip(source, source.size, self.rate)

    def fitted(self, clip: Clip) -> Clip:
        """The clip at the size of the model."""
        return fitted(clip, (self.info.width, self.info.height))

    def source(self, upload: Upload[AnyBody], name: FileName) -> Any:
        """A picture or a clip, as the content of a file tells. RequestError."""
        seconds = MAX_FRAMES / self.rate
        clips = ClipLimits(max_bytes=self.max_bytes, max_seconds=seconds)
        pictures = ImageLimits(self.max_bytes, MAX_PIXELS)
        return read_picture_or_clip(upload.files[name], name, pictures, clips, self.rate)

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
    if "input_reference" not in upload.files:
        scenes = [
            Scene(scene.prompt, whole_slots(float(scene.seconds), info.clip_slot, "scenes"))
            for scene in body.scenes or []
        ]
        return {"frames": length, "scenes": scenes}
    if body.scenes:
        raise RequestError("scenes: they do not go with an input_reference: choose one", "scenes")
    clip = reading.fitted(reading.clip(upload, "input_reference"))
    if length <= len(clip):
        raise RequestError(
            f"input_reference: it has {len(clip)} frames, and the video is to have {length}: ask "
            "for more seconds",
            "seconds",
        )
    return {"edit": extend(clip, length - len(clip))}


def edited_video(upload: Upload[EditVideoBody], reading: VideoReading) -> Wanted:
    """What /v1/videos/edits asks for."""
    body, clip = upload.body, reading.clip(upload, "video")
    mask = reading.source(upload, "mask") if "mask" in upload.files else None
    masks = select(clip, mask, body.mask_mode or "auto", body.box, body.last_box)
    clip = reading.fitted(clip)
    if masks is not None:
        masks = fitted_masks(masks, clip.size)
    if body.strength is not None and body.share is not None:
        raise RequestError("share: give it or a strength, not both", "share")
    if body.strength is not None:
        edit = restyle_clip(clip, body.strength, masks)
    elif body.share is not None or masks is None:
        edit = revise_clip(clip, DEFAULT_SHARE if body.share is None else body.share, masks)
    else:
        edit = inpaint_clip(clip, masks)
    return {"edit": edit}


def extended_video(upload: Upload[ExtendVideoBody], reading: VideoReading) -> Wanted:
    """What /v1/videos/extensions asks for."""
    body, info = upload.body, reading.info
    more = info.length(body.given_seconds, body.frames, begun=True)
    return {"edit": extend(reading.fitted(reading.clip(upload, "video")), more)}


def remixed_video(upload: Upload[RemixBody], reading: VideoReading) -> Wanted:
    """What /v1/videos/{id}/remix asks for."""
    share = upload.body.share
    clip = reading.fitted(reading.clip(upload, "video"))
    return {"edit": revise_clip(clip, DEFAULT_SHARE if share is None else share)}

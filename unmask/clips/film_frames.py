"""The frames of mp4 and webm files, by PyAV. Only who has ``unmask[video]`` can import this."""

import struct
from collections.abc import Iterator
from functools import partial
from io import BytesIO

import av
from av.sidedata.sidedata import SideData
from PIL import Image

from unmask.clips.enlargement import shrinking
from unmask.clips.limits import ClipLimits
from unmask.clips.shown import DAMAGED, Shown
from unmask.errors import RequestError
from unmask.images import TURNS

DEMUXERS = {"mp4": "mov", "webm": "matroska"}
CODECS = ("av1", "h264", "hevc", "mpeg4", "vp8", "vp9")
HIGH_RANGES = (16, 18)  # transfers of the standard H.273: PQ and HLG
BT709, BT601, UNTOLD = 1, 5, 2  # its matrices
HD_HEIGHT = 720  # of a film that does not tell its colours: from here on they are BT.709's
ONE = 1 << 16  # of a matrix of display, whose numbers are 16.16
# From the matrix's first two rows, (a, b, c, d), where x' = ax + cy and y' = bx + dy, to the
# orientation, as EXIF counts them, that turns a picture so.
ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def film_frames(data: bytes, kind: str, limits: ClipLimits) -> Iterator[Shown]:
    """The frames of a film, upright, RGB; a film that was enlarged when it was written is as small
    as before. Sound is not decoded.

    RequestError for codecs that are not in the list, and for what would come out wrong: interlaced
    frames, high ranges, transparency, pixels that are no squares.
    """
    try:
        with av.open(
            BytesIO(data), "r", format=DEMUXERS[kind], metadata_errors="ignore"
        ) as container:
            stream = _stream(container, limits)
            note = {name.lower(): text for name, text in container.metadata.items()}
            yield from _shown(container, stream, note.get("description", ""), limits)
    except av.error.MemoryError:
        raise MemoryError from None


def _stream(container: av.container.InputContainer, limits: ClipLimits) -> av.VideoStream:
    """The stream of pictures, checked and told its limits; none is decoded yet."""
    moving = [
        stream
        for stream in container.streams.video
        if av.stream.Disposition.attached_pic not in stream.disposition  # the cover of a song
    ]
    if len(moving) != 1:
        raise RequestError(f"it has {len(moving)} streams of pictures; give one with one")
    (stream,) = moving
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in CODECS:
        raise RequestError(f"its codec is not one that is read: {', '.join(CODECS)}")
    _check_size(context.width, context.height, limits)
    if stream.metadata.get("alpha_mode", "0") != "0":
        raise RequestError("it has transparency, which is not read of films")
    if stream.sample_aspect_ratio not in (None, 0, 1):
        raise RequestError("its pixels are not squares")
    context.options = {"max_pixels": str(limits.max_pixels)}
    context.thread_count = 1
    return stream


def _shown(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    note: str,
    limits: ClipLimits,
) -> Iterator[Shown]:
    held: tuple[float, av.VideoFrame] | None = None
    first = 0.0
    usual = shortest = 1.0 / float(stream.average_rate or 1)
    for frame in container.decode(stream):
        _check(frame, limits)
        if held is None:
            first = frame.time or 0.0
            held = (first, frame)
            continue
        start, before = held
        time = frame.time if frame.pts is not None else start + usual
        if time < start:
            raise RequestError("its frames are out of order")
        usual = time - start or usual
        shortest = usual if start == first else min(shortest, usual)
        yield Shown(start, time, partial(_drawn, before, note))
        held = (time, frame)
    if held is None:
        return
    start, last = held
    # Writers that do not know when the last frame ends say that it ends at once.
    length = max(float(last.duration * (last.time_base or 0)) or usual, shortest)
    yield Shown(start, start + length, partial(_drawn, last, note))


def _check(frame: av.VideoFrame, limits: ClipLimits) -> None:
    _check_size(frame.width, frame.height, limits)
    if frame.is_corrupt:
        raise RequestError(DAMAGED)
    if frame.interlaced_frame:
        raise RequestError("it is interlaced; give whole frames")
    if frame.color_trc in HIGH_RANGES:
        raise RequestError("its colours have a high dynamic range; give a standard one")


def _check_size(width: int, height: int, limits: ClipLimits) -> None:
    if width * height > limits.max_pixels:
        raise RequestError(f"a frame has {width}x{height} pixels; the bound is {limits.max_pixels}")


def _drawn(frame: av.VideoFrame, note: str) -> Image.Image:
    matrix = frame.colorspace
    if matrix == UNTOLD:
        matrix = BT709 if frame.height >= HD_HEIGHT else BT601
    picture: Image.Image = frame.to_image(src_colorspace=matrix)  # type: ignore[no-untyped-call]
    factor = shrinking(note, *picture.size)
    if factor > 1:
        picture = picture.reduce(factor)
    orientation = _orientation(frame)
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def _orientation(frame: av.VideoFrame) -> int:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return 1
    a, b, _, c, d, *_ = struct.unpack_from("=9i", bytes(matrix))
    turn = tuple(round(number / ONE) for number in (a, b, c, d))
    if turn not in ORIENTATIONS:
        raise RequestError("it is turned by less or more than a right angle")
    return ORIENTATIONS[turn]

"""Animated webp, png and gif, written by Pillow: these formats need no extra.

Pillow joins frames that are equal and adds up how long they are shown, so files may have fewer
frames than their clip, and the same duration. Of a clip in which nothing moves it would make a
still picture, without any duration: that is mended here.
"""

import struct
from io import BytesIO
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unmask.errors import RequestError

EXIF_DESCRIPTION = 0x010E
GIF_COLOURS = 256
GIF_FASTEST = 50  # frames a second: what is shown for less than 20 ms, browsers show for 100
GIF_LONGEST, APNG_LONGEST, WEBP_LONGEST = 655_350, 65_535, (1 << 24) - 1  # ms, of one frame
PALETTE_PIXELS = 1 << 20  # of a clip that are looked at to find the colours of its gif

Frames = NDArray[np.uint8]


def encode_webp(frames: Frames, rate: float, comment: str) -> bytes:
    """The bytes of an animated webp, lossless."""
    file, durations = BytesIO(), _durations(frames, rate, 1, WEBP_LONGEST, "webp")
    first, *others = (Image.fromarray(frame) for frame in frames)
    exif = Image.Exif()
    if comment:
        exif[EXIF_DESCRIPTION] = comment.encode()
    first.save(
        file,
        "webp",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        lossless=True,
        exif=exif.tobytes() if comment else b"",
    )
    data = file.getvalue()
    return data if b"ANMF" in data[:64] else _animated_webp(data, first.size, sum(durations))


def encode_apng(frames: Frames, rate: float, comment: str) -> bytes:
    """The bytes of an animated png."""
    file, durations = BytesIO(), _durations(frames, rate, 1, APNG_LONGEST, "apng")
    first, *others = (Image.fromarray(frame) for frame in frames)
    notes = PngInfo()
    if comment:
        notes.add_itxt("unmask", comment)
    first.save(
        file, "png", save_all=True, append_images=others, duration=durations, loop=0, pnginfo=notes
    )
    data = file.getvalue()
    return data if b"acTL" in data else _animated_png(data, first.size, sum(durations))


def encode_gif(frames: Frames, rate: float, comment: str) -> bytes:
    """The bytes of an animated gif of 256 colours, the same ones in all frames: what stands still
    does not flicker. RequestError for more than 50 frames a second.
    """
    if rate > GIF_FASTEST:
        raise RequestError(f"rate {rate:g}: a gif shows at most {GIF_FASTEST} a second", "rate")
    file, durations = BytesIO(), _durations(frames, rate, 10, GIF_LONGEST, "gif")
    seen = frames.reshape(-1, frames.shape[2], 3)
    seen = seen[:: -(-seen.shape[0] * seen.shape[1] // PALETTE_PIXELS)]
    palette = Image.fromarray(np.ascontiguousarray(seen)).quantize(GIF_COLOURS)
    first, *others = (
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    )
    first.save(
        file,
        "gif",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        comment=comment.encode(),
    )
    return file.getvalue()


def _durations(frames: Frames, rate: float, unit: int, longest: int, name: str) -> list[int]:
    """How many ms each frame is shown, in whole units of so many: their sum is right to half of
    one, however many there are. RequestError where one would be shown for longer than the format
    can say, or not at all.
    """
    starts = [round(number * 1000 / rate / unit) * unit for number in range(len(frames) + 1)]
    durations = [end - start for start, end in pairwise(starts)]
    if min(durations) < 1:
        raise RequestError(f"rate {rate:g}: a {name} shows at most 1000 a second", "rate")
    held = most = durations[0]
    for before, frame, duration in zip(frames[:-1], frames[1:], durations[1:], strict=True):
        held = held + duration if np.array_equal(before, frame) else duration
        most = max(most, held)
    if most > longest:
        raise RequestError(
            f"format {name}: it shows a frame for at most {longest / 1000} s, and this clip stands "
            f"still for {most / 1000} s; choose mp4 or webm",
            "format",
        )
    return durations


def _animated_webp(still: bytes, size: tuple[int, int], duration: int) -> bytes:
    """A webp whose only frame, that of a still one, is shown for so many ms."""
    chunks: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(still):
        name, length = struct.unpack_from("<4sI", still, place)
        chunks[name] = still[place : place + 8 + length + length % 2]
        place += len(chunks[name])
    area = b"".join((edge - 1).to_bytes(3, "little") for edge in size)
    exif = chunks.get(b"EXIF", b"")
    flags = 0x02 | (0x08 if exif else 0)  # it moves; it has EXIF
    header = b"VP8X" + struct.pack("<II", 10, flags) + area
    loop = b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    body = bytes(6) + area + duration.to_bytes(3, "little") + b"\0" + chunks[b"VP8L"]
    frame = b"ANMF" + struct.pack("<I", len(body)) + body
    file = b"WEBP" + header + loop + frame + exif
    return b"RIFF" + struct.pack("<I", len(file)) + file


def _animated_png(still: bytes, size: tuple[int, int], duration: int) -> bytes:
    """A png whose only frame, that of a still one, is shown for so many ms."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc32(name + body))

    control = chunk(b"acTL", struct.pack(">II", 1, 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *size, 0, 0, duration, 1000, 0, 0))
    place = still.index(b"IDAT") - 4
    return still[:place] + control + frame + still[place:]

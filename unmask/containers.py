"""What png, jpeg and webp files hold beside their pixels, taken out before a decoder sees it.

Decoders stumble over rubbish in EXIF, XMP, colour profiles and texts, and refuse a picture whose
pixels are whole. So only what the pixels need is handed on, and all that is read of the rest is how
the picture is to be turned. A file that breaks off or breaks the rules is handed on as it is from
there on: the decoder says whether there are pixels.
"""

import re
from typing import NamedTuple
from zlib import crc32

PNG = b"\x89PNG\r\n\x1a\n"
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
# Of a jpeg's markers: those without a segment, the start of the scan, the end, and those of frames.
BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}
SCAN, END = 0xDA, 0xD9
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
WEBP_METADATA_FLAGS = 0x2C  # of VP8X: a colour profile, EXIF, XMP
ORIENTATION, SHORT, LONG = 0x0112, 3, 4


class Pixels(NamedTuple):
    """A file that holds pixels and no metadata, and what is to be known before it is decoded."""

    data: bytes
    bits: int = 8  # a channel
    frames: int = 1
    orientation: int = 1  # 1 ... 8, as EXIF counts the ways to turn and mirror


def pixels_of(data: bytes) -> Pixels | None:
    """The pixels of a png, jpeg or webp file; None if it begins like none of them.

    Of a jpeg that holds several pictures, as phones write them, the first.
    """
    if data.startswith(PNG):
        return _pixels_of_png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _pixels_of_jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _pixels_of_webp(data)
    return None


def _pixels_of_png(data: bytes) -> Pixels:
    """Critical chunks are kept, and the transparent colour if it is well formed."""
    kept, place = [PNG], len(PNG)
    bits, colour, frames, orientation, animated = 8, 0, 0, 1, False
    while place + 8 <= len(data):
        length, name = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        chunk = data[place : place + 12 + length]
        body = chunk[8 : 8 + length]
        if name == b"IHDR" and len(body) == 13:
            bits, colour = body[8], body[9]
        if name == b"tRNS":
            kept += _transparency(chunk, bits, colour)
        elif name[:1].isupper():
            kept.append(chunk)
        animated |= name == b"acTL"
        frames += name == b"fcTL"
        if name == b"eXIf":
            orientation = _orientation(body)
        if name == b"IEND":
            break
        place += len(chunk)
    return Pixels(b"".join(kept), max(bits, 8), frames if animated and frames else 1, orientation)


def _transparency(chunk: bytes, bits: int, colour: int) -> list[bytes]:
    """The chunk of a transparent colour, or no chunk if it is not what the standard says.

    Of grey with less than 8 bits the decoder widens pixels to 8 but not this value: done here.
    """
    body = chunk[8:-4]
    expected = {0: len(body) == 2, 2: len(body) == 6, 3: 1 <= len(body) <= 256}
    whole = chunk[-4:] == crc32(chunk[4:-4]).to_bytes(4) and len(body) == int.from_bytes(chunk[:4])
    if not whole or not expected.get(colour, False):
        return []
    if colour == 0 and bits < 8:
        highest = (1 << bits) - 1
        body = ((int.from_bytes(body) & highest) * 255 // highest).to_bytes(2)
        chunk = chunk[:8] + body + crc32(chunk[4:8] + body).to_bytes(4)
    return [chunk]


def _pixels_of_jpeg(data: bytes) -> Pixels:
    """All segments are kept but comments and those of applications; of these, JFIF's and Adobe's
    tell how colours are stored.
    """
    kept, place = [data[:2]], 2
    bits, orientation = 8, 1
    while found := JPEG_MARKER.search(data, place):  # as libjpeg does, past whatever lies between
        marker, place = found[1][0], found.end()
        if marker in BARE_MARKERS:
            continue
        length = int.from_bytes(data[place : place + 2])
        if marker in (SCAN, END) or length < 2 or place + length > len(data):
            kept.append(data[found.end() - 2 :])
            break
        segment, body = data[place - 2 : place + length], data[place + 2 : place + length]
        if marker in FRAMES and body:
            bits = body[0]
        if marker == 0xE1 and body.startswith(b"Exif\0") and orientation == 1:
            orientation = _orientation(body[6:])
        application = 0xE0 <= marker <= 0xEF or marker == 0xFE
        jfif = marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14
        adobe = marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
        if not application or jfif or adobe:
            kept.append(segment)
        place += length
    return Pixels(b"".join(kept), bits, 1, orientation)


def _pixels_of_webp(data: bytes) -> Pixels:
    """Chunks of pixels are kept, and the header without the flags of those left out."""
    kept, place = [], 12
    frames, orientation = 0, 1
    while place + 8 <= len(data):
        name, length = (
            data[place : place + 4],
            int.from_bytes(data[place + 4 : place + 8], "little"),
        )
        chunk = data[place : place + 8 + length + length % 2]
        if name == b"VP8X" and len(chunk) > 8:
            chunk = chunk[:8] + bytes([chunk[8] & ~WEBP_METADATA_FLAGS]) + chunk[9:]
        if name in WEBP_CHUNKS:
            kept.append(chunk)
        frames += name == b"ANMF"
        if name == b"EXIF":
            orientation = _orientation(chunk[8:].removeprefix(b"Exif\0\0"))
        place += len(chunk)
    body = b"WEBP" + b"".join(kept)
    whole = b"RIFF" + len(body).to_bytes(4, "little") + body
    return Pixels(whole, 8, max(frames, 1), orientation)


def _orientation(exif: bytes) -> int:
    """The orientation in the first directory of EXIF, which is a TIFF file's; 1 if there is none
    that makes sense. What lies outside of the bytes reads as 0.
    """
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    little = exif[:1] == b"I"

    def number(place: int, length: int) -> int:
        return int.from_bytes(exif[place : place + length], "little" if little else "big")

    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        kind = number(entry + 2, 2)
        if number(entry, 2) == ORIENTATION and kind in (SHORT, LONG):
            value = number(entry + 8, 2 if kind == SHORT else 4)
            return value if 1 <= value <= 8 else 1
    return 1

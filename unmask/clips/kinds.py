"""What a file is, by its first bytes, and whether it was cut short, by the lengths it tells.

Decoders do not always mind a missing end; they just give fewer frames.
"""

from collections.abc import Iterator

# Of files that QuickTime or its heirs wrote; the first box of others is not theirs.
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp")
EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
FILMS = ("mp4", "webm")


def kind_of(data: bytes) -> str | None:
    """mp4, webm, webp, gif, png or jpeg; None for anything else. Mov and 3gp files are mp4 here,
    mkv files webm.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == EBML.to_bytes(4):
        return "webm"
    return "mp4" if data[4:8] in BOXES else None


def cut_short(data: bytes, kind: str) -> bool:
    """Whether a file says that it is longer than it is."""
    ends = {"mp4": _ends_of_boxes, "webm": _ends_of_elements}.get(kind)
    if ends is not None:
        return any(end > len(data) for end in ends(data))
    if kind == "webp":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return kind == "png" and b"IEND" not in data


def _ends_of_boxes(data: bytes) -> Iterator[int]:
    """Where each box of the outermost level ends."""
    place = 0
    while place + 8 <= len(data):
        length, header = int.from_bytes(data[place : place + 4]), 8
        if length == 1:  # the length follows, in 8 bytes
            length, header = int.from_bytes(data[place + 8 : place + 16]), 16
        if length == 0:  # the last box, which goes on to the end
            return
        yield place + length
        place += max(length, header)


def _ends_of_elements(data: bytes) -> Iterator[int]:
    """Where the elements of the outermost level end, and those of the segment, which hold the
    frames. A live stream does not know where its segment or cluster ends: those are looked into.
    """
    place = 0
    while place < len(data):
        name, place = _number(data, place, keep_mark=True)
        length, place = _number(data, place, keep_mark=False)
        if length is None:
            if name not in (SEGMENT, CLUSTER):
                return
            continue
        yield place + length
        if name != SEGMENT:
            place += length


def _number(data: bytes, place: int, *, keep_mark: bool) -> tuple[int | None, int]:
    """A number of EBML, whose first bit that is 1 tells its length, and the place after it; None if
    all its bits are 1, which means unknown.
    """
    first = data[place] if place < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[place : place + length])
    bits = 7 * length
    if not keep_mark:
        value &= (1 << bits) - 1
    unknown = not keep_mark and value == (1 << bits) - 1
    return None if unknown or length > 8 else value, place + length

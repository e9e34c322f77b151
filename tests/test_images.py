import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.MpoImagePlugin import MpoImageFile

from unmask.errors import RequestError
from unmask.images import ImageLimits, read_image, upright

LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=100_000)


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def png(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 0) -> bytes:
    """A black png with these chunks before its pixels."""
    row = b"\0" * min(1 + width * bits // 8 * (3 if colour == 2 else 1), 100_000)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(row * min(height, 400), 9))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    return Image.effect_noise((60, 40), 80).convert(mode)


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(RequestError) as error:
        read_image(data, "mask", limits)
    assert error.value.param == "mask"
    assert "0x7" not in str(error.value)  # Pillow's own words may hold addresses
    return str(error.value)


def pixels_in(data: bytes) -> bytes:
    return read_image(data, "image", LIMITS).tobytes()


@pytest.mark.parametrize(("kind", "mode"), [("png", "RGBA"), ("png", "P"), ("webp", "RGB")])
def test_a_lossless_picture_is_read_as_it_is(kind: str, mode: str) -> None:
    image = noise(mode)
    read = read_image(saved(image, kind, lossless=True), "image", LIMITS)
    assert read.mode == ("RGBA" if mode == "RGBA" else "RGB")
    assert read.tobytes() == image.convert(read.mode).tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpegs_of_all_colours_are_read(mode: str) -> None:
    assert read_image(saved(noise(mode), "jpeg"), "image", LIMITS).mode == "RGB"


def test_a_colour_that_stands_for_transparency_becomes_alpha() -> None:
    palette = saved(noise("P"), "png", transparency=b"\0\x80")  # Pillow warns when it converts it
    for data in (palette, saved(noise("L"), "png", transparency=7)):
        assert read_image(data, "image", LIMITS).mode == "RGBA"


def test_a_picture_is_turned_as_its_exif_says() -> None:
    image = noise()
    exif = image.getexif()
    exif[0x0112] = 6
    assert read_image(saved(image, "jpeg", exif=exif), "image", LIMITS).size == (40, 60)
    turned = read_image(saved(image, "png", exif=exif), "image", LIMITS)
    assert turned.tobytes() == image.transpose(Image.Transpose.ROTATE_270).tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def exif(orientation: int, kind: int = 3) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, kind, 1, orientation, 0)


RUBBISH = [
    b"",
    b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x02\0\xff\xff\xff\xff\xff\xff\xff\xff",
    b"MM\0*\xff\xff\xff\xff",
    b"\xff\xd8\xff\xe1rubbish" * 9,
    b"<x:xmpmeta tiff:Orientation='nine' \xff\xfe",
    exif(9),
    exif(6, kind=2),
]


@pytest.mark.parametrize("rubbish", RUBBISH, ids=range(len(RUBBISH)))
def test_metadata_costs_no_picture(rubbish: bytes) -> None:
    plain = {kind: saved(noise(), kind) for kind in ("png", "jpeg", "webp")}
    names = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0\1\1", b"MPF\0", b"")
    files: dict[str, list[bytes]] = {"png": [], "jpeg": [], "webp": []}
    for name in names:
        for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE):
            jpeg = plain["jpeg"]
            files["jpeg"].append(jpeg[:2] + segment(marker, name + rubbish) + jpeg[2:])
    for name in (b"eXIf", b"iCCP", b"iTXt", b"tEXt", b"zTXt", b"tIME", b"pHYs", b"gAMA", b"acTL"):
        at, end = plain["png"].index(b"IDAT") - 4, len(plain["png"]) - 12
        for place in (at, end):
            parts = plain["png"][:place], chunk(name, rubbish), plain["png"][place:]
            files["png"].append(b"".join(parts))
        broken = chunk(name, rubbish)[:-4] + b"sum?"
        files["png"].append(plain["png"][:at] + broken + plain["png"][at:])
    extended = riff(b"VP8X", bytes([0x2C, 0, 0, 0, 59, 0, 0, 39, 0, 0]))
    for name in (b"EXIF", b"XMP ", b"ICCP"):
        before = extended + riff(name, rubbish) + plain["webp"][12:]
        behind = extended + plain["webp"][12:] + riff(name, rubbish)
        files["webp"] += [b"RIFF" + riff(b"", b"WEBP" + body) for body in (before, behind)]
    for kind, many in files.items():
        expected = read_image(plain[kind], "image", LIMITS).tobytes()
        for data in many:
            assert read_image(data, "image", LIMITS).tobytes() == expected, data[:200]


def test_a_file_that_breaks_off_behind_its_pixels_is_read() -> None:
    data = saved(noise(), "png")
    cut = data[:-12] + chunk(b"tEXt", b"a\0" + b"b" * 99)[:-30]
    assert read_image(cut, "image", LIMITS).tobytes() == pixels_in(data)
    data = saved(noise(), "webp", exif=b"Exif\0\0" + exif(1) + b"\0" * 99)
    assert read_image(data[:-60], "image", LIMITS).tobytes() == pixels_in(data)


def test_metadata_costs_no_picture_that_pillow_opened() -> None:
    jpeg = saved(noise(), "jpeg")
    data = jpeg[:2] + segment(0xE1, b"Exif\0\0" + RUBBISH[3]) + jpeg[2:]
    with Image.open(io.BytesIO(data)) as image:
        assert upright(image, "image").tobytes() == pixels_in(jpeg)


def test_a_file_that_pillow_opened_and_cannot_decode_is_refused() -> None:
    with Image.open(io.BytesIO(PICTURES[1][:-900])) as image, pytest.raises(RequestError) as error:
        upright(image, "mask")
    assert (error.value.param, str(error.value)) == (
        "mask",
        "mask: the file is damaged or cut short",
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_once_in_every_container(orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    for kind in ("png", "jpeg", "webp"):
        data = saved(noise(), kind, exif=tags)
        with Image.open(io.BytesIO(data)) as opened:
            expected = ImageOps.exif_transpose(opened).convert("RGB").tobytes()
            assert upright(opened, "image").tobytes() == expected
        read = read_image(data, "image", LIMITS)
        assert read.tobytes() == expected
        assert upright(read, "image").tobytes() == expected


def test_of_a_phones_several_pictures_the_first_is_read() -> None:
    first, second = noise(), Image.new("RGB", (60, 40))
    data = saved(first, "mpo", save_all=True, append_images=[second, second])
    opened = Image.open(io.BytesIO(data))
    assert isinstance(opened, MpoImageFile)
    assert opened.n_frames == 3
    assert read_image(data, "image", LIMITS).tobytes() == pixels_in(saved(first, "jpeg"))


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(RequestError, match=r"a\.bin: No such file"):
        read_image(path, "image", LIMITS)
    path.write_bytes(saved(noise(), "png"))
    assert read_image(path, "image", LIMITS).size == (60, 40)
    length = path.stat().st_size
    with pytest.raises(RequestError, match=f"has {length} bytes; the bound is {length - 1}"):
        read_image(path, "image", ImageLimits(length - 1, 100_000))


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_more_than_eight_bits_a_channel_are_refused(mode: str) -> None:
    with pytest.raises(RequestError, match="8 bits") as error:
        upright(Image.new(mode, (3, 2)), "image")
    assert error.value.param == "image"


@pytest.mark.parametrize("colour", [0, 2])
def test_a_png_of_sixteen_bits_is_refused(colour: int) -> None:
    data = png(30, 20, bits=16, colour=colour)
    assert "16 bits" in refusal(data)
    with pytest.raises(RequestError, match="8"), Image.open(io.BytesIO(data)) as image:
        upright(image, "image")


def test_a_jpeg_of_twelve_bits_is_refused() -> None:
    data = saved(noise(), "jpeg")
    place = data.index(b"\xff\xc0") + 4
    assert "12 bits" in refusal(data[:place] + b"\x0c" + data[place + 1 :])


def test_every_mode_is_read_as_its_colours() -> None:
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    for image, options, expected in (
        (Image.new("1", (3, 2), 1), {}, (255, 255, 255)),
        (Image.new("L", (3, 2), 77), {}, (77, 77, 77)),
        (Image.new("LA", (3, 2), (77, 5)), {}, (77, 77, 77, 5)),
        (palette, {}, (10, 20, 30)),
        (palette, {"transparency": 1}, (10, 20, 30, 0)),
        (palette, {"transparency": b"\xff\x05"}, (10, 20, 30, 5)),
        (Image.new("L", (3, 2), 7), {"transparency": 7}, (7, 7, 7, 0)),
        (Image.new("L", (3, 2), 8), {"transparency": 7}, (8, 8, 8, 255)),
        (Image.new("RGB", (3, 2), (1, 2, 3)), {"transparency": (1, 2, 3)}, (1, 2, 3, 0)),
        (Image.new("RGBA", (3, 2), (1, 2, 3, 4)), {}, (1, 2, 3, 4)),
    ):
        read = read_image(saved(image, "png", **options), "image", LIMITS)
        assert read.getpixel((2, 1)) == expected, (image.mode, options)
    for mode, colour, expected in (
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("RGB", (200, 30, 60), (200, 30, 60)),
        ("L", 77, (77, 77, 77)),
    ):
        read = read_image(saved(Image.new(mode, (16, 16), colour), "jpeg"), "image", LIMITS)
        assert read.getpixel((7, 7)) == pytest.approx(expected, abs=3), mode
    assert upright(Image.new("YCbCr", (3, 2), (76, 85, 255)), "image").getpixel((1, 1)) == (
        pytest.approx((254, 0, 0), abs=2)
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_is_that_grey(bits: int) -> None:
    rows = b"\0\x1b" * 2  # of 2 bits: 0 1 2 3
    highest = (1 << bits) - 1
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8 // bits, 2, bits, 0, 0, 0, 0))
    transparent = chunk(b"tRNS", struct.pack(">H", 1 | 1 << bits))  # bits above are none
    pixels = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + header + transparent + pixels
    read = read_image(data, "image", LIMITS)
    levels = [0x1B >> shift & highest for shift in range(8 - bits, -1, -bits)]
    expected = [(level * 255 // highest,) * 3 + ((level != 1) * 255,) for level in levels]
    assert [read.getpixel((x, 1)) for x in range(8 // bits)] == expected


def test_only_three_formats_are_read() -> None:
    for kind in ("gif", "tiff", "bmp", "ico", "ppm"):
        assert "png, jpeg or webp" in refusal(saved(noise(), kind))
    assert "png, jpeg or webp" in refusal(b"<svg/>")
    assert "png, jpeg or webp" in refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n")


def test_an_empty_file_is_told_to_be_empty() -> None:
    assert "empty" in refusal(b"")


def test_a_file_of_too_many_bytes_is_refused() -> None:
    data = saved(noise(), "png")
    message = refusal(data, ImageLimits(len(data) - 1, 100_000))
    assert f"{len(data)} bytes; the bound is {len(data) - 1}" in message
    assert read_image(data, "image", ImageLimits(len(data), 100_000)).size == (60, 40)


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    assert "60x40 pixels; the bound is 2399" in refusal(
        saved(noise(), "png"), ImageLimits(1 << 20, 2399)
    )
    assert read_image(saved(noise(), "png"), "image", ImageLimits(1 << 20, 2400)).size == (60, 40)


BOMB = """
import resource, sys
from unmask.errors import RequestError
from unmask.images import ImageLimits, read_image
data, limits = sys.stdin.buffer.read(), ImageLimits(1 << 20, 1 << 21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image(data, "image", limits)
except RequestError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def webp(width: int, height: int) -> bytes:
    """A lossy webp whose header says another size than its pixels have."""
    data = saved(noise(), "webp")
    assert data[12:16] == b"VP8 "
    return data[:26] + struct.pack("<HH", width, height) + data[30:]


@pytest.mark.parametrize(
    "data",
    [
        png(20_000, 20_000),
        png(9_000, 9_000),
        png(2**31 - 1, 2**31 - 1),
        webp(16_383, 16_383),
        webp(9_000, 9_000),
    ],
)
def test_pixels_are_counted_before_any_is_decoded(data: bytes) -> None:
    assert len(data) < 50_000
    command = [sys.executable, "-W", "error", "-c", BOMB]
    result = subprocess.run(command, input=data, capture_output=True, check=True)
    message, grown = result.stdout.decode().splitlines()
    assert "pixels; the bound is 2097152" in message
    assert int(grown) < 8192  # KiB
    assert result.stderr == b""


MEMORY = """
import resource, sys
from unmask.images import ImageLimits, read_image
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert read_image(data, "image", ImageLimits(1 << 20, 1 << 21)).getextrema()[0] == (0, 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_metadata_that_unfolds_to_more_than_it_should_is_never_unfolded() -> None:
    folded = zlib.compress(b"\0" * (40 << 20), 9)
    bombs = [chunk(b"zTXt", b"a\0\0" + folded), chunk(b"iCCP", b"a\0\0" + folded)]
    for data in (png(30, 20, bomb) for bomb in bombs):
        command = [sys.executable, "-W", "error", "-c", MEMORY]
        result = subprocess.run(command, input=data, capture_output=True, check=True)
        assert int(result.stdout) < 8192  # KiB


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_animations_are_refused(kind: str) -> None:
    frames = [noise(), Image.new("RGB", (60, 40))]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert "2 frames" in refusal(data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_file_that_is_cut_short_is_refused(kind: str) -> None:
    data = saved(noise(), kind)
    for length in (30, len(data) // 2, len(data) - 40):
        refusal(data[:length])


PICTURES = [saved(noise(), kind) for kind in ("png", "jpeg", "webp")]


@pytest.mark.parametrize("data", PICTURES, ids=["png", "jpeg", "webp"])
def test_a_file_may_break_off_anywhere_in_its_head(data: bytes) -> None:
    for length in range(120):
        assert refusal(data[:length])


@given(
    st.sampled_from(PICTURES),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=9),
)
def test_a_damaged_file_is_read_or_refused(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(data)] = value
    with contextlib.suppress(RequestError):
        assert read_image(bytes(damaged), "image", LIMITS).mode in ("RGB", "RGBA")

import contextlib
import io
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

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


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_more_than_eight_bits_a_channel_are_refused(mode: str) -> None:
    with pytest.raises(RequestError, match="8 bits") as error:
        upright(Image.new(mode, (3, 2)), "image")
    assert error.value.param == "image"


@pytest.mark.parametrize("colour", [0, 2])
def test_a_png_of_sixteen_bits_is_refused(colour: int) -> None:
    assert "16 bits" in refusal(png(30, 20, bits=16, colour=colour))


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


def test_what_unfolds_to_more_than_it_should_is_refused() -> None:
    folded = zlib.compress(b"\0" * (40 << 20), 9)
    assert len(folded) < 50_000
    for bomb in (chunk(b"zTXt", b"a\0\0" + folded), chunk(b"iCCP", b"a\0\0" + folded)):
        assert "damaged" in refusal(png(30, 20, bomb))
    many = [chunk(b"zTXt", b"a%d\0\0" % i + zlib.compress(b"\0" * (1 << 20))) for i in range(80)]
    assert "damaged" in refusal(png(30, 20, *many))


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

"""Reading through the process that decodes; and gif, webp, png and jpeg, odd and hostile ones."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.worlds.clips import RATE, SIDE, decoded, moving, psnr, refusal
from unmask.clips import reading
from unmask.clips.clip import Clip
from unmask.clips.kinds import cut_short
from unmask.clips.limits import ClipLimits
from unmask.clips.reading import read_clip, read_clip_file
from unmask.errors import RequestError

CLIP = Clip(moving(), RATE)
PILLOWS = pytest.mark.parametrize("name", ["webp", "gif", "apng"])
# Of a gif that repeats itself: its start, and a frame that is shown for 0.04 s.
GIF_START = b"GIF89a" + struct.pack("<HHBBB", 300, 200, 0xF0, 0, 0) + bytes(3) + b"\xff" * 3


def _endless(frames: int, width: int = 300, height: int = 200) -> bytes:
    image = io.BytesIO()
    Image.new("P", (width, height)).save(image, "gif")
    pixels = image.getvalue()
    block = pixels[pixels.index(b"\x2c", 13) : -1]
    control = b"\x21\xf9\x04\x04" + struct.pack("<H", 4) + b"\0\0"
    start = GIF_START[:6] + struct.pack("<HH", width, height) + GIF_START[10:]
    return start + (control + block) * frames + b"\x3b"


def _animated(kind: str, frames: list[Image.Image], **options: object) -> bytes:
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


@PILLOWS
def test_a_file_that_is_cut_short_is_refused(name: str) -> None:
    data = CLIP.encode(name)
    for length in (len(data) // 3, len(data) // 2, len(data) - 30):
        with pytest.raises(RequestError, match="clip: the file is damaged or cut short"):
            read_clip(data[:length])


@PILLOWS
def test_a_damaged_animation_is_an_error_of_its_decoder_or_has_frames(name: str) -> None:
    data = CLIP.encode(name)
    random = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(data)
        for place in random.integers(12, len(data), 8):
            damaged[place] = random.integers(256)
        try:
            report, frames = decoded(bytes(damaged))
        except Exception as error:
            assert not isinstance(error, AssertionError)  # noqa: PT017
        else:
            assert len(frames) == len(report.picks) > 0


def test_an_animation_without_frames_is_refused() -> None:
    for data in (GIF_START + b"\x3b", b"RIFF\x04\0\0\0WEBP"):
        with pytest.raises(RequestError, match="damaged"):
            read_clip(data)


def test_a_png_that_counts_other_frames_than_it_has_is_refused() -> None:
    data = CLIP.encode("apng")
    place = data.index(b"acTL")
    for number in (2, 1_000_000, 0xFFFFFFFF):
        body = b"acTL" + struct.pack(">II", number, 0)
        changed = data[:place] + body + struct.pack(">I", zlib.crc32(body)) + data[place + 16 :]
        try:
            report, _ = decoded(changed)
        except Exception as error:
            assert not isinstance(error, AssertionError)  # noqa: PT017
        else:
            assert report.frames in (1, number)


def test_an_endless_gif_is_stopped_by_its_frames_its_seconds_and_its_pixels() -> None:
    data = _endless(400)
    assert len(data) < 200_000
    assert "more than 300 frames" in refusal(data, ClipLimits(max_frames=300))
    assert "the bound is 2" in refusal(data, ClipLimits(max_seconds=2.0))
    limits = ClipLimits(max_clip_pixels=300 * 200 * 55)
    assert "56 frames of 300x200 pixels" in refusal(data, limits)
    assert "300x200 pixels; the bound is 59999" in refusal(data, ClipLimits(max_pixels=59_999))


def test_a_frame_beyond_its_canvas_is_counted() -> None:
    data = bytearray(_endless(2))
    data[6:10] = struct.pack("<HH", 10, 10)
    with pytest.raises(RequestError, match="the bound is 5000"):
        decoded(bytes(data), ClipLimits(max_pixels=5000))


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_durations_of_every_frame_are_kept(kind: str) -> None:
    pictures = CLIP.pictures()[:3]
    data = _animated(kind, pictures, duration=[100, 300, 200], lossless=True)
    report, frames = decoded(data)
    assert (report.rate, report.picks) == (10.0, [0, 1, 1, 1, 2, 2])
    assert frames[5].tobytes() == CLIP.frames[2].tobytes()
    assert decoded(data, rate=5.0)[0].picks == [0, 1, 2]


def test_frames_that_tell_no_duration_are_shown_as_browsers_show_them() -> None:
    report, _ = decoded(_animated("gif", CLIP.pictures()[:3], duration=0))
    assert (report.rate, report.frames) == (10.0, 3)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_what_is_transparent_is_white(kind: str) -> None:
    clear = [Image.new("RGBA", (8, 8), (number, 0, 0, 0)) for number in (9, 99)]
    for picture in clear:
        picture.paste((255, 0, 0, 255), (0, 0, 4, 8))
    clear[1].paste((0, 0, 255, 255), (0, 0, 2, 2))
    _, frames = decoded(_animated(kind, clear, duration=100, lossless=True, disposal=2))
    assert len(frames) == 2
    assert frames[:, 6, 7].tolist() == [[255, 255, 255]] * 2
    assert frames[:, 6, 3].tolist() == [[255, 0, 0]] * 2
    assert frames[1, 0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif"])
def test_a_still_picture_is_a_clip_of_one_frame(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, 32), (250, 30, 60)).save(file, kind)
    report, frames = decoded(file.getvalue())
    assert (report.rate, frames.shape) == (1.0, (1, 32, SIDE, 3))
    assert frames[0, 5, 5].tolist() == pytest.approx([250, 30, 60], abs=6)
    with pytest.raises(RequestError, match="64x32 pixels; the bound is 2047"):
        decoded(file.getvalue(), ClipLimits(max_pixels=2047))


def test_a_jpeg_that_holds_several_pictures_is_a_still_one() -> None:
    file = io.BytesIO()
    small = CLIP.pictures()[1].resize((8, 8))
    CLIP.pictures()[0].save(file, "mpo", save_all=True, append_images=[small])
    report, frames = decoded(file.getvalue())
    assert (report.frames, report.size) == (1, CLIP.size)
    assert psnr(frames, CLIP.frames[:1]) > 20


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_picture_too_large_for_pillow_is_told_its_bound(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    CLIP.pictures()[0].save(file, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "more than 1000 pixels; the bound is 999" in refusal(
        file.getvalue(), ClipLimits(max_pixels=999)
    )


def test_what_is_no_clip_is_refused_before_anything_is_started() -> None:
    limits = ClipLimits(max_bytes=100)
    for data, said in (
        (b"", "source: the file is empty"),
        (b"<svg/>", "source: not a clip that is read; give mp4, webm, gif, webp, png or jpeg"),
        (b"#EXTM3U\nhttp://127.0.0.1/a.ts", "source: not a clip"),
        (bytes(101), "source: the file has 101 bytes; the bound is 100"),
    ):
        with pytest.raises(RequestError) as error:
            read_clip(data, "source", limits)
        assert said in str(error.value)
        assert error.value.param == "source"
    with pytest.raises(RequestError, match="above 0"):
        read_clip(CLIP.encode("gif"), rate=0.0)


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(RequestError, match=r"a\.bin: No such file"):
        read_clip_file(path)
    path.write_bytes(CLIP.encode("webp"))
    assert read_clip_file(path, rate=4.0).frames.tobytes() == CLIP.frames[::2].tobytes()
    length = path.stat().st_size
    with pytest.raises(RequestError, match=f"has {length} bytes; the bound is {length - 1}"):
        read_clip_file(path, limits=ClipLimits(max_bytes=length - 1))


def test_an_error_of_the_child_names_the_parameter_once() -> None:
    with pytest.raises(RequestError) as error:
        read_clip(CLIP.encode("gif"), "source", ClipLimits(max_pixels=99))
    assert str(error.value) == "source: it has 64x64 pixels; the bound is 99"


def _children() -> list[str]:
    files = Path("/proc/self/task").glob("*/children")
    return [child for file in files for child in file.read_text().split()]


def test_a_file_that_takes_too_long_is_given_up_and_leaves_no_process() -> None:
    limits = ClipLimits(timeout_seconds=1, max_frames=10**6, max_seconds=1e6)
    before = _children()
    with pytest.raises(RequestError, match="decoding it takes longer than 1 s"):
        read_clip(_endless(8000, 1200, 1000), limits=limits, rate=1e-6)
    assert _children() == before


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(0)",
        "import os; os.abort()",
        "import sys; sys.stdout.write('x' * 99)",
        "import sys; sys.stdout.buffer.write(b'[]' + (2).to_bytes(8))",
        "import sys; sys.stdout.buffer.write(b'{}' + (1 << 62).to_bytes(8))",
        "import json, sys; text = json.dumps({'size': [9, 9], 'rate': 1, 'frames': 1 << 40, "
        "'picks': [0]}).encode(); sys.stdout.buffer.write(text + len(text).to_bytes(8))",
        "import json, sys; text = json.dumps({'size': [1, 1], 'rate': 1, 'frames': 1, "
        "'picks': [7]}).encode(); sys.stdout.buffer.write(b'rgb' + text + len(text).to_bytes(8))",
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(
    program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "taken.py").write_text(program)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(reading, "CHILD", "taken")
    with pytest.raises(RequestError, match="clip: the file is damaged or cut short"):
        read_clip(CLIP.encode("gif"))


def test_the_child_has_no_secrets_and_starts_without_torch_and_numpy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "spy.py").write_text(
        "import json, os, sys, unmask.clips.child, unmask.clips.picture_frames\n"
        "said = ' '.join([*os.environ, *({'torch', 'numpy'} & set(sys.modules))])\n"
        "text = json.dumps({'error': said}).encode()\n"
        "sys.stdout.buffer.write(text + len(text).to_bytes(8))"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(reading, "CHILD", "spy")
    monkeypatch.setenv("UNMASK_SECRET", "hidden")
    with pytest.raises(RequestError) as error:
        read_clip(CLIP.encode("gif"))
    names = str(error.value).removeprefix("clip: ").split()
    assert set(names) <= {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LC_CTYPE"}


def test_the_child_has_bounds_of_memory_and_output(tmp_path: Path) -> None:
    code = (
        "import sys; from unmask.clips.child import confine; from unmask.clips.limits import *\n"
        "confine(ClipLimits(max_bytes=1, max_pixels=1, max_clip_pixels=1))\n"
        "try: bytearray(1 << 30)\n"
        "except MemoryError: print('bounded')\n"
        "try: open(sys.argv[1], 'wb').write(bytes(2 << 20)); open(sys.argv[1], 'ab').write(b'a')\n"
        "except OSError as error: print('short')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "long")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["bounded", "short"]


MEMORY = """
import resource, sys
from unmask.clips.limits import ClipLimits
from unmask.clips.reading import read_clip
from unmask.errors import RequestError
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for limits in (ClipLimits(), ClipLimits(max_frames=40)):
    try:
        read_clip(data, limits=limits)
    except RequestError as error:
        print(error, file=sys.stderr)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in KiB on Linux alone")
def test_the_memory_of_the_parent_stays_flat() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", MEMORY],
        input=_endless(60, 1200, 1000),
        capture_output=True,
        env=environment,
    )
    assert b"56 frames of 1200x1000" in result.stderr
    assert b"more than 40 frames" in result.stderr
    assert int(result.stdout) < 8192  # KiB
    assert cut_short(b"RIFF\xff\xff\xff\0WEBP", "webp")

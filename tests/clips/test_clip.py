import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.worlds.clips import FRAMES, RATE, SIDE, moving, psnr
from unmask.clips import formats
from unmask.clips.clip import Clip
from unmask.clips.reading import read_clip, read_clip_file
from unmask.errors import MissingExtraError, RequestError

CLIP = Clip(moving(), RATE, '{"prompt": "é"}')
STILL = Clip(moving()[:1].repeat(FRAMES, 0), RATE, "still")


def _encoded(name: str, clip: Clip = CLIP) -> bytes:
    if name in ("mp4", "webm"):
        pytest.importorskip("av", reason="needs the extra video")
    return clip.encode(name)


@pytest.mark.parametrize(
    ("name", "least"),
    [("mp4", 35), ("webm", 35), ("gif", 35), ("webp", float("inf")), ("apng", float("inf"))],
)
def test_what_is_written_is_read_as_it_was(name: str, least: float) -> None:
    read = read_clip(_encoded(name))
    assert (len(read), read.rate, read.size) == (FRAMES, RATE, (SIDE, SIDE))
    assert psnr(read.frames, CLIP.frames) >= least


@pytest.mark.parametrize("name", ["mp4", "webm", "webp", "gif", "apng"])
def test_a_clip_in_which_nothing_moves_lasts_as_long(name: str) -> None:
    read = read_clip(_encoded(name, STILL))
    assert read.seconds == pytest.approx(STILL.seconds, abs=0.006)
    assert psnr(read.frames, STILL.frames[: len(read)]) >= 35


@pytest.mark.parametrize("name", ["webp", "gif", "apng"])
def test_frames_that_are_equal_are_joined_and_come_back(name: str) -> None:
    frames = CLIP.frames[[0, 1, 1, 1, 2, 3, 3, 4, 5]]
    data = Clip(frames, RATE).encode(name)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 6
    read = read_clip(data)
    assert read.rate == pytest.approx(RATE, rel=0.001)
    assert psnr(read.frames, frames) >= 35


@pytest.mark.parametrize("name", ["mp4", "webm", "webp", "gif", "apng"])
def test_the_same_clip_gives_the_same_bytes(name: str) -> None:
    assert _encoded(name) == _encoded(name)


def test_the_comment_is_in_every_file() -> None:
    for name in ("webp", "apng"):
        assert CLIP.comment.encode() in _encoded(name)
        assert b"still" in _encoded(name, STILL)
    assert Image.open(io.BytesIO(_encoded("gif"))).info["comment"] == CLIP.comment.encode()
    for name in ("mp4", "webm"):
        assert CLIP.comment.encode() in _encoded(name)


def test_durations_do_not_drift() -> None:
    clip = Clip(np.random.default_rng(0).integers(0, 255, (48, 8, 8, 3), np.uint8), 24.0)
    for name in ("gif", "webp", "apng"):
        image = Image.open(io.BytesIO(clip.encode(name)))
        total = 0.0
        for number in range(48):
            image.seek(number)
            image.load()
            total += image.info["duration"]
        assert total == 2000


@pytest.mark.parametrize("size", [(63, 61), (300, 200), (17, 40)])
def test_films_of_any_size_come_back_in_it(size: tuple[int, int]) -> None:
    clip = Clip(moving(2, *size), RATE)
    read = read_clip(_encoded("mp4", clip))
    assert read.size == size
    assert psnr(read.frames, clip.frames) >= 35


def test_rates_that_a_format_cannot_hold_are_refused() -> None:
    with pytest.raises(RequestError, match="rate 60: a gif shows at most 50"):
        Clip(moving(), 60.0).encode("gif")
    with pytest.raises(RequestError, match="rate 3000: a webp"):
        Clip(moving(), 3000.0).encode("webp")
    with pytest.raises(RequestError, match=r"apng.* at most 65\.535 s.* still for 90\.0 s"):
        Clip(STILL.frames, 0.1).encode("apng")


def test_an_unknown_format_lists_the_choices() -> None:
    with pytest.raises(RequestError, match="did you mean 'webm'") as error:
        CLIP.encode("webmm")
    assert error.value.param == "format"


def test_films_without_pyav_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unmask.clips.film", None)
    for name in ("mp4", "webm"):
        with pytest.raises(MissingExtraError, match=r"'unmask\[video\]'; webp, gif, apng"):
            CLIP.encode(name)
    monkeypatch.setattr("unmask.clips.reading.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"clip: mp4 needs PyAV.*'unmask\[video\]'"):
        read_clip(b"\0\0\0\x20ftypisom" + bytes(20))
    assert len(read_clip(CLIP.encode("gif"))) == FRAMES


def test_a_clip_is_saved_by_its_ending(tmp_path: Path) -> None:
    names = {".webp": "webp", ".GIF": "gif", ".apng": "apng", ".png": "apng"}
    for ending, name in names.items():
        CLIP.save(tmp_path / f"clip{ending}")
        assert (tmp_path / f"clip{ending}").read_bytes() == CLIP.encode(name)
    assert read_clip_file(tmp_path / "clip.webp").frames.tobytes() == CLIP.frames.tobytes()
    assert len(list(tmp_path.iterdir())) == 4  # no drafts are left
    with pytest.raises(RequestError, match=r"clip\.webp: it exists; force"):
        CLIP.save(tmp_path / "clip.webp")
    STILL.save(str(tmp_path / "clip.webp"), force=True)
    assert (tmp_path / "clip.webp").read_bytes() == STILL.encode("webp")
    with pytest.raises(RequestError, match=r"clip\.avi: .*\.mp4"):
        CLIP.save(tmp_path / "clip.avi")
    with pytest.raises(RequestError, match="No such file"):
        CLIP.save(tmp_path / "none" / "clip.gif")


def test_a_folder_of_frames_holds_those_of_one_clip(tmp_path: Path) -> None:
    CLIP.save(f"{tmp_path}/frames/")
    (tmp_path / "frames" / "mine.txt").write_text("kept")
    with pytest.raises(RequestError, match=r"frame-0000\.png: it exists"):
        CLIP.save(tmp_path / "frames")
    Clip(CLIP.frames[:3], RATE).save(tmp_path / "frames", force=True)
    files = sorted(file.name for file in (tmp_path / "frames").iterdir())
    assert files == ["frame-0000.png", "frame-0001.png", "frame-0002.png", "mine.txt"]
    assert Image.open(tmp_path / "frames" / files[2]).tobytes() == CLIP.frames[2].tobytes()


def test_what_is_shown_of_a_clip() -> None:
    assert [picture.tobytes() for picture in CLIP.pictures()] == [
        frame.tobytes() for frame in CLIP.frames
    ]
    assert CLIP.thumbnail().tobytes() == CLIP.frames[4].tobytes()
    assert CLIP.sheet().size == (FRAMES * SIDE, SIDE)
    strip = np.asarray(CLIP.sheet(3))
    assert strip.shape == (SIDE, 3 * SIDE, 3)
    assert strip[:, SIDE : 2 * SIDE].tobytes() == CLIP.frames[4].tobytes()
    grid = np.asarray(Clip(CLIP.frames[:5], RATE).spritesheet())
    assert grid.shape == (2 * SIDE, 3 * SIDE, 3)
    assert grid[SIDE:, SIDE : 2 * SIDE].tobytes() == CLIP.frames[4].tobytes()
    assert not grid[SIDE:, 2 * SIDE :].any()


@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_a_clip_comes_back_of_its_spritesheet(frames: int) -> None:
    clip = Clip(CLIP.frames[:frames], RATE)
    back = Clip.of_spritesheet(clip.spritesheet(), frames, RATE)
    assert (back.frames.tobytes(), back.size, back.rate) == (clip.frames.tobytes(), clip.size, RATE)


def test_a_clip_is_made_of_pictures_of_one_size() -> None:
    clip = Clip.of_pictures(CLIP.pictures(), 4.0)
    assert clip.frames.tobytes() == CLIP.frames.tobytes()
    assert clip.seconds == FRAMES / 4
    for pictures in ([], [Image.new("RGB", (3, 2)), Image.new("RGB", (2, 3))]):
        with pytest.raises(RequestError, match="a clip has one"):
            Clip.of_pictures(pictures, 4.0)


def test_what_is_no_clip_is_refused() -> None:
    for frames in (moving()[0], moving()[:0], moving()[..., :2]):
        with pytest.raises(RequestError, match="frames, height, width, 3"):
            Clip(frames, RATE)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RequestError, match="above 0"):
            Clip(moving(), rate)


def test_every_format_has_its_endings() -> None:
    assert set(formats.ENDINGS) == {".mp4", ".webm", ".webp", ".gif", ".apng", ".png"}


def test_the_default_format_is_the_first_that_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(frames: object, rate: float, comment: str) -> bytes:
        raise MissingExtraError("format: it needs PyAV", "format")

    for name in ("mp4", "webm"):
        monkeypatch.setitem(formats.FORMATS, name, formats.FORMATS[name]._replace(encode=missing))
    formats.check_format.cache_clear()
    formats.default_format.cache_clear()
    assert formats.default_format() == "webp"
    with pytest.raises(MissingExtraError):
        formats.check_format("mp4")
    formats.check_format.cache_clear()
    formats.default_format.cache_clear()

"""Clips by the command line."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.worlds.clip_models import noise_clip, write_clip_model
from tests.worlds.commands import called
from tests.worlds.native import PROMPT, write_native
from unmask.box import available_models, draws_clips
from unmask.clips.clip import Clip
from unmask.clips.reading import read_clip, read_clip_file
from unmask.errors import NotFoundError
from unmask.pipeline import Pipeline
from unmask.store import default_model


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(name="clip")
def _clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.webp"
    noise_clip(9).save(path)
    return path


@pytest.fixture(name="picture")
def _picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    noise_clip(1, seed=3).pictures()[0].save(path)
    return path


def _drawn(monkeypatch: pytest.MonkeyPatch, model: Path, *arguments: object) -> Clip:
    out = Path(model.parent, f"{len(list(model.parent.iterdir()))}.webp")
    assert called(monkeypatch, *arguments, "--model", model, "--seed", 7, "-o", out) == 0
    return read_clip_file(out)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.webp", "a.gif", "a.apng", "frames"])
def test_a_prompt_becomes_a_clip_of_any_format(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, name: str
) -> None:
    if name.endswith(("mp4", "webm")):
        pytest.importorskip("av", reason="needs the extra video")
    out, sheet = tmp_path / name, tmp_path / "strip.png"
    common = (PROMPT, "--frames", 9, "--model", model, "--seed", 7, "-o", out, "--sheet", sheet)
    assert called(monkeypatch, "video", *common) == 0
    expected = Pipeline.load(model).generate(PROMPT, frames=9, seed=7)
    with Image.open(sheet) as strip:
        assert strip.size == (9 * 8, 8)
        assert json.loads(strip.info["unmask"])["frames"] == 9
    if name == "frames":
        frames = [np.asarray(Image.open(path)) for path in sorted(out.iterdir())]
        assert np.array_equal(np.stack(frames), expected.frames)
        return
    clip = read_clip_file(out)
    assert (len(clip), clip.size, clip.rate) == (9, (8, 8), 8)
    if name.endswith(("webp", "apng")):
        assert np.array_equal(clip.frames, expected.frames)


def test_seconds_are_whole_slots_and_scenes_follow(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    scenes = ("--then", "two blue squares:0.5", "--then", f"{PROMPT}:1")
    clip = _drawn(monkeypatch, model, "video", PROMPT, "--seconds", 1, *scenes)
    assert len(clip) == 1 + 8 + 4 + 8
    assert len(_drawn(monkeypatch, model, "video", PROMPT)) == 9


def test_several_clips_have_files_of_their_own(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--frames", 5, "--model", model, "--seed", 1, "-o", tmp_path / "o.webp", "--json")
    assert called(monkeypatch, "video", PROMPT, "--n", 2, *common) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["file"] for entry in told] == [str(tmp_path / f"o-{i}.webp") for i in (0, 1)]
    assert [(entry["image_index"], entry["frames"]) for entry in told] == [(0, 5), (1, 5)]
    one = read_clip_file(tmp_path / "o-1.webp")
    alone = called(monkeypatch, "video", PROMPT, "--image-index", 1, *common)
    assert alone == 0
    assert np.array_equal(read_clip_file(tmp_path / "o.webp").frames, one.frames)


def test_a_clip_goes_to_standard_output(model: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "unmask",
        "video",
        PROMPT,
        "--model",
        str(model),
        "--frames",
        "5",
    ]
    done = subprocess.run(
        [*command, "--seed", "1", "-o", "-"], capture_output=True, check=True, timeout=60
    )
    assert len(read_clip(done.stdout)) == 5
    assert b"seed 1" in done.stderr


def test_a_picture_is_animated(monkeypatch: pytest.MonkeyPatch, model: Path, picture: Path) -> None:
    clip = _drawn(monkeypatch, model, "animate", picture, PROMPT, "--frames", 6)
    assert len(clip) == 6
    assert np.array_equal(clip.frames[0], np.asarray(Image.open(picture)))


def test_what_lies_between_pictures_and_clips_is_drawn(
    monkeypatch: pytest.MonkeyPatch, model: Path, picture: Path, clip: Path
) -> None:
    between = _drawn(monkeypatch, model, "interpolate", picture, clip, "--frames", 17)
    assert np.array_equal(between.frames[0], np.asarray(Image.open(picture)))
    assert np.array_equal(between.frames[8:], read_clip_file(clip).frames)
    assert len(_drawn(monkeypatch, model, "interpolate", picture, picture, PROMPT)) == 9


def test_what_lies_between_edited_ends_moves_as_a_clip_does(
    monkeypatch: pytest.MonkeyPatch, model: Path, picture: Path, clip: Path
) -> None:
    shown, before = np.asarray(Image.open(picture)), read_clip_file(clip)
    ends = ("interpolate", picture, picture, PROMPT)
    through = _drawn(monkeypatch, model, *ends, "--through", clip, "--strength", 0.01)
    assert through.frames.shape == before.frames.shape
    assert np.array_equal(through.frames[0], shown)
    assert np.array_equal(through.frames[-1], shown)
    plain = _drawn(monkeypatch, model, *ends, "--frames", 9)
    whole = _drawn(monkeypatch, model, *ends, "--through", clip, "--strength", 1)
    assert np.array_equal(whole.frames, plain.frames)
    assert not np.array_equal(through.frames, plain.frames)
    for options in ((), ("--share", 0.5)):
        half = _drawn(monkeypatch, model, *ends, "--through", clip, *options)
        assert np.array_equal(half.frames[[0, -1]], [shown, shown])
        assert not np.array_equal(half.frames, through.frames)


def test_pictures_stand_at_frames_of_their_own(
    monkeypatch: pytest.MonkeyPatch, model: Path, picture: Path, clip: Path, tmp_path: Path
) -> None:
    shown = np.asarray(Image.open(picture))
    at = ("--at", f"0={picture}", "--at", f"8={clip}")  # of nine frames, so 16 is the last
    drawn = _drawn(monkeypatch, model, "video", PROMPT, *at, "--frames", 17)
    assert np.array_equal(drawn.frames[0], shown)
    assert np.array_equal(drawn.frames[8:], read_clip_file(clip).frames)
    hinted = write_clip_model(tmp_path / "hinted", hints=3)
    drawn = _drawn(monkeypatch, hinted, "video", PROMPT, "--at", f"6={picture}")
    assert len(drawn) == 9
    assert np.array_equal(drawn.frames[6], shown)


def test_a_clip_is_extended(monkeypatch: pytest.MonkeyPatch, model: Path, clip: Path) -> None:
    longer = _drawn(monkeypatch, model, "extend", clip, PROMPT, "--seconds", 1)
    assert len(longer) == 17
    assert np.array_equal(longer.frames[:9], read_clip_file(clip).frames)
    assert len(_drawn(monkeypatch, model, "extend", clip, PROMPT, "--frames", 3)) == 12


BOX = ("--box", "0,0,4,4", "--last-box", "4,4,8,8")


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (("inpaint", *BOX), "outside"),
        (("inpaint", "--mask", "FRAMES"), "outside"),
        (("inpaint", "--mask", "STILL"), "left"),
        (("outpaint", *BOX), "inside"),
        (("restyle", "--strength", 0.5), "nothing"),
        (("restyle", "--strength", 0.5, *BOX), "outside"),
        (("revise", "--share", 0.5), "nothing"),
        (("revise", "--share", 0.5, "--mask", "STILL"), "left"),
    ],
)
def test_clips_are_edited_as_pictures_are(
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    tmp_path: Path,
    clip: Path,
    command: tuple[object, ...],
    kept: str,
) -> None:
    inside = np.zeros((9, 8, 8), bool)
    for number, place in enumerate(np.linspace(0, 4, 9).round().astype(int)):
        inside[number, place : place + 4, place : place + 4] = True
    mask = Clip(np.repeat(inside[..., None].astype(np.uint8) * 255, 3, 3), 8)
    mask.save(tmp_path / "frames.webp")
    still = Image.new("L", (8, 8))
    still.paste(255, (4, 0, 8, 8))
    still.save(tmp_path / "still.png")
    files = {"FRAMES": tmp_path / "frames.webp", "STILL": tmp_path / "still.png"}
    name, *options = [files.get(str(word), word) for word in command]
    edited = _drawn(monkeypatch, model, name, clip, PROMPT, *options)
    before = read_clip_file(clip)
    assert edited.frames.shape == before.frames.shape
    left = np.zeros_like(inside)
    left[..., :4] = True
    same = {"outside": ~inside, "inside": inside, "left": left, "nothing": inside & ~inside}[kept]
    assert np.array_equal(edited.frames[same], before.frames[same])
    assert not np.array_equal(edited.frames, before.frames)


def test_a_larger_clip_is_edited_as_large_or_as_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    tmp_path: Path,
) -> None:
    large = tmp_path / "large.webp"
    clip = Clip(np.repeat(np.repeat(noise_clip(9).frames, 2, 1), 2, 2), 8)
    clip.save(large)
    box = ("inpaint", large, PROMPT, "--box", "8,0,16,16")
    edited = _drawn(monkeypatch, model, *box)
    assert edited.size == (16, 16)
    assert np.array_equal(edited.frames[:, :, :8], clip.frames[:, :, :8])
    assert not np.array_equal(edited.frames[:, :, 8:], clip.frames[:, :, 8:])
    assert capsys.readouterr().err == ""
    small = _drawn(monkeypatch, model, *box, "--size", "8x8")
    assert small.size == (8, 8)
    longer = _drawn(monkeypatch, model, "extend", large, PROMPT, "--frames", 4)
    assert "clip: 16x16 pixels, fitted to the 8x8 of the model" in capsys.readouterr().err
    assert np.array_equal(small.frames[:, :, :4], longer.frames[:9, :, :4])


def test_a_clip_grows(monkeypatch: pytest.MonkeyPatch, model: Path, clip: Path) -> None:
    grown = _drawn(monkeypatch, model, "outpaint", clip, PROMPT, "--left", 4, "--top", 2)
    assert grown.size == (12, 10)
    assert np.array_equal(grown.frames[:, 2:, 4:], read_clip_file(clip).frames)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("video", PROMPT, "--frames", 0), "between 1 and 481"),
        (("video", PROMPT, "--frames", 9, "--seconds", 1), "give one of them"),
        (("video", PROMPT, "--seconds", 90), "seconds is 90"),
        (("video", PROMPT, "--then", "no time"), "give PROMPT:SECONDS"),
        (("video", PROMPT, "--then", "no time:0"), "then is 0"),
        (("video", PROMPT, "--then", ":1"), "the scenes is empty"),
        (("video", PROMPT, "--at", "6"), "give FRAME=FILE"),
        (("video", PROMPT, "--at", "-1=a.png"), "give FRAME=FILE"),
        (("video", PROMPT, "--at", "6=none.png"), "none.png: No such file"),
        (("video", PROMPT, "--at", "6=picture.png"), "only if frame 8, the next"),
        (("video", PROMPT, "--at", "9=picture.png"), "a clip of 9 has 0 to 8"),
        (("video", PROMPT, "--at", "0=picture.png", "--at", "0=clip.webp"), "given twice"),
        (("video", PROMPT, "--at", "0=picture.png", "--then", "a:1"), "leave one of them out"),
        (("video", PROMPT, "-o", "o.bmp"), "choose one of"),
        (("video", PROMPT, "-o", "CLIP"), "it exists; --force"),
        (("video", PROMPT, "--sheet", "CLIP"), "it exists; --force"),
        (("video", PROMPT, "--sheet", "s.mp4"), "choose one of"),
        (("video", PROMPT, "-o", "-", "--n", 2), "standard output takes one clip"),
        (("video", PROMPT, "-o", "-", "--json"), "give one of them"),
        (("video", PROMPT, "-o", "o.webp", "--sheet", "./o.webp"), "the clip goes there"),
        (("video", PROMPT, "-o", "-", "--sheet", "-"), "the clip goes there"),
        (("generate", PROMPT, "--sheet", "s.png"), "a picture has no frames"),
        (("animate", "CLIP", PROMPT), "give a still picture"),
        (("animate", "PICTURE", PROMPT, "--frames", 1), "the least is 2"),
        (("animate", "PICTURE", PROMPT, "--frames", 0), "frames is 0"),
        (("extend", "CLIP", PROMPT, "--frames", 0), "frames is 0; the least is 1"),
        (("extend", "CLIP", PROMPT, "--frames", 1, "--seconds", 1), "give one of them"),
        (("interpolate", "PICTURE", "PICTURE", PROMPT, "--frames", 0), "between 1 and 481"),
        (("extend", "none.mp4", PROMPT), "none.mp4: No such file"),
        (("extend", "CLIP", PROMPT, "--frames", 10**12), "between 1 and 481"),
        (("interpolate", "CLIP", "CLIP", PROMPT), "there must be one at least"),
        (("interpolate", "-", "-", PROMPT), "only one of them can come from standard input"),
        (("interpolate", "CLIP", "-", PROMPT, "--through", "-"), "last and through: only one"),
        (("interpolate", "CLIP", "CLIP", PROMPT, "--through", "CLIP"), "18 are given"),
        (("interpolate", "CLIP", "CLIP", "--through", "CLIP", "--frames", 9), "leave it out"),
        (("interpolate", "CLIP", "CLIP", "--strength", 0.5), "give that too"),
        (("inpaint", "CLIP", PROMPT), "give L,T,R,B"),
        (("inpaint", "CLIP", PROMPT, "--box", "1,2,3"), "give left, top, right, bottom"),
        (("inpaint", "CLIP", PROMPT, "--box", "0,0,9,8"), "within 8x8"),
        (("revise", "CLIP", PROMPT, "--last-box", "0,0,8,8"), "give that too"),
        (("inpaint", "CLIP", PROMPT, "--box", "0,0,4,4", "--mask", "PICTURE"), "a mask too"),
        (("inpaint", "CLIP", PROMPT, "--box", "0,0,4,4", "--feather", 2), "feather is 2"),
        (("inpaint", "PICTURE", PROMPT, "--box", "0,0,4,4"), "it is for clips"),
        (("inpaint", "PICTURE", PROMPT, "--mask", "CLIP"), "mask: it has 9 frames"),
        (("inpaint", "CLIP", PROMPT, "--mask", "CLIP", "--mask-mode", "white"), "leave it auto"),
        (("revise", "CLIP", PROMPT, "--mask-mode", "alpha"), "leave it auto"),
        (("outpaint", "CLIP", PROMPT), "give L,T,R,B"),
        (("outpaint", "CLIP", PROMPT, "--left", -4), "left is -4"),
        (("outpaint", "CLIP", PROMPT, "--left", 4000), "windows times frames may be 2048"),
        (("outpaint", "PICTURE", PROMPT, "--left", 4, "--size", "8x8"), "it is for clips"),
        (("revise", "CLIP", PROMPT, "--size", "8"), "give WxH in pixels"),
        (("revise", "CLIP", PROMPT, "--size", "99999x99999"), "size 99999x99999: a clip of 9"),
        (("revise", "CLIP", PROMPT, "--scheduler", "halton"), "cannot revise"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    clip: Path,
    picture: Path,
    command: tuple[object, ...],
    words: str,
) -> None:
    monkeypatch.chdir(clip.parent)
    files = {"CLIP": clip, "PICTURE": picture}
    filled = [files.get(str(word), word) for word in command]
    assert called(monkeypatch, *filled, "--model", model) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in clip.parent.iterdir()) == ["clip.webp", "picture.png"]


def test_a_folder_of_frames_is_written_over_by_force_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "frames"
    common = ("video", PROMPT, "--model", model, "-o", out, "--seed", 1)
    assert called(monkeypatch, *common, "--frames", 9) == 0
    assert called(monkeypatch, *common, "--frames", 5) == 2
    assert "it exists; --force" in capsys.readouterr().err
    assert called(monkeypatch, *common, "--frames", 5, "--force") == 0
    assert len(list(out.iterdir())) == 5


def test_a_file_where_a_folder_of_frames_goes_is_found_before_drawing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "frames").touch()
    monkeypatch.setattr(Pipeline, "load", None)
    arguments = ("video", PROMPT, "--model", "x", "-o", tmp_path / "frames", "--force")
    assert called(monkeypatch, *arguments) == 2
    assert "frames: it is a file; name a folder" in capsys.readouterr().err


def test_words_of_further_scenes_that_the_model_may_not_know_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    scene = ("--then", "a red ox:0.5", "-o", tmp_path / "o.webp")
    assert called(monkeypatch, "video", PROMPT, *scene, "--model", model, "--frames", 5) == 0
    assert "was not taught 'ox'" in capsys.readouterr().err


def test_words_do_not_join_a_strip_on_standard_output(model: Path, tmp_path: Path) -> None:
    command = ["video", PROMPT, "--frames", "5", "--sheet", "-", "--model", str(model)]
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *command, "-o", str(tmp_path / "o.webp"), "--seed", "1"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    with Image.open(io.BytesIO(done.stdout)) as strip:
        assert strip.size == (5 * 8, 8)
    assert done.stdout.rstrip().endswith(b"IEND\xaeB`\x82")
    assert b"seed 1" in done.stderr


def test_a_model_of_pictures_draws_no_clips(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = write_native(tmp_path / "pictures")
    arguments = ("video", PROMPT, "--model", model, "-o", tmp_path / "o.webp")
    assert called(monkeypatch, *arguments) == 2
    assert "draws pictures, not clips" in capsys.readouterr().err


def test_a_format_that_needs_an_extra_is_refused_before_drawing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "unmask.clips.film", None)
    monkeypatch.setattr(Pipeline, "load", None)
    assert called(monkeypatch, "video", PROMPT, "--model", "x", "-o", tmp_path / "o.mp4") == 2
    assert "unmask[video]" in capsys.readouterr().err


def test_each_kind_has_its_default_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, slots in (("a-clips", True), ("b-pictures", False), ("c-clips", True)):
        (tmp_path / name / ("slots" if slots else "tokenizer")).mkdir(parents=True)
        (tmp_path / name / "model.json").write_text("{}")
    assert not draws_clips(default_model())
    monkeypatch.setattr("unmask.box.BUNDLED", tmp_path)
    assert available_models() == ["a-clips", "b-pictures", "c-clips"]
    assert (default_model(), default_model(clips=True)) == ("b-pictures", "a-clips")
    (tmp_path / "b-pictures" / "model.json").unlink()
    with pytest.raises(NotFoundError, match="draws pictures"):
        default_model()


def test_a_still_webp_is_a_picture_and_one_that_moves_a_clip(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, clip: Path
) -> None:
    file = io.BytesIO()
    noise_clip(1).pictures()[0].save(file, "webp", lossless=True)
    still = tmp_path / "still.webp"
    still.write_bytes(file.getvalue())
    out = tmp_path / "o.png"
    common = (PROMPT, "--model", model, "--force", "-o", out)
    assert called(monkeypatch, "restyle", still, *common) == 0
    with Image.open(out) as image:
        assert getattr(image, "n_frames", 1) == 1
    assert called(monkeypatch, "restyle", clip, *common) == 0
    assert len(read_clip_file(out)) == 9

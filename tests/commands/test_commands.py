import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.worlds.commands import called
from tests.worlds.native import PROMPT, write_native
from unmask import __version__
from unmask.commands.output import grid


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_native(tmp_path_factory.mktemp("tiny"))


def test_a_prompt_becomes_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cat.png"
    assert called(monkeypatch, "generate", PROMPT, "--model", model, "--seed", 7, "-o", out) == 0
    with Image.open(out) as image:
        assert image.size == (8, 8)
        image.load()
        assert json.loads(image.info["unmask"])["seed"] == 7
    assert "seed 7" in capsys.readouterr().out


def test_the_same_seed_writes_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        called(monkeypatch, "generate", PROMPT, "--model", model, "--seed", 1, "--n", 3, "-o", file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_several_images_make_a_grid_or_files(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cats.png"
    common = ("generate", PROMPT, "--model", model, "--n", 3, "-o", out)
    called(monkeypatch, *common)
    with Image.open(out) as image:
        assert image.size == (24, 8)
    out.unlink()
    called(monkeypatch, *common, "--separate")
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"cats-{i}.png" for i in range(3)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", ""), "the prompt is empty"),
        (("generate", PROMPT, "--scheduler", "haltom"), "did you mean 'halton'"),
        (("generate", PROMPT, "--steps", "0"), "between 1 and 256"),
        (("generate", PROMPT, "--guidance-scale", "nan"), "guidance_scale is nan"),
        (("generate", PROMPT, "-o", "out.bmp"), "choose one of"),
        (("generate", PROMPT, "-o", "no/such/folder/out.png"), "there is no folder"),
        (("generate", PROMPT, "-o", "out"), "output out: no ending; choose one of: .jpeg"),
        (("generate", PROMPT, "--subject", " "), "subject ' ': give the words of one object"),
        (
            ("generate", PROMPT, "--n", 2, "--image-index", 2**32 - 1),
            "the last would be 4294967296",
        ),
        (
            (
                *("generate", PROMPT, "--guidance", "interval", "--guidance-scale", 2),
                *("--guidance-interval", 0.8, 0.2),
            ),
            "guidance_interval is [0.8, 0.2]: give where it begins, then where it ends",
        ),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert called(monkeypatch, *arguments, "--model", model) == 2
    error = capsys.readouterr().err
    assert error.startswith("unmask: ")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("value", ["two", "2.5"])
def test_a_value_of_the_wrong_kind_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert called(monkeypatch, "generate", PROMPT, "--steps", value) == 2
    assert f"'--steps': '{value}': Input should be a valid integer" in capsys.readouterr().err


def test_a_value_that_is_none_of_the_choices_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "generate", PROMPT, "--precision", "fp64") == 2
    assert capsys.readouterr().err.count("'fp64'") == 1


def test_a_model_without_a_name_is_not_the_default_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    assert called(monkeypatch, "generate", PROMPT, "--model", "", "-o", out) == 2
    assert "model ''" in capsys.readouterr().err


def test_words_that_the_model_was_not_taught_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    common = ("--model", model, "--seed", 1, "-o")
    assert called(monkeypatch, "generate", PROMPT, *common, tmp_path / "known.png") == 0
    assert capsys.readouterr().err == ""
    unknown, strict = tmp_path / "unknown.png", tmp_path / "strict.png"
    words = "red sqare \x01"
    told = "prompt: tiny was not taught 'sqare' (nearest: squares), '\\x01'\n"
    assert called(monkeypatch, "generate", words, *common, unknown, "--json") == 0
    said = capsys.readouterr()
    assert said.err == f"unmask: {told}"
    [warning] = json.loads(said.out)["warnings"]
    assert warning["words"][0] == {"word": "sqare", "nearest": ["squares"]}
    assert called(monkeypatch, "generate", words, *common, strict, "--strict-prompt") == 2
    assert capsys.readouterr().err.endswith(told)
    assert not strict.exists()


def test_a_file_to_convert_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert called(monkeypatch, "convert", tmp_path / "gone.pth", tmp_path / "out") == 2
    assert "gone.pth: no such file" in capsys.readouterr().err


def test_an_unknown_model_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "generate", PROMPT, "--model", "bogus") == 2
    assert "neither a folder" in capsys.readouterr().err


def test_the_bundled_models_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "models") == 0
    assert "64x64" in capsys.readouterr().out


def test_the_version_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"unmask {__version__}\n"


def test_help_loads_no_torch() -> None:
    code = "import sys; from unmask.commands import commands; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_without_its_data_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = Path(__file__).parents[2] / "configs" / "folder" / "tokenizer.toml"
    assert called(monkeypatch, "train", "tokenizer", config, "--out", tmp_path / "run") == 2
    assert "folder of captioned images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (7, 7, 1), (8, 4, 2)]
)
def test_a_grid_has_no_empty_cell(count: int, columns: int, rows: int) -> None:
    sheet = grid([Image.new("RGB", (4, 2), (i, 0, 0)) for i in range(count)])
    assert sheet.size == (columns * 4, rows * 2)
    shown = [sheet.getpixel((4 * (i % columns), 2 * (i // columns))) for i in range(count)]
    assert shown == [(i, 0, 0) for i in range(count)]


@pytest.fixture(name="picture")
def _picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.effect_noise((12, 10), 90).convert("RGB").save(path)
    return path


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


@pytest.mark.parametrize(
    ("command", "size"),
    [
        (("generate", PROMPT, "--size", "12x20", "--repeat-prompt"), (12, 20)),
        (("inpaint", "PICTURE", PROMPT, "--mask", "MASK", "--feather", 1), (12, 10)),
        (("outpaint", "PICTURE", PROMPT, "--left", 3, "--bottom", 5), (15, 15)),
        (("restyle", "PICTURE", PROMPT, "--strength", 0.3, "--mask", "MASK"), (12, 10)),
        (("vary", "PICTURE", "--strength", 0.3), (12, 10)),
        (("revise", "PICTURE", PROMPT, "--share", 0.2, "--steps", 3), (12, 10)),
    ],
)
def test_pictures_are_edited(
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    tmp_path: Path,
    picture: Path,
    command: tuple[object, ...],
    size: tuple[int, int],
) -> None:
    mask, out = tmp_path / "mask.png", tmp_path / "out.png"
    Image.new("L", (12, 10)).save(mask)
    with Image.open(mask) as image:
        image.paste(255, (4, 4, 9, 9))
        image.save(mask)
    files = {"PICTURE": picture, "MASK": mask}
    filled = [files.get(str(word), word) for word in command]
    assert called(monkeypatch, *filled, "--model", model, "--seed", 3, "-o", out) == 0
    edited, before = _open(out), _open(picture)
    assert edited.size == size
    assert json.loads(edited.info["unmask"])["seed"] == 3
    if "MASK" in command:
        assert edited.crop((0, 0, 12, 4)).tobytes() == before.crop((0, 0, 12, 4)).tobytes()
    if command[0] == "outpaint":
        assert edited.crop((3, 0, 15, 10)).tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("inpaint", "none.png", PROMPT), "none.png: No such file"),
        (("inpaint", "PICTURE", PROMPT, "--mask", "gone.png"), "gone.png: No such file"),
        (("restyle", "PICTURE", PROMPT, "--mask-mode", "white"), "mask_mode is white, but"),
        (("inpaint", "PICTURE", PROMPT), "mask: it is needed"),
        (("outpaint", "PICTURE", PROMPT), "all of left, right, top, bottom are 0"),
        (("restyle", "PICTURE", PROMPT, "--strength", 0), "strength is 0"),
        (("revise", "PICTURE", PROMPT, "--scheduler", "halton"), "cannot revise"),
    ],
)
def test_edits_that_cannot_be_say_why(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    picture: Path,
    command: tuple[object, ...],
    message: str,
) -> None:
    filled = [picture if word == "PICTURE" else word for word in command]
    assert called(monkeypatch, *filled, "--model", model, "-o", picture.with_name("o.png")) == 2
    assert message in capsys.readouterr().err
    assert not picture.with_name("o.png").exists()


def test_a_jpeg_cannot_keep_transparency(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    tmp_path: Path,
) -> None:
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (10, 20, 30, 128)).save(clear)
    common = ("outpaint", clear, PROMPT, "--left", 2, "--model", model, "-o")
    assert called(monkeypatch, *common, tmp_path / "o.jpg") == 2
    assert "jpeg has no transparency" in capsys.readouterr().err
    assert called(monkeypatch, *common, tmp_path / "o.png") == 0


def test_any_sampling_option_can_be_set(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.png"
    settings = ("reuse=1", "mask_shares=0.9,0.5,0", "count_rule=planned", "reuse_after=0")
    common = ("generate", "a red circle and two blue squares", "--model", model, "-o", out)
    given = [word for each in settings for word in ("--set", each)]
    called(monkeypatch, *common, *given, "--subject", "red circle", "--subject", "squares")
    told = json.loads(_open(out).info["unmask"])
    assert told["reuse"] == 1
    assert told["mask_shares"] == [0.9, 0.5, 0]
    assert told["subjects"] == [["red", "circle"], ["squares"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reuse", "give NAME=VALUE"),
        ("reus=1", "did you mean 'reuse'"),
        ("reuse=many", "expected int, got 'many'"),
        ("reuse=-1", "must lie between 0 and 256"),
        ("reuse_after=0.3", "reuse is 0, which is off; set it above 0"),
        ("uncage_blur=1", "it belongs to scheduler uncage"),
        ("halton_shift=maybe", "expected true or false, got 'maybe'"),
        ("mask_shares=0.5,much", "expected a list, got '0.5,much'"),
        ("temperature_warmup=200", "temperature_warmup is 200, but there are only"),
        ("seed=3", "--set seed: it is no sampling option; give --seed"),
        ("image_index=3", "give --image-index"),
    ],
)
def test_options_that_cannot_be_set_say_why(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    text: str,
    message: str,
) -> None:
    assert called(monkeypatch, "generate", PROMPT, "--model", model, "--set", text) == 2
    assert message in capsys.readouterr().err


def test_options_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "options") == 0
    assert "reuse = 0  (0 to 256)" in capsys.readouterr().out


def test_a_model_is_evaluated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(
        'schedulers = ["halton"]\nsteps = [2]\nprompts = 1\nheld_out_prompts = 0\nimages = 1\n'
        '[data]\nkind = "scenes"\nscenes = { size = 64 }\n'
    )
    assert called(monkeypatch, "eval", config, "--out", tmp_path / "run") == 0
    assert "halton-2" in capsys.readouterr().out
    assert (tmp_path / "run" / "halton-2.json").exists()


def test_a_model_without_a_judge_cannot_be_evaluated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    config = Path("configs/eval/quick.toml")
    assert called(monkeypatch, "eval", config, "--out", tmp_path, "--model", model) == 2
    assert "holds no judge" in capsys.readouterr().err


def test_guidance_is_the_kind_and_a_number_after_it_still_the_scale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    drawn = []
    for number, options in enumerate(
        (
            ("--guidance-scale", "3"),
            ("--guidance", "3"),
            ("--guidance-scale", "3", "--guidance", "constant"),
            ("--guidance-scale", "3", "--guidance-schedule", "constant"),
        )
    ):
        path = tmp_path / f"{number}.png"
        arguments = (PROMPT, "--seed", "1", "--model", model, *options, "-o", path)
        assert called(monkeypatch, "generate", *arguments) == 0
        said = capsys.readouterr().err
        assert said.count("the scale is --guidance-scale") == (number == 1)
        drawn.append(path.read_bytes())
    assert len(set(drawn)) == 1
    both = ("generate", PROMPT, "--guidance", "3", "--guidance-scale", "2", "--model", model)
    assert called(monkeypatch, *both) == 2
    assert "twice" in capsys.readouterr().err


def test_an_option_and_a_set_of_it_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    twice = ("generate", PROMPT, "--steps", "4", "--set", "steps=6", "--model", model)
    assert called(monkeypatch, *twice) == 2
    assert "steps is given twice" in capsys.readouterr().err

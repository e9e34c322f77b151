import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.test_pipeline import PROMPT, _write_model
from unmask import __version__
from unmask.cli import app, grid


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_model(tmp_path_factory.mktemp("tiny"))


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        app()
    code = caught.value.code
    assert isinstance(code, int | None)
    return code or 0


def test_a_prompt_becomes_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cat.png"
    assert _run(monkeypatch, "generate", PROMPT, "--model", model, "--seed", 7, "-o", out) == 0
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
        _run(monkeypatch, "generate", PROMPT, "--model", model, "--seed", 1, "--n", 3, "-o", file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_several_images_make_a_grid_or_files(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cats.png"
    common = ("generate", PROMPT, "--model", model, "--n", 3, "-o", out)
    _run(monkeypatch, *common)
    with Image.open(out) as image:
        assert image.size == (16, 16)
    out.unlink()
    _run(monkeypatch, *common, "--separate")
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"cats-{i}.png" for i in range(3)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", ""), "the prompt is empty"),
        (("generate", PROMPT, "--scheduler", "haltom"), "did you mean 'halton'"),
        (("generate", PROMPT, "--steps", "0"), "between 1 and 256"),
        (("generate", PROMPT, "--guidance", "nan"), "guidance_scale is nan"),
        (("generate", PROMPT, "-o", "out.bmp"), "choose one of"),
        (("generate", PROMPT, "-o", "no/such/folder/out.png"), "there is no folder"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert _run(monkeypatch, *arguments, "--model", model) == 2
    error = capsys.readouterr().err
    assert error.startswith("unmask: ")
    assert words in error
    assert error.count("\n") == 1


def test_an_unknown_model_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "generate", PROMPT, "--model", "bogus") == 2
    assert "neither a folder" in capsys.readouterr().err


def test_the_bundled_models_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "models") == 0
    assert "64x64" in capsys.readouterr().out


def test_the_version_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"unmask {__version__}\n"


def test_help_loads_no_torch() -> None:
    code = "import sys; from unmask.cli import commands; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_without_its_data_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = Path(__file__).parents[1] / "configs" / "folder" / "tokenizer.toml"
    assert _run(monkeypatch, "train", "tokenizer", config, "--out", tmp_path / "run") == 2
    assert "folder of captioned images" in capsys.readouterr().err


def test_a_grid_is_nearly_square() -> None:
    images = [Image.new("RGB", (4, 2), (i, 0, 0)) for i in range(5)]
    sheet = grid(images)
    assert sheet.size == (12, 4)
    assert sheet.getpixel((4, 2)) == (4, 0, 0)

"""Where pictures go to and come from: files, standard input and output; what is told of them."""

import io
import json
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.worlds.commands import called
from tests.worlds.native import PROMPT, write_native
from unmask.pipeline import Pipeline

SECONDS = 60  # no command here takes as long


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_native(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(name="nothing_is_drawn")
def _nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a model is as much as loaded."""

    def load(*arguments: object, **options: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Pipeline, "load", load)


def _process(
    *arguments: object, sent: bytes = b"", out: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    texts = [text if isinstance(text, bytes) else str(text) for text in arguments]
    return subprocess.run(
        [sys.executable, "-m", "unmask", *texts],
        input=sent,
        stdout=out,
        stderr=subprocess.PIPE,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},  # as in most locales
    )


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _notes(path: Path) -> dict[str, object]:
    with Image.open(path) as image:
        image.load()
        notes: dict[str, object] = json.loads(image.info["unmask"])
        return notes


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


@pytest.mark.usefixtures("nothing_is_drawn")
def test_an_output_that_cannot_be_is_found_before_drawing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "there-1.png").touch()
    for arguments, words in (
        (("-o", tmp_path / "folder.png"), "folder.png: it is a folder"),
        (("-o", "."), "output .: it is a folder; name a file"),
        (("-o", tmp_path / f"{'x' * 300}.png"), "File name too long"),
        (("-o", tmp_path / "there-1.png"), "there-1.png: it exists; --force writes over it"),
        (("-o", tmp_path / "there.png", "--separate", "--n", "2"), "there-1.png: it exists"),
        (("-o", "-", "--separate"), "standard output takes one picture"),
        (("-o", "-", "red"), "standard output takes one picture"),
        (("-o", "-", "--json"), "give one of them"),
        (("-o", tmp_path / "o.png", "--n", 10**9, "--separate"), "n is 1000000000"),
    ):
        assert called(monkeypatch, "generate", PROMPT, *arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


@pytest.mark.usefixtures("nothing_is_drawn")
def test_a_full_disk_is_found_before_drawing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with _files_up_to(1000):
        assert called(monkeypatch, "generate", PROMPT, "-o", tmp_path / "o.png") == 2
    assert "o.png: File too large" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "o.png"
    out.write_bytes(b"before")
    draw = Pipeline.run_all

    def fill_the_disk(*arguments: object) -> object:
        drawn = draw(*arguments)  # type: ignore[arg-type]
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        return drawn

    monkeypatch.setattr(Pipeline, "run_all", fill_the_disk)
    with _files_up_to(resource.RLIM_INFINITY):
        code = called(monkeypatch, "generate", PROMPT, "--model", model, "-o", out, "--force")
    assert code == 2
    assert "File too large" in capsys.readouterr().err
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


def test_force_writes_over_a_file_and_through_a_link(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    target, link = tmp_path / "target.png", tmp_path / "link.png"
    target.write_bytes(b"before")
    link.symlink_to(target)
    assert called(monkeypatch, "generate", PROMPT, "--model", model, "-o", link, "--force") == 0
    assert link.is_symlink()
    assert _notes(target)["prompt"] == PROMPT
    fresh = tmp_path / "fresh"
    fresh.touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(fresh.stat().st_mode)


def test_files_of_one_image_tell_how_to_draw_it_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    common = ("generate", PROMPT, "--model", model, "--seed", 5, "-o")
    assert called(monkeypatch, *common, tmp_path / "all.png", "--n", 3, "--separate") == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1:] for line in lines] == [
        ["seed 5", f"image_index {i}"] for i in range(3)
    ]
    assert total.startswith("3 images in ")
    notes = _notes(tmp_path / "all-2.png")
    assert (notes["seed"], notes["image_index"], notes["n"]) == (5, 2, 1)
    assert called(monkeypatch, *common, tmp_path / "one.png", "--image-index", 2) == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "all-2.png").read_bytes()


def test_several_prompts_make_numbered_files(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    prompts = (PROMPT, "two blue squares")
    out = tmp_path / "o.png"
    assert called(monkeypatch, "generate", *prompts, "--model", model, "--seed", -1, "-o", out) == 0
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["o-0.png", "o-1.png"]
    notes = [_notes(file) for file in files]
    assert [note["prompt"] for note in notes] == list(prompts)
    assert notes[0]["seed"] != notes[1]["seed"]


def test_json_tells_the_resolved_request_of_each_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.png"
    arguments = (PROMPT, "--model", model, "--n", 2, "--separate", "--json", "-o", out)
    assert called(monkeypatch, "generate", *arguments) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["file"] for each in told] == [str(tmp_path / f"o-{i}.png") for i in range(2)]
    for each in told:
        assert each["images_drawn"] == 2
        assert each["seconds"] > 0
        assert {name: each[name] for name in each if name in _notes(Path(each["file"]))} == _notes(
            Path(each["file"])
        )


def test_pictures_come_from_standard_input_and_go_to_standard_output(
    model: Path, tmp_path: Path
) -> None:
    picture, mask = Image.new("RGB", (8, 8), "red"), Image.new("L", (8, 8))
    mask.paste(255, (0, 0, 8, 4))
    (tmp_path / "picture.png").write_bytes(_png(picture))
    (tmp_path / "mask.png").write_bytes(_png(mask))
    common = (PROMPT, "--model", model, "--seed", "1", "-o", "-")
    first = _process("inpaint", "-", *common, "--mask", tmp_path / "mask.png", sent=_png(picture))
    second = _process("inpaint", tmp_path / "picture.png", *common, "--mask", "-", sent=_png(mask))
    assert first.returncode == 0, first.stderr
    assert b"seed 1" in first.stderr
    assert first.stdout == second.stdout
    with Image.open(io.BytesIO(first.stdout)) as drawn:
        assert drawn.crop((0, 4, 8, 8)).tobytes() == picture.crop((0, 4, 8, 8)).tobytes()
    neither = _process("inpaint", "-", *common, "--mask", "-", sent=_png(mask))
    assert neither.returncode == 2
    assert b"only one of them" in neither.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_standard_output_that_takes_nothing_is_one_line(model: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = _process("generate", PROMPT, "--model", model, "-o", "-", out=full.fileno())
    assert ended.returncode == 2
    assert ended.stderr == b"unmask: output -: No space left on device\n"


def test_names_and_prompts_that_are_not_utf8(model: Path, tmp_path: Path) -> None:
    prompt = _process("generate", b"red \xff", "--model", model, "-o", tmp_path / "o.png")
    assert prompt.returncode == 2
    assert prompt.stderr.startswith(b"unmask: the prompt is not text: character 4")
    assert prompt.stderr.count(b"\n") == 1
    name = os.fsencode(tmp_path) + b"/\xff.png"
    written = _process("generate", PROMPT, "--model", model, "-o", name)
    assert written.returncode == 0, written.stderr
    assert written.stdout.startswith(name)


@pytest.mark.parametrize("text", ["prompt=red", "seed=4", "n=2", "edit=1", "image_index=1"])
def test_only_sampling_options_can_be_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, text: str
) -> None:
    assert called(monkeypatch, "generate", PROMPT, "--model", model, "--set", text) == 2
    told = re.search(r"set '?(\w+)", capsys.readouterr().err)
    assert told is not None
    assert told[1] == text.partition("=")[0]

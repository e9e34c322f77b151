"""What the pages say is held to the code: examples run; commands, links, settings, files exist.

A fenced ``python`` block runs by itself in an empty folder. One that cannot (it needs a server, or
a file that is not in the tree) has ``<!-- not run: reason -->`` on the line before its fence.
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from unmask.commands import commands
from unmask.sampling.options import flat_options
from unmask.sampling.schedulers import SCHEDULERS
from unmask.server.http.schemas import EditBody, GenerationBody, OutpaintBody, VariationBody
from unmask.server.http.video_schemas import (
    EditVideoBody,
    ExtendVideoBody,
    NewVideoBody,
    RemixBody,
)
from unmask.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
WIDTH = 120
LANGUAGES = {"python", "sh", "text", "toml"}
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


class Block(NamedTuple):
    """A fenced block, and the number of the line of its fence."""

    page: Path
    line: int
    language: str
    text: str
    runs: bool

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    opened: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number
            continue
        marked = opened > 0 and NOT_RUN.fullmatch(lines[opened - 1]) is not None
        text = "\n".join(lines[opened + 1 : number])
        yield Block(page, opened + 1, lines[opened].removeprefix("```"), text, not marked)
        opened = None
    assert opened is None, f"{page.name}:{opened}: the block has no end"


def _prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines outside of fenced blocks, with their numbers."""
    in_block = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            in_block = not in_block
        elif not in_block:
            yield number, line


def _shell_commands(text: str) -> Iterator[list[str]]:
    """The words of every simple command of a shell block, without variables set before it."""
    pending = ""
    for line in text.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        lexer = shlex.shlex(pending, posix=True, punctuation_chars=";|&")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quotation that goes on in the next line
            continue
        pending = ""
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set(";|&"):
                if command:
                    yield command
                command = []
            elif command or not ASSIGNMENT.fullmatch(word):
                command.append(word)
    assert not pending, f"a quotation has no end: {pending!r}"


def _slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


BLOCKS = [block for page in PAGES for block in _blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language == "sh"]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture
def schedulers_as_they_were() -> Iterator[None]:
    """An example may add a scheduler, which other tests would meet."""
    before = dict(SCHEDULERS)
    yield
    SCHEDULERS.clear()
    SCHEDULERS.update(before)


@pytest.mark.usefixtures("schedulers_as_they_were")
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_every_python_example_runs(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = compile(block.text, block.place, "exec")
    monkeypatch.chdir(tmp_path)
    if block.runs:
        exec(code, {"__name__": "__main__"})


def test_some_examples_run() -> None:
    assert {block.page.name for block in PYTHON if block.runs} >= {"README.md", "editing.md"}


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_every_command_has_its_options(block: Block) -> None:
    group = get_command(commands)
    assert isinstance(group, TyperGroup)
    verbs = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in _shell_commands(block.text):
        program, *arguments = words
        if Path(program).name == "unmask":
            with group.make_context("unmask", list(arguments)) as context:
                name, command, rest = group.resolve_command(context, arguments)
                assert command is not None, words
                command.make_context(name, rest)
        elif program == "make":
            wanted = [word for word in arguments if not ASSIGNMENT.fullmatch(word)]
            assert set(wanted) <= set(verbs), words


def test_commands_are_taken_apart_as_a_shell_does() -> None:
    text = "A=1 unmask generate 'two\nlines' \\\n  --n 2 | tee x  # why\nunmask serve"
    words = list(_shell_commands(text))
    assert words == [
        ["unmask", "generate", "two\nlines", "--n", "2"],
        ["tee", "x"],
        ["unmask", "serve"],
    ]


@pages
def test_every_block_says_its_language(page: Path) -> None:
    assert [block.place for block in _blocks(page) if block.language not in LANGUAGES] == []


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    for number, line in _prose(page):
        for target in LINK.findall(line):
            if target.startswith(("http://", "https://")):
                continue
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), f"{page.name}:{number}: {target}"
            if anchor:
                headings = [text for _, text in _prose(file) if text.startswith("#")]
                anchors = {_slug(text.lstrip("#")) for text in headings}
                assert anchor in anchors, f"{page.name}:{number}: {target}"


@pages
def test_lines_are_no_wider_than_the_bound(page: Path) -> None:
    wide = [n for n, line in _prose(page) if len(line) > WIDTH and not line.startswith("|")]
    assert wide == []


@pages
def test_every_module_that_is_run_exists(page: Path) -> None:
    for module in re.findall(r"python3? -m ([\w.]*\w)", page.read_text(encoding="utf-8")):
        assert importlib.util.find_spec(module) is not None, module


@pages
def test_every_variable_is_a_setting(page: Path) -> None:
    named = set(re.findall(r"UNMASK_([A-Z_]+)", page.read_text(encoding="utf-8")))
    assert {name.lower().removesuffix("_file") for name in named} <= set(Settings.model_fields)


def test_the_table_of_settings_is_the_one_that_the_command_prints() -> None:
    printed = CliRunner().invoke(commands, ["settings", "--markdown"]).output
    assert printed.count("\n") == len(Settings.model_fields) + 2
    assert printed in (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "lab.md"], ids=lambda page: page.name
)
def test_every_file_that_is_named_exists(page: Path) -> None:
    """The lab notes tell of what was there on their day."""
    named = re.findall(
        r"`((?:unmask|tests|benchmarks|configs|docs)/[\w./-]*)`", page.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_table_of_options_is_the_one_that_the_command_prints() -> None:
    printed = CliRunner().invoke(commands, ["options", "--markdown"]).output
    assert printed in (ROOT / "docs" / "schedulers.md").read_text(encoding="utf-8")


def test_every_field_of_the_api_stands_in_its_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([a-z_]+)`", page))
    bodies = (
        GenerationBody,
        EditBody,
        OutpaintBody,
        VariationBody,
        NewVideoBody,
        EditVideoBody,
        ExtendVideoBody,
        RemixBody,
    )
    fields = {name for body in bodies for name in body.model_fields} - flat_options().keys()
    assert fields - told == set()

from dataclasses import replace
from pathlib import Path

from PIL import Image

from unmask.evaluation.prompts import CATEGORIES
from unmask.evaluation.report import background_share, table, tag_share, write_report
from unmask.evaluation.results import Inputs, Record, Result
from unmask.evaluation.settings import CEILING

INPUTS = Inputs(
    version="1",
    options=None,
    model="a",
    judge="b",
    sprites="c",
    features=True,
    prompts=1,
    held_out_prompts=1,
    images=2,
    batch=16,
    seed=0,
    held_out_percent=8,
    precision="fp32",
)


def _records(*right: bool) -> tuple[Record, ...]:
    return tuple(
        Record(f"{category}/{held_out}", category, category, held_out, right, ((), ("extra",)),
               (None, True))
        for held_out in (False, True)
        for category in CATEGORIES
    )  # fmt: skip


def _result(name: str, steps: int, *right: bool) -> Result:
    inputs = replace(INPUTS, options={"steps": steps})
    return Result(name, inputs, _records(*right), 12.5, 0.5, 2.0 * steps, 0.01)


RESULTS = [
    Result(CEILING, INPUTS, _records(True, True), 3.25, 0.25),
    _result("halton-4", 4, True, False),
    _result("halton-8", 8, True, True),
]


def _row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines()[:8] if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_tells_scores_gaps_and_costs() -> None:
    text = table(RESULTS)
    heads = _row(text, "setting")
    half = dict(zip(heads, _row(text, "halton-4"), strict=True))
    assert half["score"] == "0.500 (0.500 to 0.500)"
    assert half["of the ceiling"] == "0.500"
    assert half["gap"] == ""
    images = 2 * len(RESULTS[0].records)
    assert f"of {images} images to {images} true ones" in text
    assert (half["counting"], half["held out"]) == ("0.500", "0.500 (0.500 to 0.500)")
    assert (half["distance"], half["passes"], half["seconds"]) == ("12.5", "8.0", "0.010")
    full = dict(zip(heads, _row(text, "halton-8"), strict=True))
    assert full["gap"] == "+0.500 (+0.500 to +0.500)"
    ceiling = dict(zip(heads, _row(text, CEILING), strict=True))
    assert (ceiling["gap"], ceiling["passes"]) == ("", "")


def test_the_baseline_is_the_one_that_is_named() -> None:
    text = table(RESULTS, "halton-8")
    heads = _row(text, "setting")
    assert dict(zip(heads, _row(text, "halton-4"), strict=True))["gap"].startswith("-0.500")
    assert "paired with halton-8" in text


def test_shares_are_of_pictures() -> None:
    records = RESULTS[1].records
    assert tag_share(records, "extra") == 0.5
    assert tag_share(records, "missing") == 0
    assert background_share(records) == 1
    assert (
        background_share([replace(record, background=(None, None)) for record in records]) is None
    )


def test_a_table_without_ceiling_or_distance_leaves_them_empty() -> None:
    bare = [replace(result, frechet=None, diversity=None) for result in RESULTS[1:]]
    text = table(bare)
    row = dict(zip(_row(text, "setting"), _row(text, "halton-4"), strict=True))
    assert (row["of the ceiling"], row["distance"], row["diversity"]) == ("", "", "")


def test_the_report_holds_the_table_and_two_plots(tmp_path: Path) -> None:
    text = write_report(RESULTS, tmp_path / "out")
    assert (tmp_path / "out" / "table.md").read_text() == text
    for name in ("score.png", "distance.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert min(image.size) > 300
            colours = image.convert("RGB").getcolors(10**6)
            assert colours is not None
            assert len(colours) > 10  # more than an empty frame

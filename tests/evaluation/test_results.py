from dataclasses import replace
from pathlib import Path

import pytest

from unmask.evaluation.prompts import make_prompts
from unmask.evaluation.results import (
    Inputs,
    Record,
    Result,
    difference,
    read_result,
    save_result,
    score,
    weights_hash,
)
from unmask.scenes.judge import Judge


def _records() -> list[Record]:
    """Records of one prompt a category, and of one that is held out."""
    prompts = make_prompts(("circle", "square", "ring"), 30, 0, 1, 1)
    return [
        Record(
            key=prompt.key,
            text=prompt.text,
            category=prompt.category,
            held_out=prompt.held_out,
            right=(True, False),
            tags=((), ("missing",)),
            background=(None, None),
        )
        for prompt in prompts
    ]


def test_scores_are_apart_for_what_is_held_out() -> None:
    records = _records()
    chosen = [replace(record, right=(not record.held_out,) * 2) for record in records]
    assert score(chosen) == (1, 1, 1)
    assert score(chosen, held_out=True) == (0, 0, 0)
    assert score([record for record in chosen if not record.held_out], held_out=True) is None
    worse = [replace(record, right=(False, not record.held_out)) for record in records]
    assert difference(chosen, worse) == (0.5, 0.5, 0.5)


def test_results_on_other_prompts_are_not_compared() -> None:
    records = _records()
    with pytest.raises(ValueError, match="other prompts"):
        difference(records, records[::-1])


def test_a_hash_tells_weights_apart(judge: Judge) -> None:
    assert weights_hash(judge) == weights_hash(judge)
    assert weights_hash(judge) != weights_hash(judge, text="stricter")
    assert weights_hash(judge.stem) != weights_hash(judge.deep)


def test_a_result_is_read_back_and_one_of_another_version_is_not(tmp_path: Path) -> None:
    inputs = Inputs("1", None, "m", "j", None, False, 1, 1, 2, 4, 0, 8, "fp32")
    result = Result("halton-2", inputs, tuple(_records()), passes=2.0)
    path = tmp_path / "halton-2.json"
    save_result(result, path)
    assert read_result(path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["halton-2.json"]
    path.write_text(path.read_text().replace('"passes"', '"calls"'))
    assert read_result(path) is None
    assert read_result(tmp_path / "absent.json") is None

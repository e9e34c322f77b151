import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from unmask import config
from unmask.card import ModelCard
from unmask.errors import ConfigError
from unmask.evaluation import search as rooms
from unmask.evaluation.drawing import draw_prompts
from unmask.evaluation.prompts import CATEGORIES
from unmask.evaluation.search import (
    Journal,
    Options,
    SearchConfig,
    Trial,
    candidates,
    halve,
    search,
    searched_prompts,
    write_presets,
)
from unmask.pipeline import Pipeline
from unmask.sampling.options import plan_options
from unmask.scenes.judge import Judge

SETTINGS = SearchConfig(
    schedulers=("halton",),
    steps=(2, 3),
    temperatures=(0.3, 0.6, 0.9),
    candidates=5,
    prompts=(1, 2, 4),
    held_out_percent=30,
    precision="fp32",
)


def test_candidates_vary_what_is_searched_and_nothing_else() -> None:
    preset = plan_options(scheduler="halton", steps=8, reuse=2).flat()
    found = candidates(SETTINGS, preset)
    assert found[0] == preset
    assert len({repr(candidate) for candidate in found}) == 6
    for candidate in found:
        assert "choice_temperature" not in candidate
        assert all(candidate[name] == preset[name] for name in ("reuse", "steps", "scheduler"))
    assert found == candidates(SETTINGS, preset)
    noisy = plan_options(scheduler="confidence", steps=8).flat()
    chosen = candidates(replace(SETTINGS, candidates=500), noisy)
    assert {candidate["choice_temperature"] for candidate in chosen} == {4.5, 1.0, 2.0, 4.0, 8.0}


def test_halving_finds_the_best_with_few_draws() -> None:
    drawn: list[tuple[float, int]] = []

    def tried(options: Options, count: int) -> Trial:
        temperature = float(str(options["temperature"]))
        drawn.append((temperature, count))
        return Trial(options, (1 - abs(temperature - 0.6),) * count)

    options: list[Options] = [{"temperature": value / 10} for value in range(1, 11)]
    best = halve(options, SETTINGS, tried)
    assert best.options["temperature"] == 0.6
    assert len(best.shares) == 24
    assert [sum(count == n for _, count in drawn) for n in (6, 12, 24)] == [10, 4, 2]


@pytest.mark.parametrize("unseen", [False, True])
def test_every_round_asks_for_all_categories_alike(unseen: bool) -> None:
    settings = replace(SETTINGS, unseen=unseen, held_out_percent=8)
    nouns = ("apple", "ball", "cat", "dog", "house", "kite", "star", "tree")
    prompts = searched_prompts(nouns, settings)
    for count in settings.prompts:
        drawn = prompts[: count * len(CATEGORIES)]
        assert set(Counter(prompt.category for prompt in drawn).values()) == {count}
        assert sum(prompt.held_out for prompt in drawn) == (count // 2) * 6 * unseen


def test_of_equal_candidates_the_preset_stays() -> None:
    options: list[Options] = [{"temperature": value} for value in (0.5, 0.1, 0.9)]
    best = halve(options, SETTINGS, lambda candidate, count: Trial(candidate, (0.5,) * count))
    assert best.options == options[0]


def test_a_search_that_was_stopped_goes_on_where_it_was(
    pipeline: Pipeline, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(pipeline, judge, SETTINGS, tmp_path / "whole")
    assert [trial.options["steps"] for trial in whole] == [2, 3]
    drawn: list[int] = []

    def stops(*arguments: object, **named: object) -> object:
        if len(drawn) == 9:
            raise KeyboardInterrupt
        drawn.append(1)
        return draw_prompts(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(rooms, "draw_prompts", stops)
    with pytest.raises(KeyboardInterrupt):
        search(pipeline, judge, SETTINGS, tmp_path / "parts")
    drawn.clear()
    monkeypatch.setattr(rooms, "draw_prompts", draw_prompts)
    with (tmp_path / "parts" / "trials.jsonl").open("a") as file:
        file.write('{"options": {"st')  # killed while it wrote
    assert search(pipeline, judge, SETTINGS, tmp_path / "parts") == whole
    lines = [(tmp_path / name / "trials.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1]


def test_a_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    trial = Trial({"steps": 3}, (0.5, 1.0))
    Journal.open(path, "this").add(trial)
    assert list(Journal.open(path, "this").trials.values()) == [trial]
    with pytest.raises(ConfigError, match="another search"):
        Journal.open(path, "that")


def test_presets_take_the_place_of_those_of_their_scheduler_and_steps(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    kept: Options = {"scheduler": "random", "steps": 12, "temperature": 0.3}
    old: Options = {"scheduler": "halton", "steps": 12, "temperature": 0.3}
    config.save_json(ModelCard("tiny", "What it is.", "halton", (kept, old)), path)
    new = (
        plan_options(scheduler="halton", steps=12, temperature=0.9).flat(),
        plan_options(scheduler="halton", steps=4, reuse=1).flat(),
    )
    write_presets(path, new)
    card = config.load(ModelCard, path)
    places = [(preset["scheduler"], preset["steps"]) for preset in card.presets]
    assert places == [("halton", 4), ("halton", 12), ("random", 12)]
    assert kept in card.presets
    assert card.preset("halton", 11)["temperature"] == 0.9
    assert (card.name, card.description, card.scheduler) == ("tiny", "What it is.", "halton")
    short = next(row for row in json.loads(path.read_text())["presets"] if row["steps"] == 4)
    assert short == {
        "steps": 4,
        "scheduler": "halton",
        "mask_schedule": "arccos",
        "temperature": 1.0,
        "guidance_scale": 1.0,
        "reuse": 1,
        "reuse_after": 0.5,
    }


def test_a_folder_without_a_card_takes_no_presets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.json: no such file"):
        write_presets(tmp_path / "model.json", ({},))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedulers": ()}, "schedulers: give one"),
        ({"temperatures": ()}, "temperatures: give one"),
        ({"prompts": (4, 2)}, "rising"),
        ({"prompts": (0, 2)}, "rising"),
        ({"kept": 1.0}, "kept"),
        ({"candidates": 0}, "candidates: 0"),
    ],
)
def test_a_search_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SETTINGS, **change)  # type: ignore[arg-type]

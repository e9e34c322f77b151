"""How often a judge is right, and where its threshold should stand."""

import torch
from torch import Tensor

from unmask.scenes.judge import Found, JudgeConfig, Sight
from unmask.training.broken import Truth

SHARES = ("found", "noun", "colour", "two_colours", "passed", "count", "background")


def judge_figures(sights: list[Sight], truth: Truth, config: JudgeConfig) -> dict[str, float]:
    """Shares that are right: ``found`` of the whole objects, ``noun`` and ``colour`` of those
    found, ``count`` and ``background`` of the pictures, ``passed`` of the broken objects (smaller
    is better), ``extra`` found where there is none, a picture; ``two_colours`` of the objects that
    carry two."""
    tally: dict[str, list[bool]] = {name: [] for name in SHARES}
    extra = 0
    for row, sight in enumerate(sights):
        tally["count"].append(len(sight.objects) == int(truth.whole[row].sum()))
        background = config.backgrounds[int(truth.background[row])]
        tally["background"].append(sight.background == background)
        unmatched = list(sight.objects)
        for item in truth.present[row].nonzero().flatten().tolist():
            found = _at(truth.boxes[row, item], unmatched)
            if found is not None:
                unmatched.remove(found)
            if not truth.whole[row, item]:
                tally["passed"].append(found is not None)
                continue
            tally["found"].append(found is not None)
            if found is None:
                continue
            tally["noun"].append(found.noun == _noun_of(truth, row, item, config))
            if truth.coloured[row, item]:
                colours = _colours_of(truth, row, item, config)
                name = "colour" if len(colours) == 1 else "two_colours"
                tally[name].append(set(found.colours) == colours)
        extra += len(unmatched)
    shares = {name: sum(hits) / len(hits) for name, hits in tally.items() if hits}
    return {**shares, "extra": extra / len(sights)}


def is_right(found: Found, truth: Truth, row: int, config: JudgeConfig) -> bool:
    """Whether picture ``row`` shows a whole object of the noun and the colours that were found."""
    return any(
        bool(truth.whole[row, item])
        and found.noun == _noun_of(truth, row, item, config)
        and (
            not truth.coloured[row, item]
            or set(found.colours) == _colours_of(truth, row, item, config)
        )
        for item in truth.present[row].nonzero().flatten().tolist()
    )


def best_threshold(probabilities: Tensor, whole: Tensor) -> float:
    """The threshold that keeps the most of the whole and refuses the most of the broken, counted as
    a share of either; of several alike the middle."""
    candidates = torch.arange(1, 100) / 100
    kept = probabilities.unsqueeze(1) >= candidates
    wrong = (~kept[whole]).float().mean(0) + kept[~whole].float().mean(0)
    best = (wrong <= wrong.min() + 1e-6).nonzero().flatten()
    return round(float(candidates[best[len(best) // 2]]), 2)


def _at(box: Tensor, things: list[Found]) -> Found | None:
    """The first of the things whose centre is near that of a box in pixels."""
    left, top, right, bottom = box.tolist()
    reach = (right - left) / 4
    for thing in things:
        if max(abs(thing.x - (left + right) / 2), abs(thing.y - (top + bottom) / 2)) < reach:
            return thing
    return None


def _noun_of(truth: Truth, row: int, item: int, config: JudgeConfig) -> str:
    return config.nouns[int(truth.nouns[row, item].argmax())]


def _colours_of(truth: Truth, row: int, item: int, config: JudgeConfig) -> set[str]:
    return {config.colours[i] for i in truth.colours[row, item].nonzero().flatten().tolist()}

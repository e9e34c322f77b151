from itertools import pairwise

import pytest
import torch

from tests.worlds.sampling import FixedLogits, Options, RowNumbers, plan_for
from unmask.sampling.backbone import Pair
from unmask.sampling.plan import Plan
from unmask.sampling.row import Batch, Row
from unmask.sampling.step import step
from unmask.sampling.trace import Trace, trace


def watch(plan: Plan, known: int = 0, watched: bool = True) -> tuple[Row, list[Trace]]:
    """A row at its end and its traces; its first cells are known."""
    backbone = FixedLogits(16, 9)
    unknown = torch.arange(16) >= known
    tokens = torch.where(unknown, backbone.mask_id, 3)
    row = Row.begin(plan, tokens, unknown, watched)
    batch, traces = Batch(backbone, [row], Pair(RowNumbers(torch.tensor([0, 1])), 1)), []
    while not row.done:
        before = row.tokens
        step(batch)
        if row.sure is not None:
            traces.append(trace(before, row.tokens, unknown, row.sure, backbone.mask_id))
    return row, traces


@pytest.mark.parametrize(
    "options", [{}, {"scheduler": "p2"}, {"scheduler": "confidence"}, {"reuse": 1}]
)
def test_to_be_watched_changes_nothing(options: Options) -> None:
    plan = plan_for(steps=6, guidance_scale=2.0, **options)
    alone, none = watch(plan, watched=False)
    assert torch.equal(watch(plan)[0].tokens, alone.tokens)
    assert (alone.sure, none) == (None, [])


def test_signs_tell_what_each_step_did() -> None:
    plan = plan_for(steps=4, unknown=12)
    _, traces = watch(plan, known=4)
    before = "." * 12
    for planned, seen in zip(plan.steps, traces, strict=True):
        assert seen.signs[:4] == "####"
        signs = seen.signs[4:]
        assert signs.count("+") + signs.count("=") == planned.total
        # What was revealed is kept, and only what was masked is revealed.
        assert all((a in "+=") == (b == "=") for a, b in zip(before, signs, strict=True))
        before = signs
    assert "." not in before


def test_what_is_taken_back_is_told_once() -> None:
    _, traces = watch(plan_for(steps=12, scheduler="p2", eta=5.0, temperature=2.0))
    every = [seen.signs for seen in traces]
    taken = [(i, c) for i, signs in enumerate(every) for c, sign in enumerate(signs) if sign == "-"]
    assert taken, "the setting takes nothing back, and so shows nothing"
    for i, cell in taken:
        assert every[i - 1][cell] in "+="
        assert every[i + 1][cell] in ".+"


@pytest.mark.parametrize("options", [{}, {"reuse": 1, "reuse_after": 0.0}])
def test_how_sure_is_the_probability_of_the_value_at_temperature_1(
    options: Options,
) -> None:
    row, traces = watch(plan_for(steps=8, temperature=0.5, **options))
    probabilities = FixedLogits(16, 9).logits[0].softmax(-1)
    expected = probabilities.gather(-1, row.tokens[:, None])[:, 0]
    assert row.sure is not None
    assert torch.allclose(row.sure, expected)
    assert list(traces[-1].sure) == (expected * 255).round().int().tolist()


def test_how_sure_stays_once_a_cell_is_revealed() -> None:
    _, traces = watch(plan_for(steps=8, reuse=1, reuse_after=0.0))
    for before, after in pairwise(traces):
        kept = [i for i, sign in enumerate(after.signs) if sign == "="]
        assert [before.sure[i] for i in kept] == [after.sure[i] for i in kept]

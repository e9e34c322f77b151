import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unmask.errors import RequestError
from unmask.sampling.noise import gumbel
from unmask.sampling.options import choose_options
from unmask.sampling.scheduler import ScoreContext
from unmask.sampling.schedulers import SCHEDULERS, Scheduler
from unmask.sampling.schedulers.halton import halton_order, radical_inverse


def _context(rows: int, grid: tuple[int, ...], seed: int = 0, choice: float = 0.0) -> ScoreContext:
    """Rows as they come to a scheduler, which keeps nothing of them yet."""
    random = torch.Generator().manual_seed(seed)
    tokens = math.prod(grid)
    logits = torch.randn(rows, tokens, 7, generator=random)
    revealed = torch.rand(rows, tokens, generator=random) < 0.3
    return ScoreContext(
        grid=grid,
        logits=logits,
        values=torch.randint(7, (rows, tokens), generator=random),
        uniforms=torch.rand(rows, tokens, generator=random).clamp(1e-6, 1 - 1e-6),
        choice_temperature=torch.full((rows, 1), choice),
        unknown=torch.ones(rows, tokens, dtype=torch.bool),
        revealed=revealed,
        total=torch.full((rows, 1), tokens // 2 + 1.0),
        attention=torch.rand(rows, tokens, 6, generator=random),
        subjects=((((1,), (2, 3)), ((4,), (5,))),) * rows,
    )


def _scheduler(name: str, **options: object) -> Scheduler:
    return choose_options({"scheduler": name}, options).scheduler


def _scores(scheduler: Scheduler, context: ScoreContext, rows: slice = slice(None)) -> Tensor:
    """The scores of some rows, which have just begun with noise of their own."""
    firsts = torch.rand(context.uniforms.shape, generator=torch.Generator().manual_seed(9))
    memories = [scheduler.begin(context.grid, row[None].clamp(1e-6, 1 - 1e-6)) for row in firsts]
    kept = [memory for memory in memories[rows] if memory is not None]
    tensors: dict[str, Any] = {
        field.name: value[rows]
        for field in fields(context)
        if isinstance(value := getattr(context, field.name), Tensor)
    }
    subjects = context.subjects[rows]
    memory = type(kept[0]).join(kept) if kept else None
    return scheduler.score(replace(context, **tensors, subjects=subjects, memory=memory))


@given(st.integers(1, 40), st.integers(1, 40))
def test_halton_order_is_a_permutation_of_any_grid(rows: int, columns: int) -> None:
    order = halton_order((rows, columns))
    assert torch.equal(order.sort().values, torch.arange(rows * columns))


def test_halton_covers_64_by_64() -> None:
    # The published 10,000 points miss six cells of this grid.
    assert len(set(halton_order((64, 64)).tolist())) == 4096


def test_halton_starts_in_the_middle_and_spreads() -> None:
    assert halton_order((8, 8))[:3].tolist() == [4 * 8 + 2, 2 * 8 + 5, 6 * 8 + 0]


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_halton_order_is_a_permutation_of_a_clip_too(frames: int, rows: int, columns: int) -> None:
    order = halton_order((frames, rows, columns))
    assert torch.equal(order.sort().values, torch.arange(frames * rows * columns))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_a_clip_of_one_frame_is_drawn_in_the_order_of_a_picture(
    rows: int, columns: int, seed: int
) -> None:
    picture, clip = _context(2, (rows, columns), seed), _context(2, (1, rows, columns), seed)
    for name in sorted(SCHEDULERS):
        scheduler = _scheduler(name)
        assert torch.equal(_scores(scheduler, picture), _scores(scheduler, clip))


def test_halton_spreads_over_frames() -> None:
    frames = halton_order((5, 4, 4))[:5] // 16
    assert sorted(frames.tolist()) == [0, 1, 2, 3, 4]


def test_radical_inverse_mirrors_digits() -> None:
    assert [radical_inverse(i, 2) for i in range(5)] == [0, 0.5, 0.25, 0.75, 0.125]
    assert radical_inverse(4, 3) == pytest.approx(4 / 9)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_halton_scores_rank_every_cell_once_after_the_shift(
    rows: int, columns: int, seed: int
) -> None:
    scores = _scores(_scheduler("halton"), _context(3, (rows, columns), seed))
    expected = -torch.arange(rows * columns).float().flip(0)
    assert torch.equal(scores.sort().values, expected.expand(3, -1))


def test_halton_shifts_differ_between_requests() -> None:
    scores = _scores(_scheduler("halton"), _context(8, (8, 8)))
    assert len({tuple(row.tolist()) for row in scores}) > 4
    fixed = _scores(_scheduler("halton", halton_shift=False), _context(8, (8, 8)))
    assert torch.equal(fixed.argsort(descending=True), halton_order((8, 8)).expand(8, -1))


def test_confidence_without_noise_is_the_log_probability() -> None:
    context = _context(2, (3, 3))
    assert torch.equal(_scheduler("confidence").score(context), context.value_log_probabilities)


def test_confidence_noise_grows_with_the_choice_temperature() -> None:
    context = _context(2, (3, 3), choice=2.0)
    noise = _scheduler("confidence").score(context) - context.value_log_probabilities
    assert torch.allclose(noise, 2 * gumbel(context.uniforms), atol=1e-5)


def test_random_is_the_noise() -> None:
    context = _context(2, (3, 3))
    assert torch.equal(_scheduler("random").score(context), context.uniforms)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_scores_of_a_row_depend_on_that_row_alone(name: str) -> None:
    context = _context(4, (5, 3), choice=1.0)
    scheduler = _scheduler(name)
    assert torch.equal(_scores(scheduler, context)[2:3], _scores(scheduler, context, slice(2, 3)))


def test_margin_is_the_lead_of_the_likeliest_value() -> None:
    context = _context(1, (1, 1))
    best, second = context.log_probabilities[0, 0].exp().sort(descending=True).values[:2]
    assert torch.allclose(_scheduler("margin").score(context), best - second)


def test_entropy_puts_the_surest_first() -> None:
    context = _context(1, (1, 2))
    sure = torch.tensor([[[0.0, float("-inf")], [math.log(0.5), math.log(0.5)]]])
    scores = _scheduler("entropy").score(replace(context, logits=sure))
    assert torch.allclose(scores, torch.tensor([[0.0, -math.log(2)]]))


def test_an_unknown_scheduler_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'halton'"):
        _scheduler("haltom")

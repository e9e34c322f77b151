import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.errors import RequestError
from unmask.sampling.noise import gumbel
from unmask.sampling.schedulers import SCHEDULERS, ScoreContext, find_scheduler
from unmask.sampling.schedulers.halton import halton_order, radical_inverse


def _context(rows: int, grid: tuple[int, int], seed: int = 0, choice: float = 0.0) -> ScoreContext:
    random = torch.Generator().manual_seed(seed)
    tokens = grid[0] * grid[1]
    logits = torch.randn(rows, tokens, 7, generator=random)
    return ScoreContext(
        grid=grid,
        log_probabilities=logits.log_softmax(-1),
        values=torch.randint(7, (rows, tokens), generator=random),
        uniforms=torch.rand(rows, tokens, generator=random).clamp(1e-6, 1 - 1e-6),
        first_uniforms=torch.rand(rows, tokens, generator=random).clamp(1e-6, 1 - 1e-6),
        choice_temperature=torch.full((rows, 1), choice),
    )


@given(st.integers(1, 40), st.integers(1, 40))
def test_halton_order_is_a_permutation_of_any_grid(rows: int, columns: int) -> None:
    order = halton_order(rows, columns)
    assert torch.equal(order.sort().values, torch.arange(rows * columns))


def test_halton_covers_64_by_64() -> None:
    # The published 10,000 points miss six cells of this grid.
    assert halton_order(64, 64).unique().numel() == 4096


def test_halton_starts_in_the_middle_and_spreads() -> None:
    assert halton_order(8, 8)[:3].tolist() == [4 * 8 + 2, 2 * 8 + 5, 6 * 8 + 0]


def test_radical_inverse_mirrors_digits() -> None:
    assert [radical_inverse(i, 2) for i in range(5)] == [0, 0.5, 0.25, 0.75, 0.125]
    assert radical_inverse(4, 3) == pytest.approx(4 / 9)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_halton_scores_rank_every_cell_once_after_the_shift(
    rows: int, columns: int, seed: int
) -> None:
    scores = SCHEDULERS["halton"].score(_context(3, (rows, columns), seed))
    expected = -torch.arange(rows * columns).float().flip(0)
    assert torch.equal(scores.sort().values, expected.expand(3, -1))


def test_halton_shifts_differ_between_requests() -> None:
    scores = SCHEDULERS["halton"].score(_context(8, (8, 8)))
    assert len({tuple(row.tolist()) for row in scores}) > 4


def test_confidence_without_noise_is_the_log_probability() -> None:
    context = _context(2, (3, 3))
    assert torch.equal(SCHEDULERS["confidence"].score(context), context.value_log_probabilities)


def test_confidence_noise_grows_with_the_choice_temperature() -> None:
    context = _context(2, (3, 3), choice=2.0)
    noise = SCHEDULERS["confidence"].score(context) - context.value_log_probabilities
    assert torch.allclose(noise, 2 * gumbel(context.uniforms), atol=1e-5)


def test_random_is_the_noise() -> None:
    context = _context(2, (3, 3))
    assert torch.equal(SCHEDULERS["random"].score(context), context.uniforms)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_scores_of_a_row_depend_on_that_row_alone(name: str) -> None:
    context = _context(4, (5, 3), choice=1.0)
    alone = ScoreContext(context.grid, *(getattr(context, field)[2:3] for field in _ROW_FIELDS))
    together = SCHEDULERS[name].score(context)
    assert torch.equal(together[2:3], SCHEDULERS[name].score(alone))


_ROW_FIELDS = ("log_probabilities", "values", "uniforms", "first_uniforms", "choice_temperature")


def test_an_unknown_scheduler_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'halton'"):
        find_scheduler("haltom")

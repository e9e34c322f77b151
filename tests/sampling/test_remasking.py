"""Schedulers that take tokens back, and zigzag."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds.sampling import FixedLogits, begin, plan_for, run, states
from unmask.sampling.plan import Plan
from unmask.sampling.scheduler import ScoreContext
from unmask.sampling.schedulers.remdm import Confidences, RemdmCap, RemdmConf, RemdmRescale

KINDS = {"cap": RemdmCap, "rescale": RemdmRescale, "conf": RemdmConf}


def _states(plan: Plan, tokens: torch.Tensor | None = None) -> list[torch.Tensor]:
    """The tokens before the first and after each step."""
    tokens = torch.full((plan.tokens,), 7) if tokens is None else tokens
    return [tokens, *states(begin(FixedLogits(plan.tokens, 7), plan, tokens))]


def _taken_back(seen: list[torch.Tensor]) -> list[int]:
    """How many revealed tokens each step masked."""
    return [int(((a != 7) & (b == 7)).sum()) for a, b in pairwise(seen)]


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(steps=st.integers(1, 20), seed=st.integers(0, 99))
def test_remdm_that_takes_nothing_back_is_random_order(kind: str, steps: int, seed: int) -> None:
    backbone = FixedLogits(16, 9)
    never = run(backbone, [plan_for(seed=seed, scheduler=f"remdm-{kind}", eta=0.0, steps=steps)])
    assert torch.equal(never, run(backbone, [plan_for(seed=seed, scheduler="random", steps=steps)]))


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(
    unknown=st.integers(1, 40),
    before=st.integers(0, 40),
    after=st.integers(0, 40),
    eta=st.floats(0, 2),
    uniform=st.floats(0.001, 0.999),
)
def test_remdm_never_takes_back_more_than_sigma_max(
    kind: str, unknown: int, before: int, after: int, eta: float, uniform: float
) -> None:
    before, after = min(before, unknown), min(after, unknown)
    scheduler = KINDS[kind](eta)
    context = ScoreContext(
        grid=(1, unknown),
        logits=torch.zeros(1, unknown, 2),
        values=torch.zeros(1, unknown, dtype=torch.long),
        uniforms=torch.full((1, unknown), uniform),
        choice_temperature=torch.zeros(1, 1),
        unknown=torch.ones(1, unknown, dtype=torch.bool),
        revealed=(torch.arange(unknown) < before)[None],
        total=torch.tensor([[float(after)]]),
    )
    taken = float(scheduler.taken_back(context))
    assert max(0, before - after) <= taken <= before
    if before:
        sigma_most = min(1, (1 - after / unknown) / (before / unknown))
        assert taken <= round(sigma_most * before, 6) or taken == before - after


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_remdm_takes_tokens_back_and_ends_complete(kind: str) -> None:
    seen = _states(plan_for((8, 8), scheduler=f"remdm-{kind}", eta=0.3, steps=16))
    assert sum(_taken_back(seen)) > 5
    assert (seen[-1] != 7).all()


def test_a_small_cap_takes_back_its_share_on_average() -> None:
    taken = revealed = 0
    for seed in range(40):
        seen = _states(plan_for((8, 8), seed, scheduler="remdm-cap", eta=0.02, steps=16))
        taken += sum(_taken_back(seen))
        # the last step leaves nothing masked, so it takes nothing back
        revealed += sum(int((state != 7).sum()) for state in seen[:-2])
    assert taken / revealed == pytest.approx(0.02, rel=0.2)


def test_confidence_decides_what_remdm_conf_takes_back() -> None:
    tokens = 200
    context = ScoreContext(
        grid=(1, tokens),
        logits=torch.zeros(1, tokens, 2),
        values=torch.zeros(1, tokens, dtype=torch.long),
        uniforms=torch.rand(1, tokens),
        choice_temperature=torch.zeros(1, 1),
        unknown=torch.ones(1, tokens, dtype=torch.bool),
        revealed=torch.ones(1, tokens, dtype=torch.bool),
        total=torch.tensor([[100.0]]),
        memory=Confidences(torch.cat([torch.zeros(1, 100), torch.full((1, 100), -9.0)], 1)),
    )
    kept = RemdmConf(1.0).score(context) > 0
    assert int(kept.sum()) == 100
    assert int(kept[:, :100].sum()) > 55  # e to 1 odds, not a rule


@given(steps=st.integers(1, 20), seed=st.integers(0, 99))
def test_p2_with_eta_zero_never_takes_back(steps: int, seed: int) -> None:
    assert sum(_taken_back(_states(plan_for(seed=seed, scheduler="p2", eta=0.0, steps=steps)))) == 0


def test_p2_takes_back_more_with_a_larger_eta() -> None:
    def taken(eta: float) -> int:
        plans = [
            plan_for((8, 8), seed, scheduler="p2", eta=eta, steps=16, choice_temperature=0.0)
            for seed in range(5)
        ]
        return sum(sum(_taken_back(_states(plan))) for plan in plans)

    assert taken(0.5) < taken(1.0) < taken(4.0)


def test_revising_starts_from_what_is_there_and_changes_it_little_by_little() -> None:
    tokens = torch.randint(7, (64,), generator=torch.Generator().manual_seed(1))
    plan = plan_for((8, 8), scheduler="remdm-rescale", eta=1.0, steps=10, revise=0.125)
    seen = _states(plan, tokens)
    assert [int((state == 7).sum()) for state in seen] == [0, *[8] * 9, 0]
    assert all(int((a != b).sum()) <= 16 for a, b in pairwise(seen))
    assert 10 < int((seen[-1] != tokens).sum()) < 64


def test_revising_leaves_known_tokens_alone() -> None:
    tokens = torch.randint(7, (1, 64), generator=torch.Generator().manual_seed(1))
    unknown = torch.arange(64)[None] % 2 == 0
    plan = plan_for((8, 8), scheduler="p2", steps=10, revise=0.5, unknown=32)
    changed = run(FixedLogits(64, 7), [plan], tokens, unknown) != tokens
    assert not changed[~unknown].any()
    assert changed[unknown].any()


def test_zigzag_takes_back_what_the_null_condition_is_surest_of() -> None:
    plan = plan_for((1, 8), steps=2, zigzag=True, mask_shares=(0.5, 0.0))
    backbone = FixedLogits(8, 7)
    backbone.logits[1] = 0
    backbone.logits[1, :4, 0] = 9.0  # the null condition is sure of the left half
    after = [tokens for tokens, _ in zip(states(begin(backbone, plan)), range(3), strict=False)]
    assert (after[-1] == 7).tolist() == [True] * 4 + [False] * 4

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds.sampling import FixedLogits, plan_with, run
from unmask.sampling.counts import EntropyBounded, Stable


def _passes(**options: object) -> int:
    backbone = FixedLogits(16, 9)
    assert (run(backbone, [plan_with(options)]) < 9).all()
    return backbone.passes


def test_no_entropy_allowed_is_one_token_a_step() -> None:
    assert _passes(steps=16, count_rule="entropy", entropy_bound=0.0) == 16


def test_any_entropy_allowed_is_one_step() -> None:
    assert _passes(steps=16, count_rule="entropy", entropy_bound=1e6) == 1


def test_the_plan_stays_the_floor() -> None:
    assert _passes(steps=4, count_rule="entropy", entropy_bound=0.0) == 4
    assert _passes(steps=4, count_rule="stable", stable_confidence=1.0) == 4


@given(st.floats(0, 20), st.integers(0, 99))
def test_the_bound_holds_for_all_but_the_largest(bound: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logs = (torch.randn(12, 5, generator=random) * 3).log_softmax(-1)
    scores, masked = torch.rand(12, generator=random), torch.rand(12, generator=random) < 0.7
    ready = EntropyBounded(bound).ready(logs, None, scores, masked)
    assert not (ready & ~masked).any()
    entropy = -(logs.exp() * logs).sum(-1)[ready]
    if len(entropy):
        assert entropy.sum() - entropy.max() <= bound + 1e-4
        # in the scheduler's order: nothing that scores higher was left out
        left = scores[masked & ~ready]
        assert not len(left) or scores[ready].min() >= left.max()


def test_stable_waits_for_a_second_look() -> None:
    logs = torch.tensor([[math.log(0.9), math.log(0.1)]] * 3)
    before = torch.tensor([[math.log(0.9), math.log(0.1)], [math.log(0.1), math.log(0.9)]])
    before = torch.cat([before, before[:1]])
    masked, scores = torch.tensor([True, True, False]), torch.zeros(3)
    rule = Stable(0.6, 0.01)
    assert not rule.ready(logs, None, scores, masked).any()
    assert rule.ready(logs, before, scores, masked).tolist() == [True, False, False]
    assert not Stable(0.95, 0.01).ready(logs, before, scores, masked).any()


def test_stable_logits_end_in_two_steps() -> None:
    assert _passes(steps=16, count_rule="stable", stable_confidence=0.0) == 2

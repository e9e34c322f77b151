import pytest
import torch
from torch import Tensor

from tests.worlds.sampling import FixedLogits, plan_for, plan_with, run
from unmask.sampling.logits import LogitOption, Moment, TopK, differential, narrowed
from unmask.sampling.plan import Plan


def _noise(plan: Plan, step: int, codebook: int) -> Tensor:
    """What noise regularisation adds at a step."""
    (option,) = plan.logit_options
    scale = plan.steps[step].logit_noise
    moment = Moment(plan.seed, plan.image_index, plan.window, step, plan.tokens, scale, None)
    return option.change(torch.zeros(plan.tokens, codebook), moment, None)


def test_regularising_noise_is_strong_at_both_ends_and_none_half_way() -> None:
    plan = plan_for((8, 8), steps=9, noise_regularisation=2.0)
    spreads = [float(_noise(plan, i, 50).std()) for i in range(9)]
    assert spreads[0] == pytest.approx(2, rel=0.05)
    assert spreads[8] == pytest.approx(2, rel=0.05)
    assert spreads[4] == pytest.approx(0, abs=1e-6)


def test_regularising_noise_is_fixed_by_the_request() -> None:
    plan = plan_for(steps=4, noise_regularisation=1.0)
    assert torch.equal(_noise(plan, 1, 9), _noise(plan, 1, 9))
    assert not torch.equal(_noise(plan, 0, 9), _noise(plan, 3, 9))
    other = plan_for(steps=4, noise_regularisation=1.0, image_index=1)
    assert not torch.equal(_noise(plan, 0, 9), _noise(other, 0, 9))


def test_differential_sampling_favours_what_rose_in_the_steadiest_tokens() -> None:
    before = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]]).log()
    now = torch.tensor([[0.4, 0.4, 0.2], [0.1, 0.45, 0.45]]).log()
    sharpened = differential(now, before, 0.5).exp()
    assert torch.allclose(sharpened[0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-4)
    assert torch.equal(sharpened[1], now[1].exp())
    assert differential(now, None, 0.5) is now
    assert torch.equal(differential(now, before, 0.0), now)


@pytest.mark.parametrize("option", ["noise_regularisation", "differential"])
def test_options_that_are_off_change_nothing_and_on_do(option: str) -> None:
    backbone = FixedLogits(16, 9)
    plain = run(backbone, [plan_for(steps=5)])
    assert torch.equal(run(backbone, [plan_with({"steps": 5, option: 0.0})]), plain)
    # Fixed logits never rise, so all that differential sampling leaves is a tie.
    assert not torch.equal(run(backbone, [plan_with({"steps": 5, option: 1.0})]), plain)


def test_each_row_keeps_as_many_codes_as_it_asks_for_and_ties() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0], [0.0, 5.0, 1.0, 4.0]]).expand(5, 2, 4)
    options: list[tuple[LogitOption, ...]] = [
        (TopK(1),),
        (TopK(2),),
        (TopK(3),),
        (),
        (TopK(9),),
    ]
    kept = narrowed(logits, options).isfinite().sum(-1)
    assert kept.tolist() == [[1, 1], [3, 2], [3, 3], [4, 4], [4, 4]]
    assert narrowed(logits, [()] * 5) is logits


def test_the_single_likeliest_code_is_what_temperature_0_takes() -> None:
    backbone = FixedLogits(16, 9)
    greedy = run(backbone, [plan_for(steps=5, temperature=0.0)])
    for reuse in (0, 2):
        assert torch.equal(run(backbone, [plan_for(steps=5, top_k=1, reuse=reuse)]), greedy)


def test_values_come_from_the_likeliest_codes_only() -> None:
    backbone = FixedLogits(16, 9)
    allowed = backbone.logits[0].topk(3).indices
    drawn = torch.cat(
        [run(backbone, [plan_for(steps=5, top_k=3, seed=seed)]) for seed in range(50)]
    )
    assert (drawn.unsqueeze(-1) == allowed).any(-1).all()
    assert all(len(cell.unique()) == 3 for cell in drawn.T)

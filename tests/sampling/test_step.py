import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sampling.worlds import FixedLogits, RowNumbers, plan, run
from unmask.sampling.plan import Plan
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.step import Row, choose, draw_values, step

CPU = torch.device("cpu")
scheduler_names = st.sampled_from(sorted(SCHEDULERS))


@settings(deadline=None)
@given(
    scheduler_names,
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 50),
    st.integers(0, 2**64 - 1),
    st.data(),
)
def test_each_step_reveals_just_its_count_and_never_touches_what_is_known(
    scheduler: str, height: int, width: int, steps: int, seed: int, data: st.DataObject
) -> None:
    cells = height * width
    unknown = data.draw(st.lists(st.booleans(), min_size=cells, max_size=cells))
    backbone = FixedLogits(cells, 5)
    tokens = torch.where(torch.tensor([unknown]), backbone.mask_id, 3)
    made = plan((height, width), seed, scheduler=scheduler, steps=steps, unknown=sum(unknown))
    row = Row.begin(made, CPU)
    for count in made.counts:
        before = tokens.clone()
        tokens = step(backbone, tokens, RowNumbers(torch.tensor([0, 1])), [row])
        changed = tokens != before
        assert int(changed.sum()) == count
        assert (before[changed] == backbone.mask_id).all()
    assert (tokens != backbone.mask_id).all()
    assert (tokens[~torch.tensor([unknown])] == 3).all()


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(5)), scheduler_names)
def test_same_seed_same_tokens_whatever_row_and_batch(order: list[int], scheduler: str) -> None:
    """Rows of other schedulers, steps and guidance sit beside; each comes out as if it were
    alone.
    """
    backbone = FixedLogits(16, 9)
    plans = [
        plan(seed=3, image_index=0, scheduler=scheduler, steps=5, guidance_scale=3.0),
        plan(seed=3, image_index=1, scheduler=scheduler, steps=16),
        plan(seed=4, scheduler="halton", steps=1, temperature=0.0),
        plan(
            seed=5, scheduler="random", steps=7, guidance="interval", guidance_interval=(0.3, 0.6)
        ),
        plan(seed=6, scheduler="confidence", steps=12, guidance="linear", guidance_scale=5.0),
    ]
    together = run(backbone, [plans[i] for i in order])
    for place, i in enumerate(order):
        assert torch.equal(together[place], run(backbone, [plans[i]])[0])


def test_images_of_one_request_differ() -> None:
    tokens = run(FixedLogits(16, 9), [plan(image_index=i) for i in range(4)])
    assert len({tuple(row.tolist()) for row in tokens}) == 4


@pytest.mark.parametrize("guidance", ["constant", "linear", "interval"])
def test_guidance_of_one_is_the_single_pass(guidance: str) -> None:
    off, on = FixedLogits(16, 9), FixedLogits(16, 9)
    plain = run(off, [plan(steps=6)])
    single = run(on, [plan(steps=6, guidance=guidance, guidance_scale=1.0)])
    assert torch.equal(plain, single)
    assert on.passes == off.passes == 6


def test_guidance_costs_a_second_pass_only_at_the_steps_that_use_it() -> None:
    backbone = FixedLogits(16, 9)
    run(
        backbone,
        [plan(steps=8, guidance="interval", guidance_scale=3.0, guidance_interval=(0.0, 0.5))],
    )
    assert backbone.passes == 8 + 4


def test_guidance_of_zero_draws_from_the_null_condition() -> None:
    backbone = FixedLogits(16, 9)
    swapped = FixedLogits(16, 9)
    swapped.logits = backbone.logits.flip(0)
    made = plan(steps=4, guidance_scale=0.0)
    assert torch.equal(run(backbone, [made]), run(swapped, [plan(steps=4)]))


def test_guidance_moves_the_likeliest_value_away_from_the_null() -> None:
    backbone = FixedLogits(1, 2)
    backbone.logits = torch.tensor(
        [[[1.0, 0.9]], [[1.0, 0.0]]]
    )  # the condition prefers 1 by contrast
    plain = run(backbone, [plan((1, 1), steps=1, temperature=0.0)])
    guided = run(backbone, [plan((1, 1), steps=1, temperature=0.0, guidance_scale=4.0)])
    assert (plain.item(), guided.item()) == (0, 1)


def test_nothing_unknown_takes_no_step() -> None:
    backbone = FixedLogits(16, 9)
    tokens = torch.full((1, 16), 4)
    assert torch.equal(run(backbone, [plan(unknown=0)], tokens), tokens)
    assert backbone.passes == 0


def test_no_rows_at_all_is_fine() -> None:
    plans: list[Plan] = []
    empty = torch.zeros(0, 16, dtype=torch.long)
    assert run(FixedLogits(16, 9), plans, empty).shape == (0, 16)


def test_ties_go_to_the_lower_position() -> None:
    chosen = choose(
        torch.zeros(1, 6), torch.tensor([[True, False, True, True, True, True]]), torch.tensor([3])
    )
    assert chosen.tolist() == [[True, False, True, True, False, False]]


def test_scores_of_minus_infinity_still_count_as_masked() -> None:
    scores = torch.tensor([[float("-inf"), 5.0, float("-inf"), 1.0]])
    chosen = choose(scores, torch.tensor([[True, False, True, False]]), torch.tensor([2]))
    assert chosen.tolist() == [[True, False, True, False]]


def test_drawn_values_follow_the_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -30.0]).expand(1, 40_000, 4)
    uniforms = (torch.arange(40_000) + 0.5)[None] / 40_000
    values = draw_values(logits, torch.full((1, 1, 1), 0.5), uniforms)
    shares = torch.bincount(values[0], minlength=4) / 40_000
    assert torch.allclose(shares, (logits[0, 0] / 0.5).softmax(-1), atol=1e-4)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(2, 5, 7)
    values = draw_values(logits, torch.zeros(2, 1, 1), torch.rand(2, 5))
    assert torch.equal(values, logits.argmax(-1))


@given(st.sampled_from([2.0**-24, 0.5, 1 - 2.0**-24]))
def test_extreme_uniforms_stay_inside_the_codebook(uniform: float) -> None:
    logits = torch.randn(1, 3, 1000, generator=torch.Generator().manual_seed(0)) * 50
    values = draw_values(logits, torch.ones(1, 1, 1), torch.full((1, 3), uniform))
    chosen = logits.softmax(-1).gather(-1, values.unsqueeze(-1))
    assert (chosen > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_widened_before_sampling(dtype: torch.dtype) -> None:
    backbone = FixedLogits(16, 9)
    backbone.logits = backbone.logits.to(dtype)
    wide = FixedLogits(16, 9)
    wide.logits = backbone.logits.float()
    made = plan(steps=5, guidance_scale=2.0)
    assert torch.equal(run(backbone, [made]), run(wide, [made]))

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.worlds.sampling import FixedLogits, RowNumbers, begin, counts, plan_for, run, states
from unmask.errors import DrawingError
from unmask.sampling.backbone import Pair
from unmask.sampling.guidance import GUIDANCES
from unmask.sampling.options import choose_options, plan_options
from unmask.sampling.plan import Plan, make_plan
from unmask.sampling.row import Batch, Row
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.step import draw_values, ranking, step

SUBJECTS = (((1,), (2, 3)), ((4,), (5,)))
scheduler_names = st.sampled_from(sorted(SCHEDULERS))


def _remasks(scheduler: str) -> bool:
    return plan_options(scheduler=scheduler).scheduler.remasks


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[Plan, Tensor, bool]:
    """A plan of any scheduler and options on any grid, what is unknown, and if it remasks."""
    grid = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    cells = grid[0] * grid[1]
    unknown = draw(st.lists(st.booleans(), min_size=cells, max_size=cells))
    options: dict[str, object] = draw(
        st.sampled_from([{}, {"noise_regularisation": 2.0}, {"guidance_scale": 3.0}])
    ) | {"scheduler": draw(scheduler_names), "steps": draw(st.integers(1, 50))}
    if not _remasks(str(options["scheduler"])):
        options |= draw(
            st.sampled_from([{}, {"reuse": 1}, {"reuse": 3, "reuse_after": 0.2}, {"zigzag": True}])
        )
    seed = draw(st.integers(0, 2**64 - 1))
    chosen = choose_options({}, options)
    plan = make_plan(chosen, grid, seed, unknown=sum(unknown), subjects=SUBJECTS)
    remasks = _remasks(str(options["scheduler"])) or bool(options.get("zigzag"))
    return plan, torch.tensor(unknown), remasks


@given(_worlds())
def test_each_step_reveals_just_its_count_and_never_touches_what_is_known(
    world: tuple[Plan, Tensor, bool],
) -> None:
    plan, unknown, remasks = world
    backbone = FixedLogits(plan.tokens, 5)
    tokens = torch.where(unknown, backbone.mask_id, 3)
    if not plan.steps:
        assert not unknown.any()
        return
    batch = begin(backbone, plan, tokens, unknown)
    for planned, count, after in zip(plan.steps, counts(plan), states(batch), strict=True):
        before, tokens = tokens, after
        assert int((tokens != backbone.mask_id)[unknown].sum()) == planned.total
        if not remasks:
            changed = tokens != before
            assert int(changed.sum()) == count
            assert (before[changed] == backbone.mask_id).all()
        assert (tokens[~unknown] == 3).all()
    assert batch.rows[0].done
    assert (tokens != backbone.mask_id).all()


@given(st.permutations(range(11)), scheduler_names)
def test_same_seed_same_tokens_whatever_row_and_batch(order: list[int], scheduler: str) -> None:
    """Rows of other schedulers, steps and guidance sit beside; each comes out as if it were
    alone.
    """
    backbone = FixedLogits(16, 9)
    plans = [
        plan_for(seed=3, scheduler=scheduler, steps=5, guidance_scale=3.0, subjects=SUBJECTS),
        plan_for(seed=3, image_index=1, scheduler=scheduler, steps=16),
        plan_for(seed=4, scheduler="halton", steps=1, temperature=0.0),
        plan_for(
            seed=5, scheduler="random", steps=7, guidance="interval", guidance_interval=(0.3, 0.6)
        ),
        plan_for(seed=6, scheduler="confidence", steps=12, guidance="linear", guidance_scale=5.0),
        plan_for(seed=7, steps=8, reuse=1, guidance_scale=2.0),
        plan_for(seed=8, steps=9, reuse=2, reuse_after=0.1),
        plan_for(seed=9, steps=4, zigzag=True, noise_regularisation=1.0),
        plan_for(seed=10, steps=16, count_rule="entropy", entropy_bound=3.0),
        plan_for(seed=11, steps=16, scheduler="uncage", subjects=SUBJECTS),
        plan_for(seed=12, steps=6, differential=0.5),
        plan_for(seed=13, steps=6, top_k=3, reuse=1, temperature_last=0.5),
    ]
    together = run(backbone, [plans[i] for i in order])
    for place, i in enumerate(order):
        assert torch.equal(together[place], run(backbone, [plans[i]])[0])


def test_images_of_one_request_differ() -> None:
    tokens = run(FixedLogits(16, 9), [plan_for(image_index=i) for i in range(4)])
    assert len({tuple(row.tolist()) for row in tokens}) == 4


@pytest.mark.parametrize("guidance", sorted(GUIDANCES))
def test_guidance_of_one_is_the_single_pass(guidance: str) -> None:
    off, on = FixedLogits(16, 9), FixedLogits(16, 9)
    plain = run(off, [plan_for(steps=6)])
    single = run(on, [plan_for(steps=6, guidance=guidance, guidance_scale=1.0)])
    assert torch.equal(plain, single)
    assert on.passes == off.passes == 6


def test_guidance_costs_a_second_pass_only_at_the_steps_that_use_it() -> None:
    backbone = FixedLogits(16, 9)
    run(
        backbone,
        [plan_for(steps=8, guidance="interval", guidance_scale=3.0, guidance_interval=(0.0, 0.5))],
    )
    assert backbone.passes == 8 + 4


def test_guidance_of_zero_draws_from_the_null_condition() -> None:
    backbone = FixedLogits(16, 9)
    swapped = FixedLogits(16, 9)
    swapped.logits = backbone.logits.flip(0)
    plan = plan_for(steps=4, guidance_scale=0.0)
    assert torch.equal(run(backbone, [plan]), run(swapped, [plan_for(steps=4)]))


def test_guidance_moves_the_likeliest_value_away_from_the_null() -> None:
    backbone = FixedLogits(1, 2)
    backbone.logits = torch.tensor(
        [[[1.0, 0.9]], [[1.0, 0.0]]]
    )  # the condition prefers 1 by contrast
    plain = run(backbone, [plan_for((1, 1), steps=1, temperature=0.0)])
    guided = run(backbone, [plan_for((1, 1), steps=1, temperature=0.0, guidance_scale=4.0)])
    assert (plain.item(), guided.item()) == (0, 1)


def test_nothing_unknown_takes_no_step() -> None:
    backbone = FixedLogits(16, 9)
    tokens = torch.full((1, 16), 4)
    assert torch.equal(run(backbone, [plan_for(unknown=0)], tokens), tokens)
    assert backbone.passes == 0


def test_no_rows_at_all_is_fine() -> None:
    plans: list[Plan] = []
    empty = torch.zeros(0, 16, dtype=torch.long)
    assert run(FixedLogits(16, 9), plans, empty).shape == (0, 16)


def test_ties_go_to_the_lower_position_and_known_tokens_come_last() -> None:
    unknown = torch.tensor([[True, False, True, True, True, True]])
    assert ranking(torch.zeros(1, 6), unknown).tolist() == [[0, 2, 3, 4, 5, 1]]


@pytest.mark.parametrize("low", [float("-inf"), float("nan")])
def test_no_score_sinks_below_the_known_tokens(low: float) -> None:
    scores = torch.tensor([[low, 5.0, low, 1.0]])
    unknown = torch.tensor([[True, False, True, False]])
    assert ranking(scores, unknown)[0, :2].tolist() == [0, 2]


def test_drawn_values_follow_the_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -30.0]).expand(1, 40_000, 4)
    uniforms = (torch.arange(40_000) + 0.5)[None] / 40_000
    values = draw_values(logits, torch.full((1, 1), 0.5), uniforms)
    shares = torch.bincount(values[0], minlength=4) / 40_000
    assert torch.allclose(shares, (logits[0, 0] / 0.5).softmax(-1), atol=1e-4)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(2, 5, 7)
    values = draw_values(logits, torch.zeros(2, 1), torch.rand(2, 5))
    assert torch.equal(values, logits.argmax(-1))


@given(st.sampled_from([2.0**-24, 0.5, 1 - 2.0**-24]))
def test_extreme_uniforms_stay_inside_the_codebook(uniform: float) -> None:
    logits = torch.randn(1, 3, 1000, generator=torch.Generator().manual_seed(0)) * 50
    values = draw_values(logits, torch.ones(1, 1), torch.full((1, 3), uniform))
    chosen = logits.softmax(-1).gather(-1, values.unsqueeze(-1))
    assert (chosen > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_widened_before_sampling(dtype: torch.dtype) -> None:
    backbone = FixedLogits(16, 9)
    backbone.logits = backbone.logits.to(dtype)
    wide = FixedLogits(16, 9)
    wide.logits = backbone.logits.float()
    plan = plan_for(steps=5, guidance_scale=2.0)
    assert torch.equal(run(backbone, [plan]), run(wide, [plan]))


def test_logits_that_are_no_numbers_are_told_by_their_row_alone() -> None:
    backbone = FixedLogits(16, 9, conditions=4)
    backbone.logits[1, 3, 2] = float("nan")
    blank, unknown = torch.full((16,), 9), torch.ones(16, dtype=torch.bool)
    rows = [Row.begin(plan_for(seed=i, steps=4), blank, unknown) for i in range(2)]
    batch = Batch(backbone, rows, Pair(RowNumbers(torch.arange(4)), 2))
    for _ in range(4):
        step(batch)
    assert [bool(row.finite) for row in rows] == [True, False]
    assert torch.equal(batch.tokens[:1], run(backbone, [plan_for(seed=0, steps=4)]))
    backbone.logits[0, 0, 0] = float("nan")
    with pytest.raises(DrawingError, match="not numbers"):
        run(backbone, [plan_for(steps=4)])


@pytest.mark.parametrize(("bad", "sound"), [("inf", False), ("-inf", True), ("nan", False)])
def test_values_are_drawn_from_finite_numbers_only(bad: str, sound: bool) -> None:
    backbone = FixedLogits(16, 9)
    backbone.logits[0, 3, 2] = float(bad)
    batch = begin(backbone, plan_for(steps=1))
    step(batch)
    assert bool(batch.rows[0].finite) == sound
    backbone.logits[0, 3] = float("-inf")
    batch = begin(backbone, plan_for(steps=1))
    step(batch)
    assert not batch.rows[0].finite


def test_a_temperature_next_to_nothing_takes_the_likeliest() -> None:
    backbone = FixedLogits(16, 9)
    greedy = run(backbone, [plan_for(steps=4, temperature=0.0)])
    assert torch.equal(run(backbone, [plan_for(steps=4, temperature=1e-38)]), greedy)


def test_a_batch_asks_the_host_for_nothing_new_once_it_runs() -> None:
    """What a step needs of its rows is put on the device once, not at every step."""
    backbone = FixedLogits(16, 9)
    batch = begin(backbone, plan_for(steps=6, guidance_scale=2.0))
    step(batch)
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object, **__: object) -> Tensor:
            raise AssertionError("a tensor was plan of host numbers")

        patch.setattr(torch, "tensor", refuse)
        for _ in range(4):
            step(batch)

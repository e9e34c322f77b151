"""The smallest backbones that the sampling tests need."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from unmask.sampling.backbone import Backbone, Pair, Pass, Positions, RowTensors
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.options import choose_options
from unmask.sampling.plan import Plan, make_plan
from unmask.sampling.row import Batch, Row
from unmask.sampling.scheduler import Subjects
from unmask.sampling.step import step

Options = dict[str, Any]  # of a request, by their public names


@dataclass(frozen=True)
class RowNumbers(RowTensors):
    """A prefix, or a memory, that just remembers which conditions it holds."""

    row_axes: ClassVar[tuple[int, ...]] = (0,)

    rows: Tensor


class FixedLogits:
    """A backbone whose logits depend on nothing but position and condition: each row can be checked
    alone.
    """

    def __init__(self, tokens: int, codebook: int, conditions: int = 2, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(conditions, tokens, codebook, generator=random)
        self.attention = torch.rand(conditions, tokens, 6, generator=random)
        self.mask_id = codebook
        self.passes = 0  # rows of full passes so far
        self.attended = 0  # rows whose attention was read
        self.positions = 0  # positions of local passes so far

    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        /,
        *,
        steps_left: Tensor | None = None,
        remember: bool = False,
        attention_rows: Tensor | None = None,
    ) -> Pass:
        assert isinstance(prefix, RowNumbers)
        assert len(tokens) == len(prefix.rows)
        self.passes += len(tokens)
        attention = None
        if attention_rows is not None:
            self.attended += len(attention_rows)
            attention = self.attention[prefix.rows[attention_rows]]
        return Pass(self.logits[prefix.rows], prefix if remember else None, attention)

    def local(
        self,
        tokens: Tensor,
        positions: Positions,
        prefix: RowTensors,
        memory: RowTensors,
        /,
        *,
        steps_left: Tensor | None = None,
    ) -> Tensor:
        assert isinstance(prefix, RowNumbers)
        assert isinstance(memory, RowNumbers)
        # What was kept from a condition may only be read by a pass under the same condition.
        assert torch.equal(prefix.rows, memory.rows)
        places, counts = positions
        assert tokens.shape == places.shape
        assert [len(row.unique()) for row in places] == list(counts)  # a short row is filled up
        self.positions += sum(counts)
        return self.logits[prefix.rows[:, None], places]


class JointTable(FixedLogits):
    """A backbone that knows the joint distribution (2, 2, 2) of its three tokens: its logits are
    the exact conditionals given what is revealed."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(3, 2)
        self.table = table

    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        /,
        *,
        steps_left: Tensor | None = None,
        remember: bool = False,
        attention_rows: Tensor | None = None,
    ) -> Pass:
        states = torch.cartesian_prod(*(torch.arange(2),) * 3)
        fits = (tokens[:, None] == states) | (tokens[:, None] == self.mask_id)
        weights = fits.all(-1) * self.table.flatten()
        of_code = (states[..., None] == torch.arange(2)).float()
        return Pass(torch.einsum("rs,stk->rtk", weights, of_code).log())


def plan_for(
    grid: tuple[int, ...] = (4, 4),
    seed: int = 0,
    image_index: int = 0,
    *,
    unknown: int | None = None,
    subjects: Subjects = (),
    revise: float | None = None,
    window: int = 0,
    **options: object,
) -> Plan:
    """A plan; options that do nothing are passed over."""
    return make_plan(
        choose_options({}, options),
        grid,
        seed,
        image_index,
        unknown,
        subjects=subjects,
        revise=revise,
        window=window,
    )


def plan_with(options: Mapping[str, object]) -> Plan:
    """``plan_for`` with options that stand in a mapping."""
    return make_plan(choose_options({}, options), (4, 4), 0)


def counts(plan: Plan) -> list[int]:
    """How many tokens each step reveals beyond those revealed before."""
    totals = [0, *(step.total for step in plan.steps)]
    return [after - before for before, after in pairwise(totals)]


def run(
    backbone: Backbone,
    plans: list[Plan],
    tokens: Tensor | None = None,
    unknown: Tensor | None = None,
) -> Tensor:
    """Condition 0 for every row, condition 1 as the null."""
    count = len(plans)
    if tokens is None:
        tokens = all_masked(count, plans[0].tokens, backbone.mask_id, torch.device("cpu"))
    pair = Pair(RowNumbers(torch.tensor([0] * count + [1] * count)), count)
    return generate_tokens(backbone, pair, plans, tokens, unknown=unknown)


def begin(
    backbone: Backbone, plan: Plan, tokens: Tensor | None = None, unknown: Tensor | None = None
) -> Batch:
    """A batch of one row under condition 0, blank unless told otherwise."""
    tokens = torch.full((plan.tokens,), backbone.mask_id) if tokens is None else tokens
    unknown = torch.ones(plan.tokens, dtype=torch.bool) if unknown is None else unknown
    row = Row.begin(plan, tokens, unknown)
    return Batch(backbone, [row], Pair(RowNumbers(torch.tensor([0, 1])), 1))


def states(batch: Batch) -> Iterator[Tensor]:
    """The tokens (tokens,) of its one row after each step."""
    (row,) = batch.rows
    while not row.done:
        step(batch)
        yield row.tokens

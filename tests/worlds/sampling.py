"""The smallest backbones that the sampling tests need."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from unmask.sampling.backbone import Pass
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.plan import Plan, PlanOptions, make_plan


class RowNumbers:
    """A prefix, or a cache, that just remembers which conditions it holds."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def select(self, rows: Tensor) -> "RowNumbers":
        return RowNumbers(self.rows[rows])

    @classmethod
    def join(cls, caches: Sequence["RowNumbers"]) -> "RowNumbers":
        return cls(torch.cat([cache.rows for cache in caches]))


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
        prefix: RowNumbers,
        /,
        *,
        left: Tensor | None = None,
        keep: bool,
        attend: Tensor | None,
    ) -> Pass:
        assert len(tokens) == len(prefix.rows)
        self.passes += len(tokens)
        attention = None
        if attend is not None:
            self.attended += len(attend)
            attention = self.attention[prefix.rows[attend]]
        return Pass(self.logits[prefix.rows], prefix if keep else None, attention)

    def local(
        self,
        tokens: Tensor,
        positions: Tensor,
        prefix: RowNumbers,
        cache: RowNumbers,
        /,
        *,
        left: Tensor | None = None,
    ) -> Tensor:
        # What was kept from a condition may only be read by a pass under the same condition.
        assert torch.equal(prefix.rows, cache.rows)
        assert tokens.shape == positions.shape
        self.positions += sum(len(row.unique()) for row in positions)  # a short row is filled up
        return self.logits[prefix.rows[:, None], positions]


class JointTable(FixedLogits):
    """A backbone that knows the joint distribution (2, 2, 2) of its three tokens: its logits are
    the exact conditionals given what is revealed."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(3, 2)
        self.table = table

    def full(
        self,
        tokens: Tensor,
        prefix: RowNumbers,
        /,
        *,
        left: Tensor | None = None,
        keep: bool,
        attend: Tensor | None,
    ) -> Pass:
        states = torch.cartesian_prod(*(torch.arange(2),) * 3)
        fits = (tokens[:, None] == states) | (tokens[:, None] == self.mask_id)
        weights = fits.all(-1) * self.table.flatten()
        of_code = (states[..., None] == torch.arange(2)).float()
        return Pass(torch.einsum("rs,stk->rtk", weights, of_code).log())


def plan(
    grid: tuple[int, int] = (4, 4), seed: int = 0, image_index: int = 0, **options: object
) -> Plan:
    """A plan; ``unknown``, ``subjects``, ``revise`` and ``window`` are those of make_plan."""
    own = {
        name: options.pop(name)
        for name in ("unknown", "subjects", "revise", "window")
        if name in options
    }
    return make_plan(PlanOptions(**options), grid, seed, image_index, **own)  # type: ignore[arg-type]


def counts(made: Plan) -> list[int]:
    """How many tokens each step reveals beyond those revealed before."""
    totals = [0, *(step.total for step in made.steps)]
    return [after - before for before, after in pairwise(totals)]


def run(
    backbone: FixedLogits,
    plans: list[Plan],
    tokens: Tensor | None = None,
    unknown: Tensor | None = None,
) -> Tensor:
    """Condition 0 for every row, condition 1 as the null."""
    count = len(plans)
    if tokens is None:
        tokens = all_masked(count, plans[0].tokens, backbone.mask_id, torch.device("cpu"))
    prefix = RowNumbers(torch.tensor([0] * count + [1] * count))
    return generate_tokens(backbone, prefix, plans, tokens, unknown=unknown)

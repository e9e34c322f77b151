"""The smallest backbones that the sampling tests need."""

import torch
from torch import Tensor

from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.plan import Plan, PlanOptions, make_plan


class RowNumbers:
    """A prefix that just remembers which conditions it holds."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def select(self, rows: Tensor) -> "RowNumbers":
        return RowNumbers(self.rows[rows])


class FixedLogits:
    """A backbone whose logits depend on nothing but position and condition: each row can be checked
    alone.
    """

    def __init__(self, tokens: int, codebook: int, conditions: int = 2, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(conditions, tokens, codebook, generator=random)
        self.mask_id = codebook
        self.passes = 0  # rows computed so far

    def __call__(self, tokens: Tensor, prefix: RowNumbers, /) -> Tensor:
        assert len(tokens) == len(prefix.rows)
        self.passes += len(tokens)
        return self.logits[prefix.rows]


def plan(
    grid: tuple[int, int] = (4, 4), seed: int = 0, image_index: int = 0, **options: object
) -> Plan:
    unknown = options.pop("unknown", None)
    return make_plan(PlanOptions(**options), grid, seed, image_index, unknown)  # type: ignore[arg-type]


def run(backbone: FixedLogits, plans: list[Plan], tokens: Tensor | None = None) -> Tensor:
    """Condition 0 for every row, condition 1 as the null."""
    count = len(plans)
    if tokens is None:
        tokens = all_masked(
            count, plans[0].grid[0] * plans[0].grid[1], backbone.mask_id, torch.device("cpu")
        )
    prefix = RowNumbers(torch.tensor([0] * count + [1] * count))
    return generate_tokens(backbone, prefix, plans, tokens)

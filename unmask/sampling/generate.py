"""Running plans to their end."""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.errors import DrawingError
from unmask.sampling.backbone import Backbone, P
from unmask.sampling.plan import Plan
from unmask.sampling.step import Row, step

# Called after each step with the number of steps done and in all.
OnStep = Callable[[int, int], None]


@torch.inference_mode()
def generate_tokens(
    backbone: Backbone[P],
    prefix: P,
    plans: list[Plan],
    tokens: Tensor,
    on_step: OnStep | None = None,
    unknown: Tensor | None = None,
) -> Tensor:
    """The finished tokens (rows, tokens) of a batch; ``prefix`` as in ``step``.

    ``tokens`` holds what is known, and ``mask_id`` where a plan shall draw. A plan that revises
    starts from tokens that are all there: ``unknown`` (rows, tokens) bool tells which may change.
    DrawingError if a row's logits are not numbers.
    """
    unknown = tokens == backbone.mask_id if unknown is None else unknown
    rows = [Row.begin(plan, own) for plan, own in zip(plans, unknown, strict=True)]
    total = max((len(plan.steps) for plan in plans), default=0)
    for done in range(total):
        active = torch.tensor(
            [i for i, row in enumerate(rows) if not row.done], device=tokens.device
        )
        if not len(active):
            break
        running = [rows[i] for i in active.tolist()]
        own = prefix.select(torch.cat([active, active + len(rows)]))
        tokens = tokens.index_put((active,), step(backbone, tokens[active], own, running))
        if on_step is not None:
            on_step(done + 1, total)
    if not all(row.sound for row in rows):
        raise DrawingError("the model's logits are not numbers, so nothing can be drawn from them")
    return tokens


def all_masked(rows: int, tokens: int, mask_id: int, device: torch.device) -> Tensor:
    """A blank batch (rows, tokens): everything is to be drawn."""
    return torch.full((rows, tokens), mask_id, device=device)

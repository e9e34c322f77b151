"""Running plans to their end."""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.errors import DrawingError
from unmask.sampling.backbone import Backbone, Pair
from unmask.sampling.plan import Plan
from unmask.sampling.row import Batch, Row
from unmask.sampling.step import step

# Called after each step with the number of steps done and in all.
OnStep = Callable[[int, int], None]


@torch.inference_mode()
def generate_tokens(
    backbone: Backbone,
    pair: Pair,
    plans: list[Plan],
    tokens: Tensor,
    on_step: OnStep | None = None,
    unknown: Tensor | None = None,
) -> Tensor:
    """The finished tokens (rows, tokens) of a batch, whose conditions and nulls are the pair.

    ``tokens`` holds what is known, and ``mask_id`` where a plan shall draw. A plan that revises
    starts from tokens that are all there: ``unknown`` (rows, tokens) bool tells which may change.
    DrawingError if a row's logits are not numbers.
    """
    unknown = tokens == backbone.mask_id if unknown is None else unknown
    rows = [Row.begin(*start) for start in zip(plans, tokens, unknown, strict=True)]
    total = max((len(plan.steps) for plan in plans), default=0)
    running = [i for i, row in enumerate(rows) if not row.done]
    done, batch = 0, None
    while running:
        if batch is None:  # at the first step, and whenever a row has ended
            index = torch.tensor(running, device=tokens.device)
            whole = len(running) == len(rows)
            conditions = pair if whole else pair.select(index)
            batch = Batch(backbone, [rows[i] for i in running], conditions)
        step(batch)
        done += 1
        if on_step is not None:
            on_step(done, total)
        left = [i for i in running if not rows[i].done]
        running, batch = left, batch if left == running else None
    if not all(row.sound for row in rows):
        raise DrawingError("the model's logits are not numbers, so nothing can be drawn from them")
    return torch.stack([row.tokens for row in rows]) if rows else tokens


def all_masked(rows: int, tokens: int, mask_id: int, device: torch.device) -> Tensor:
    """A blank batch (rows, tokens): everything is to be drawn."""
    return torch.full((rows, tokens), mask_id, device=device)

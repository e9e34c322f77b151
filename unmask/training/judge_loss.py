"""What the judge's maps cost, seen beside the truth."""

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.scenes.judge import STRIDE, TYPICAL_SIDE, Maps
from unmask.training.broken import Truth


def judge_losses(maps: Maps, truth: Truth) -> dict[str, Tensor]:
    """The terms of the loss, by the names of their weights in ``JudgeLoss``.

    An object is told by the cells around its centre alike, so that a peak that is off by one still
    tells the truth.
    """
    rows, columns = maps.present.shape[-2:]
    y, x = centre_cells(truth.boxes, (rows, columns))
    side = (truth.boxes[..., 2] - truth.boxes[..., 0]).clamp_min(1)
    steps = torch.tensor([-1, 0, 1], device=y.device)
    picture = torch.arange(len(y), device=y.device).view(-1, 1, 1, 1)
    near_y = (y[..., None, None] + steps[:, None]).expand(-1, -1, 3, 3).clamp(0, rows - 1)
    near_x = (x[..., None, None] + steps[None, :]).expand(-1, -1, 3, 3).clamp(0, columns - 1)
    near = (picture, near_y, near_x)  # (batch, objects, 3, 3) cells
    present = truth.present[..., None, None].float().expand(-1, -1, 3, 3)

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum() / weights.sum().clamp_min(1)

    whole = F.binary_cross_entropy_with_logits(
        maps.whole[near],
        truth.whole.float()[..., None, None].expand_as(present),
        reduction="none",
    )
    nouns = maps.nouns[near].log_softmax(-1) * truth.nouns[:, :, None, None]
    colours = F.binary_cross_entropy_with_logits(
        maps.colours[near],
        truth.colours[:, :, None, None].expand(-1, -1, 3, 3, -1),
        reduction="none",
    )
    log_side = (side / TYPICAL_SIDE).log()[..., None, None].expand_as(present)
    return {
        "present": _focal(maps.present, y, x, side, truth.present),
        "whole": mean(whole, present),
        "nouns": mean(-nouns.sum(-1), present),
        "colours": mean(colours.sum(-1), present * truth.coloured[..., None, None]),
        "side": mean((maps.side[near] - log_side).abs(), present),
        "background": F.cross_entropy(maps.background, truth.background),
    }


def centre_cells(boxes: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rows and the columns of the cells in which the centres of boxes (..., 4) in pixels lie,
    in maps of ``shape``."""
    y = ((boxes[..., 1] + boxes[..., 3]) / 2 / STRIDE).long().clamp(0, shape[0] - 1)
    x = ((boxes[..., 0] + boxes[..., 2]) / 2 / STRIDE).long().clamp(0, shape[1] - 1)
    return y, x


def _focal(logits: Tensor, y: Tensor, x: Tensor, side: Tensor, present: Tensor) -> Tensor:
    """The focal loss of centres (CenterNet, arXiv 1904.07850), an object."""
    rows, columns = logits.shape[-2:]
    down = torch.arange(rows, device=y.device) - y.unsqueeze(-1)
    across = torch.arange(columns, device=y.device) - x.unsqueeze(-1)
    distance = down.square().unsqueeze(-1) + across.square().unsqueeze(-2)
    spread = (side / STRIDE / 6).clamp_min(0.7)[..., None, None]
    bumps = (-distance / (2 * spread.square())).exp() * present[..., None, None]
    heat = bumps.amax(1)
    likely = logits.sigmoid()
    loss = torch.where(
        heat == 1,
        -F.logsigmoid(logits) * (1 - likely).square(),
        -F.logsigmoid(-logits) * likely.square() * (1 - heat) ** 4,
    )
    return loss.sum() / present.sum().clamp_min(1)

"""The order in which a scheduler reveals the tokens of a picture, as an animation."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unmask.pipeline import DrawRequest, Pipeline
from unmask.sampling.generate import all_masked
from unmask.sampling.row import Batch, Row
from unmask.sampling.step import step
from unmask.scenes.sheets import contact_sheet

GREY = 0.6
ENLARGE = 4
MILLISECONDS, LAST = 250, 2000  # a frame, and the last one


def save_reveal(pipeline: Pipeline, requests: Sequence[DrawRequest], path: Path) -> None:
    """Write a GIF of the first images of ``requests``, side by side, a frame a step; those with
    fewer steps wait for the others."""
    films = [reveal_frames(pipeline, request) for request in requests]
    longest = max(len(film) for film in films)
    frames = [
        contact_sheet(
            torch.stack([film[min(i, len(film) - 1)] for film in films]), len(films), ENLARGE
        )
        for i in range(longest)
    ]
    durations = [MILLISECONDS] * (longest - 1) + [LAST]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)


@torch.inference_mode()
def reveal_frames(pipeline: Pipeline, request: DrawRequest) -> Tensor:
    """The first image before the first step and after each, (steps + 1, 3, height, width) in
    [0, 1], its masked cells grey.

    Neighbours are decoded with the masked cells in view: they count as what they become in the end.
    """
    states = token_states(pipeline, request)
    rows, columns = pipeline.info.grid
    masked = states == pipeline.backbone.mask_id
    filled = torch.where(masked, states[-1], states)
    tokenizer = pipeline.tokenizer_for(request.size)
    pictures = tokenizer.decode(filled.view(-1, rows, columns))
    patch = tokenizer.patch
    hidden = masked.view(-1, 1, rows, columns)
    hidden = hidden.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return pictures.masked_fill(hidden, GREY)


@torch.inference_mode()
def token_states(pipeline: Pipeline, request: DrawRequest) -> Tensor:
    """The tokens of the first image before the first step and after each, (steps + 1, tokens)."""
    plan, device = pipeline.plan(request), pipeline.device
    (blank,) = all_masked(1, plan.tokens, pipeline.backbone.mask_id, device)
    row, states = Row.begin(plan, blank, torch.ones_like(blank).bool()), [blank]
    batch = Batch(pipeline.backbone, [row], pipeline.encode([request]))
    while not row.done:
        step(batch)
        states.append(row.tokens)
    return torch.stack(states)

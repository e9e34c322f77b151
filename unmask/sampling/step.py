"""The one step that every picture goes through, whatever its scheduler, guidance or age."""

from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from unmask.sampling.noise import request_noise
from unmask.sampling.plan import Plan
from unmask.sampling.schedulers import ScoreContext


class Prefix(Protocol):
    """Encoded conditions, one a row."""

    def select(self, rows: Tensor) -> Self: ...


P = TypeVar("P", bound=Prefix)
Contra = TypeVar("Contra", bound=Prefix, contravariant=True)


class Backbone(Protocol[Contra]):
    """Tokens (rows, tokens) and their prefixes to logits (rows, tokens, codebook)."""

    @property
    def mask_id(self) -> int: ...

    def __call__(self, tokens: Tensor, prefix: Contra, /) -> Tensor: ...


@dataclass
class Row:
    """One picture on its way: its plan, its noise (steps, 2, tokens), and the next step."""

    plan: Plan
    noise: Tensor
    step: int = 0

    @classmethod
    def begin(cls, plan: Plan, device: torch.device) -> "Row":
        noise = request_noise(plan.seed, plan.image_index, plan.steps, plan.grid[0] * plan.grid[1])
        return cls(plan, noise.to(device))


def step(backbone: Backbone[P], tokens: Tensor, prefix: P, rows: list[Row]) -> Tensor:
    """The tokens (rows, tokens) after each row's next step; ``row.step`` moves on by one.

    ``tokens`` holds ``mask_id`` where masked; all else is fixed. ``prefix`` has the conditions of
    the rows and behind them as many null conditions. Rows may be at different steps of different
    plans, but must not be done.
    """
    device = tokens.device
    logits = _guided_logits(backbone, tokens, prefix, rows)
    noise = torch.stack([row.noise[row.step] for row in rows])
    temperature = _each([row.plan.temperatures[row.step] for row in rows], device)
    values = draw_values(logits, temperature.unsqueeze(-1), noise[:, 0])
    scores = _scores(logits, values, noise[:, 1], rows)
    counts = torch.tensor([row.plan.counts[row.step] for row in rows], device=device)
    revealed = choose(scores, tokens == backbone.mask_id, counts)
    for row in rows:
        row.step += 1
    return torch.where(revealed, values, tokens)


def draw_values(logits: Tensor, temperature: Tensor, uniforms: Tensor) -> Tensor:
    """A value (rows, tokens) at each position, by the inverse of the cumulative distribution.

    ``temperature`` broadcasts over (rows, tokens, codebook); where it is 0 the likeliest value is
    taken.
    """
    greedy = temperature == 0
    probabilities = (logits / torch.where(greedy, 1.0, temperature)).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    # The sum is 1 but for rounding: scale the uniform by it, so that no draw falls off the end.
    target = uniforms.unsqueeze(-1) * cumulative[..., -1:]
    drawn = torch.searchsorted(cumulative, target).squeeze(-1).clamp_max(logits.shape[-1] - 1)
    return torch.where(greedy.squeeze(-1), logits.argmax(-1), drawn)


def choose(scores: Tensor, masked: Tensor, counts: Tensor) -> Tensor:
    """Which positions to reveal, (rows, tokens) bool: of the masked ones exactly ``counts`` of
    highest score.

    Ties go to the lower position.
    """
    lowest = torch.finfo(scores.dtype).min
    ranked = torch.where(masked, scores.clamp_min(lowest), float("-inf"))
    order = ranked.sort(dim=-1, descending=True, stable=True).indices
    places = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(-1, order, places)
    return (ranks < counts.unsqueeze(-1)) & masked


def _guided_logits(backbone: Backbone[P], tokens: Tensor, prefix: P, rows: list[Row]) -> Tensor:
    """fp32 logits, ``u + s (c - u)`` for the rows that are guided at this step, ``c`` for the
    others.
    """
    device, count = tokens.device, len(rows)
    scales = [row.plan.guidance_scales[row.step] for row in rows]
    guided = torch.tensor(
        [i for i, scale in enumerate(scales) if scale != 1], device=device, dtype=torch.long
    )
    everyone = torch.arange(count, device=device)
    chosen = prefix.select(torch.cat([everyone, guided + count]))
    logits = backbone(torch.cat([tokens, tokens[guided]]), chosen).float()
    conditional, null = logits[:count], logits[count:]
    if len(guided):
        scale = _each([scales[i] for i in guided.tolist()], device).unsqueeze(-1)
        conditional[guided] = null + scale * (conditional[guided] - null)
    return conditional


def _scores(logits: Tensor, values: Tensor, uniforms: Tensor, rows: list[Row]) -> Tensor:
    """Scores of all rows: each scheduler sees its own at once."""
    log_probabilities = logits.log_softmax(-1)
    first = torch.stack([row.noise[0, 1] for row in rows])
    choice = _each([row.plan.choice_temperatures[row.step] for row in rows], logits.device)
    scores = torch.empty_like(uniforms)
    kinds = {(row.plan.scheduler, row.plan.grid) for row in rows}
    for scheduler, grid in kinds:
        own = [
            i
            for i, row in enumerate(rows)
            if (row.plan.scheduler, row.plan.grid) == (scheduler, grid)
        ]
        scores[own] = scheduler.score(
            ScoreContext(
                grid, log_probabilities[own], values[own], uniforms[own], first[own], choice[own]
            )
        )
    return scores


def _each(values: list[float], device: torch.device) -> Tensor:
    """One number a row, (rows, 1) fp32."""
    return torch.tensor(values, device=device, dtype=torch.float32).unsqueeze(-1)

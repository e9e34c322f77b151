"""Logit options: what may be done to logits between guidance and drawing.

All of them may be on at once; each is off at its default. They act in the order of the registry.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from unmask.sampling.methods import Method, option
from unmask.sampling.noise import Purpose, normal, uniforms
from unmask.sampling.values import divergence


class Moment(NamedTuple):
    """Where a row stands: its request's noise, and what it kept of the step before."""

    seed: int
    image_index: int
    window: int
    step: int
    tokens: int  # of the whole grid
    noise_scale: float  # of this step
    previous: Tensor | None  # log probabilities (tokens, codebook) of the step before


class LogitOption(Method):
    """Changes the logits of one row."""

    registry: ClassVar[dict[str, type["LogitOption"]]] = {}

    @property
    def on(self) -> bool:
        """Whether it does anything as it is set."""
        return False

    @property
    def looks_back(self) -> bool:
        """Whether it reads the log probabilities of the step before."""
        return False

    def change(self, logits: Tensor, moment: Moment, places: Tensor | None) -> Tensor:
        """Logits (some, codebook) that positions are scored by and values drawn from; they are
        those of all tokens if ``places`` (some,) is None. What looks back is given, and gives, log
        probabilities."""
        return logits

    def narrow(self, logits: Tensor) -> Tensor:
        """Logits (some, codebook) that values are drawn from, and that score nothing."""
        return logits

    def noise_scale(self, i: int, steps: int) -> float:
        """How strong the noise is that it adds at step ``i``."""
        return 0.0


@dataclass(frozen=True)
class TopK(LogitOption, name="top_k"):
    """No code but the likeliest ones. A tie at the bound stays whole."""

    top_k: int = option(0, "draw values from so many likeliest codes; 0 is all", 0, 1_000_000)

    @property
    def on(self) -> bool:
        return self.top_k > 0

    def narrow(self, logits: Tensor) -> Tensor:
        if self.top_k >= logits.shape[-1]:
            return logits
        least = logits.topk(self.top_k).values[:, -1:]
        return logits.masked_fill(logits < least, float("-inf"))


@dataclass(frozen=True)
class NoiseRegularisation(LogitOption, name="noise_regularisation"):
    """Gaussian noise, strong at both ends of the steps (arXiv 2411.10781)."""

    noise_regularisation: float = option(
        0.0, "scale of Gaussian noise on logits, strong at both ends of the steps", 0, 10
    )

    @property
    def on(self) -> bool:
        return self.noise_regularisation > 0

    def noise_scale(self, i: int, steps: int) -> float:
        both_ends = abs(math.cos(math.pi * i / (steps - 1))) if steps > 1 else 1.0
        return self.noise_regularisation * both_ends

    def change(self, logits: Tensor, moment: Moment, places: Tensor | None) -> Tensor:
        if not moment.noise_scale:
            return logits
        codebook = logits.shape[-1]
        drawn = uniforms(
            moment.seed,
            moment.image_index,
            moment.tokens * codebook,
            Purpose.LOGITS,
            moment.window,
            moment.step,
        )
        noise = moment.noise_scale * normal(drawn).view(moment.tokens, codebook)
        noise = noise.to(logits.device)
        return logits + (noise if places is None else noise[places])


@dataclass(frozen=True)
class Differential(LogitOption, name="differential"):
    """The share of the tokens that changed least since the step before keeps only what rose
    (differential sampling, arXiv 2411.10781)."""

    differential: float = option(
        0.0, "share of the steadiest tokens drawn from what rose since the last step", 0, 1
    )

    @property
    def on(self) -> bool:
        return self.differential > 0

    @property
    def looks_back(self) -> bool:
        return True

    def change(self, logits: Tensor, moment: Moment, places: Tensor | None) -> Tensor:
        return differential(logits, moment.previous, self.differential)


def differential(log_probabilities: Tensor, previous: Tensor | None, share: float) -> Tensor:
    """Log probabilities (tokens, codebook) of which the steadiest ``share`` keeps what rose."""
    if previous is None:
        return log_probabilities
    steadiest = divergence(previous, log_probabilities).argsort(stable=True)
    chosen = steadiest[: int(share * len(steadiest))]
    rose = (log_probabilities[chosen].exp() - previous[chosen].exp()).clamp_min(1e-6)
    return log_probabilities.index_put((chosen,), (rose / rose.sum(-1, keepdim=True)).log())


def narrowed(logits: Tensor, options: list[tuple[LogitOption, ...]]) -> Tensor:
    """Logits (rows, some, codebook) as each row's options narrow them."""
    if not any(options):
        return logits
    rows = []
    for row, row_options in zip(logits, options, strict=True):
        for option_on in row_options:
            row = option_on.narrow(row)
        rows.append(row)
    return torch.stack(rows)


LOGIT_OPTIONS = LogitOption.registry

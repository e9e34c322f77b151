"""What an evaluation draws and judges: the one place where pictures and clips differ."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from unmask.evaluation.drawing import true_pictures
from unmask.evaluation.features import diversity, frechet_distance
from unmask.evaluation.prompts import Asked, Prompt, make_prompts
from unmask.evaluation.results import Record, judge_prompts
from unmask.evaluation.settings import EvaluationConfig
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.base import Tokenizer

SHEET_IMAGES = 96
FeaturesOf = Callable[[Tensor], Tensor]  # pictures to vectors


class Measured(NamedTuple):
    """The verdicts, and figures under their names in a ``Result``."""

    records: tuple[Record, ...]
    figures: dict[str, float | None]


class Kind(ABC):
    """Prompts of a kind, what is true of them, and what drawn images of them are worth.

    Images are (prompts, images, ...): pictures or clips, in [0, 1].
    """

    unit: ClassVar[str]
    prompts: Sequence[Asked]

    def __init__(
        self, settings: EvaluationConfig, judge: Judge, features: FeaturesOf | None
    ) -> None:
        self.settings, self.judge, self.features = settings, judge, features

    @abstractmethod
    def truth(self, renderer: SceneRenderer, tokenizer: Tokenizer) -> Tensor:
        """True images of every prompt, after the tokenizer."""

    @abstractmethod
    def wanted(self, renderer: SceneRenderer, tokenizer: Tokenizer) -> Tensor:
        """The features (images, channels) of other true images than ``truth``, whose distance
        would be 0 otherwise."""

    @abstractmethod
    def measured(self, images: Tensor, wanted: Tensor | None) -> Measured:
        """The verdicts on images, and their distance to what is ``wanted``."""

    @abstractmethod
    def sheet(self, images: Tensor) -> Image.Image:
        """The first images of prompts spread evenly over all."""


class Pictures(Kind):
    """Pictures of scenes that stand still."""

    unit = "image"
    prompts: list[Prompt]

    def __init__(
        self, settings: EvaluationConfig, judge: Judge, features: FeaturesOf | None
    ) -> None:
        super().__init__(settings, judge, features)
        self.prompts = make_prompts(
            judge.config.nouns,
            settings.data.scenes.held_out_percent,
            settings.seed,
            settings.prompts,
            settings.held_out_prompts,
            settings.data.scenes,
        )

    def truth(self, renderer: SceneRenderer, tokenizer: Tokenizer) -> Tensor:
        return true_pictures(self.prompts, renderer, tokenizer, range(self.settings.images))

    def wanted(self, renderer: SceneRenderer, tokenizer: Tokenizer) -> Tensor:
        assert self.features is not None, "features were given"
        images = self.settings.images
        others = true_pictures(self.prompts, renderer, tokenizer, range(images, 2 * images))
        return self.features(others.flatten(0, 1))

    def measured(self, images: Tensor, wanted: Tensor | None) -> Measured:
        frechet = spread = None
        if self.features is not None:
            found = self.features(images.flatten(0, 1))
            frechet = None if wanted is None else frechet_distance(found, wanted)
            apart = found.view(*images.shape[:2], *found.shape[1:])
            spread = diversity(apart) if images.shape[1] > 1 else None
        verdicts = judge_prompts(self.prompts, images, self.judge)
        return Measured(verdicts, {"frechet": frechet, "diversity": spread})

    def sheet(self, images: Tensor) -> Image.Image:
        return contact_sheet(spread_evenly(images, SHEET_IMAGES), columns=12, enlarge=2)


def spread_evenly(images: Tensor, most: int) -> Tensor:
    """The first images of prompts spread evenly over all, ``most`` of them at most."""
    chosen = torch.linspace(0, len(images) - 1, min(most, len(images))).long()
    return images[chosen, 0]

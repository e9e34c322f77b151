"""Clips as what an evaluation draws and judges."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from unmask.errors import ConfigError
from unmask.evaluation.clips.measures import flicker, frame_cosine, motion_features, motion_frechet
from unmask.evaluation.clips.prompts import ClipPrompt, make_clip_prompts, true_scenes
from unmask.evaluation.clips.verdict import judge_clip
from unmask.evaluation.kinds import FeaturesOf, Kind, Measured, spread_evenly
from unmask.evaluation.results import records
from unmask.evaluation.settings import EvaluationConfig
from unmask.scenes.judge import Judge
from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import SLOT, MovingConfig
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.clip import ClipTokenizer

SHEET_CLIPS = 24
AT_ONCE = 16  # clips that are encoded and decoded together
OTHER_SEED = 1_000_000  # how far away the seed of other true clips is


class Clips(Kind):
    """Clips of scenes that move."""

    unit = "clip"
    prompts: list[ClipPrompt]

    def __init__(
        self, settings: EvaluationConfig, judge: Judge, features: FeaturesOf | None
    ) -> None:
        super().__init__(settings, judge, features)
        assert settings.frames is not None, "clips have frames"
        self.slots = (settings.frames - 1) // SLOT
        self.prompts = self._made(settings.seed)

    def truth(self, renderer: SceneRenderer, tokenizer: Tokenizer) -> Tensor:
        """The one true clip of each prompt: (prompts, 1, frames, 3, height, width)."""
        return self._true(self.prompts, renderer, tokenizer).unsqueeze(1)

    def wanted(self, renderer: SceneRenderer, tokenizer: Tokenizer) -> Tensor:
        assert self.features is not None, "features were given"
        others = self._made(self.settings.seed + OTHER_SEED)
        clips = self._true(others, renderer, tokenizer)
        return motion_features(self._features_of_frames(clips))

    def measured(self, images: Tensor, wanted: Tensor | None) -> Measured:
        clips = images.flatten(0, 1)
        frames = clips.shape[1]
        seen = self.judge.look(clips.flatten(0, 1))
        sights = [seen[first : first + frames] for first in range(0, len(seen), frames)]
        count = images.shape[1]
        verdicts = [
            [
                judge_clip(prompt, sights[place * count + image], images[place, image])
                for image in range(count)
            ]
            for place, prompt in enumerate(self.prompts)
        ]
        figures: dict[str, float | None] = {"flicker": flicker(clips, sights)}
        if self.features is not None:
            found = self._features_of_frames(clips)
            figures["frame_cosine"] = frame_cosine(found)
            if wanted is not None:
                figures["motion_frechet"] = motion_frechet(motion_features(found), wanted)
        return Measured(records(self.prompts, verdicts), figures)

    def sheet(self, images: Tensor) -> Image.Image:
        """A strip of all frames for each clip."""
        clips = spread_evenly(images, SHEET_CLIPS)
        return contact_sheet(clips.flatten(0, 1), columns=clips.shape[1])

    def _made(self, seed: int) -> list[ClipPrompt]:
        settings = self.settings
        return make_clip_prompts(
            self.judge.config.nouns,
            settings.data.scenes.held_out_percent,
            self.slots,
            seed,
            settings.prompts,
            settings.held_out_prompts,
        )

    def _true(
        self, prompts: Sequence[ClipPrompt], renderer: SceneRenderer, tokenizer: Tokenizer
    ) -> Tensor:
        if not isinstance(tokenizer, ClipTokenizer):
            raise ConfigError("the model draws pictures; give one of clips, or no frames")
        moving = MovingRenderer(
            renderer.bank, MovingConfig(renderer.config, self.slots), str(renderer.device)
        )
        clips = moving.render(true_scenes(prompts, renderer.bank, self.settings.seed))
        with torch.inference_mode():
            return torch.cat(
                [
                    tokenizer.decode_clips(tokenizer.encode_clips(part))
                    for part in torch.split(clips, AT_ONCE)
                ]
            )

    def _features_of_frames(self, clips: Tensor) -> Tensor:
        assert self.features is not None, "features were given"
        features: Tensor = self.features(clips.flatten(0, 1))
        return features.view(*clips.shape[:2], -1)

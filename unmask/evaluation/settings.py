"""What an evaluation compares: named settings, and how they are drawn."""

from dataclasses import dataclass
from typing import Any, Literal

from unmask.sampling.options import choose_options
from unmask.scenes.data import DataConfig
from unmask.scenes.moving.truth import SLOT

Precision = Literal["fp32", "bf16", "int8"]

FEWEST_FRAMES = 1 + 3 * SLOT  # or nothing has the time to pass by
CEILING = "ceiling"  # the name of what the judge makes of true scenes


@dataclass(frozen=True)
class Setting:
    """A name, and the sampling options that it sets; the model's presets fill the others."""

    name: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        choose_options({}, self.options)  # refuses what is no option, or out of its bounds


@dataclass(frozen=True)
class EvaluationConfig:
    """A file of ``configs/eval``: ``schedulers`` times ``steps``, and ``settings`` besides.

    ``frames`` asks for clips of so many (13, 17, ...), and pictures are drawn without it.
    ``data`` tells what the model was trained on: what was held out, and what true scenes look like.
    ``prompts`` and ``held_out_prompts`` are a category, ``images`` a prompt, ``batch`` what is
    drawn together; ``baseline`` names the setting that the others are compared with (the first if
    it is None).
    """

    data: DataConfig
    schedulers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    settings: tuple[Setting, ...] = ()
    baseline: str | None = None
    frames: int | None = None
    prompts: int = 40
    held_out_prompts: int = 20
    images: int = 2
    batch: int = 16
    seed: int = 0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name, least in (("prompts", 1), ("held_out_prompts", 0), ("images", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)}; the least is {least}")
        if self.frames is not None and (self.frames < FEWEST_FRAMES or self.frames % SLOT != 1):
            raise ValueError(
                f"frames: {self.frames}; give 1 and whole slots of {SLOT}, {FEWEST_FRAMES} or more"
            )
        if self.frames is not None and self.images != 1:
            raise ValueError(f"images: {self.images}; of a prompt for clips one is drawn")
        names = [setting.name for setting in self.all_settings]
        if not names:
            raise ValueError("give settings, or schedulers and steps")
        twice = sorted({name for name in names if names.count(name) > 1} | {CEILING} & set(names))
        if twice:
            raise ValueError(f"settings: {', '.join(twice)} is a name that is taken")
        for name in names:
            if not name or not all(letter.isalnum() or letter in "-_." for letter in name):
                raise ValueError(f"settings: {name!r} is no file name; use letters, digits, -_.")
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline: no setting {self.baseline!r}; there are {names}")

    @property
    def all_settings(self) -> tuple[Setting, ...]:
        """The grid, named like ``halton-8``, and the settings that are listed."""
        grid = (
            Setting(f"{scheduler}-{steps}", {"scheduler": scheduler, "steps": steps})
            for scheduler in self.schedulers
            for steps in self.steps
        )
        return (*grid, *self.settings)

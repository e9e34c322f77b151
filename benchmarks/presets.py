"""Which temperature and guidance suit each scheduler: ``python -m benchmarks.presets --data
SPRITES``.

Single objects and pairs are drawn from prompts, and each object is compared with renderings of
every noun and every colour at the sizes and places that scenes use: the nearest one names what was
drawn. The first line judges true scenes after a round trip through the tokenizer: the ceiling.
"""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unmask.config import load
from unmask.pipeline import Pipeline, default_model
from unmask.training.captions import with_article
from unmask.training.data import open_bank
from unmask.training.scenes import BACKGROUNDS, COLOURS, RELATIONS, SceneRenderer, Scenes
from unmask.training.transformer import TransformerTraining

HELD_OUT_SEED = 77
PLACE_WORDS = ("in the middle", "on the left", "on the right", "at the top", "at the bottom")


@dataclass(frozen=True)
class Thing:
    """An object that a picture should show: its noun and colour, and the part of the picture it is
    in.
    """

    noun: int
    colour: int
    window: tuple[slice, slice]  # rows, columns
    boxes: Tensor  # (candidates, 4), all the boxes it may fill


class TemplateJudge:
    """Names objects by the nearest rendering."""

    def __init__(self, renderer: SceneRenderer) -> None:
        self.renderer = renderer

    def right(self, image: Tensor, thing: Thing, background: int) -> bool:
        """Whether the nearest noun (in the asked colour) and the nearest colour (of the asked noun)
        fit.
        """
        nouns = torch.arange(len(self.renderer.bank.nouns))
        noun = self._nearest(image, thing, nouns, torch.tensor([thing.colour]), background)
        colours = torch.arange(len(COLOURS))
        colour = self._nearest(image, thing, torch.tensor([thing.noun]), colours, background)
        return noun == thing.noun and colour == thing.colour

    def _nearest(
        self, image: Tensor, thing: Thing, nouns: Tensor, colours: Tensor, background: int
    ) -> int:
        """Index of the noun or of the colour, whichever there are several of."""
        names = torch.cartesian_prod(nouns, colours).view(-1, 2)
        rows = len(names) * len(thing.boxes)
        noun, colour = names.repeat_interleave(len(thing.boxes), 0).unbind(1)
        sprite = torch.stack([self.renderer.sprites_of[int(n)][0] for n in noun])
        absent = torch.full((rows,), -1)
        pictures = self.renderer.render(
            Scenes(
                kind=torch.zeros(rows, dtype=torch.long),
                background=torch.full((rows,), background),
                relation=absent,
                place=absent,
                sprites=sprite[:, None],
                nouns=noun[:, None],
                colours=colour[:, None],
                boxes=thing.boxes.repeat(len(names), 1)[:, None],
                painting=torch.zeros(rows, 5),
            )
        )
        window = (..., *thing.window)
        distance = (pictures[window] - image[window]).square().flatten(1).mean(1)
        best = int(distance.argmin()) // len(thing.boxes)
        return int(names[best, 0] if len(nouns) > 1 else names[best, 1])


def things_of(scenes: Scenes, row: int, size: int, snap: int) -> list[Thing]:
    """The objects of a scene, each with the window and the boxes that its kind allows."""
    present = [slot for slot in range(scenes.nouns.shape[1]) if scenes.nouns[row, slot] >= 0]
    whole, half = slice(None), size // 2
    things = []
    for slot in present:
        window = (whole, whole)
        if len(present) == 2:
            part = slice(0, half) if slot == 0 else slice(half, size)
            window = (
                (whole, part) if RELATIONS[scenes.relation[row]] == "left of" else (part, whole)
            )
        box = scenes.boxes[row, slot] * size
        side, unit = box[2] - box[0], float(snap)
        boxes = []
        shifts = [shift * unit for shift in (-2, -1, 0, 1, 2)]
        for grow, right, down in itertools.product((-unit, 0.0, unit), shifts, shifts):
            corner = (box[:2] + torch.tensor([right, down])).clamp(0, float(size - side - grow))
            boxes.append(torch.cat([corner, corner + side + grow]) / size)
        things.append(
            Thing(
                int(scenes.nouns[row, slot]),
                int(scenes.colours[row, slot]),
                window,
                torch.stack(boxes),
            )
        )
    return things


def prompt_of(scenes: Scenes, row: int, nouns: tuple[str, ...]) -> str:
    """The plain caption of a single object in its place, or of a pair."""
    names = [
        with_article(f"{list(COLOURS)[int(colour)]} {nouns[int(noun)]}")
        for noun, colour in zip(scenes.nouns[row], scenes.colours[row], strict=True)
        if noun >= 0
    ]
    relation = RELATIONS[int(scenes.relation[row])].replace("left of", "to the left of")
    ground = f"on {with_article(list(BACKGROUNDS)[int(scenes.background[row])] + ' background')}"
    if len(names) == 2:
        return f"{names[0]} {relation} {names[1]} {ground}"
    return f"{names[0]} {PLACE_WORDS[int(scenes.place[row])]} {ground}"


def settings(steps: int) -> Iterator[dict[str, float | str | int]]:
    """The combinations that are tried."""
    for scheduler in ("halton", "confidence", "random"):
        for temperature in (0.4, 0.7, 1.0):
            for guidance in (2.0, 4.0):
                yield {
                    "scheduler": scheduler,
                    "temperature": temperature,
                    "guidance_scale": guidance,
                    "steps": steps,
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--config", type=Path, default=Path("configs/small/transformer.toml"))
    parser.add_argument("--data", required=True, help="the sprite archive or bank of the training")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    data = replace(load(TransformerTraining, options.config).data, path=options.data)
    config = replace(data.scenes, seed=HELD_OUT_SEED, kinds=(0.4, 0.0, 0.6), natural=0.0)
    renderer = SceneRenderer(open_bank(data), config)
    judge, pipeline = TemplateJudge(renderer), Pipeline.load(options.model)
    truth, scenes = renderer.draw(options.scenes, 0)
    everything = [things_of(scenes, row, config.size, config.snap) for row in range(options.scenes)]

    def score(images: Tensor) -> float:
        verdicts = [
            judge.right(images[row], thing, int(scenes.background[row]))
            for row in range(options.scenes)
            for thing in everything[row]
        ]
        return sum(verdicts) / len(verdicts)

    ceiling = score(pipeline.tokenizer.decode(pipeline.tokenizer.encode(truth)))
    print(f"truth {score(truth):.3f}, after the tokenizer {ceiling:.3f}", flush=True)
    nouns = renderer.bank.nouns
    for choice in settings(options.steps):
        images = [
            np.asarray(
                pipeline.generate(prompt_of(scenes, row, nouns), seed=row, **choice).images[0]  # type: ignore[arg-type]
            )
            for row in range(options.scenes)
        ]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        print(f"{score(pixels):.3f}  {choice}", flush=True)


if __name__ == "__main__":
    main()

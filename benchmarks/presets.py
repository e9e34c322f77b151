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
import torch.nn.functional as F
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
    """An object that a picture should show, and the part of the picture that it is in."""

    noun: int
    colour: int
    window: tuple[slice, slice]  # rows, columns
    boxes: Tensor  # (candidates, 4), all the boxes it may fill


class TemplateJudge:
    """Tells whether the nearest rendering of an object has the right noun, and the right colour."""

    def __init__(self, renderer: SceneRenderer, thing: Thing, background: int) -> None:
        nouns, colours = torch.arange(len(renderer.bank.nouns)), torch.arange(len(COLOURS))
        self.thing = thing
        self.nouns = self._render(renderer, nouns, torch.tensor([thing.colour]), background)
        self.colours = self._render(renderer, torch.tensor([thing.noun]), colours, background)

    def right(self, image: Tensor) -> bool:
        """Whether noun and colour are those of the thing."""
        pixels = _half(image[(None, ..., *self.thing.window)])

        def nearest(templates: Tensor) -> int:
            return int((templates.float() - pixels).square().mean(-1).amin(1).argmin())

        return (nearest(self.nouns), nearest(self.colours)) == (self.thing.noun, self.thing.colour)

    def _render(
        self, renderer: SceneRenderer, nouns: Tensor, colours: Tensor, background: int
    ) -> Tensor:
        """The windows (names, boxes, pixels) of every name in every box, at half the resolution."""
        boxes = self.thing.boxes
        noun, colour = (
            torch.cartesian_prod(nouns, colours).repeat_interleave(len(boxes), 0).unbind(1)
        )
        sprite = torch.stack([renderer.sprites_of[int(n)][0] for n in noun])
        rows, absent = len(noun), torch.full((len(noun),), -1)
        pictures = renderer.render(
            Scenes(
                kind=torch.zeros(rows, dtype=torch.long),
                background=torch.full((rows,), background),
                relation=absent,
                place=absent,
                sprites=sprite[:, None],
                nouns=noun[:, None],
                colours=colour[:, None],
                boxes=boxes.repeat(rows // len(boxes), 1)[:, None],
                painting=torch.zeros(rows, 5),
            )
        )
        return _half(pictures[(..., *self.thing.window)]).half().unflatten(0, (-1, len(boxes)))


def _half(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, 2).flatten(1)


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
        for grow, right, down in itertools.product((-unit, 0.0, unit), repeat=3):
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
    pipeline = Pipeline.load(options.model)
    truth, scenes = renderer.draw(options.scenes, 0)
    judges = [
        (row, TemplateJudge(renderer, thing, int(scenes.background[row])))
        for row in range(options.scenes)
        for thing in things_of(scenes, row, config.size, config.snap)
    ]

    def score(images: Tensor) -> float:
        verdicts = [judge.right(images[row]) for row, judge in judges]
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

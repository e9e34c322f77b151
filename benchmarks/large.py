"""Pictures larger than a model's window: ``python -m benchmarks.large [MODEL] [--out FOLDER]``.

Pictures of three to six things, on a ground that half of the prompts name; and pictures of one
thing that are drawn on to both sides by their own width, where half of the prompts name a second
thing. The model's judge counts: how many of the things stand there, each in its colour; how many
more, whole or broken; in how many pictures all is right. ``even`` is the share of pixels outside
of things that have the ground's colour; a ground that is painted has several. Ways: ``each`` window
draws the whole prompt, or as many of its things as the model can read at once; or windows ``share``
it. ``alone`` is what the model makes of the same things one by one, in pictures of its own size. In
``--out`` there is a sheet for each line.
"""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from unmask.editing import Edit, blank, outpaint
from unmask.errors import PromptTooLongError
from unmask.pipeline import Pipeline
from unmask.scenes.captions import with_article
from unmask.scenes.judge import COARSEST, Found, Judge, load_judge
from unmask.scenes.vocabulary import held_out
from unmask.scenes.wanted import Thing
from unmask.store import default_model, local_model

SIZES = ("256x128", "256x256", "158x96")
WAYS = {"each": False, "share": True}
EVEN = 24  # levels of 255 that a pixel may lie off the ground's colour
Look = tuple[list[Found], list[Found]]


class Case(NamedTuple):
    """Things to be drawn, and the ground if it is named."""

    things: tuple[Thing, ...]
    ground: str | None

    @property
    def prompt(self) -> str:
        """Its words."""
        *before, last = (with_article(thing.phrase) for thing in self.things)
        listed = f"{', '.join(before)} and {last}" if before else last
        return listed + (f", {self.ground} background" if self.ground else "")


class Score(NamedTuple):
    """What the judge finds of a case in a picture."""

    found: int
    extra: int
    broken: int
    even: float

    @property
    def clean(self) -> bool:
        """Whether there is nothing but what was found."""
        return not self.extra and not self.broken


def make_cases(judge: Judge, count: int, fewest: int, most: int, percent: int) -> list[Case]:
    """Cases of things of different nouns, in colours that training has met."""
    chance, known = random.Random(0), judge.config
    cases = []
    for number in range(count):
        things = []
        for noun in chance.sample(known.nouns, fewest + number % (most - fewest + 1)):
            colours = [colour for colour in known.colours if not held_out(percent, colour, noun)]
            things.append(Thing(noun, chance.choice(colours)))
        named = number // (most - fewest + 1) % 2 == 0
        cases.append(Case(tuple(things), chance.choice(known.backgrounds) if named else None))
    return cases


def score(judge: Judge, case: Case, image: Image.Image, times: int) -> Score:
    """What of a case a picture shows that is so many ``times`` as large as the judge reads it."""
    pixels = np.asarray(image.reduce(times))
    sides = [(0, -length % COARSEST) for length in pixels.shape[:2]]
    padded = torch.from_numpy(np.pad(pixels, [*sides, (0, 0)], mode="edge"))
    [sight] = judge.look(padded.permute(2, 0, 1)[None].float() / 255)
    left, found = list(sight.objects), 0
    for thing in case.things:
        fitting = [
            each for each in left if each.noun == thing.noun and each.colours == (thing.colour,)
        ]
        if fitting:
            left.remove(fitting[0])
            found += 1
    ground = np.ones(pixels.shape[:2], bool)
    for each in sight.objects + sight.broken:
        reach = 0.6 * each.side
        rows, columns = (
            slice(max(0, int(middle - reach)), int(middle + reach)) for middle in (each.y, each.x)
        )
        ground[rows, columns] = False
    colours = pixels[ground].astype(float)
    off = abs(colours - np.median(colours, axis=0)).max(1)
    return Score(found, len(left), len(sight.broken), float((off <= EVEN).mean()))


def times_of(pipeline: Pipeline, image: Image.Image) -> int:
    """How many times as large a picture is drawn as the model's tokenizer reads it."""
    return pipeline.tokenizer_for(image.size).patch // pipeline.tokenizer_for((1, 1)).patch


def draw(
    pipeline: Pipeline, case: Case, seed: int, edit: Edit | None, share: bool | None
) -> Image.Image:
    """A picture of a case; of fewer things if its words are too many for the model."""
    try:
        return pipeline.generate(case.prompt, seed=seed, edit=edit, share_prompt=share).images[0]
    except PromptTooLongError:
        return draw(pipeline, case._replace(things=case.things[:-1]), seed, edit, share)


def beside(pipeline: Pipeline, cases: list[Case]) -> Iterator[Edit]:
    """Pictures of the first thing of each case, to be drawn on to both sides."""
    for seed, case in enumerate(cases):
        first = case._replace(things=case.things[:1])
        picture = pipeline.generate(first.prompt, seed=seed).images[0]
        yield outpaint(picture, left=picture.width, right=picture.width)


def sheet(images: list[Image.Image], path: Path) -> None:
    """All of them beside and below each other."""
    width, height = (side + 4 for side in images[0].size)
    columns = max(1, 1200 // width)
    page = Image.new("RGB", (columns * width, -(-len(images) // columns) * height))
    for number, image in enumerate(images):
        page.paste(image, (number % columns * width, number // columns * height))
    page.save(path)


def tell(name: str, way: str, cases: list[Case], scores: list[Score], seconds: float) -> None:
    """A line of the table."""
    asked = [len(case.things) for case in cases]
    right = sum(
        each.clean and each.found == count for each, count in zip(scores, asked, strict=True)
    )
    found, extra, broken, even = (sum(values) for values in zip(*scores, strict=True))
    print(
        f"{name:11} {way:6} {sum(asked):5} {found:6} {extra:6} {broken:7} {right:6} "
        f"{even / len(scores):6.3f} {seconds:6.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=default_model())
    parser.add_argument("--sizes", nargs="*", default=SIZES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--held-out-percent", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pipeline = Pipeline.load(options.model)
    judge = load_judge(local_model(options.model)[0] / "judge")
    several = make_cases(judge, options.pictures, 3, 6, options.held_out_percent)
    few = make_cases(judge, options.pictures, 1, 2, options.held_out_percent)
    work = {
        size: (several, [blank(*map(int, size.split("x")))] * len(several))
        for size in options.sizes
    }
    work["outpainted"] = few, list(beside(pipeline, few))
    print("picture     way    asked  found  extra  broken  right  even   s each")
    alone = [case._replace(things=(thing,)) for case in several for thing in case.things]
    lines: list[tuple[str, str, list[Case], Sequence[Edit | None]]] = [
        ("small", "alone", alone, [None] * len(alone))
    ]
    lines += [(name, way, *cases) for name, cases in work.items() for way in options.ways]
    for name, way, cases, edits in lines:
        began = time.perf_counter()
        images = [
            draw(pipeline, case, seed, edit, WAYS.get(way))
            for seed, (case, edit) in enumerate(zip(cases, edits, strict=True))
        ]
        seconds = (time.perf_counter() - began) / len(images)
        scores = [
            score(judge, case, image, times_of(pipeline, image))
            for case, image in zip(cases, images, strict=True)
        ]
        tell(name, way, cases, scores, seconds)
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            sheet(images, options.out / f"{name}-{way}.png")


if __name__ == "__main__":
    main()

"""Sheets of 48 prompts that training never saw: ``python -m benchmarks.sheet --out FOLDER``.

One contact sheet for each scheduler and number of steps, and ``prompts.txt``. A third are
colour-noun pairs and a quarter relations that are held out by a hash; the rest are counts and
places.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch

from unmask.config import load
from unmask.pipeline import Pipeline
from unmask.scenes.captions import plural, with_article
from unmask.scenes.sheets import contact_sheet
from unmask.scenes.vocabulary import BACKGROUNDS, COLOURS, RELATIONS, held_out
from unmask.store import default_model
from unmask.training.transformer import TransformerTraining


def unseen_prompts(nouns: tuple[str, ...], percent: int, seed: int = 0) -> list[str]:
    """48 prompts: 12 held-out relations; held-out colours of nouns alone (16), in counts (12), in
    places (8)."""
    rng = random.Random(seed)

    def coloured(noun: str) -> str:
        seen = [colour for colour in COLOURS if not held_out(percent, colour, noun)]
        return f"{rng.choice(seen)} {noun}"

    def ground() -> str:
        return f"on a {rng.choice(['white', 'grey', 'blue', 'pink', 'yellow', 'black'])} background"

    colours = [f"{c} {noun}" for noun in nouns for c in COLOURS if held_out(percent, c, noun)]
    relations = [
        (a, relation, b)
        for a in nouns
        for relation in RELATIONS
        for b in nouns
        if a != b and held_out(percent, a, relation, b)
    ]
    prompts = [f"{with_article(pair)} {ground()}" for pair in rng.sample(colours, 16)]
    for a, relation, b in rng.sample(relations, 12):
        words = "to the left of" if relation == "left of" else relation
        prompts.append(
            f"{with_article(coloured(a))} {words} {with_article(coloured(b))} {ground()}"
        )
    for pair in rng.choices(colours, k=12):
        colour, _, word = pair.partition(" ")
        prompts.append(f"{rng.choice(['two', 'three'])} {colour} {plural(word)} {ground()}")
    for pair in rng.choices(colours, k=8):
        place = rng.choice(["on the left", "on the right", "at the top", "at the bottom"])
        ground_colour = rng.choice(list(BACKGROUNDS))
        article = with_article(f"{ground_colour} background")
        prompts.append(f"{with_article(pair)} {place} on {article}")
    return prompts


def draw_sheet(pipeline: Pipeline, prompts: list[str], scheduler: str, steps: int) -> torch.Tensor:
    """One picture a prompt, (prompts, 3, height, width)."""
    requests = [
        pipeline.request(prompt, seed=i, scheduler=scheduler, steps=steps)
        for i, prompt in enumerate(prompts)
    ]
    images = pipeline.draw_batch(requests)
    pixels = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--config", type=Path, default=Path("configs/world/transformer.toml"))
    parser.add_argument("--schedulers", nargs="+", help="all, unless some are named")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = load(TransformerTraining, options.config).data
    prompts = unseen_prompts(data.nouns, data.scenes.held_out_percent)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "prompts.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    pipeline = Pipeline.load(options.model)
    for scheduler in options.schedulers or pipeline.info.schedulers:
        for steps in (12, 16):
            path = options.out / f"{scheduler}-{steps}.png"
            contact_sheet(
                draw_sheet(pipeline, prompts, scheduler, steps), columns=8, enlarge=1
            ).save(path)
            print(path)


if __name__ == "__main__":
    main()

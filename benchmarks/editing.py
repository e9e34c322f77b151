"""What editing costs beside the model: ``python -m benchmarks.editing [MODEL]``.

For large pictures and a few masks: how many windows there are, in how many rounds they are drawn if
every window that need not wait is drawn at once, how long planning, preparing the request and
composing an image take, and what a prepared edit holds. No window is drawn.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from unmask.editing import Edit, PreparedEdit, WindowPlan, inpaint, outpaint, prepare, window_count
from unmask.editing.paint import compose
from unmask.pipeline import Pipeline
from unmask.store import default_model

SIZES = ((1448, 1448), (2048, 1024))
FEATHER = 16
T = TypeVar("T")


def make_edits(width: int, height: int) -> dict[str, Edit]:
    """By name of its mask."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    masks = {name: np.zeros((height, width), np.uint8) for name in ("specks", "hole", "whole")}
    masks["specks"][::16, ::16] = 255
    masks["hole"][height // 4 : height // 2, width // 4 : width // 2] = 255
    masks["whole"][:] = 255
    edits = {name: inpaint(image, Image.fromarray(mask), FEATHER) for name, mask in masks.items()}
    inner = image.crop((0, 0, width - 256, height - 256))
    edits["around"] = outpaint(inner, 128, 128, 128, 128, FEATHER)
    return edits


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and how many seconds it took."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def held_bytes(prepared: PreparedEdit) -> int:
    """Of what all images of a request share."""
    arrays = [prepared.mask, prepared.canvas, prepared.say, *prepared.encoded.values()]
    return sum(array.nbytes for array in [*arrays, *(prepared.feather or ())])


def count_rounds(plan: WindowPlan) -> int:
    """How many windows the longest chain has of which each waits for the one before."""
    rounds = [1] * len(plan.corners)
    for window, followers in enumerate(plan.followers):
        for follower in followers:
            rounds[follower] = max(rounds[follower], rounds[window] + 1)
    return max(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=default_model())
    pipeline = Pipeline.load(parser.parse_args().model)
    tokenizer, grid = pipeline.tokenizer, pipeline.info.grid
    print("picture    mask    windows  rounds   plan s  prepare s  compose s  held MiB")
    for width, height in SIZES:
        for name, edit in make_edits(width, height).items():
            count, planning = timed(partial(window_count, edit, tokenizer.patch, grid))
            with torch.inference_mode():
                prepared, preparing = timed(partial(prepare, edit, tokenizer, grid))
            sums = np.zeros(prepared.canvas.shape)
            says = np.ones((*prepared.mask.shape, 1), np.int32)
            composing = timed(partial(compose, edit, prepared.feather, sums, says))[1]
            rounds = count_rounds(prepared.plan)
            print(
                f"{width}x{height}  {name:7} {count:7} {rounds:7} {planning:8.3f} "
                f"{preparing:10.3f} {composing:10.3f} {held_bytes(prepared) / 2**20:9.1f}"
            )


if __name__ == "__main__":
    main()

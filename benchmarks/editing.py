"""What editing costs beside the model: ``python -m benchmarks.editing [MODEL]``.

For large pictures and a few masks: how many windows there are, in how many rounds they are drawn if
every window that need not wait is drawn at once, how long reading the request, planning, preparing
and composing an image take, what a prepared edit holds beside the picture, and the most that the
process held so far. No window is drawn. In pictures beyond what may be drawn, the mask is less.
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from unmask.editing import (
    MAX_DRAWN_PIXELS,
    Edit,
    PreparedEdit,
    WindowPlan,
    inpaint,
    outpaint,
    prepare,
    window_count,
)
from unmask.editing.paint import compose
from unmask.pipeline import Pipeline
from unmask.store import default_model

SIZES = ((1448, 1448), (2048, 1024), (4000, 3000), (5792, 4344))
FEATHER = 16
T = TypeVar("T")


def edit_makers(width: int, height: int) -> dict[str, Callable[[], Edit]]:
    """What makes an edit, by name of its mask."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    masks = {name: np.zeros((height, width), np.uint8) for name in ("specks", "hole", "whole")}
    photo = width * height > MAX_DRAWN_PIXELS
    drawn_width, drawn_height = (1408, 1408) if photo else (width, height)
    # Four corners of as many specks, so that they span the picture.
    for rows in (slice(0, drawn_height // 2), slice(height - drawn_height // 2, None)):
        for columns in (slice(0, drawn_width // 2), slice(width - drawn_width // 2, None)):
            masks["specks"][rows, columns][::16, ::16] = 255
    masks["hole"][height // 4 :, width // 4 :][: drawn_height // 4, : drawn_width // 4] = 255
    masks["whole"][height - drawn_height :, width - drawn_width :] = 255
    makers: dict[str, Callable[[], Edit]] = {
        name: partial(inpaint, image, Image.fromarray(mask), FEATHER)
        for name, mask in masks.items()
    }
    side = 64 if photo else 128
    inner = image.crop((0, 0, width - 2 * side, height - 2 * side))
    makers["around"] = partial(outpaint, inner, side, side, side, side, FEATHER)
    return makers


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and how many seconds it took."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def held_bytes(prepared: PreparedEdit) -> int:
    """Of what all images of a request share."""
    canvas, masked = prepared.canvas, prepared.masked
    arrays = [canvas.places, canvas.colours, masked.mask, masked.places, prepared.say]
    arrays += prepared.encoded.values()
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
    print(
        "picture    mask    windows  rounds   read s   plan s  prepare s  compose s  held MiB  "
        "most MiB"
    )
    for width, height in SIZES:
        for name, make in edit_makers(width, height).items():
            edit, reading = timed(make)
            count, planning = timed(partial(window_count, edit, tokenizer.patch, grid))
            with torch.inference_mode():
                prepared, preparing = timed(partial(prepare, edit, tokenizer, grid))
            masked = prepared.masked
            sums = np.zeros((len(masked.places), 3))
            says = np.ones((len(masked.places), 1), np.int32)
            composing = timed(partial(compose, edit, prepared.feather, masked, sums, says))[1]
            rounds = count_rounds(prepared.plan)
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{width}x{height}  {name:7} {count:7} {rounds:7} {reading:8.3f} {planning:8.3f} "
                f"{preparing:10.3f} {composing:10.3f} {held_bytes(prepared) / 2**20:9.1f} "
                f"{most:9.0f}"
            )


if __name__ == "__main__":
    main()

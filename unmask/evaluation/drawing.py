"""Pictures and clips of prompts that a model draws, and true scenes."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.evaluation.prompts import Asked, Prompt, fitting_scenes
from unmask.evaluation.settings import Precision
from unmask.pipeline import Pipeline
from unmask.scenes.renderer import SceneRenderer
from unmask.tokenizers.base import Tokenizer


class Drawn(NamedTuple):
    """``pictures`` (prompts, images, 3, height, width) in [0, 1], or clips (prompts, images,
    frames, 3, height, width); per image, if they were drawn: passes of the backbone, and
    seconds."""

    pictures: Tensor
    passes: float | None = None
    seconds: float | None = None


def draw_prompts(
    pipeline: Pipeline,
    prompts: Sequence[Asked],
    overrides: Mapping[str, Any],
    *,
    seed: int,
    images: int,
    batch: int,
    precision: Precision,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    on_images: Callable[[int], object] | None = None,
) -> Drawn:
    """So many ``images`` of every prompt with these options, drawn in batches; ``on_images`` hears
    how many more are done. Image j of a prompt has the same seed whatever the options; it is a
    clip of so many ``frames`` if they are given, else a picture of that ``size``."""
    requests = [
        pipeline.request(
            prompt.text,
            seed=prompt.image_seed(seed, image),
            frames=frames,
            size=size,
            **overrides,
        )
        for prompt in prompts
        for image in range(images)
    ]
    drawn: list[NDArray[np.uint8]] = []
    device, low = next(pipeline.tokenizer.parameters()).device.type, precision == "bf16"
    began = time.perf_counter()
    for first in range(0, len(requests), batch):
        with torch.autocast(device, torch.bfloat16, enabled=low):
            part = requests[first : first + batch]
            if frames is None:
                drawn += [np.asarray(picture) for picture in pipeline.draw_batch(part)]
            else:
                drawn += [one.clips[0].frames for one in pipeline.run_all(part)]
        if on_images is not None:
            on_images(len(drawn) - first)
    seconds = (time.perf_counter() - began) / len(requests)
    passes = sum(pipeline.plan(request).passes for request in requests) / len(requests)
    pixels = torch.from_numpy(np.stack(drawn)).movedim(-1, -3).float() / 255
    pixels = pixels.reshape(len(prompts), images, *pixels.shape[1:])
    return Drawn(pixels, passes, seconds)


def true_pictures(
    prompts: list[Prompt], renderer: SceneRenderer, tokenizer: Tokenizer, indices: range
) -> Tensor:
    """True scenes of every prompt after the tokenizer, one of each index, (prompts, images, 3,
    height, width)."""
    rendered = [renderer.render(fitting_scenes(prompts, renderer, index)) for index in indices]
    with torch.inference_mode():
        return torch.stack([tokenizer.round_trip(images) for images in rendered], 1)

"""The model in the box shows what was asked, as far as a few pixels can tell."""

import numpy as np
import pytest

from tests.worlds.processors import vnni
from unmask.devices import Precision
from unmask.pipeline import Generated, Pipeline
from unmask.sampling.schedulers import SCHEDULERS
from unmask.scenes.vocabulary import BACKGROUNDS
from unmask.store import default_model

PROMPT = "two pink tulips on a grey background"


@pytest.fixture(name="pipeline", scope="module")
def _pipeline() -> Pipeline:
    return Pipeline.load(default_model())


def _pixels(generated: Generated) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=float) for image in generated.images])


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["white", "black", "blue", "green", "yellow", "pink"])
def test_backgrounds_have_the_colour_of_the_prompt(pipeline: Pipeline, colour: str) -> None:
    prompt = f"a red apple in the middle on a {colour} background"
    pixels = _pixels(pipeline.generate(prompt, seed=1, n=4))
    corners = pixels[:, [2, 2, -3, -3], [2, -3, 2, -3]].reshape(-1, 3)
    distances = {
        name: float(np.median(np.abs(corners - rgb).mean(1))) for name, rgb in BACKGROUNDS.items()
    }
    assert min(distances, key=lambda name: distances[name]) == colour


@pytest.mark.slow
@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_objects_have_the_colour_of_the_prompt(
    pipeline: Pipeline, colour: str, channel: int
) -> None:
    prompt = f"a {colour} star in the middle on a white background"
    pixels = _pixels(pipeline.generate(prompt, seed=2, n=6))
    middle = np.median(pixels[:, 56:72, 56:72], axis=(0, 1, 2))
    assert int(middle.argmax()) == channel


@pytest.mark.slow
@pytest.mark.parametrize(("side", "dark_left"), [("left", True), ("right", False)])
def test_objects_stand_on_the_side_of_the_prompt(
    pipeline: Pipeline, side: str, dark_left: bool
) -> None:
    prompt = f"a blue book on the {side} on a white background"
    darkness = 255 - _pixels(pipeline.generate(prompt, seed=3, n=6))
    left, right = darkness[:, :, :64].mean(), darkness[:, :, 64:].mean()
    assert (left > right) == dark_left


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_the_same_seed_gives_the_same_bytes_alone_and_beside_others(
    pipeline: Pipeline, scheduler: str
) -> None:
    alone, together = (
        pipeline.generate(PROMPT, n=n, seed=5, scheduler=scheduler, steps=8) for n in (1, 3)
    )
    assert together.images[0].tobytes() == alone.images[0].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("int8", marks=vnni)])
def test_a_batch_of_everything_is_to_the_byte_what_each_is_alone(precision: Precision) -> None:
    pipeline = Pipeline.load(default_model(), precision=precision)
    kinds: list[dict[str, object]] = [
        *[dict[str, object](scheduler=scheduler) for scheduler in sorted(SCHEDULERS)],
        {"scheduler": "halton", "reuse": 1, "reuse_after": 0.0},
        {
            "scheduler": "confidence",
            "reuse": 2,
            "guidance": "interval",
            "guidance_interval": (0.2, 0.7),
        },
        {"scheduler": "p2", "reuse": 2, "reuse_after": 0.0, "guidance_scale": 1.5},
        {"scheduler": "p2", "reuse_policy": "carried-null", "guidance_scale": 1.5},
        {"scheduler": "halton", "zigzag": True},
        {"scheduler": "halton", "count_rule": "entropy", "entropy_bound": 4.0},
        {"noise_regularisation": 1.0, "guidance_scale": 1.0},
        {"differential": 0.5},
    ]
    prompts = (PROMPT, "a red apple and a blue book on a white background", "three green cars")
    requests = [
        pipeline.request(prompts[i % 3], seed=i, steps=4 + i % 5, **kind)  # type: ignore[arg-type]
        for i, kind in enumerate(kinds * 2)
    ]
    for size in (2, 7, len(requests)):
        for first in range(0, len(requests), size):
            part = requests[first : first + size]
            for image, request in zip(pipeline.draw_batch(part), part, strict=True):
                assert image.tobytes() == pipeline.run(request).images[0].tobytes()

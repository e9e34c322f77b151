"""The judge in the box sees what the model in the box draws, and nothing where there is nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from unmask.box import BUNDLED
from unmask.pipeline import Pipeline
from unmask.scenes.judge import Judge, load_judge

MODEL = "storybook"


@pytest.fixture(name="bundled", scope="module")
def _bundled() -> Judge:
    return load_judge(BUNDLED / MODEL / "judge")


@pytest.fixture(name="painter", scope="module")
def _painter() -> Pipeline:
    return Pipeline.load(MODEL)


def _draw(pipeline: Pipeline, prompt: str, count: int) -> Tensor:
    images = pipeline.draw_batch(
        [pipeline.request(prompt, seed=seed, size=(64, 64)) for seed in range(count)]
    )
    pixels = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def test_it_is_small_enough_for_the_box() -> None:
    assert (BUNDLED / MODEL / "judge" / "model.safetensors").stat().st_size < 3 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "noun", "colour", "count"),
    [
        ("a red strawberry in the middle on a white background", "strawberry", "red", 1),
        ("two yellow balloons on a pink background", "balloon", "yellow", 2),
        ("three blue trees on a grey background", "tree", "blue", 3),
    ],
)
def test_it_finds_what_the_model_draws_well(
    bundled: Judge, painter: Pipeline, prompt: str, noun: str, colour: str, count: int
) -> None:
    sights = bundled.look(_draw(painter, prompt, 8))
    right = [
        len(sight.objects) == count
        and all(thing.noun == noun and thing.colours == (colour,) for thing in sight.objects)
        for sight in sights
    ]
    assert sum(right) >= 3  # 8, 5 and 4 when it was shipped; a blind judge has none


@pytest.mark.slow
def test_two_things_without_a_place_are_both_drawn(bundled: Judge, painter: Pipeline) -> None:
    right = 0
    for first, second in (("cat", "book"), ("car", "tree")):
        prompt = f"a {first} and a {second} on a white background"
        for sight in bundled.look(_draw(painter, prompt, 8)):
            right += sorted(thing.noun for thing in sight.objects) == sorted((first, second))
    assert right >= 12  # 16 of 16 when it was shipped


@pytest.mark.slow
def test_the_parts_of_a_picture_in_another_order_are_no_objects(
    bundled: Judge, painter: Pipeline
) -> None:
    pictures = _draw(painter, "a red strawberry in the middle on a white background", 8)
    parts = pictures.reshape(8, 3, 8, 8, 8, 8).permute(2, 4, 0, 1, 3, 5)
    mixed = parts.flatten(0, 1)[torch.randperm(64)].reshape(parts.shape)
    shuffled = mixed.permute(2, 3, 0, 4, 1, 5).reshape(pictures.shape)
    assert sum(len(sight.objects) for sight in bundled.look(shuffled)) <= 1
    plain = torch.full((1, 3, 64, 64), 0.98)
    assert bundled.look(plain)[0].objects == ()

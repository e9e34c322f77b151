"""What requests cost, on a real model of 4x4 tokens."""

import pytest
from PIL import Image

from tests.worlds.native import PROMPT, write_native
from unmask.editing import image_to_image
from unmask.pipeline import Pipeline
from unmask.server.engine.costs import Cost, OpenedModel, weigh


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> OpenedModel:
    return OpenedModel("tiny", Pipeline.load(write_native(tmp_path_factory.mktemp("tiny"))))


def test_a_blank_is_one_window(model: OpenedModel) -> None:
    request = model.pipeline.request(PROMPT, n=3, steps=5, guidance_scale=2.0)
    cost = weigh(model, request).cost
    assert (cost.images, cost.windows, cost.depth, cost.steps, cost.tokens) == (3, 1, 1, 5, 16)
    assert (cost.all_steps, cost.drawn_tokens) == (15, 48)
    assert cost.work == 48 * 10  # two passes a step
    assert cost.charge == cost.work * model.pipeline.info.parameters


def test_all_windows_of_an_edit_are_counted_and_those_that_wait_for_others(
    model: OpenedModel,
) -> None:
    request = model.pipeline.request(
        PROMPT, n=2, steps=3, edit=image_to_image(Image.new("RGB", (40, 24)), 1.0)
    )
    weighed = weigh(model, request)
    cost = weighed.cost
    assert cost.windows == weighed.prepared.windows > 4
    assert cost.drawn_tokens == 2 * 16 * cost.windows
    assert 1 < cost.depth < cost.windows


def test_an_image_takes_the_steps_of_all_its_windows() -> None:
    cost = Cost(images=2, windows=3, steps=4, tokens=5, passes=6)
    assert (cost.image_steps, cost.all_steps, cost.work) == (12, 24, 180)

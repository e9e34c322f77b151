"""Models whose decoder enlarges draw at two sizes, and edit at that which fits."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.worlds.native import PROMPT, native_pipeline
from unmask.editing import inpaint, outpaint
from unmask.errors import RequestError
from unmask.pipeline import Pipeline


@pytest.fixture(name="pipeline", scope="module")
def _pipeline() -> Pipeline:
    return native_pipeline(enlarges=True)


def _noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_the_usual_size_is_the_large_one_and_the_small_one_is_its_average(
    pipeline: Pipeline,
) -> None:
    assert pipeline.info.sizes == ((16, 16), (8, 8))
    large = pipeline.generate(PROMPT, seed=1).images[0]
    small = pipeline.generate(PROMPT, seed=1, size=(8, 8)).images[0]
    assert (large.size, small.size) == ((16, 16), (8, 8))
    means = np.asarray(large, np.float32).reshape(8, 2, 8, 2, 3).mean((1, 3))
    assert np.abs(means - np.asarray(small, np.float32)).max() <= 1  # each is rounded once
    with pytest.raises(RequestError, match="16x16 or 8x8 only"):
        pipeline.generate(PROMPT, seed=1, size=(16, 8))


def test_sizes_share_a_batch_and_keep_their_bytes(pipeline: Pipeline) -> None:
    sizes = [(16, 16), (8, 8), (16, 16), (8, 8)]
    requests = [pipeline.request(PROMPT, seed=i, size=size) for i, size in enumerate(sizes)]
    alone = [pipeline.run(request).images[0] for request in requests]
    assert [image.size for image in alone] == sizes
    together = pipeline.draw_batch(requests)
    assert [a.tobytes() for a in alone] == [b.tobytes() for b in together]


@pytest.mark.parametrize("size", [(8, 8), (12, 30), (16, 16), (16, 8), (40, 24)])
def test_an_edit_is_drawn_with_the_largest_window_that_the_picture_holds(
    pipeline: Pipeline, size: tuple[int, int]
) -> None:
    picture, mask = _noise(*size), Image.new("L", size, 0)
    mask.paste(255, (3, 2, 7, 6))
    drawn = pipeline.generate(PROMPT, seed=1, edit=inpaint(picture, mask)).images[0]
    known = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(drawn)[known], np.asarray(picture)[known])
    assert not np.array_equal(np.asarray(drawn), np.asarray(picture))
    tokenizer = pipeline.tokenizer_for(size)
    assert tokenizer.patch == (4 if min(size) >= 16 else 2)


def test_a_small_picture_goes_on_beyond_its_sides(pipeline: Pipeline) -> None:
    picture = pipeline.generate(PROMPT, seed=1, size=(8, 8)).images[0]
    wide = pipeline.generate(PROMPT, seed=2, edit=outpaint(picture, left=8, right=8)).images[0]
    assert wide.size == (24, 8)
    assert wide.crop((8, 0, 16, 8)).tobytes() == picture.tobytes()


def test_previews_have_the_size_of_the_picture(pipeline: Pipeline) -> None:
    tokens = torch.full((16,), pipeline.backbone.mask_id)
    tokens[5] = 3
    for size in ((16, 16), (8, 8)):
        image = pipeline.preview(tokens, size)
        assert image.size == size
        assert np.asarray(image)[0, 0].tolist() == [128] * 3

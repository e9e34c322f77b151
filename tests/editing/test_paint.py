import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.worlds import plain_editing
from tests.worlds.editing import (
    GRIDS,
    Grid,
    MoodyTokenizer,
    WideTokenizer,
    as_image,
    grey,
    noise,
    run,
)
from unmask.editing import image_to_image, inpaint, outpaint, paint


@settings(max_examples=50)
@given(
    st.tuples(*[st.integers(1, 30)] * 2),
    st.tuples(*[st.integers(0, 20)] * 4).filter(any),
    GRIDS,
    st.sampled_from([0, 4]),
)
def test_outpainting_puts_the_picture_as_it_is_into_a_larger_one(
    size: tuple[int, int], sides: tuple[int, int, int, int], grid: Grid, feather: int
) -> None:
    image, (left, right, top, bottom) = noise(*size), sides
    result = run(outpaint(image, left, right, top, bottom, feather), grid, WideTokenizer())
    assert (result.mode, result.size) == (
        "RGB",
        (size[0] + left + right, size[1] + top + bottom),
    )
    inner = result.crop((left, top, left + size[0], top + size[1]))
    assert inner.tobytes() == image.tobytes()


def test_no_seam_shows_where_windows_disagree() -> None:
    image = Image.new("RGB", (160, 96))
    result = np.asarray(run(image_to_image(image, 1.0), (8, 8), MoodyTokenizer())).astype(int)
    assert result.max() - result.min() > 30
    # A window turns into the next over half of its 32 px.
    assert max(abs(np.diff(result, axis=axis)).max() for axis in (0, 1)) <= 64 / 16 + 1


def test_the_feather_rises_from_the_edge_of_the_mask_inwards() -> None:
    mask = np.zeros((12, 24), bool)
    mask[:, 8:] = True  # up to the border, which is no edge

    def white(tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
        return torch.full_like(tokens, 255)

    result = run(inpaint(Image.new("RGB", (24, 12)), as_image(mask), 3), draw=white)
    row = [0] * 8 + [64, 128, 191] + [255] * 13
    assert (grey(result) == row).all()


def test_the_feather_is_even_along_a_slanted_edge() -> None:
    across = np.arange(60) - np.arange(60)[:, None] * 0.6

    def white(tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
        return torch.full_like(tokens, 255)

    mask = across > 0
    result = grey(run(inpaint(Image.new("RGB", (60, 60)), as_image(mask), 9), draw=white))
    expected = np.clip(across / np.hypot(1, 0.6) / 10, 0, 1) * 255
    inner = np.s_[12:-12, 12:-12]  # nearer the border the edge ends
    assert abs(result.astype(float) - expected)[inner].max() < 26  # one pixel's worth


def test_a_whole_picture_has_no_edge_to_feather() -> None:
    image = noise(20, 12)
    everything = as_image(np.ones((12, 20), bool))
    plain, feathered = (run(inpaint(image, everything, feather)) for feather in (0, 5))
    assert plain.tobytes() == feathered.tobytes()


def test_transparency_outside_the_mask_is_kept_and_inside_it_is_gone() -> None:
    image, mask = noise(20, 16, "RGBA"), np.zeros((16, 20), bool)
    mask[3:9, 5:11] = True
    result = np.asarray(run(inpaint(image, as_image(mask))))
    assert result.shape == (16, 20, 4)
    assert (result[~mask] == np.asarray(image)[~mask]).all()
    assert (result[mask][:, 3] == 255).all()


def test_alpha_that_hides_nothing_outside_the_mask_is_not_kept() -> None:
    image = noise(20, 16, "RGBA")
    alpha = np.full((16, 20), 255, np.uint8)
    alpha[3:9, 5:11] = 0
    image.putalpha(Image.fromarray(alpha))
    edit = inpaint(image)
    assert (edit.mask == (alpha == 0)).all()
    assert run(edit).mode == "RGB"
    image.putalpha(255)
    assert run(image_to_image(image, 1.0)).mode == "RGB"


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.integers(0, 30))
def test_depths_are_those_of_the_plain_path(seed: int, feather: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 40, 2)) < 1 - random.random() ** 3
    squares = paint.squared_depth(mask, feather)
    assert (np.sqrt(squares.astype(float)) == plain_editing.depth(mask, feather)).all()


def assert_filled_plainly(random: np.random.Generator, known: plain_editing.Mask) -> None:
    pixels = random.integers(0, 256, (*known.shape, 3), np.uint8)
    places = np.arange(known.size, dtype=np.int32)
    plain = paint.Paint(pixels, places[:0], np.empty((0, 3)))
    filled = paint.fill(plain, places[~known.ravel()])
    expected = plain_editing.filled(pixels / 255, known)
    assert (filled.at(places).reshape(expected.shape) == expected).all()


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_fillings_are_those_of_the_plain_path(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = random.integers(1, 40, 2)
    assert_filled_plainly(random, random.random(shape) < random.random() ** 4)


def test_a_wide_picture_is_filled_and_feathered_chunk_by_chunk() -> None:
    random = np.random.default_rng(0)
    for shape in ((3, 70000), (70000, 2), (300, 400)):
        mask = np.zeros(shape, bool)
        mask[1:, :: shape[1] // 2] = True
        mask[shape[0] // 2 :] = True
        assert_filled_plainly(random, ~mask)
        squares = paint.squared_depth(mask, 5)
        assert (np.sqrt(squares.astype(float)) == plain_editing.depth(mask, 5)).all()

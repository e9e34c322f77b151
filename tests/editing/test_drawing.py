from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from unmask import editing
from unmask.editing import (
    Edit,
    draw_edit,
    image_to_image,
    inpaint,
    masked_cells,
    outpaint,
    plan_windows,
    revise,
    variation,
)
from unmask.errors import RequestError

PATCH = 4
GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 5))


class GreyTokenizer:
    """A token is the mean grey of its patch: what is decoded is encoded to the same tokens."""

    codebook_size, patch = 256, PATCH

    def encode(self, images: Tensor) -> Tensor:
        means = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), PATCH)
        return (means[:, 0] * 255).round().long()

    def decode(self, tokens: Tensor) -> Tensor:
        grey = (tokens / 255)[:, None].expand(-1, 3, -1, -1)
        return grey.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)


class WideTokenizer(GreyTokenizer):
    """Every token looks at its neighbours too, and so does every decoded pixel."""

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(torch.nn.functional.avg_pool2d(images, 5, 1, 2))

    def decode(self, tokens: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(super().decode(tokens), 5, 1, 2)


class Drawing:
    """Draws 7, 8, 9 ... and scribbles over the known tokens of its answer; notes what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.next = 7

    def __call__(self, tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
        assert tokens.dtype == torch.int64
        assert unknown.dtype == torch.bool
        assert tokens.shape == unknown.shape
        assert window >= len(self.seen)  # a window with nothing to draw is not asked for
        self.seen.append((tokens.clone(), unknown.clone()))
        answer = torch.full_like(tokens, 3)
        for i in torch.nonzero(unknown).flatten():
            answer[i] = self.next % 256
            self.next += 1
        return answer


def no_choice(count: int) -> Tensor:
    raise AssertionError("nothing is to be chosen")


def choose(count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(count))


def run(edit: Edit, grid=(3, 3), tokenizer=None, draw=None) -> Image.Image:
    chooser = no_choice if edit.strength == 1 else choose
    steps = draw_edit(edit, tokenizer or GreyTokenizer(), grid, chooser)
    draw = draw or Drawing()
    try:
        window = next(steps)
        while True:
            assert window.part < window.parts
            window = steps.send(draw(window.tokens, window.unknown, window.part))
    except StopIteration as end:
        return end.value


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"))


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    random = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(random.squeeze(-1) if channels == 1 else random, mode)


@st.composite
def masked_pictures(draw) -> tuple[Image.Image, np.ndarray]:
    """A picture of any size, and a mask of blots, specks, everything, or all but a bit."""
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["box", "specks", "all", "border"]))
    mask = np.full((height, width), kind in ("all", "border"))
    top, left = int(random.integers(height)), int(random.integers(width))
    box = np.s_[top : top + int(random.integers(1, 20)), left : left + int(random.integers(1, 20))]
    if kind in ("box", "border"):
        mask[box] = kind == "box"
    if kind == "specks":
        mask = random.random((height, width)) < random.random()
    mask[top, left] = True
    return noise(width, height, seed=int(random.integers(2**32))), mask


def as_image(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


@settings(max_examples=100)
@given(masked_pictures(), GRIDS, st.sampled_from([0, 0, 1, 3]))
def test_what_is_not_masked_comes_back_byte_for_byte(picture, grid, feather):
    image, mask = picture
    result = run(inpaint(image, as_image(mask), feather), grid, WideTokenizer())
    assert (result.mode, result.size) == ("RGB", image.size)
    assert (np.asarray(result)[~mask] == np.asarray(image)[~mask]).all()


@settings(max_examples=100)
@given(masked_pictures(), GRIDS)
def test_every_unknown_token_is_drawn_once_and_stays(picture, grid):
    image, mask = picture
    edit = inpaint(image, as_image(mask))
    masked = masked_cells(edit, PATCH, grid)
    corners = plan_windows(masked, grid)
    drawing = Drawing()
    result = run(edit, grid, draw=drawing)
    assert len(corners) == len(drawing.seen)
    rows, columns = grid
    padded = np.pad(
        np.asarray(image) / 255,
        [(0, n * PATCH - size) for n, size in zip(masked.shape, mask.shape, strict=True)]
        + [(0, 0)],
        mode="edge",
    )
    sent = GreyTokenizer().encode(torch.from_numpy(padded).float().permute(2, 0, 1)[None])[0]
    tokens = np.where(masked, -1, sent.numpy())
    value = 7
    for (row, column), (given_tokens, unknown) in zip(corners, drawing.seen, strict=True):
        cells = np.s_[row : row + rows, column : column + columns]
        unknown = unknown.numpy().reshape(grid)
        assert unknown.any()
        assert (unknown == (tokens[cells] == -1)).all()
        assert (given_tokens.numpy().reshape(grid) == tokens[cells])[~unknown].all()
        tokens[cells][unknown] = np.arange(value, value + unknown.sum()) % 256
        value += unknown.sum()
    assert (tokens != -1).all()
    drawn = tokens.repeat(PATCH, 0).repeat(PATCH, 1)[: mask.shape[0], : mask.shape[1]]
    assert (np.asarray(result)[mask] == drawn[mask][:, None]).all()


@settings(max_examples=50)
@given(masked_pictures(), GRIDS, st.sampled_from([0, 2]))
def test_nothing_that_lies_under_the_mask_is_seen(picture, grid, feather):
    image, mask = picture
    pixels = np.asarray(image).copy()
    pixels[mask] = 255 - pixels[mask]
    drawings = Drawing(), Drawing()
    results = [
        run(inpaint(one, as_image(mask)), grid, WideTokenizer(), drawing)
        for one, drawing in zip((image, Image.fromarray(pixels)), drawings, strict=True)
    ]
    assert (np.asarray(results[0])[mask] == np.asarray(results[1])[mask]).all()
    for (one, _), (other, _) in zip(drawings[0].seen, drawings[1].seen, strict=True):
        assert torch.equal(one, other)
    hidden = Image.fromarray(np.dstack([pixels, np.where(mask, 0, 255).astype(np.uint8)]))
    seen = Image.fromarray(np.dstack([image, np.where(mask, 0, 255).astype(np.uint8)]))
    results = [run(inpaint(one, feather=feather), grid, WideTokenizer()) for one in (hidden, seen)]
    assert (np.asarray(results[0])[mask] == np.asarray(results[1])[mask]).all()


@settings(max_examples=50)
@given(
    st.tuples(*[st.integers(1, 30)] * 2),
    st.tuples(*[st.integers(0, 20)] * 4).filter(any),
    GRIDS,
    st.sampled_from([0, 4]),
)
def test_outpainting_puts_the_picture_as_it_is_into_a_larger_one(size, sides, grid, feather):
    image, (left, right, top, bottom) = noise(*size), sides
    result = run(outpaint(image, left, right, top, bottom, feather), grid, WideTokenizer())
    assert (result.mode, result.size) == (
        "RGB",
        (size[0] + left + right, size[1] + top + bottom),
    )
    inner = result.crop((left, top, left + size[0], top + size[1]))
    assert inner.tobytes() == image.tobytes()


def test_outpainting_grows_out_of_the_picture():
    edit = outpaint(noise(32, 32), 40, 40, 24, 24)
    masked = masked_cells(edit, PATCH, (8, 8))
    done = ~masked
    for row, column in plan_windows(masked, (8, 8)):
        window = done[row : row + 8, column : column + 8]
        assert window.mean() >= 0.25
        window[:] = True
    assert done.all()


def test_a_hole_that_fits_is_drawn_in_one_window_with_something_all_around_it():
    masked = np.zeros((20, 30), bool)
    masked[7:11, 12:16] = True
    [(row, column)] = plan_windows(masked, (8, 8))
    assert (row, column) == (5, 10)


def test_a_large_picture_is_planned_in_no_time_and_in_few_windows():
    corners = plan_windows(np.ones((128, 256), bool), (8, 8))
    assert len(corners) == 31 * 63  # windows that overlap by half
    assert corners[0] == (0, 0)


@settings(max_examples=100)
@given(st.integers(0, 2**32), GRIDS)
def test_windows_hold_every_masked_token_within_the_picture(seed, grid):
    random = np.random.default_rng(seed)
    masked = random.random((random.integers(5, 20), random.integers(5, 20))) < random.random()
    covered = np.zeros_like(masked)
    for row, column in plan_windows(masked, grid):
        assert min(row, column) >= 0
        window = np.s_[row : row + grid[0], column : column + grid[1]]
        assert covered[window].shape == grid
        assert (masked & ~covered)[window].any(), "nothing is left to draw there"
        covered[window] = True
    assert covered[masked].all()


class RandomTokenizer(GreyTokenizer):
    table = torch.rand(256, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(0))

    def decode(self, tokens: Tensor) -> Tensor:
        patches = self.table[tokens]
        batch, rows, columns = tokens.shape
        joined = patches.permute(0, 3, 1, 4, 2, 5)
        return joined.reshape(batch, 3, rows * PATCH, columns * PATCH)


@pytest.mark.parametrize(
    "edit",
    [
        lambda image: inpaint(image, as_image(np.ones((32, 40), bool))),
        lambda image: image_to_image(image, 1.0),
    ],
)
def test_a_window_that_is_all_masked_is_text_to_image(edit: Callable[[Image.Image], Edit]):
    values = torch.randint(256, (80,), generator=torch.Generator().manual_seed(1))

    def draw(tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
        assert unknown.all()
        assert window == 0
        return values

    result = run(edit(noise(40, 32)), (8, 10), RandomTokenizer(), draw)
    pixels = RandomTokenizer().decode(values.view(1, 8, 10))[0]
    plain = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert (np.asarray(result) == plain).all()


class MoodyTokenizer(GreyTokenizer):
    """Decodes a whole window to one grey, so that windows never agree."""

    def decode(self, tokens: Tensor) -> Tensor:
        return super().decode(tokens * 0 + tokens[0, 0, 0] % 64)


def test_no_seam_shows_where_windows_disagree():
    image = Image.new("RGB", (160, 96))
    result = np.asarray(run(image_to_image(image, 1.0), (8, 8), MoodyTokenizer())).astype(int)
    assert result.max() - result.min() > 30
    # A window turns into the next over half of its 32 px.
    assert max(abs(np.diff(result, axis=axis)).max() for axis in (0, 1)) <= 64 / 16 + 1


@pytest.mark.parametrize(("strength", "count"), [(0.001, 1), (0.25, 12), (0.5, 24), (0.99, 48)])
def test_strength_is_the_share_of_tokens_that_are_drawn(strength, count):
    image, drawing = noise(32, 24), Drawing()
    result = run(image_to_image(image, strength), (3, 4), draw=drawing)
    assert sum(int(unknown.sum()) for _, unknown in drawing.seen) == count
    kept = GreyTokenizer().encode(
        torch.from_numpy(np.array(image)).float().permute(2, 0, 1)[None] / 255
    )[0]
    cells = grey(result)[::PATCH, ::PATCH]
    assert (cells == kept.numpy()).sum() >= 48 - count  # what is kept is decoded from its token
    assert result.tobytes() == run(image_to_image(image, strength), (3, 4)).tobytes()


def test_strength_within_a_mask_leaves_the_rest_alone():
    image, mask = noise(32, 24), np.zeros((24, 32), bool)
    mask[4:20, 8:24] = True
    drawing = Drawing()
    result = run(image_to_image(image, 0.5, as_image(mask)), draw=drawing)
    assert sum(int(unknown.sum()) for _, unknown in drawing.seen) == 8
    assert (np.asarray(result)[~mask] == np.asarray(image)[~mask]).all()


def test_revising_starts_from_the_tokens_that_are_there():
    image, drawing = noise(12, 12), Drawing()
    edit = revise(image, share=0.3)
    run(edit, draw=drawing)
    [(tokens, unknown)] = drawing.seen
    assert unknown.all()
    pixels = torch.from_numpy(np.array(image)).float().permute(2, 0, 1)[None] / 255
    assert torch.equal(tokens, GreyTokenizer().encode(pixels).flatten())
    assert (edit.kind, edit.share) == ("revise", 0.3)


def test_the_feather_rises_from_the_edge_of_the_mask_inwards():
    mask = np.zeros((12, 24), bool)
    mask[:, 8:] = True  # up to the border, which is no edge

    def white(tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
        return torch.full_like(tokens, 255)

    result = run(inpaint(Image.new("RGB", (24, 12)), as_image(mask), 3), draw=white)
    row = [0] * 8 + [64, 128, 191] + [255] * 13
    assert (grey(result) == row).all()


def test_the_feather_is_even_along_a_slanted_edge():
    across = np.arange(60) - np.arange(60)[:, None] * 0.6

    def white(tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
        return torch.full_like(tokens, 255)

    mask = across > 0
    result = grey(run(inpaint(Image.new("RGB", (60, 60)), as_image(mask), 9), draw=white))
    expected = np.clip(across / np.hypot(1, 0.6) / 10, 0, 1) * 255
    inner = np.s_[12:-12, 12:-12]  # nearer the border the edge ends
    assert abs(result.astype(float) - expected)[inner].max() < 26  # one pixel's worth


def test_a_whole_picture_has_no_edge_to_feather():
    image = noise(20, 12)
    everything = as_image(np.ones((12, 20), bool))
    plain, feathered = (run(inpaint(image, everything, feather)) for feather in (0, 5))
    assert plain.tobytes() == feathered.tobytes()


def test_transparency_outside_the_mask_is_kept_and_inside_it_is_gone():
    image, mask = noise(20, 16, "RGBA"), np.zeros((16, 20), bool)
    mask[3:9, 5:11] = True
    result = np.asarray(run(inpaint(image, as_image(mask))))
    assert result.shape == (16, 20, 4)
    assert (result[~mask] == np.asarray(image)[~mask]).all()
    assert (result[mask][:, 3] == 255).all()


def test_alpha_that_hides_nothing_outside_the_mask_is_not_kept():
    image = noise(20, 16, "RGBA")
    alpha = np.full((16, 20), 255, np.uint8)
    alpha[3:9, 5:11] = 0
    image.putalpha(Image.fromarray(alpha))
    edit = inpaint(image)
    assert (edit.mask == (alpha == 0)).all()
    assert run(edit).mode == "RGB"
    image.putalpha(255)
    assert run(image_to_image(image, 1.0)).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_pictures_of_any_mode_are_taken(mode):
    image = noise(21, 13).convert(mode)
    mask = np.zeros((13, 21), bool)
    mask[:6] = True
    result = run(inpaint(image, as_image(mask)))
    assert (np.asarray(result)[~mask] == np.asarray(image.convert("RGB"))[~mask]).all()


def test_a_turned_picture_is_edited_upright():
    image = noise(20, 12)
    image.getexif()[0x0112] = 6
    edit = outpaint(image, left=3)
    assert edit.size == (15, 20)
    assert (edit.pixels[:, 3:, :3] == np.asarray(noise(20, 12).transpose(Image.ROTATE_270))).all()


def half(mode: str, chosen: object, rest: object) -> Image.Image:
    mask = Image.new(mode, (16, 12), rest)
    mask.paste(chosen, (0, 0, 8, 12))
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        half("1", 1, 0),
        half("L", 128, 127),
        half("RGB", (255, 255, 255), (0, 0, 0)),
        half("RGBA", (0, 0, 0, 0), (255, 255, 255, 1)),  # with alpha the colour is nothing
        half("LA", (255, 0), (0, 255)),
        half("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)),
    ],
)
def test_a_mask_selects_by_alpha_if_it_has_any_else_by_white(mask):
    selected = inpaint(noise(16, 12), mask).mask
    assert selected[:, :8].all()
    assert not selected[:, 8:].any()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.new("RGBA", (16, 12), "white"), "alpha channel, and so selects"),
        (Image.new("RGBA", (16, 12), (0, 0, 0, 9)), "make them transparent"),
        (Image.new("L", (16, 12), 127), "paint them white"),
        (Image.new("L", (12, 16), 255), "12x16 pixels, but the image 16x12"),
        (Image.new("I;16", (16, 12), 255), "8 bits"),
        (None, "no pixel of alpha 0"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(mask, words):
    with pytest.raises(RequestError, match=words) as refusal:
        inpaint(noise(16, 12), mask)
    assert refusal.value.param == "mask"


SMALL = noise(16, 12)
WIDE = Image.new("1", (editing.MAX_PIXELS + 1, 1))


@pytest.mark.parametrize(
    ("make", "param"),
    [
        (partial(outpaint, SMALL), "left"),
        (partial(outpaint, SMALL, left=-1, right=2), "left"),
        (partial(outpaint, SMALL, bottom=10**12), "bottom"),
        (partial(outpaint, SMALL, top=2**21, left=3), "top"),
        (partial(outpaint, SMALL, left=1, feather=-1), "feather"),
        (partial(outpaint, SMALL, left=1, feather=10**9), "feather"),
        (partial(image_to_image, SMALL, 0), "strength"),
        (partial(image_to_image, SMALL, 1.01), "strength"),
        (partial(image_to_image, SMALL, float("nan")), "strength"),
        (partial(variation, SMALL, -1), "strength"),
        (partial(revise, SMALL, 0), "share"),
        (partial(revise, SMALL, 1.5), "share"),
        (partial(revise, SMALL, mask=Image.new("L", (16, 12))), "mask"),
        (partial(image_to_image, WIDE, 0.5), "image"),
        (partial(outpaint, WIDE, top=1), "top"),
        (partial(variation, Image.new("I;16", (16, 12))), "image"),
        (partial(variation, Image.new("F", (16, 12))), "image"),
        (partial(variation, Image.new("L", (0, 12))), "mask"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(make, param):
    with pytest.raises(RequestError) as refusal:
        make()
    assert refusal.value.param == param


def test_the_summary_tells_edits_apart_and_holds_no_pixels():
    mask = half("L", 255, 0)
    edits = [
        inpaint(SMALL, mask),
        inpaint(SMALL, half("L", 0, 255)),
        inpaint(noise(16, 12, seed=1), mask),
        inpaint(SMALL, mask, feather=1),
        image_to_image(SMALL, 0.5, mask),
        image_to_image(SMALL, 0.6, mask),
        revise(SMALL, 0.5, mask),
        revise(SMALL, 0.6, mask),
    ]
    texts = {repr(sorted(edit.summary().items())) for edit in edits}
    assert len(texts) == len(edits)
    assert max(map(len, texts)) < 200
    assert inpaint(SMALL, mask).summary() == edits[0].summary()


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@given(grid=st.tuples(st.integers(2, 8), st.integers(2, 8)), more=st.integers(1, 20))
def test_outpainting_always_sees_what_it_goes_on_with(
    side: str, grid: tuple[int, int], more: int
) -> None:
    """By a whole window too: one that held nothing known would draw a scene of its own."""
    image = Image.new("RGB", (grid[1] * PATCH, grid[0] * PATCH))
    masked = masked_cells(outpaint(image, **{side: more * PATCH}), PATCH, grid)
    known = ~masked
    for row, column in plan_windows(masked, grid):
        window = np.s_[row : row + grid[0], column : column + grid[1]]
        assert known[window].any()
        known[window] = True
    assert known.all()

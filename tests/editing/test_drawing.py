from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.worlds.editing import (
    GRIDS,
    PATCH,
    Drawing,
    GreyTokenizer,
    Grid,
    Masked,
    RandomTokenizer,
    WideTokenizer,
    as_image,
    choose,
    grey,
    masked_pictures,
    noise,
    run,
)
from tests.worlds.plain_editing import draw_plainly
from unmask.editing import (
    Edit,
    PreparedEdit,
    image_to_image,
    inpaint,
    masked_cells,
    outpaint,
    plan_windows,
    prepare,
    revise,
    variation,
)


@settings(max_examples=100)
@given(masked_pictures(), GRIDS, st.sampled_from([0, 0, 1, 3]))
def test_what_is_not_masked_comes_back_byte_for_byte(
    picture: Masked, grid: Grid, feather: int
) -> None:
    image, mask = picture
    result = run(inpaint(image, as_image(mask), feather), grid, WideTokenizer())
    assert (result.mode, result.size) == ("RGB", image.size)
    assert (np.asarray(result)[~mask] == np.asarray(image)[~mask]).all()


@settings(max_examples=100)
@given(masked_pictures(), GRIDS)
def test_every_unknown_token_is_drawn_once_and_stays(picture: Masked, grid: Grid) -> None:
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
    for (row, column), (given_tokens, asked) in zip(corners, drawing.seen, strict=True):
        cells = np.s_[row : row + rows, column : column + columns]
        unknown = asked.numpy().reshape(grid)
        assert unknown.any()
        assert (unknown == (tokens[cells] == -1)).all()
        assert (given_tokens.numpy().reshape(grid) == tokens[cells])[~unknown].all()
        tokens[cells][unknown] = np.arange(value, value + int(unknown.sum())) % 256
        value += int(unknown.sum())
    assert (tokens != -1).all()
    drawn = tokens.repeat(PATCH, 0).repeat(PATCH, 1)[: mask.shape[0], : mask.shape[1]]
    assert (np.asarray(result)[mask] == drawn[mask][:, None]).all()


@settings(max_examples=50)
@given(masked_pictures(), GRIDS, st.sampled_from([0, 2]))
def test_nothing_that_lies_under_the_mask_is_seen(
    picture: Masked, grid: Grid, feather: int
) -> None:
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
    seen = Image.fromarray(np.dstack([np.asarray(image), np.where(mask, 0, 255).astype(np.uint8)]))
    results = [run(inpaint(one, feather=feather), grid, WideTokenizer()) for one in (hidden, seen)]
    assert (np.asarray(results[0])[mask] == np.asarray(results[1])[mask]).all()


@pytest.mark.parametrize(
    "edit",
    [
        lambda image: inpaint(image, as_image(np.ones((32, 40), bool))),
        lambda image: image_to_image(image, 1.0),
    ],
)
def test_a_window_that_is_all_masked_is_text_to_image(
    edit: Callable[[Image.Image], Edit],
) -> None:
    values = torch.randint(256, (80,), generator=torch.Generator().manual_seed(1))

    def draw(tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
        assert unknown.all()
        assert window == 0
        return values

    result = run(edit(noise(40, 32)), (8, 10), RandomTokenizer(), draw)
    pixels = RandomTokenizer().decode(values.view(1, 8, 10))[0]
    plain = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert (np.asarray(result) == plain).all()


@pytest.mark.parametrize(("strength", "count"), [(0.001, 1), (0.25, 12), (0.5, 24), (0.99, 48)])
def test_strength_is_the_share_of_tokens_that_are_drawn(strength: float, count: int) -> None:
    image, drawing = noise(32, 24), Drawing()
    result = run(image_to_image(image, strength), (3, 4), draw=drawing)
    assert sum(int(unknown.sum()) for _, unknown in drawing.seen) == count
    kept = GreyTokenizer().encode(
        torch.from_numpy(np.array(image)).float().permute(2, 0, 1)[None] / 255
    )[0]
    cells = grey(result)[::PATCH, ::PATCH]
    assert (cells == kept.numpy()).sum() >= 48 - count  # what is kept is decoded from its token
    assert result.tobytes() == run(image_to_image(image, strength), (3, 4)).tobytes()


def test_strength_within_a_mask_leaves_the_rest_alone() -> None:
    image, mask = noise(32, 24), np.zeros((24, 32), bool)
    mask[4:20, 8:24] = True
    drawing = Drawing()
    result = run(image_to_image(image, 0.5, as_image(mask)), draw=drawing)
    assert sum(int(unknown.sum()) for _, unknown in drawing.seen) == 8
    assert (np.asarray(result)[~mask] == np.asarray(image)[~mask]).all()


def test_revising_starts_from_the_tokens_that_are_there() -> None:
    image, drawing = noise(12, 12), Drawing()
    edit = revise(image, share=0.3)
    run(edit, draw=drawing)
    [(tokens, unknown)] = drawing.seen
    assert unknown.all()
    pixels = torch.from_numpy(np.array(image)).float().permute(2, 0, 1)[None] / 255
    assert torch.equal(tokens, GreyTokenizer().encode(pixels).flatten())
    assert (edit.kind, edit.share) == ("revise", 0.3)


def mixed(tokens: Tensor, unknown: Tensor, window: int) -> Tensor:
    """Tokens that depend on all that a model is told of a window."""
    places = torch.arange(len(tokens))
    return (tokens * 31 + tokens.roll(1) * 7 + unknown * 5 + places * 13 + window * 17) % 256


def run_in_any_order(prepared: PreparedEdit, random: np.random.Generator) -> Image.Image:
    edited = prepared.image(choose)
    windows = edited.start()
    while windows:
        assert edited.image is None
        window = windows.pop(int(random.integers(len(windows))))
        windows += edited.finish(window, mixed(window.tokens, window.unknown, window.part))
    assert edited.image is not None
    return edited.image


SIDE = st.integers(1, 20)
SIDES = st.tuples(SIDE, SIDE, SIDE, SIDE)


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """Of every kind, of pictures with and without transparency."""
    image, mask = draw(masked_pictures())
    if draw(st.booleans()):
        alpha = np.random.default_rng(draw(st.integers(0, 9))).choice([0, 9, 255], mask.shape)
        image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    feather = draw(st.sampled_from([0, 0, 1, 4, 30]))
    kind = draw(st.sampled_from(["inpaint", "outpaint", "restyle", "vary", "revise"]))
    if kind == "inpaint":
        return inpaint(image, as_image(mask), feather)
    if kind == "outpaint":
        return outpaint(image, *draw(SIDES), feather)
    if kind == "restyle":
        return image_to_image(image, draw(st.sampled_from([0.1, 0.7])), as_image(mask), feather)
    return variation(image) if kind == "vary" else revise(image, 0.4, as_image(mask), feather)


@settings(max_examples=300)
@given(edits(), GRIDS, st.integers(0, 2**32))
def test_images_of_one_request_in_any_order_are_what_the_plain_path_gives(
    edit: Edit, grid: Grid, seed: int
) -> None:
    plain = draw_plainly(edit, WideTokenizer(), grid, choose, mixed)
    prepared, random = prepare(edit, WideTokenizer(), grid), np.random.default_rng(seed)
    for _ in range(2):
        image = run_in_any_order(prepared, random)
        assert (image.mode, image.tobytes()) == (plain.mode, plain.tobytes())


def test_windows_that_share_no_masked_token_are_drawn_together() -> None:
    mask = np.zeros((40, 120), bool)
    mask[16:24, 4:8] = mask[16:24, 20:24] = mask[16:24, 80:116] = True
    edited = prepare(inpaint(noise(120, 40), as_image(mask)), GreyTokenizer(), (4, 4)).image(choose)
    windows = edited.start()
    alone = [window for window in windows if window.part < 2]
    assert len(alone) == 2
    assert len(windows) == 3  # one of those that the long blot needs
    assert edited.finish(alone[0], alone[0].tokens) == []
    [later] = edited.finish(windows[2], windows[2].tokens)
    assert later.part > windows[2].part


def test_a_window_is_finished_once() -> None:
    edited = prepare(variation(noise(60, 12)), GreyTokenizer(), (3, 3)).image(choose)
    window = edited.start()[0]
    edited.finish(window, window.tokens)
    with pytest.raises(KeyError):
        edited.finish(window, window.tokens)


def test_images_of_one_request_share_what_is_encoded_first() -> None:
    class Counting(GreyTokenizer):
        encoded = 0

        def encode(self, images: Tensor) -> Tensor:
            self.encoded += 1
            return super().encode(images)

    mask = np.zeros((40, 120), bool)
    mask[8:12, 8:12] = mask[8:12, 80:84] = True
    tokenizer = Counting()
    prepared = prepare(inpaint(noise(120, 40), as_image(mask)), tokenizer, (4, 4))
    for _ in range(3):
        run_in_any_order(prepared, np.random.default_rng(0))
    assert tokenizer.encoded == 2


def test_several_threads_may_draw_of_one_prepared_edit() -> None:
    prepared = prepare(revise(noise(60, 50)), WideTokenizer(), (3, 3))
    with ThreadPoolExecutor(4) as pool:
        images = list(
            pool.map(lambda seed: run_in_any_order(prepared, np.random.default_rng(seed)), range(8))
        )
    assert len({image.tobytes() for image in images}) == 1


def held_bytes(prepared: PreparedEdit) -> int:
    """Of what is held beside the picture's own pixels."""
    canvas, masked = prepared.canvas, prepared.masked
    arrays = [canvas.places, canvas.colours, masked.mask, masked.places]
    arrays += [*(prepared.feather or ()), *prepared.encoded.values()]
    return sum(array.nbytes for array in arrays)


def test_what_a_large_edit_holds_is_bounded() -> None:
    image = Image.new("RGB", (1448, 1448))
    mask = Image.linear_gradient("L").resize(image.size)
    prepared = prepare(inpaint(image, mask, 64), GreyTokenizer(), (64, 64))
    assert prepared.feather is not None
    assert held_bytes(prepared) < 40 << 20


def test_a_photo_is_edited_at_its_size_where_its_mask_is() -> None:
    size = (4000, 3000)
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
    mask = np.zeros((3000, 4000), bool)
    mask[20:70, 3930:] = mask[2950:, 10:60] = True
    edit = inpaint(Image.fromarray(pixels), as_image(mask), feather=5)
    assert held_bytes(prepare(edit, WideTokenizer(), (16, 16))) < 16 << 20  # the mask has 12
    image = run(edit, (16, 16), WideTokenizer())
    assert image.size == size
    drawn = np.asarray(image)
    assert (drawn[~mask] == pixels[~mask]).all()
    assert (drawn[mask] != pixels[mask]).any(-1).mean() > 0.9

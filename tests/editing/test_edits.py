from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.worlds.editing import as_image, noise, run
from unmask.editing import (
    MAX_PIXELS,
    Edit,
    MaskMode,
    has_transparency,
    image_to_image,
    inpaint,
    outpaint,
    revise,
    variation,
)
from unmask.errors import RequestError


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_pictures_of_any_mode_are_taken(mode: str) -> None:
    image = noise(21, 13).convert(mode)
    mask = np.zeros((13, 21), bool)
    mask[:6] = True
    result = run(inpaint(image, as_image(mask)))
    assert (np.asarray(result)[~mask] == np.asarray(image.convert("RGB"))[~mask]).all()


def test_a_turned_picture_is_edited_upright() -> None:
    image = noise(20, 12)
    image.getexif()[0x0112] = 6
    edit = outpaint(image, left=3)
    assert edit.size == (15, 20)
    turned = noise(20, 12).transpose(Image.Transpose.ROTATE_270)
    assert (edit.pixels[:, 3:, :3] == np.asarray(turned)).all()


def half(mode: str, chosen: int | tuple[int, ...], rest: int | tuple[int, ...]) -> Image.Image:
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
def test_a_mask_selects_by_alpha_if_it_has_any_else_by_white(mask: Image.Image) -> None:
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
def test_a_mask_that_cannot_be_meant_is_refused(mask: Image.Image | None, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refusal:
        inpaint(noise(16, 12), mask)
    assert refusal.value.param == "mask"


def test_a_mask_is_read_by_the_mode_that_was_chosen() -> None:
    left = np.arange(16) < 8
    painted = np.zeros((12, 16, 4), np.uint8)
    painted[:, left, :3] = 255
    painted[..., 3] = 255
    opaque = Image.fromarray(painted)
    for make in (inpaint, partial(image_to_image, strength=0.5), revise):
        assert (make(noise(16, 12), mask=opaque, mask_mode="white").mask == left).all()
    painted[:, left, 3] = 0  # white that nobody sees
    cut = Image.fromarray(painted)
    assert (inpaint(noise(16, 12), cut, mask_mode="auto").mask == left).all()
    assert (inpaint(noise(16, 12), cut, mask_mode="alpha").mask == left).all()
    grey_mask = opaque.convert("L")
    assert (inpaint(noise(16, 12), grey_mask, mask_mode="auto").mask == left).all()
    assert (inpaint(noise(16, 12), grey_mask, mask_mode="white").mask == left).all()


@pytest.mark.parametrize(
    ("mask", "mode", "param", "words"),
    [
        (Image.new("L", (16, 12), 255), "alpha", "mask", "no alpha channel; make it transparent"),
        (Image.new("RGBA", (16, 12), "white"), "alpha", "mask", "choose mask_mode white"),
        (Image.new("RGBA", (16, 12), (255, 255, 255, 0)), "white", "mask", "opaque white pixels"),
        (None, "white", "mask_mode", "there is no mask"),
        (Image.new("L", (16, 12), 255), "luma", "mask_mode", "choose one of: alpha, auto, white"),
    ],
)
def test_a_mode_that_does_not_suit_the_mask_is_refused(
    mask: Image.Image | None, mode: MaskMode, param: str, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as refusal:
        inpaint(noise(16, 12, "RGBA").point(lambda value: value // 200), mask, mask_mode=mode)
    assert refusal.value.param == param


SMALL = noise(16, 12)
WIDE = Image.new("1", (MAX_PIXELS + 1, 1))


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
        (partial(outpaint, Image.new("1", (2**21, 1)), top=12), "top"),
        (partial(variation, Image.new("I;16", (16, 12))), "image"),
        (partial(variation, Image.new("F", (16, 12))), "image"),
        (partial(variation, Image.new("L", (0, 12))), "image"),
        (partial(inpaint, SMALL, Image.new("L", (0, 0))), "mask"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(make: Callable[[], Edit], param: str) -> None:
    with pytest.raises(RequestError) as refusal:
        make()
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("make", "arguments", "told"),
    [
        (inpaint, ("a.png", SMALL), "image: expected a picture, got 'a.png'"),
        (inpaint, (SMALL, "mask.png"), "mask: expected a picture, got 'mask.png'"),
        (inpaint, (SMALL, SMALL, "2"), "feather: expected int, got '2'"),
        (inpaint, (SMALL, SMALL, 2.5), "feather: expected int, got 2.5"),
        (image_to_image, (SMALL, "0.5"), "strength: expected float, got '0.5'"),
        (image_to_image, (SMALL, True), "strength: expected float, got True"),
        (image_to_image, (SMALL, None), "strength: expected float, got None"),
        (revise, (SMALL, None), "share: expected float, got None"),
        (outpaint, (SMALL, 2.5), "left: expected int, got 2.5"),
        pytest.param(outpaint, (SMALL, 10**5000), "left is one of type int", id="huge"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told(
    make: Callable[..., Edit], arguments: tuple[object, ...], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        make(*arguments)


def test_of_a_photo_so_much_may_be_drawn() -> None:
    photo = Image.new("RGB", (4000, 3000))
    mask = Image.new("1", photo.size)
    mask.paste(1, (1000, 1000, 2400, 2400))
    assert inpaint(photo, mask).size == (4000, 3000)
    mask.paste(1, (3000, 1000, 3700, 2400))
    for make in (partial(inpaint, mask=mask), variation, revise):
        with pytest.raises(RequestError, match="to be drawn or transparent") as refusal:
            make(photo)
        assert "the bound is 2097152" in str(refusal.value)
        assert refusal.value.param == "image"


def test_the_summary_tells_edits_apart_and_holds_no_pixels() -> None:
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


CUT_OUTS: list[Callable[[Image.Image], Edit]] = [
    inpaint,
    partial(image_to_image, strength=0.5),
    variation,
    revise,
]


@pytest.mark.parametrize("make", CUT_OUTS)
def test_without_a_mask_the_pixels_of_alpha_0_are_it(make: Callable[[Image.Image], Edit]) -> None:
    image, transparent = noise(20, 16, "RGBA"), np.zeros((16, 20), bool)
    transparent[3:9, 5:11] = True
    image.putalpha(Image.fromarray(np.where(transparent, 0, 1).astype(np.uint8)))
    assert has_transparency(image)
    assert (make(image).mask == transparent).all()


@pytest.mark.parametrize("make", CUT_OUTS[1:])
@pytest.mark.parametrize("image", [noise(20, 16), Image.new("RGBA", (20, 16), (5, 5, 5, 1))])
def test_without_a_mask_and_a_pixel_of_alpha_0_all_is_masked(
    make: Callable[[Image.Image], Edit], image: Image.Image
) -> None:
    assert not has_transparency(image)
    assert make(image).mask.all()


@pytest.mark.parametrize("make", [inpaint, partial(image_to_image, strength=0.5), revise])
def test_a_mask_that_is_given_is_meant_whatever_is_transparent(make: Callable[..., Edit]) -> None:
    image, mask = Image.new("RGBA", (16, 12)), half("L", 255, 0)
    assert (make(image, mask=mask).mask == (np.asarray(mask) == 255)).all()

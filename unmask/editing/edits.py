"""Edits: a picture, a mask of what may change in it, and how it is to change."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unmask.config import checked
from unmask.errors import RequestError, shown
from unmask.images import check_size, upright

MAX_PIXELS = 24 << 20  # of a result
# Of a result that is drawn, as each window is a run of the model. In a larger one no more may be
# drawn or seen through, counted in blocks of so many pixels across and down.
MAX_DRAWN_PIXELS = 1 << 21
BLOCK = 32
MAX_FEATHER = 256
DEFAULT_SHARE = 0.5
DEFAULT_STRENGTH = 0.5
OPAQUE = 255
WHITE = 128  # and more, of a mask

MaskMode = Literal["auto", "alpha", "white"]  # what a mask image selects by
Kind = Literal["inpaint", "outpaint", "image_to_image", "variation", "revise"]
EDIT_KINDS: tuple[Kind, ...] = get_args(Kind)  # and the functions that make them
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]
Margins = tuple[tuple[int, int], tuple[int, int]]


class AnyEdit:
    """What edits of pictures and of clips share: how much of what is masked is drawn anew."""

    kind: str
    strength: float  # share of the masked tokens that are drawn anew; the others are kept
    share: float | None  # of the tokens that "revise" masks at a time; None: another kind

    @property
    def blind(self) -> bool:
        """Whether nothing that lies under the mask may be seen in the result."""
        return self.share is None and self.strength == 1

    def _check_shares(self) -> None:
        shares = {"strength": self.strength}
        if self.kind == "revise" or self.share is not None:
            shares["share"] = self.share  # type: ignore[assignment]  # None is refused below
        for name, value in shares.items():
            if not 0 < checked(name, float, value) <= 1:
                raise RequestError(f"{name} is {value}; it must lie above 0, up to 1", name)

    def _summary(self, feather: int, pixels: Bytes, mask: Mask) -> dict[str, Any]:
        """What tells this edit from another, without its pixels: for logs, answers and files."""
        values = {"kind": self.kind, "feather": feather, "sha256": _digest_of(pixels, mask)}
        return values | (
            {"strength": self.strength} if self.share is None else {"share": self.share}
        )


@dataclass(frozen=True, eq=False)
class Edit(AnyEdit):
    """A picture to be drawn over; make one with the functions below.

    Values out of bounds raise RequestError, whose ``param`` is the field of that function.
    """

    kind: Kind
    pixels: Bytes  # (height, width, 3), or 4 if any is not opaque
    mask: Mask  # (height, width), True where pixels may change
    feather: int = 0  # px inside the mask over which what was there turns into what is drawn
    strength: float = 1.0
    share: float | None = None

    def __post_init__(self) -> None:
        height, width = self.mask.shape
        if self.pixels.shape[:2] != self.mask.shape:
            raise RequestError(
                f"mask: it has {width}x{height} pixels, but the image "
                f"{self.pixels.shape[1]}x{self.pixels.shape[0]}; make them alike",
                "mask",
            )
        if width * height > MAX_PIXELS:
            raise RequestError(
                f"image: the result has {width}x{height} pixels; the bound is {MAX_PIXELS}", "image"
            )
        if not self.mask.any():
            raise RequestError("mask: it selects nothing, so there is nothing to draw", "mask")
        if width * height > MAX_DRAWN_PIXELS and (drawn := self._drawn_pixels()) > MAX_DRAWN_PIXELS:
            raise RequestError(
                f"image: of {width}x{height} pixels {drawn} are to be drawn or transparent, "
                f"counted in blocks of {BLOCK}x{BLOCK}; the bound is {MAX_DRAWN_PIXELS} for a "
                "result that has more: mask less of it, or make it smaller",
                "image",
            )
        if not 0 <= checked("feather", int, self.feather) <= MAX_FEATHER:
            raise RequestError(
                f"feather is {shown(self.feather)}; it must lie between 0 and {MAX_FEATHER}",
                "feather",
            )
        self._check_shares()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        height, width = self.mask.shape
        return width, height

    @property
    def keeps_alpha(self) -> bool:
        """Whether there is transparency outside the mask: then the result is RGBA, else RGB."""
        return self.pixels.shape[2] == 4 and bool((self.pixels[~self.mask, 3] < OPAQUE).any())

    def pictures(self) -> list[Image.Image]:
        """What is drawn over."""
        return [Image.fromarray(self.pixels)]

    def _drawn_pixels(self) -> int:
        """Those of all blocks that hold a masked or a transparent pixel."""
        concerned = self.mask | _transparent(self.pixels)
        for axis in (0, 1):
            starts = np.arange(0, concerned.shape[axis], BLOCK)
            concerned = np.logical_or.reduceat(concerned, starts, axis=axis)
        return int(concerned.sum()) * BLOCK**2

    def summary(self) -> dict[str, Any]:
        """What tells this edit from another, without its pixels: for logs, answers and files."""
        return self._summary(self.feather, self.pixels, self.mask)


def redrawn(masked: Mask, strength: float, choose: Callable[[int], Tensor]) -> Mask:
    """Which of the masked tokens are unknown: so large a share of them, but at least one, picked by
    the uniforms in (0, 1) that ``choose(count)`` gives."""
    if strength == 1:
        return masked
    places = np.flatnonzero(masked)
    order = choose(len(places)).cpu().argsort(stable=True).numpy()
    unknown = np.zeros_like(masked)
    unknown.flat[places[order[: max(1, round(strength * len(places)))]]] = True
    return unknown


def _digest_of(pixels: Bytes, mask: Mask) -> str:
    """A SHA-256 of what is drawn over, and where."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    for array in (pixels, mask):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def has_transparency(image: Image.Image) -> bool:
    """Whether any pixel has alpha 0: then these are what an edit without a mask draws."""
    return bool(_transparent(_pixels(image)).any())


def inpaint(
    image: Image.Image,
    mask: Image.Image | None = None,
    feather: int = 0,
    *,
    mask_mode: MaskMode = "auto",
) -> Edit:
    """Draw anew what the mask selects, unseen; None: where the image itself has alpha 0, which the
    other edits but ``outpaint`` take for their mask too, if there is any such pixel.

    By mode ``alpha`` a mask selects where its alpha is 0; by ``white`` where it is white and not
    transparent (128 and more of 255); by ``auto`` as the first if it has an alpha channel, else as
    the second. So a mask with an alpha channel that is opaque selects nothing by ``auto``, and is
    refused.
    """
    pixels = _pixels(image)
    if mask is None and not _transparent(pixels).any():
        raise RequestError(
            "mask: it is needed, as the image has no pixel of alpha 0 to be drawn", "mask"
        )
    return Edit("inpaint", pixels, _selected(mask, pixels, mask_mode), feather)


def outpaint(
    image: Image.Image,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    feather: int = 0,
) -> Edit:
    """Draw so many pixels more on each side of the image."""
    inner = _pixels(image)
    sides = {"left": left, "right": right, "top": top, "bottom": bottom}
    around = margins(sides, (inner.shape[1], inner.shape[0]), MAX_PIXELS)
    if not any(sides.values()):
        raise RequestError(f"left: all of {', '.join(sides)} are 0; give one of them", "left")
    if inner.shape[2] == 3:
        inner = np.dstack([inner, np.full(inner.shape[:2], OPAQUE, np.uint8)])
    pixels = np.pad(inner, (*around, (0, 0)))  # alpha 0: there is nothing to be seen yet
    mask = np.pad(np.zeros(inner.shape[:2], bool), around, constant_values=True)
    return Edit("outpaint", pixels, mask, feather)


def blank(width: int, height: int) -> Edit:
    """A picture of any size of which all is drawn: what a model of a smaller one makes of a prompt.
    RequestError for a size that it cannot have."""
    for side, length in (("width", width), ("height", height)):
        if not 1 <= checked(side, int, length) <= MAX_PIXELS:
            raise RequestError(
                f"{side} is {shown(length)}; it must lie between 1 and {MAX_PIXELS}", side
            )
    if width * height > MAX_PIXELS:
        raise RequestError(
            f"width: the picture has {width}x{height} pixels; the bound is {MAX_PIXELS}", "width"
        )
    pixels = np.zeros((height, width, 3), np.uint8)
    return Edit("inpaint", pixels, np.ones((height, width), bool))


def margins(sides: Mapping[str, int], size: tuple[int, int], bound: int) -> Margins:
    """How many pixels come before and behind the rows and the columns of a (width, height), of
    which there are no more than the bound then. RequestError, naming the side."""
    for side, value in sides.items():
        if not 0 <= checked(side, int, value) <= MAX_PIXELS:
            raise RequestError(
                f"{side} is {shown(value)}; it must lie between 0 and {MAX_PIXELS}", side
            )
    around = ((sides["top"], sides["bottom"]), (sides["left"], sides["right"]))
    height, width = size[1] + sum(around[0]), size[0] + sum(around[1])
    if width * height > bound:
        widest = max(sides, key=lambda side: sides[side])
        raise RequestError(
            f"{widest} is {sides[widest]}: the result has {width}x{height} pixels; the bound is "
            f"{bound}",
            widest,
        )
    return around


def image_to_image(
    image: Image.Image,
    strength: float,
    mask: Image.Image | None = None,
    feather: int = 0,
    *,
    mask_mode: MaskMode = "auto",
) -> Edit:
    """Draw anew so large a share of the masked tokens, chosen at random. Without a mask the pixels
    of alpha 0 are masked, and if there is none, the whole image. The mask is read as by
    ``inpaint``.
    """
    pixels = _pixels(image)
    return Edit("image_to_image", pixels, _selected(mask, pixels, mask_mode), feather, strength)


def variation(image: Image.Image, strength: float = DEFAULT_STRENGTH) -> Edit:
    """``image_to_image`` under the name that it has when there is no prompt."""
    pixels = _pixels(image)
    return Edit("variation", pixels, _selected(None, pixels), strength=strength)


def revise(
    image: Image.Image,
    share: float = DEFAULT_SHARE,
    mask: Image.Image | None = None,
    feather: int = 0,
    *,
    mask_mode: MaskMode = "auto",
) -> Edit:
    """Change the image towards the prompt without a mask: its tokens are the start, and so large
    a share of them is masked and drawn again at every step. A mask bounds where, and so do the
    pixels of alpha 0 if there are any. The mask is read as by ``inpaint``.
    """
    pixels = _pixels(image)
    return Edit("revise", pixels, _selected(mask, pixels, mask_mode), feather, share=share)


def _pixels(image: Image.Image) -> Bytes:
    """(height, width, 3), or 4 if any pixel is not opaque."""
    pixels = np.asarray(_upright(image, "image"))
    return pixels[..., :3] if pixels.shape[2] == 4 and (pixels[..., 3] == OPAQUE).all() else pixels


def _upright(image: Image.Image, param: str) -> Image.Image:
    """RequestError for what is no picture, holds no pixel, or holds too many."""
    if not isinstance(image, Image.Image):
        raise RequestError(
            f"{param}: expected a picture, got {shown(image)}; open a file with PIL.Image.open",
            param,
        )
    if not image.width * image.height:
        raise RequestError(
            f"{param}: it has {image.width}x{image.height} pixels, so there is nothing to see",
            param,
        )
    check_size(image, param, MAX_PIXELS)
    return upright(image, param)


def _transparent(pixels: Bytes) -> Mask:
    """Where alpha is 0."""
    if pixels.shape[2] == 3:
        return np.zeros(pixels.shape[:2], bool)
    transparent: Mask = pixels[..., 3] == 0
    return transparent


def _selected(mask: Image.Image | None, pixels: Bytes, mode: MaskMode = "auto") -> Mask:
    """Where a mask image lets pixels change; without one where alpha is 0, else everywhere."""
    checked("mask_mode", MaskMode, mode)
    if mask is None:
        if mode != "auto":
            raise RequestError(f"mask_mode is {mode}, but there is no mask to read", "mask_mode")
        transparent = _transparent(pixels)
        return transparent if transparent.any() else np.ones_like(transparent)
    return read_mask(mask, mode)


def read_mask(mask: Image.Image, mode: MaskMode = "auto") -> Mask:
    """What a mask image selects (height, width), by the rules of ``inpaint``; RequestError if that
    is nothing."""
    upright_mask = _upright(mask, "mask")
    if mode == "alpha" and upright_mask.mode != "RGBA":
        raise RequestError(
            "mask: mask_mode is alpha, but it has no alpha channel; make it transparent where to "
            "draw, or choose mask_mode white",
            "mask",
        )
    if mode != "white" and upright_mask.mode == "RGBA":
        selected: Mask = np.asarray(upright_mask.getchannel("A")) == 0
        rule = "it has an alpha channel, and so selects the pixels of alpha 0, but has none; "
        remedy = "make them transparent, or choose mask_mode white if they are painted white"
    else:
        selected = np.asarray(upright_mask.convert("L")) >= WHITE
        if upright_mask.mode == "RGBA":
            selected &= np.asarray(upright_mask.getchannel("A")) >= WHITE
            rule = "mask_mode is white, and so it selects opaque white pixels, but has none; "
        else:
            rule = "it has no alpha channel, and so selects the white pixels, but has none; "
        remedy = "paint them white, or give it an alpha channel that is 0 there"
    if not selected.any():
        raise RequestError(f"mask: {rule}{remedy}", "mask")
    return selected

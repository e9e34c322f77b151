"""Small pictures, masks and tokenizers for the tests of editing, and a model that just counts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unmask.editing import Edit, prepare
from unmask.tokenizers.base import Tokenizer

PATCH = 4
Grid = tuple[int, int]
Mask = NDArray[np.bool_]
Masked = tuple[Image.Image, Mask]
GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 5))


class GreyTokenizer(Tokenizer):
    """A token is the mean grey of its patch: what is decoded is encoded to the same tokens."""

    @property
    def codebook_size(self) -> int:
        return 256

    @property
    def patch(self) -> int:
        return PATCH

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


class RandomTokenizer(GreyTokenizer):
    table = torch.rand(256, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(0))

    def decode(self, tokens: Tensor) -> Tensor:
        patches = self.table[tokens]
        batch, rows, columns = tokens.shape
        joined = patches.permute(0, 3, 1, 4, 2, 5)
        return joined.reshape(batch, 3, rows * PATCH, columns * PATCH)


class MoodyTokenizer(GreyTokenizer):
    """Decodes a whole window to one grey, so that windows never agree."""

    def decode(self, tokens: Tensor) -> Tensor:
        return super().decode(tokens * 0 + tokens[0, 0, 0] % 64)


def no_choice(count: int) -> Tensor:
    raise AssertionError("nothing is to be chosen")


def choose(count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(count))


def run(
    edit: Edit,
    grid: Grid = (3, 3),
    tokenizer: Tokenizer | None = None,
    draw: Callable[[Tensor, Tensor, int], Tensor] | None = None,
) -> Image.Image:
    """The picture, its windows drawn in the order of the plan."""
    chooser = no_choice if edit.strength == 1 else choose
    edited = prepare(edit, tokenizer or GreyTokenizer(), grid).image(chooser)
    draw, windows = draw or Drawing(), edited.start()
    while windows:
        assert edited.image is None
        window = min(windows, key=lambda window: window.part)
        windows.remove(window)
        assert window.part < window.parts
        windows += edited.finish(window, draw(window.tokens, window.unknown, window.part))
    assert edited.image is not None
    return edited.image


def grey(image: Image.Image) -> NDArray[Any]:
    return np.asarray(image.convert("L"))


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    random = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(random.squeeze(-1) if channels == 1 else random, mode)


@st.composite
def masked_pictures(draw: st.DrawFn) -> tuple[Image.Image, NDArray[Any]]:
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


def as_image(mask: NDArray[Any]) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)

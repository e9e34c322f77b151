"""The seam between pixels and tokens."""

from typing import Protocol

from torch import Tensor


class Tokenizer(Protocol):
    """What the rest of the house knows of a tokenizer.

    Images are (batch, 3, height, width) floats in [0, 1]; tokens are (batch, rows, columns) int64
    in [0, codebook_size); one token covers ``patch`` x ``patch`` pixels.
    """

    @property
    def codebook_size(self) -> int: ...

    @property
    def patch(self) -> int: ...

    def encode(self, images: Tensor) -> Tensor:
        """The tokens of ``images``, whose sides must be multiples of ``patch``."""
        ...

    def decode(self, tokens: Tensor) -> Tensor:
        """The images that ``tokens`` stand for, clamped to [0, 1]."""
        ...

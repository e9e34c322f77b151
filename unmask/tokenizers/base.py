"""The seam between pixels and tokens."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Tokenizer(nn.Module, ABC):
    """What the rest of the house knows of a tokenizer.

    Images are (batch, 3, height, width) floats in [0, 1]; tokens are (batch, rows, columns) int64
    in [0, codebook_size); one token covers ``patch`` x ``patch`` pixels.
    """

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """How many tokens there are to choose from."""

    @property
    @abstractmethod
    def patch(self) -> int:
        """Pixels along a side of what one token stands for."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """The tokens of ``images``; ConfigError unless their sides are multiples of ``patch``."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """The images that ``tokens`` stand for, clamped to [0, 1]."""

    def round_trip(self, images: Tensor) -> Tensor:
        """The images after the tokenizer: the best that a model can draw with its tokens."""
        return self.decode(self.encode(images))

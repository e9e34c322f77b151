"""The sizes that a model draws at once: its own, and where its decoder enlarges, smaller ones."""

from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.vqgan import VQGAN, reduced

Size = tuple[int, int]  # width, height


class Scales:
    """The tokenizer by the size of a picture, for a grid of ``rows`` and ``columns``."""

    def __init__(self, tokenizer: Tokenizer, rows: int, columns: int) -> None:
        small = reduced(tokenizer) if isinstance(tokenizer, VQGAN) else tokenizer
        # The one with the largest window first.
        self._tokenizers = [tokenizer] if small is tokenizer else [tokenizer, small]
        self.sizes = tuple((columns * one.patch, rows * one.patch) for one in self._tokenizers)

    def of(self, size: Size) -> Tokenizer:
        """That with the largest window that is no larger than a picture of ``size``, or with the
        smallest there is."""
        for tokenizer, window in zip(self._tokenizers, self.sizes, strict=True):
            if size[0] >= window[0] and size[1] >= window[1]:
                return tokenizer
        return self._tokenizers[-1]

    def times(self, size: Size) -> int:
        """How many times as large a picture of ``size`` is drawn as its tokenizer reads it."""
        return self.of(size).patch // self._tokenizers[-1].patch

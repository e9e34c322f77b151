"""The seam between the frames of a clip and its tokens."""

from abc import abstractmethod

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.tokenizers.base import Tokenizer


class ClipTokenizer(Tokenizer):
    """A tokenizer of clips, and of pictures, each of which is a clip of one frame.

    The first slot is one frame, and each further one stands for ``slot`` frames. What is decoded of
    a slot depends on its own tokens and on those of the slot before it alone: slot by slot or all
    at once, the frames are the same to the bit.
    """

    @property
    @abstractmethod
    def slot(self) -> int:
        """Frames that a slot after the first stands for."""

    @abstractmethod
    def encode_clips(self, frames: Tensor) -> Tensor:
        """The tokens (batch, slots, rows, columns) of frames (batch, frames, 3, height, width) in
        [0, 1]; ConfigError unless there is one frame and whole slots after it."""

    @abstractmethod
    def decode_slot(self, before: Tensor, tokens: Tensor) -> Tensor:
        """The frames (batch, slot, 3, height, width) of a slot with ``tokens`` (batch, rows,
        columns) after one with the tokens ``before``."""

    def decode_clips(self, tokens: Tensor) -> Tensor:
        """The frames (batch, frames, 3, height, width) of (batch, slots, rows, columns) tokens."""
        first = self.decode(tokens[:, 0]).unsqueeze(1)
        pairs = zip(tokens.unbind(1), tokens.unbind(1)[1:], strict=False)
        return torch.cat([first, *(self.decode_slot(*pair) for pair in pairs)], 1)

    def frames(self, slots: int) -> int:
        """How many frames so many slots stand for."""
        return 1 + self.slot * (slots - 1)

    def slots(self, frames: int) -> int:
        """How many slots stand for so many frames; ConfigError if they are not whole."""
        if frames < 1 or (frames - 1) % self.slot:
            raise ConfigError(f"{frames} frames: give 1 and a multiple of {self.slot} more")
        return 1 + (frames - 1) // self.slot

"""What aMUSEd and Meissonic have in common as backbones: a network behind CLIP, told how large the
picture is. Their grids are flat: rows and columns, as many of each.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from unmask.models.attention import attention_backend
from unmask.models.base import Condition, ImageBackbone
from unmask.models.clip import encode_text
from unmask.models.compressed import CompressedGrid
from unmask.models.eight_bits import use_eight_bits
from unmask.models.uvit import HeadedAttention
from unmask.sampling.backbone import Pass, RowTensors

if TYPE_CHECKING:
    # It comes with an extra, and takes seconds to import.
    from transformers import CLIPTextModelWithProjection

# Micro-conditions: what the picture is told to be, beside its size.
CROP = (0.0, 0.0)
AESTHETIC_SCORE = 6.0  # a high one


class ClipNetwork(nn.Module, ABC):
    """A network that reads CLIP's text, with its published tensor names."""

    codebook_size: int
    compressed: CompressedGrid

    @property
    def rows_per_pass(self) -> int | None:
        """See ``ImageBackbone``."""
        return 1

    @abstractmethod
    def encode(self, text: Tensor, pooled: Tensor, micro: Tensor) -> RowTensors:
        """From CLIP's states (rows, length, width), its pooled text (rows, projection) and the
        micro-conditions (rows, 5)."""

    @abstractmethod
    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool = False,
        attention_rows: Tensor | None = None,
    ) -> Pass:
        """See ``ImageBackbone.full_pass``. Tokens of one cell share their attention."""

    @abstractmethod
    def local(
        self,
        tokens: Tensor,
        places: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        """See ``ImageBackbone.local_pass``."""


class ClipBackbone(ImageBackbone):
    """The network behind CLIP. ``patch`` is that of the tokenizer, in pixels."""

    condition_kind = "text"
    gives_attention = True
    has_memory = True

    def __init__(
        self,
        transformer: ClipNetwork,
        text_encoder: "CLIPTextModelWithProjection",
        mask_id: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self.mask_id, self.codebook_size = mask_id, transformer.codebook_size
        self.grid = (transformer.compressed.side, transformer.compressed.side)
        self.patch = patch

    @property
    def rows_per_pass(self) -> int | None:
        """As the network's."""
        return self.transformer.rows_per_pass

    def layer_place_count(self, places: Tensor) -> int:
        """The cells of the compressed grid that hold them."""
        return self.transformer.compressed.cells_of(places[None]).cells.shape[1]

    def use_attention(self, name: str) -> None:
        """Choose the attention backend of the network by name; CLIP's is its own."""
        backend = attention_backend(name)
        for module in self.transformer.modules():
            if isinstance(module, HeadedAttention):
                module.backend = backend

    def use_eight_bits(self) -> None:
        """See ``ImageBackbone``; CLIP stays as it is: it runs once a request, and what it says
        reaches every step."""
        use_eight_bits(self.transformer)

    def encode(self, condition: Condition) -> RowTensors:
        """What the network computes from CLIP's text and the micro-conditions alone."""
        text, pooled = encode_text(self.text_encoder, condition.ids)
        rows, columns = self.grid
        sizes = (columns * self.patch, rows * self.patch, *CROP, AESTHETIC_SCORE)
        micro = text.new_tensor(sizes).expand(len(text), -1)  # (rows, 5)
        return self.transformer.encode(text, pooled, micro)

    def full_pass(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool,
        attention_rows: Tensor | None,
    ) -> Pass:
        """See ``ImageBackbone``."""
        return self.transformer.full(tokens, prefix, steps_left, remember, attention_rows)

    def local_pass(
        self,
        tokens: Tensor,
        places: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        """See ``ImageBackbone``."""
        return self.transformer.local(tokens, places, prefix, memory, steps_left)

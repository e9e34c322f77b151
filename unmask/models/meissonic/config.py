"""The published configuration of Meissonic's and Monetico's network."""

from dataclasses import dataclass
from typing import Literal

from unmask.published import check_sizes


@dataclass(frozen=True)
class MeissonicConfig:
    """The fields of ``transformer/config.json`` that matter; a literal is what can be computed.

    ``downsample`` and ``upsample`` (Meissonic): the blocks run on a grid compressed by two.
    ``sample_size`` is the side of the flat grid in tokens; the published files leave it out.
    """

    num_layers: int
    num_single_layers: int
    attention_head_dim: int
    num_attention_heads: int
    joint_attention_dim: int
    pooled_projection_dim: int
    axes_dims_rope: tuple[int, int, int]
    vocab_size: int
    codebook_size: int
    downsample: bool
    upsample: bool
    sample_size: int | None = None
    guidance_embeds: Literal[False] = False
    patch_size: Literal[1] = 1

    def __post_init__(self) -> None:
        check_sizes(self)
        for layers in ("num_layers", "num_single_layers"):
            if getattr(self, layers) > 1000:
                raise ValueError(f"{layers}: {getattr(self, layers)}; give 1 to 1000")
        if self.pooled_projection_dim != self.width:
            raise ValueError(
                f"pooled_projection_dim: {self.pooled_projection_dim}, expected "
                f"num_attention_heads x attention_head_dim ({self.width})"
            )
        if sum(self.axes_dims_rope) != self.attention_head_dim or any(
            width % 2 for width in self.axes_dims_rope
        ):
            raise ValueError(
                f"axes_dims_rope: {list(self.axes_dims_rope)} must be even and sum to "
                f"attention_head_dim ({self.attention_head_dim})"
            )
        if self.downsample != self.upsample:
            raise ValueError("downsample and upsample: give both or neither")
        if self.side % self.compression:
            raise ValueError(f"sample_size: {self.side} must be even to be compressed")
        if self.vocab_size <= self.codebook_size:
            raise ValueError(
                f"vocab_size: {self.vocab_size} leaves no mask token after the codebook "
                f"({self.codebook_size})"
            )

    @property
    def width(self) -> int:
        """Features of a token within the blocks."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def compression(self) -> int:
        """How many tokens a cell of the blocks' grid has along a side."""
        return 2 if self.downsample else 1

    @property
    def side(self) -> int:
        """The tokens of the grid along a side: Meissonic draws 1024 pixels, Monetico 512."""
        return self.sample_size or (64 if self.downsample else 32)

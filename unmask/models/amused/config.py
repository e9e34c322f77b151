"""The published configuration of aMUSEd's network."""

from dataclasses import dataclass
from typing import Literal

from unmask.models.uvit import MICRO_CONDITIONS
from unmask.published import check_sizes


@dataclass(frozen=True)
class AmusedConfig:
    """The fields of ``transformer/config.json`` that matter; a literal is what can be computed.

    The grid is flat, ``sample_size`` tokens along a side. ``downsample`` and ``upsample``
    (aMUSEd-512): the transformer runs on a grid compressed by two.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    in_channels: int
    block_out_channels: int
    block_num_heads: int
    num_res_blocks: int
    encoder_hidden_size: int
    cond_embed_dim: int
    micro_cond_encode_dim: int
    micro_cond_embed_dim: int
    vocab_size: int
    codebook_size: int
    sample_size: int
    downsample: bool
    upsample: bool
    layer_norm_eps: float = 1e-6
    ln_elementwise_affine: Literal[True] = True
    use_bias: Literal[False] = False

    def __post_init__(self) -> None:
        check_sizes(self)
        for layers in ("num_hidden_layers", "num_res_blocks"):
            if getattr(self, layers) > 1000:
                raise ValueError(f"{layers}: {getattr(self, layers)}; give 1 to 1000")
        for width, heads in (
            ("hidden_size", "num_attention_heads"),
            ("block_out_channels", "block_num_heads"),
        ):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f"{width} {getattr(self, width)} must be a multiple of {heads} "
                    f"({getattr(self, heads)})"
                )
        if self.downsample != self.upsample:
            raise ValueError("downsample and upsample: give both or neither")
        if self.downsample and self.sample_size % 2:
            raise ValueError(f"sample_size: {self.sample_size} must be even to be compressed")
        if self.vocab_size <= self.codebook_size:
            raise ValueError(
                f"vocab_size: {self.vocab_size} leaves no mask token behind the codebook "
                f"({self.codebook_size})"
            )
        if self.micro_cond_embed_dim != MICRO_CONDITIONS * self.micro_cond_encode_dim:
            raise ValueError(
                f"micro_cond_embed_dim: {self.micro_cond_embed_dim}, expected "
                f"{MICRO_CONDITIONS} x micro_cond_encode_dim ({self.micro_cond_encode_dim})"
            )

    @property
    def compression(self) -> int:
        """How many tokens a cell of the transformer's grid has along a side."""
        return 2 if self.downsample else 1

"""The VQ tokenizer of aMUSEd and Meissonic, in the layout that diffusers publishes.

Written here, though diffusers has it: its aMUSEd is deprecated there, and may be gone any day.
Facts: diffusers' VQModel (Apache-2.0).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.checkpoint import load_module, weights_file
from unmask.errors import ConfigError
from unmask.published import check_sizes, read_published
from unmask.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class DiffusersVQConfig:
    """The fields of ``vqvae/config.json`` that matter; channels are listed from the pixels inward.

    A literal is what can be computed here.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    latent_channels: int
    num_vq_embeddings: int
    norm_num_groups: int
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...]
    up_block_types: tuple[Literal["UpDecoderBlock2D"], ...]
    mid_block_add_attention: Literal[False]
    lookup_from_codebook: Literal[True]
    vq_embed_dim: int | None = None
    act_fn: Literal["silu"] = "silu"
    norm_type: Literal["group"] = "group"
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3

    def __post_init__(self) -> None:
        check_sizes(self)
        stages = len(self.block_out_channels)
        if not stages == len(self.down_block_types) == len(self.up_block_types) <= 16 or not stages:
            raise ValueError(
                f"{stages} block_out_channels, {len(self.down_block_types)} down_block_types and "
                f"{len(self.up_block_types)} up_block_types; give 1 to 16, as many of each"
            )
        if self.layers_per_block > 64:
            raise ValueError(f"layers_per_block: {self.layers_per_block}; give 1 to 64")
        for channels in self.block_out_channels:
            if channels % self.norm_num_groups:
                raise ValueError(
                    f"block_out_channels: {channels} is no multiple of norm_num_groups "
                    f"({self.norm_num_groups})"
                )


class _Residual(nn.Module):
    def __init__(self, source: int, target: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, source, eps=1e-6)
        self.conv1 = nn.Conv2d(source, target, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, target, eps=1e-6)
        self.conv2 = nn.Conv2d(target, target, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(source, target, 1) if source != target else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        made: Tensor = self.conv2(F.silu(self.norm2(hidden))) + self.conv_shortcut(x)
        return made


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # Only at the right and at the bottom, so each output stands on whole pixels.
        made: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return made


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return made


class _Stage(nn.Module):
    """Residual blocks at one resolution, then a way to the next if there is one."""

    def __init__(
        self,
        source: int,
        target: int,
        blocks: int,
        groups: int,
        way: Literal["downsamplers", "upsamplers"] | None = None,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            _Residual(target if i else source, target, groups) for i in range(blocks)
        )
        self.downsamplers = nn.ModuleList([_Downsample(target)] if way == "downsamplers" else [])
        self.upsamplers = nn.ModuleList([_Upsample(target)] if way == "upsamplers" else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = layer(x)
        return x


class _Encoder(nn.Module):
    def __init__(self, config: DiffusersVQConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels, config.norm_num_groups
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Stage(
                channels[max(i - 1, 0)],
                channels[i],
                config.layers_per_block,
                groups,
                None if i == last else "downsamplers",
            )
            for i in range(len(channels))
        )
        self.mid_block = _Stage(channels[-1], channels[-1], 2, groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(channels[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in self.down_blocks:
            x = stage(x)
        made: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return made


class _Decoder(nn.Module):
    def __init__(self, config: DiffusersVQConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels[::-1], config.norm_num_groups
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = _Stage(channels[0], channels[0], 2, groups)
        self.up_blocks = nn.ModuleList(
            _Stage(
                channels[max(i - 1, 0)],
                channels[i],
                config.layers_per_block + 1,
                groups,
                None if i == last else "upsamplers",
            )
            for i in range(len(channels))
        )
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x.to(self.conv_in.weight.dtype)))
        for stage in self.up_blocks:
            x = stage(x)
        x = x.to(self.conv_out.weight.dtype)
        made: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return made

    def use_bf16(self) -> None:
        """Compute in bf16, but for the last layer: the pixels that it gives are not rounded."""
        self.to(torch.bfloat16)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        self.conv_norm_out.float()
        self.conv_out.float()


class _Codebook(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)


class DiffusersVQ(Tokenizer):
    """Half as many rows and columns at each stage but the first.

    Tokens are always found in fp32. So are pixels, as fp16 overflows in the decoder; in bf16, which
    does not, they may be made five times as fast, a grey level or so off (``use_bf16``).
    """

    def __init__(self, config: DiffusersVQConfig) -> None:
        super().__init__()
        self.config = config
        latent, width = config.latent_channels, config.vq_embed_dim or config.latent_channels
        self.encoder = _Encoder(config)
        self.quant_conv = nn.Conv2d(latent, width, 1)
        self.quantize = _Codebook(config.num_vq_embeddings, width)
        self.post_quant_conv = nn.Conv2d(width, latent, 1)
        self.decoder = _Decoder(config)

    @classmethod
    def load(cls, folder: Path, precision: str = "fp32") -> "DiffusersVQ":
        """Read a published ``vqvae/`` on the CPU, from the file that suits ``precision``, into
        fp32 (the decoder in bf16, if that is asked for); ConfigError names what is missing,
        malformed, or cannot be computed."""
        settings = read_published(DiffusersVQConfig, folder / "config.json")
        weights = weights_file(folder, "diffusion_pytorch_model", precision)
        model = load_module(lambda: cls(settings), weights, torch.float32)
        if precision in ("bf16", "int8"):
            model.decoder.use_bf16()
        return model

    @property
    def codebook_size(self) -> int:
        return self.config.num_vq_embeddings

    @property
    def patch(self) -> int:
        return int(2 ** (len(self.config.block_out_channels) - 1))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ConfigError(f"image of {width}x{height}: sides must be multiples of {self.patch}")
        latents = self.quant_conv(self.encoder(images)).permute(0, 2, 3, 1)
        distances = torch.cdist(latents.flatten(0, 2), self.quantize.embedding.weight)
        return distances.argmin(-1).view(latents.shape[:-1])

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        latents = self.quantize.embedding(tokens).permute(0, 3, 1, 2).contiguous()
        images: Tensor = self.decoder(self.post_quant_conv(latents))
        return images.clamp(0, 1)

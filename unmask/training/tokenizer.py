"""Training of the image tokenizer."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from unmask.config import check_bounds
from unmask.errors import ConfigError
from unmask.scenes.data import DataConfig
from unmask.scenes.seeds import HELD_OUT
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.folder import load_tokenizer, save_tokenizer
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig
from unmask.training.loop import LoopConfig
from unmask.training.losses import MOST_WEIGHT, gradient_difference, psnr
from unmask.training.perceptual import Perceptual
from unmask.training.sources import Source, open_source


@dataclass(frozen=True)
class TokenizerLoss:
    """Weights of the terms; ``perceptual`` 0 leaves EfficientNet out altogether."""

    absolute: float = 1.0
    square: float = 2.0
    gradient: float = 0.5
    perceptual: float = 0.0

    def __post_init__(self) -> None:
        weights = {field.name: (0, MOST_WEIGHT) for field in fields(self)}
        check_bounds(self, **weights)

    def check_no_perceptual(self) -> None:
        """ValueError where the perceptual term is asked for and there is none."""
        if self.perceptual:
            raise ValueError(f"loss.perceptual: {self.perceptual}; it is for pictures, give 0")

    def reconstruction(self, drawn: Tensor, truth: Tensor) -> Tensor:
        """The terms that compare pictures (batch, 3, height, width) pixel by pixel."""
        loss = self.absolute * F.l1_loss(drawn, truth) + self.square * F.mse_loss(drawn, truth)
        return loss + self.gradient * gradient_difference(drawn, truth)


@dataclass(frozen=True)
class TokenizerTraining:
    """A configuration file of ``unmask train tokenizer``.

    ``rasters`` are the ``data.scenes.snap`` that batches take in turn; its own alone if empty.
    """

    model: VQGANConfig
    data: DataConfig
    loop: LoopConfig
    loss: TokenizerLoss = field(default_factory=TokenizerLoss)
    rasters: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        size = self.data.scenes.size
        for raster in self.rasters:
            if raster < 1 or size % raster:
                raise ValueError(f"rasters: {raster} does not divide data.scenes.size, {size}")


class TokenizerTask:
    """Round trips of pictures, seen as a task of the loop.

    ``start`` is the folder of a tokenizer whose decoder alone is to be trained on: the tokens stay
    what they are, and so does what a transformer has learned of them.
    """

    def __init__(self, config: TokenizerTraining, device: str, start: Path | None = None) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.loop.seed)
        self.tokenizer = tokenizer = VQGAN(config.model)
        self.frozen = start is not None
        self.smaller: VQGAN | None = None  # what is enlarged, to compare with
        size = config.data.scenes.size
        if size % tokenizer.patch:
            raise ConfigError(
                f"data.scenes.size: {size} is no multiple of the patch {tokenizer.patch}"
            )
        if start is not None:
            found = load_tokenizer(start)
            _continue(tokenizer, found, start)
            if config.model.enlargement > found.config.enlargement:
                self.smaller = found.to(device)
            tokenizer.encoder.requires_grad_(False)
            tokenizer.quantizer.requires_grad_(False)
        self.module: nn.Module = convert_conv2d_weight_memory_format(tokenizer, torch.channels_last)
        self.perceptual = Perceptual().to(device) if config.loss.perceptual else None
        self.sources = [
            open_source(replace(config.data, scenes=scenes), config.loop.seed, device)
            for scenes in (
                replace(config.data.scenes, snap=snap)
                for snap in config.rasters or (config.data.scenes.snap,)
            )
        ]
        self.held_out = open_source(config.data, HELD_OUT, device)

    def prepare(self, index: int) -> Any:
        return self._source(index).compose(self.config.loop.batch, index)

    def _source(self, index: int) -> Source:
        return self.sources[index % len(self.sources)]

    def loss(
        self, module: nn.Module, index: int, prepared: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        images = self._source(index).draw(prepared).images
        images = images.contiguous(memory_format=torch.channels_last)
        if self.frozen:
            self.tokenizer.quantizer.eval()  # in training mode a VQ would move its codes
        decoded, indices, quantizer_loss = module(images)
        decoded, weights = decoded.float(), self.config.loss
        loss = weights.reconstruction(decoded, images) + quantizer_loss
        if self.perceptual is not None:
            loss = loss + weights.perceptual * self.perceptual(decoded, images)
        figures = {"psnr": psnr(decoded.detach(), images).mean()}
        figures["codes_in_batch"] = torch.tensor(float(indices.unique().numel()))
        return loss, figures

    def sheet(self, average: nn.Module) -> Image.Image:
        assert isinstance(average, VQGAN)
        images = self.held_out.batch(24, 0).images
        pairs = torch.stack([images.cpu(), average.round_trip(images).cpu()], 1).flatten(0, 1)
        return contact_sheet(pairs, columns=8, enlarge=2)

    def measure(self, average: nn.Module) -> dict[str, float]:
        """PSNR and codebook use over 2,048 held-out pictures; of a decoder that enlarges also the
        mean error of gradients, and both of its start's pictures enlarged by bicubic sampling."""
        assert isinstance(average, VQGAN)
        used: set[int] = set()
        found: dict[str, list[Tensor]] = {"psnr": []}
        for index in range(16):
            images = self.held_out.batch(128, index).images
            tokens = average.encode(images)
            used.update(tokens.flatten().tolist())
            drawn = average.decode(tokens)
            found["psnr"].append(psnr(drawn, images))
            if self.smaller is not None:
                small = self.smaller.decode(tokens)
                sampled = F.interpolate(small, images.shape[-2:], mode="bicubic").clamp(0, 1)
                for name, tensor in (
                    ("gradient_error", gradient_difference(drawn, images)),
                    ("psnr_bicubic", psnr(sampled, images)),
                    ("gradient_error_bicubic", gradient_difference(sampled, images)),
                ):
                    found.setdefault(name, []).append(tensor.flatten())
        figures = {name: float(torch.cat(tensors).mean()) for name, tensors in found.items()}
        return figures | {"codebook_use": len(used) / average.codebook_size}

    def save(self, average: nn.Module, folder: Path) -> None:
        assert isinstance(average, VQGAN)
        save_tokenizer(average, folder)


def _continue(tokenizer: VQGAN, found: VQGAN, start: Path) -> None:
    """Give a tokenizer the weights of the one found at ``start``. Its decoder may have more
    resolutions, at the pixels' end; ConfigError if it is another tokenizer otherwise."""
    wanted, channels = tokenizer.config, found.config.decoder_channels
    same = replace(found.config, decoder_channels=wanted.decoder_channels) == wanted
    if not same or wanted.decoder_channels[-len(channels) :] != channels:
        raise ConfigError(f"{start}: another tokenizer than [model] says: {found.config}")
    ours, theirs = tokenizer.state_dict(), found.state_dict()
    if found.config != wanted:
        # The layers that draw the pixels stand behind others now, and begin anew.
        theirs = {
            name: tensor
            for name, tensor in theirs.items()
            if name in ours and ours[name].shape == tensor.shape
        }
    tokenizer.load_state_dict(ours | theirs)

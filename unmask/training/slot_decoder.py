"""Training of the slot decoder on rendered clips; the picture tokenizer stays as it is."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from unmask.scenes.data import DataConfig
from unmask.scenes.moving.truth import SLOT
from unmask.scenes.seeds import HELD_OUT
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.folder import load_tokenizer, save_slot_decoder
from unmask.tokenizers.key_frames import (
    KeyFrameTokenizer,
    SlotDecoder,
    SlotDecoderConfig,
    slot_decoder_for,
)
from unmask.training.loop import LoopConfig, Unprepared
from unmask.training.losses import psnr
from unmask.training.moving import SLOTS, check_moving, open_moving, psnr_by_motion, slot_frames
from unmask.training.tokenizer import TokenizerLoss


@dataclass(frozen=True)
class SlotDecoderTraining:
    """A configuration file of ``unmask train slots``."""

    data: DataConfig
    loop: LoopConfig
    model: SlotDecoderConfig = field(default_factory=SlotDecoderConfig)
    loss: TokenizerLoss = field(default_factory=TokenizerLoss)
    slots: int = SLOTS

    def __post_init__(self) -> None:
        if self.model.slot != SLOT:
            raise ValueError(f"model.slot: {self.model.slot}; clips are rendered with {SLOT}")
        self.loss.check_no_perceptual()
        check_moving(self.data, self.slots)


class SlotDecoderTask(Unprepared):
    """Drawing the frames of a slot, seen as a task of the loop."""

    def __init__(self, config: SlotDecoderTraining, tokenizer: Path, device: str) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.pictures = load_tokenizer(tokenizer, device)
        decoder = slot_decoder_for(self.pictures, config.model)
        self.module: nn.Module = convert_conv2d_weight_memory_format(decoder, torch.channels_last)
        self.source, self.held_out = (
            open_moving(config.data, config.slots, seed, device)
            for seed in (config.loop.seed, HELD_OUT)
        )

    def loss(
        self, module: nn.Module, index: int, prepared: None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        frames, _ = slot_frames(self.source, self.config.loop.batch, index)
        drawn, truth = self._drawn(module, frames).flatten(0, 1), frames[:, 1:].flatten(0, 1)
        loss = self.config.loss.reconstruction(drawn, truth)
        return loss, {"psnr": psnr(drawn.detach(), truth).mean()}

    def _drawn(self, module: nn.Module, frames: Tensor) -> Tensor:
        with torch.no_grad():
            before, after = (self.pictures.encode(frames[:, end]) for end in (0, -1))
        tokenizer = KeyFrameTokenizer(self.pictures, module)  # type: ignore[arg-type]
        return tokenizer.between(before, after)

    def sheet(self, average: nn.Module) -> Image.Image:
        """Held-out slots, each row a slot: its frames as rendered, and as drawn."""
        frames, _ = slot_frames(self.held_out, 16, 1)
        with torch.no_grad():
            drawn = self._drawn(average, frames).clamp(0, 1)
        both = torch.cat([frames, frames[:, :1], drawn], 1).flatten(0, 1)
        return contact_sheet(both, columns=2 * SLOT + 2, enlarge=2)

    def measure(self, average: nn.Module) -> dict[str, float]:
        """PSNR of whole slots on held-out ones: in all, by motion, and of a blend of the two key
        frames as a floor."""
        figures = psnr_by_motion(self.held_out, lambda frames: self._drawn(average, frames))

        def blend(frames: Tensor) -> Tensor:
            share = (torch.arange(1, SLOT + 1) / SLOT).view(-1, 1, 1, 1).to(frames.device)
            before, after = (self.pictures.round_trip(frames[:, end]) for end in (0, -1))
            return torch.lerp(before.unsqueeze(1), after.unsqueeze(1), share)

        return figures | {"psnr_of_blend": psnr_by_motion(self.held_out, blend)["psnr"]}

    def save(self, average: nn.Module, folder: Path) -> None:
        assert isinstance(average, SlotDecoder)
        save_slot_decoder(average, folder)

"""Training of the causal clip tokenizer, a peer of key frames, on the same rendered clips."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from unmask.checkpoint import save_folder
from unmask.config import check_bounds
from unmask.scenes.data import DataConfig
from unmask.scenes.moving.truth import SLOT
from unmask.scenes.seeds import HELD_OUT
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.causal import CausalConfig, CausalTokenizer
from unmask.training.loop import LoopConfig, Unprepared
from unmask.training.losses import psnr
from unmask.training.moving import SLOTS, check_moving, open_moving, psnr_by_motion, slot_frames
from unmask.training.tokenizer import TokenizerLoss


@dataclass(frozen=True)
class ClipTokenizerTraining:
    """A configuration file of ``unmask train clip-tokenizer``; clips have ``slots`` slots behind
    the first frame."""

    model: CausalConfig
    data: DataConfig
    loop: LoopConfig
    loss: TokenizerLoss = field(default_factory=TokenizerLoss)
    slots: int = 1

    def __post_init__(self) -> None:
        check_bounds(self, slots=(1, SLOTS))
        self.loss.check_no_perceptual()
        check_moving(self.data, SLOTS)


class ClipTokenizerTask(Unprepared):
    """Round trips of clips, seen as a task of the loop."""

    def __init__(self, config: ClipTokenizerTraining, device: str) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.module: nn.Module = CausalTokenizer(config.model)
        self.source, self.held_out = (
            open_moving(config.data, SLOTS, seed, device) for seed in (config.loop.seed, HELD_OUT)
        )

    def loss(
        self, module: nn.Module, index: int, prepared: None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        frames, _ = slot_frames(self.source, self.config.loop.batch, index, self.config.slots)
        decoded, indices, quantizer_loss = module(frames)
        drawn, truth = decoded.float().flatten(0, 1), frames.flatten(0, 1)
        loss = self.config.loss.reconstruction(drawn, truth) + quantizer_loss
        figures = {"psnr": psnr(drawn.detach(), truth).mean()}
        figures["codes_in_batch"] = torch.tensor(float(indices.unique().numel()))
        return loss, figures

    def sheet(self, average: nn.Module) -> Image.Image:
        """Held-out slots, each row a slot: its frames as rendered, and after the round trip."""
        assert isinstance(average, CausalTokenizer)
        frames, _ = slot_frames(self.held_out, 16, 1)
        drawn = average.decode_clips(average.encode_clips(frames))
        return contact_sheet(torch.cat([frames, drawn], 1).flatten(0, 1), 2 * SLOT + 2, enlarge=2)

    def measure(self, average: nn.Module) -> dict[str, float]:
        """PSNR of whole slots on the held-out slots of the slot decoder's table."""
        assert isinstance(average, CausalTokenizer)
        return psnr_by_motion(
            self.held_out, lambda frames: average.decode_clips(average.encode_clips(frames))[:, 1:]
        )

    def save(self, average: nn.Module, folder: Path) -> None:
        assert isinstance(average, CausalTokenizer)
        save_folder(average, average.config, folder)

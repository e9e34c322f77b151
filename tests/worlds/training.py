"""What trainers need at least."""

from pathlib import Path

import torch

from unmask.tokenizers.folder import save_tokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig
from unmask.training.loop import LoopConfig


def few_steps(steps: int) -> LoopConfig:
    """A loop of so many steps with two samples each, an even number of them."""
    return LoopConfig(
        steps=steps,
        batch=2,
        learning_rate=1e-3,
        precision="fp32",
        warmup=1,
        log_every=steps // 2,
        checkpoint_every=2,
        sheet_every=steps,
    )


def write_local_tokenizer(folder: Path) -> Path:
    """An untrained tokenizer of patches of 8 pixels, each by itself, and 16 codes."""
    torch.manual_seed(0)
    quantizer = QuantizerConfig("fsq", levels=(4, 4))
    save_tokenizer(VQGAN(VQGANConfig((8, 8, 8), (8, 8, 8), 0, quantizer, local=True)), folder)
    return folder

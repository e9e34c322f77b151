"""Tokenizers as folders of ``config.json`` and ``model.safetensors``."""

from pathlib import Path

from unmask import config
from unmask.checkpoint import load_weights, save_folder
from unmask.tokenizers.key_frames import SlotDecoder, SlotDecoderConfig, slot_decoder_for
from unmask.tokenizers.vqgan import VQGAN, Reduced, VQGANConfig, reduced


def save_tokenizer(tokenizer: VQGAN, folder: Path, half: bool = True) -> None:
    """Write a tokenizer, in fp16 unless ``half`` is false."""
    save_folder(tokenizer, tokenizer.config, folder, half)


def load_tokenizer(folder: Path, device: str = "cpu") -> VQGAN:
    """Read a tokenizer in fp32, ready to use; raises ConfigError naming the file at fault."""
    tokenizer = VQGAN(config.load(VQGANConfig, folder / "config.json"))
    load_weights(tokenizer, folder / "model.safetensors")
    return tokenizer.to(device).eval().requires_grad_(False)


def load_reduced(folder: Path, device: str = "cpu") -> VQGAN | Reduced:
    """The tokenizer in a folder as ``load_tokenizer`` reads it, at the size that its encoder
    reads."""
    return reduced(load_tokenizer(folder, device))


def save_slot_decoder(decoder: SlotDecoder, folder: Path, half: bool = True) -> None:
    """Write a slot decoder, in fp16 unless ``half`` is false."""
    save_folder(decoder, decoder.config, folder, half)


def load_slot_decoder(folder: Path, pictures: VQGAN, device: str = "cpu") -> SlotDecoder:
    """Read the slot decoder that goes with a picture tokenizer, in fp32, ready to use; raises
    ConfigError naming the file at fault."""
    decoder = slot_decoder_for(pictures, config.load(SlotDecoderConfig, folder / "config.json"))
    load_weights(decoder, folder / "model.safetensors")
    return decoder.to(device).eval().requires_grad_(False)

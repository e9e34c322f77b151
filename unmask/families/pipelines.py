"""What the folders of aMUSEd and Meissonic share: scheduler, VQ, CLIP, and where weights are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unmask.checkpoint import DTYPES, weights_file, weights_names
from unmask.devices import Precision
from unmask.errors import ConfigError
from unmask.models.clip import ClipCondition, load_text_encoder
from unmask.published import read_published
from unmask.tokenizers.diffusers_vq import DiffusersVQ

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

CONFIG = Path("transformer") / "config.json"
_STEM = "diffusion_pytorch_model"
_WEIGHTS = (("text_encoder", "model"), ("transformer", _STEM), ("vqvae", _STEM))


@dataclass(frozen=True)
class _SchedulerConfig:
    mask_token_id: int


class Sides(NamedTuple):
    """What stands around a network, and where its weights are."""

    tokenizer: DiffusersVQ
    condition: ClipCondition
    text_encoder: "CLIPTextModelWithProjection"
    mask_id: int
    weights: Path


def load_sides(
    folder: Path,
    precision: Precision,
    *,
    codebook_size: int,
    vocab_size: int,
    widths: dict[str, int],
) -> Sides:
    """Read all but the network, of whose configuration these are the sizes.

    ``widths`` are the fields, and their values, that must be CLIP's width and that of its pooled
    text. ConfigError names the file at fault.
    """
    scheduler = folder / "scheduler" / "scheduler_config.json"
    mask_id = read_published(_SchedulerConfig, scheduler).mask_token_id
    if not codebook_size <= mask_id < vocab_size:
        raise ConfigError(
            f"{scheduler}: mask_token_id is {mask_id}; expected one behind the codebook, "
            f"{codebook_size} to {vocab_size - 1}"
        )
    tokenizer = DiffusersVQ.load(folder / "vqvae", precision)
    condition = ClipCondition.load(folder / "tokenizer")
    text_encoder = load_text_encoder(folder / "text_encoder", DTYPES[precision], precision)
    text = text_encoder.config
    both = zip(widths.items(), (text.hidden_size, text.projection_dim), strict=True)
    for name, value, expected, whose in (
        ("codebook_size", codebook_size, tokenizer.codebook_size, "the tokenizer's"),
        *((name, value, own, "CLIP's") for (name, value), own in both),
    ):
        if value != expected:
            raise ConfigError(f"{folder / CONFIG}: {name} is {value}, but {whose} is {expected}")
    if condition.vocabulary > text.vocab_size:
        raise ConfigError(
            f"{folder / 'tokenizer'}: {condition.vocabulary} text tokens, "
            f"but CLIP embeds {text.vocab_size}"
        )
    weights = weights_file(folder / "transformer", _STEM, precision)
    return Sides(tokenizer, condition, text_encoder, mask_id, weights)


def published_options(guidance_scale: float) -> dict[str, object]:
    """The options that the folders' pipelines draw with."""
    return {
        "mask_schedule": "cosine",
        "temperature": 1.0,
        "choice_temperature": 2.0,
        "guidance_scale": guidance_scale,
        "uncage_blur": 2.0,
    }


def halton_preset(guidance_scale: float, steps: int) -> dict[str, object]:
    """The same in Halton's order, which goes with its own mask schedule."""
    options = {"scheduler": "halton", "steps": steps, "mask_schedule": "arccos"}
    return published_options(guidance_scale) | options


def files(precision: Precision) -> tuple[str, ...]:
    """The patterns of what is read."""
    return (
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/*.json",
        "tokenizer/merges.txt",
        *(f"{folder}/config.json" for folder, _ in _WEIGHTS),
        *(
            f"{folder}/{name}"
            for folder, stem in _WEIGHTS
            for name in weights_names(stem, precision == "fp16")
        ),
    )

"""Meissonic (1024 pixels) and Monetico (512), arXiv 2410.08261, as their authors publish them.

Meissonic's own script reads the original CLIP (laion/CLIP-ViT-H-14-laion2B-s32B-b79K) in place of
the one published beside the network; we read what is in the folder, where another can be put.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from unmask.checkpoint import built, variant
from unmask.devices import Precision
from unmask.errors import ConfigError
from unmask.families.base import DTYPES, Family, ModelCard, Parts
from unmask.models.clip import ClipCondition, load_text_encoder
from unmask.models.meissonic import MeissonicBackbone, MeissonicConfig, MeissonicTransformer
from unmask.published import read_published
from unmask.sampling.plan import PlanOptions
from unmask.sampling.schedulers import SCHEDULERS
from unmask.tokenizers.diffusers_vq import DiffusersVQ

_STEPS = 48
_WEIGHTS = (
    ("text_encoder", "model"),
    ("transformer", "diffusion_pytorch_model"),
    ("vqvae", "diffusion_pytorch_model"),
)


@dataclass(frozen=True)
class _SchedulerConfig:
    mask_token_id: int


def _recognises(folder: Path) -> bool:
    """By the fields of the network: the index names classes that other models have too."""
    try:
        settings = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and {"num_single_layers", "codebook_size"} <= settings.keys()


def _card(folder: Path, name: str) -> ModelCard:
    """The published defaults with each scheduler; Halton's goes with its own mask schedule."""
    settings = read_published(MeissonicConfig, folder / "transformer" / "config.json")
    presets = tuple(
        PlanOptions(
            steps=_STEPS,
            scheduler=scheduler,
            mask_schedule="arccos" if scheduler == "halton" else "cosine",
            temperature=1.0,
            choice_temperature=2.0,
            guidance_scale=9.0,
            uncage_weight=3.0,
            uncage_share=0.25,
            uncage_blur=2.0,
        )
        for scheduler in SCHEDULERS
    )
    kind = "Meissonic" if settings.downsample else "Monetico"
    return ModelCard(
        name=name,
        description=f"{kind}: a text-to-image model that reads the CLIP of its own folder",
        scheduler="confidence",
        presets=presets,
        steps=_STEPS,
    )


def _load(folder: Path, device: str, precision: Precision) -> Parts:
    dtype = DTYPES[precision]
    path = folder / "transformer" / "config.json"
    settings = read_published(MeissonicConfig, path)
    mask_id = _mask_id(folder / "scheduler" / "scheduler_config.json", settings)
    tokenizer = DiffusersVQ.load(folder / "vqvae", precision)
    condition = ClipCondition.load(folder / "tokenizer")
    text_encoder = load_text_encoder(folder / "text_encoder", dtype, precision)
    text = text_encoder.config
    for name, value, expected, whose in (
        ("codebook_size", settings.codebook_size, tokenizer.codebook_size, "the tokenizer's"),
        ("joint_attention_dim", settings.joint_attention_dim, text.hidden_size, "CLIP's"),
        ("pooled_projection_dim", settings.pooled_projection_dim, text.projection_dim, "CLIP's"),
    ):
        if value != expected:
            raise ConfigError(f"{path}: {name} is {value}, but {whose} is {expected}")
    if condition.vocabulary > text.vocab_size:
        raise ConfigError(
            f"{folder / 'tokenizer'}: {condition.vocabulary} text tokens, "
            f"but CLIP embeds {text.vocab_size}"
        )
    weights = variant(folder / "transformer", "diffusion_pytorch_model", precision)
    transformer = built(lambda: MeissonicTransformer(settings), weights, dtype)
    backbone = MeissonicBackbone(transformer, text_encoder, mask_id, tokenizer.patch).eval()
    return Parts(tokenizer.to(device), backbone.to(device), condition)


def _mask_id(path: Path, settings: MeissonicConfig) -> int:
    mask_id = read_published(_SchedulerConfig, path).mask_token_id
    if not settings.codebook_size <= mask_id < settings.vocab_size:
        raise ConfigError(
            f"{path}: mask_token_id is {mask_id}; expected one behind the codebook, "
            f"{settings.codebook_size} to {settings.vocab_size - 1}"
        )
    return mask_id


def _files(precision: Precision) -> tuple[str, ...]:
    ending = "fp16.safetensors" if precision == "fp16" else "safetensors"
    return (
        "scheduler/scheduler_config.json",
        "tokenizer/*.json",
        "tokenizer/merges.txt",
        *(f"{folder}/config.json" for folder, _ in _WEIGHTS),
        *(f"{folder}/{stem}.{ending}" for folder, stem in _WEIGHTS),
    )


MEISSONIC = Family(
    name="meissonic",
    layout="transformer/config.json with num_single_layers and codebook_size",
    recognises=_recognises,
    card=_card,
    load=_load,
    files=_files,
)

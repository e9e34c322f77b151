"""aMUSEd-256 and -512 (arXiv 2401.01808), as diffusers publishes them."""

import json
from dataclasses import dataclass
from pathlib import Path

from unmask.checkpoint import built, variant
from unmask.devices import Precision
from unmask.errors import ConfigError
from unmask.families.base import DTYPES, Family, ModelCard, Parts
from unmask.models.amused import AmusedBackbone, AmusedConfig, AmusedTransformer
from unmask.models.clip import ClipCondition, load_text_encoder
from unmask.published import read_published
from unmask.sampling.plan import PlanOptions
from unmask.sampling.schedulers import SCHEDULERS
from unmask.tokenizers.diffusers_vq import DiffusersVQ

_CLASSES = ("AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline")
_WEIGHTS = (
    ("text_encoder", "model"),
    ("transformer", "diffusion_pytorch_model"),
    ("vqvae", "diffusion_pytorch_model"),
)


@dataclass(frozen=True)
class _SchedulerConfig:
    mask_token_id: int


def _recognises(folder: Path) -> bool:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("_class_name") in _CLASSES


def _card(folder: Path, name: str) -> ModelCard:
    """The published defaults with each scheduler; Halton's goes with its own mask schedule."""
    presets = tuple(
        PlanOptions(
            scheduler=scheduler,
            mask_schedule="arccos" if scheduler == "halton" else "cosine",
            temperature=1.0,
            choice_temperature=2.0,
            guidance_scale=10.0,
        )
        for scheduler in SCHEDULERS
    )
    return ModelCard(
        name=name,
        description="aMUSEd: a small, quick text-to-image model that reads CLIP",
        scheduler="confidence",
        presets=presets,
    )


def _load(folder: Path, device: str, precision: Precision) -> Parts:
    dtype = DTYPES[precision]
    path = folder / "transformer" / "config.json"
    settings = read_published(AmusedConfig, path)
    mask_id = _mask_id(folder / "scheduler" / "scheduler_config.json", settings)
    tokenizer = DiffusersVQ.load(folder / "vqvae", precision)
    condition = ClipCondition.load(folder / "tokenizer")
    text_encoder = load_text_encoder(folder / "text_encoder", dtype, precision)
    text = text_encoder.config
    for name, value, expected, whose in (
        ("codebook_size", settings.codebook_size, tokenizer.codebook_size, "the tokenizer's"),
        ("encoder_hidden_size", settings.encoder_hidden_size, text.hidden_size, "CLIP's"),
        ("cond_embed_dim", settings.cond_embed_dim, text.projection_dim, "CLIP's"),
    ):
        if value != expected:
            raise ConfigError(f"{path}: {name} is {value}, but {whose} is {expected}")
    if condition.vocabulary > text.vocab_size:
        raise ConfigError(
            f"{folder / 'tokenizer'}: {condition.vocabulary} text tokens, "
            f"but CLIP embeds {text.vocab_size}"
        )
    weights = variant(folder / "transformer", "diffusion_pytorch_model", precision)
    transformer = built(lambda: AmusedTransformer(settings), weights, dtype)
    backbone = AmusedBackbone(transformer, text_encoder, mask_id, tokenizer.patch).eval()
    return Parts(tokenizer.to(device), backbone.to(device), condition)


def _mask_id(path: Path, settings: AmusedConfig) -> int:
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
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/*.json",
        "tokenizer/merges.txt",
        *(f"{folder}/config.json" for folder, _ in _WEIGHTS),
        *(f"{folder}/{stem}.{ending}" for folder, stem in _WEIGHTS),
    )


AMUSED = Family(
    name="amused",
    layout="model_index.json of an AmusedPipeline",
    recognises=_recognises,
    card=_card,
    load=_load,
    files=_files,
)

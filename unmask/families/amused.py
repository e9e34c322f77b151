"""aMUSEd-256 and -512 (arXiv 2401.01808), as diffusers publishes them."""

import json
from pathlib import Path

from unmask.card import ModelCard
from unmask.checkpoint import DTYPES, load_module
from unmask.devices import Precision
from unmask.families.base import Family, Parts
from unmask.families.pipelines import CONFIG, files, halton_preset, load_sides, published_options
from unmask.models.amused import AmusedConfig, AmusedTransformer
from unmask.models.clip_backbone import ClipBackbone
from unmask.published import read_published

_CLASSES = ("AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline")
_GUIDANCE = 10.0
_STEPS = 12


def _recognises(folder: Path) -> bool:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("_class_name") in _CLASSES


def _card(folder: Path, name: str) -> ModelCard:
    return ModelCard(
        name=name,
        description="aMUSEd: a small, quick text-to-image model that reads CLIP",
        scheduler="confidence",
        presets=(halton_preset(_GUIDANCE, _STEPS),),
        defaults=published_options(_GUIDANCE),
        steps=_STEPS,
    )


def _load(folder: Path, device: str, precision: Precision) -> Parts:
    settings = read_published(AmusedConfig, folder / CONFIG)
    sides = load_sides(
        folder,
        precision,
        codebook_size=settings.codebook_size,
        vocab_size=settings.vocab_size,
        widths={
            "encoder_hidden_size": settings.encoder_hidden_size,
            "cond_embed_dim": settings.cond_embed_dim,
        },
    )
    transformer = load_module(lambda: AmusedTransformer(settings), sides.weights, DTYPES[precision])
    backbone = ClipBackbone(
        transformer, sides.text_encoder, sides.mask_id, sides.tokenizer.patch
    ).eval()
    return Parts(sides.tokenizer.to(device), backbone.to(device), sides.condition)


AMUSED = Family(
    name="amused",
    layout="model_index.json of an AmusedPipeline",
    recognises=_recognises,
    card=_card,
    load=_load,
    files=files,
)

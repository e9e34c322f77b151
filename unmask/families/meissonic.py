"""Meissonic (1024 pixels) and Monetico (512), arXiv 2410.08261, as their authors publish them.

Meissonic's own script reads the original CLIP (laion/CLIP-ViT-H-14-laion2B-s32B-b79K) in place of
the one published beside the network; we read what is in the folder, where another can be put.
"""

import json
from pathlib import Path

from unmask.card import ModelCard
from unmask.checkpoint import DTYPES, load_module
from unmask.devices import Precision
from unmask.families.base import Family, Parts
from unmask.families.pipelines import CONFIG, files, halton_preset, load_sides, published_options
from unmask.models.clip_backbone import ClipBackbone
from unmask.models.meissonic import MeissonicConfig, MeissonicTransformer
from unmask.published import read_published

_GUIDANCE = 9.0
_STEPS = 48


def _recognises(folder: Path) -> bool:
    """By the fields of the network: the index names classes that other models have too."""
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and {"num_single_layers", "codebook_size"} <= settings.keys()


def _card(folder: Path, name: str) -> ModelCard:
    settings = read_published(MeissonicConfig, folder / CONFIG)
    kind = "Meissonic" if settings.downsample else "Monetico"
    return ModelCard(
        name=name,
        description=f"{kind}: a text-to-image model that reads the CLIP of its own folder",
        scheduler="confidence",
        presets=(halton_preset(_GUIDANCE, _STEPS),),
        defaults=published_options(_GUIDANCE),
        steps=_STEPS,
    )


def _load(folder: Path, device: str, precision: Precision) -> Parts:
    settings = read_published(MeissonicConfig, folder / CONFIG)
    sides = load_sides(
        folder,
        precision,
        codebook_size=settings.codebook_size,
        vocab_size=settings.vocab_size,
        widths={
            "joint_attention_dim": settings.joint_attention_dim,
            "pooled_projection_dim": settings.pooled_projection_dim,
        },
    )
    transformer = load_module(
        lambda: MeissonicTransformer(settings), sides.weights, DTYPES[precision]
    )
    backbone = ClipBackbone(
        transformer, sides.text_encoder, sides.mask_id, sides.tokenizer.patch
    ).eval()
    return Parts(sides.tokenizer.to(device), backbone.to(device), sides.condition)


MEISSONIC = Family(
    name="meissonic",
    layout="transformer/config.json with num_single_layers and codebook_size",
    recognises=_recognises,
    card=_card,
    load=_load,
    files=files,
)

"""The cards of models, with adapters and without."""

from dataclasses import replace
from pathlib import Path

from unmask.card import ModelCard
from unmask.families import family_of
from unmask.models.adapter import Adapter
from unmask.store import local_model, parted


def read_card(model: str | Path) -> ModelCard:
    """The card of a model that is on this machine, without loading its weights."""
    return card_of(*local_model(model), parted(model)[1])


def card_of(folder: Path, name: str, adapter: Adapter | None) -> ModelCard:
    """The card in a folder; with an adapter the model has another name than it knows of itself."""
    card = family_of(folder).card(folder, name)
    return card if adapter is None else replace(card, name=adapter.name_of(card.name))

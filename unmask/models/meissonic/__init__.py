"""Meissonic's and Monetico's network (``network``), its blocks and its configuration."""

from unmask.models.meissonic.config import MeissonicConfig
from unmask.models.meissonic.network import MeissonicTransformer, Memory, Prefix

__all__ = ["MeissonicConfig", "MeissonicTransformer", "Memory", "Prefix"]

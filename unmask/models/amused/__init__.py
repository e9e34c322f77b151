"""aMUSEd's network (``network``), its blocks and its configuration."""

from unmask.models.amused.config import AmusedConfig
from unmask.models.amused.network import AmusedTransformer, Memory, Prefix

__all__ = ["AmusedConfig", "AmusedTransformer", "Memory", "Prefix"]

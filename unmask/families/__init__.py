"""The checkpoint families, told apart by the files of a folder."""

from pathlib import Path

from unmask.errors import ConfigError
from unmask.families.amused import AMUSED
from unmask.families.base import Family
from unmask.families.halton_maskgit import HALTON, explain_pickles
from unmask.families.meissonic import MEISSONIC
from unmask.families.native import NATIVE

FAMILIES: tuple[Family, ...] = (NATIVE, AMUSED, MEISSONIC, HALTON)


def family_of(folder: Path) -> Family:
    """The family whose layout a folder has; ConfigError tells those there are."""
    for family in FAMILIES:
        if family.recognises(folder):
            return family
    known = "; ".join(f"{family.name}: {family.layout}" for family in FAMILIES)
    reason = explain_pickles(folder) or f"{folder}: holds no model of a known layout ({known})"
    raise ConfigError(reason)

"""Models as they lie in folders and on a hub, for an engine."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmask.devices import Precision
from unmask.errors import ConfigError
from unmask.families import family_of
from unmask.pipeline import Pipeline, read_card
from unmask.store import find_model, hub_id, parted

HALF_SUFFIX = ".fp16.safetensors"
HEADER_LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100 << 20  # as safetensors itself has it


class StoredModels:
    """Bundled models, folders and published ones of a hub, their backbones in one precision."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision

    def name(self, key: str) -> str:
        """The name on the card; that of a hub's model is its OWNER/NAME, and nothing is fetched."""
        base, adapter = parted(key)
        if published := hub_id(base):
            name = published.group(1)
            return name if adapter is None else adapter.name_of(name)
        return read_card(key).name

    def size(self, key: str) -> int:
        """The bytes that the weights will take in memory; what is not here yet is fetched."""
        folder, _ = find_model(key, self.precision)
        files = family_of(folder).files
        patterns = {*files("fp32"), *files("fp16")}  # one is read in the place of the other
        found = {path for pattern in patterns for path in folder.glob(pattern)}
        return sum(
            _bytes_in_memory(path, self._element_bytes(path.parent.name))
            for path in _one_of_each_pair(found, self.precision)
        )

    def load(self, key: str, device: str) -> Pipeline:
        """A copy on a device."""
        return Pipeline.load(key, device, precision=self.precision)

    def _element_bytes(self, part: str) -> int:
        """Of a number of a part's weights: tokenizers stay in fp32. Eight bits leave embeddings in
        it too, and text encoders: two bytes are more than all that a transformer takes."""
        parts = {"fp32": (), "int8": ("transformer",)}
        halved = part in parts.get(self.precision, ("transformer", "text_encoder"))
        return 2 if halved else 4


def _one_of_each_pair(paths: set[Path], precision: Precision) -> Iterator[Path]:
    """The weights among some files; of a plain one and its fp16 variant the one that is read."""
    for path in sorted(paths):
        half = path.name.endswith(HALF_SUFFIX)
        stem = path.name.removesuffix(HALF_SUFFIX).removesuffix(".safetensors")
        other = path.with_name(stem + (".safetensors" if half else HALF_SUFFIX))
        if path.suffix == ".safetensors" and (other not in paths or half == (precision == "fp16")):
            yield path


def _bytes_in_memory(path: Path, element_bytes: int) -> int:
    """The bytes of all tensors of a safetensors file, by the shapes in its header."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
            if length > MOST_HEADER_BYTES:
                raise ValueError
            header: dict[str, Any] = json.loads(file.read(length))
        tensors = [value for name, value in header.items() if name != "__metadata__"]
        elements: int = sum(math.prod(tensor["shape"]) for tensor in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a complete safetensors file") from error
    return elements * element_bytes

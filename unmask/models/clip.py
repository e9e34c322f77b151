"""The CLIP text side that aMUSEd and Meissonic share: text tokenizer and text encoder.

transformers computes it: it is theirs, and exact. It is imported when a checkpoint is loaded, as it
comes with the extra ``unmask[checkpoints]``.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unmask.checkpoint import holds_tensor, load_module, weights_file
from unmask.errors import ConfigError, PromptTooLongError
from unmask.models.base import Condition

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

LENGTH = 77
_POSITIONS = "text_model.embeddings.position_ids"


class ClipCondition:
    """Byte-level BPE with a start and an end token, padded to 77.

    CLIP is never told what is padding, so nothing is masked.
    """

    length = LENGTH
    max_text_tokens = LENGTH - 2

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> "ClipCondition":
        """Read a published ``tokenizer/``: ``tokenizer.json``, or ``vocab.json`` and
        ``merges.txt``; ConfigError names what is missing or cannot be read."""
        for name in () if (folder / "tokenizer.json").is_file() else ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise ConfigError(f"{folder / name}: no such file")
        transformers = _transformers()
        try:
            tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the libraries raise bare Exception for a malformed file
            raise ConfigError(f"{folder}: not a CLIP text tokenizer: {error}") from error
        if tokenizer.pad_token_id is None:
            raise ConfigError(f"{folder}: the text tokenizer names no pad token")
        return cls(tokenizer)

    @property
    def vocabulary(self) -> int:
        return len(self.tokenizer)

    def __call__(self, prompts: Sequence[str]) -> Condition:
        ids = torch.full((len(prompts), LENGTH), self.tokenizer.pad_token_id)
        for row, prompt in enumerate(prompts):
            words = self._encode(prompt)["input_ids"]
            if len(words) > LENGTH:
                raise PromptTooLongError(
                    f"the prompt is {len(words) - 2} text tokens long; this model reads at most "
                    f"{self.max_text_tokens}",
                    "prompt",
                )
            ids[row, : len(words)] = torch.tensor(words)
        return Condition(ids, torch.ones_like(ids, dtype=torch.bool))

    def count(self, prompt: str) -> int:
        return len(self._encode(prompt)["input_ids"])

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        offsets = self._encode(prompt)["offset_mapping"]
        found = []
        for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE):
            start, end = match.span()
            places = [
                place for place, (first, last) in enumerate(offsets) if first < end and last > start
            ]
            if places:
                found.append(tuple(places))
        return found

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """None: its text tokens do not tell what was taught."""
        return ()

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)

    def _encode(self, prompt: str) -> Any:
        # Not verbose: it would warn of a long prompt, which we refuse ourselves.
        return self.tokenizer(prompt, return_offsets_mapping=True, verbose=False)


def load_text_encoder(
    folder: Path, dtype: torch.dtype, precision: str
) -> "CLIPTextModelWithProjection":
    """Read a published ``text_encoder/`` (``config.json`` and safetensors) on the CPU, frozen.

    ConfigError if a file is missing or malformed, or its tensors are not those of the
    configuration.
    """
    transformers = _transformers()
    path = folder / "config.json"
    try:
        settings = transformers.CLIPTextConfig.from_dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except Exception as error:  # its checks raise errors of many kinds
        raise ConfigError(f"{path}: not a CLIP text configuration: {error}") from error
    if settings.max_position_embeddings != LENGTH:
        raise ConfigError(
            f"{path}: max_position_embeddings is {settings.max_position_embeddings}, "
            f"expected {LENGTH}"
        )
    weights = weights_file(folder, "model", precision)
    # Files of old versions hold the positions 0, 1, 2 ... too.
    old = holds_tensor(weights, _POSITIONS)

    def make() -> "CLIPTextModelWithProjection":
        try:
            encoder: CLIPTextModelWithProjection = transformers.CLIPTextModelWithProjection(
                settings
            )
        except Exception as error:  # an activation by an unknown name is a KeyError, and so on
            raise ConfigError(f"{path}: no CLIP text encoder can be made: {error}") from error
        _set_positions(encoder, persistent=old)
        return encoder

    encoder = load_module(make, weights, dtype)
    _set_positions(encoder, persistent=False)
    return encoder


def encode_text(text_encoder: "CLIPTextModelWithProjection", ids: Tensor) -> tuple[Tensor, Tensor]:
    """What aMUSEd and Meissonic read of ids (rows, 77): the states (rows, 77, width) behind the
    last layer but one, without a final norm, and the pooled text (rows, projection).

    The networks were trained on these. The last layer's differ: CLIP's own loss reads nothing of
    it but the pooled text.
    """
    encoded = text_encoder(input_ids=ids, output_hidden_states=True)
    return encoded.hidden_states[-2], encoded.text_embeds


def _set_positions(encoder: "CLIPTextModelWithProjection", persistent: bool) -> None:
    """Positions are a buffer that weights leave out, so one made without memory has none."""
    encoder.text_model.embeddings.register_buffer(
        "position_ids", torch.arange(LENGTH)[None], persistent=persistent
    )


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "this checkpoint needs transformers: pip install 'unmask[checkpoints]'"
        ) from error
    return transformers

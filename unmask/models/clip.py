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
MAX_CHUNKS = 4  # of a long prompt
_POSITIONS = "text_model.embeddings.position_ids"


class ClipCondition:
    """Byte-level BPE with a start and an end token, padded to 77.

    CLIP is never told what is padding, so nothing is masked. A long prompt is cut into chunks of 75
    tokens, each of which is a text with a start, an end and padding of its own.
    """

    length = LENGTH
    max_text_tokens = LENGTH - 2
    max_chunks = MAX_CHUNKS
    words = None

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

    def __call__(self, prompts: Sequence[str], chunks: int = 1) -> Condition:
        size = self.max_text_tokens
        ids = torch.full((len(prompts), chunks, LENGTH), self.tokenizer.pad_token_id)
        for row, prompt in enumerate(prompts):
            start, *words, end = self._encode(prompt)["input_ids"]
            if len(words) > chunks * size:
                longer = f", or {self.max_chunks * size} with long_prompt" if chunks == 1 else ""
                raise PromptTooLongError(
                    f"the prompt is {len(words)} text tokens long; this model reads at most "
                    f"{chunks * size}{longer}",
                    "prompt",
                )
            for chunk in range(chunks):
                text = torch.tensor([start, *words[chunk * size : (chunk + 1) * size], end])
                ids[row, chunk, : len(text)] = text
        return Condition(ids.flatten(1), torch.ones_like(ids, dtype=torch.bool).flatten(1))

    def chunks(self, prompt: str) -> int:
        words = len(self._encode(prompt)["input_ids"]) - 2
        return max(1, -(-words // self.max_text_tokens))

    def count(self, prompt: str) -> int:
        return len(self._encode(prompt)["input_ids"]) + 2 * (self.chunks(prompt) - 1)

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        offsets = self._encode(prompt)["offset_mapping"]
        found = []
        for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE):
            start, end = match.span()
            # Token 0 is the start of the first chunk; each further one has a start and an end too.
            places = [
                place + (place - 1) // self.max_text_tokens * 2
                for place, (first, last) in enumerate(offsets)
                if first < end and last > start
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
    """What aMUSEd and Meissonic read of ids (rows, chunks x 77): the states (rows, chunks x 77,
    width) behind the last layer but one, without a final norm, and the pooled text (rows,
    projection).

    The networks were trained on these, with one chunk. The last layer's differ: CLIP's own loss
    reads nothing of it but the pooled text. Chunks are encoded apart and their states joined; what
    is pooled is that of the first (as AUTOMATIC1111's web UI does it).
    """
    texts = ids.view(-1, LENGTH)  # (rows x chunks, 77)
    encoded = text_encoder(input_ids=texts, output_hidden_states=True)
    states = encoded.hidden_states[-2]
    pooled = encoded.text_embeds.view(len(ids), -1, encoded.text_embeds.shape[-1])
    return states.reshape(len(ids), -1, states.shape[-1]), pooled[:, 0]


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

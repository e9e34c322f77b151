"""Starting and resuming training runs from configuration files."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from unmask import config
from unmask.devices import usable_device
from unmask.errors import ConfigError
from unmask.scenes.data import DataConfig
from unmask.training.clip_tokenizer import ClipTokenizerTask, ClipTokenizerTraining
from unmask.training.clip_transformer import ClipTask, ClipTraining
from unmask.training.judge import JudgeTask, JudgeTraining
from unmask.training.loop import Loop, LoopConfig, Task
from unmask.training.planes import PlanesTask, PlanesTraining
from unmask.training.slot_decoder import SlotDecoderTask, SlotDecoderTraining
from unmask.training.tokenizer import TokenizerTask, TokenizerTraining
from unmask.training.transformer import TransformerTask, TransformerTraining
from unmask.training.tuning import Tuning, TuningTask

MOST_MINUTES = 60 * 24 * 365
What = Literal["tokenizer", "transformer", "judge", "clips", "slots", "clip-tokenizer", "planes"]


class Training(Protocol):
    """What all configuration files have."""

    @property
    def data(self) -> DataConfig:
        """What is learned from."""
        ...

    @property
    def loop(self) -> LoopConfig:
        """How long and how fast."""
        ...


@dataclass(frozen=True)
class Given:
    """What the caller says beside the configuration."""

    device: str
    out: Path
    tokenizer: Path | None
    start: Path | None


class Kind(NamedTuple):
    """What is trained: its configuration, its task, and whether it is told a ``tokenizer``."""

    config: Any
    task: Callable[[Any, Given], Task]
    needs_tokenizer: bool = True


KINDS: dict[What, Kind] = {
    "tokenizer": Kind(
        TokenizerTraining,
        lambda config, given: TokenizerTask(config, given.device, given.tokenizer),
        False,
    ),
    "transformer": Kind(
        TransformerTraining,
        lambda config, given: TransformerTask.of_new(config, _told(given), given.device, given.out),
    ),
    "judge": Kind(
        JudgeTraining, lambda config, given: JudgeTask(config, _told(given), given.device)
    ),
    "clips": Kind(
        ClipTraining,
        lambda config, given: ClipTask(config, _told(given), given.start, given.device, given.out),
    ),
    "slots": Kind(
        SlotDecoderTraining,
        lambda config, given: SlotDecoderTask(config, _told(given), given.device),
    ),
    "clip-tokenizer": Kind(
        ClipTokenizerTraining, lambda config, given: ClipTokenizerTask(config, given.device), False
    ),
    "planes": Kind(
        PlanesTraining,
        lambda config, given: PlanesTask(config, _told(given), given.start, given.device),
    ),
}

# What a transformer that starts from a model is.
TUNING = Kind(Tuning, lambda config, given: TuningTask(config, _begun(given), given.device), False)


def _told(given: Given) -> Path:
    assert given.tokenizer is not None, "it was asked for"
    return given.tokenizer


def _begun(given: Given) -> Path:
    assert given.start is not None, "it is what makes a tuning"
    return given.start


def train(
    what: What,
    path: Path,
    out: Path,
    *,
    data: Path | None = None,
    tokenizer: Path | None = None,
    start: Path | None = None,
    skip_unreadable: bool = False,
    resume: bool = False,
    minutes: float | None = None,
    device: str | None = None,
) -> None:
    """Train as the configuration at ``path`` says, into the run folder ``out``.

    ``data`` is the folder of captioned images or the sprite archive; ``tokenizer`` the folder of a
    trained tokenizer, for all but tokenizers; for a tokenizer of pictures, that whose decoder is to
    be trained on; ``start`` that of a model whose weights clips and planes start from, or a
    transformer is tuned from; ``skip_unreadable`` goes on without pictures that cannot be read. The
    result is the folder ``out/model``.
    """
    if minutes is not None and not 0 <= minutes <= MOST_MINUTES:
        raise ConfigError(f"--minutes is {minutes}; it must lie between 0 and {MOST_MINUTES}")
    tunes = what == "transformer" and start is not None
    if start is not None and what not in ("clips", "planes", "transformer"):
        raise ConfigError(f"--start is for clips, planes and transformers, not for a {what}")
    if tokenizer is not None and what == "clip-tokenizer":
        raise ConfigError("--tokenizer: a clip-tokenizer begins with none; leave it out")
    if tokenizer is not None and tunes:
        raise ConfigError("--tokenizer: a model is tuned with its own; leave it out")
    kind = TUNING if tunes else KINDS[what]
    if kind.needs_tokenizer and tokenizer is None:
        raise ConfigError(f"a {what} needs --tokenizer, the model folder of a trained tokenizer")
    given = Given(usable_device(device), out, tokenizer, start)
    settings: Training = _load(kind.config, path, data, skip_unreadable)
    Loop(kind.task(settings, given), settings.loop, out, given.device).run(resume, minutes)


def _load(kind: Any, path: Path, data: Path | None, skip_unreadable: bool) -> Any:
    """The configuration, with what the caller says of its data."""
    settings = config.load(kind, path)
    changed = dataclasses.replace(
        settings.data,
        path=str(data) if data else settings.data.path,
        skip_unreadable=skip_unreadable or settings.data.skip_unreadable,
    )
    return dataclasses.replace(settings, data=changed)

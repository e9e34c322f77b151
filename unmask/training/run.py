"""Starting and resuming training runs from configuration files."""

import dataclasses
from pathlib import Path
from typing import Literal, TypeVar

from unmask import config
from unmask.devices import usable_device
from unmask.errors import ConfigError
from unmask.training.clip_transformer import ClipTask, ClipTraining
from unmask.training.judge import JudgeTask, JudgeTraining
from unmask.training.loop import Loop, Task
from unmask.training.slot_decoder import SlotDecoderTask, SlotDecoderTraining
from unmask.training.tokenizer import TokenizerTask, TokenizerTraining
from unmask.training.transformer import TransformerTask, TransformerTraining

MOST_MINUTES = 60 * 24 * 365
T = TypeVar(
    "T", TokenizerTraining, TransformerTraining, JudgeTraining, ClipTraining, SlotDecoderTraining
)
What = Literal["tokenizer", "transformer", "judge", "clips", "slots"]


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
    trained tokenizer, for a transformer, a judge, clips or a slot decoder; for a tokenizer, that
    whose decoder is to be trained on; ``start`` that of a picture model whose weights clips start
    from; ``skip_unreadable`` goes on without pictures that cannot be read. The result is the folder
    ``out/model``.
    """
    if minutes is not None and not 0 <= minutes <= MOST_MINUTES:
        raise ConfigError(f"--minutes is {minutes}; it must lie between 0 and {MOST_MINUTES}")
    device = usable_device(device)
    task: Task
    settings: (
        TokenizerTraining | TransformerTraining | JudgeTraining | ClipTraining | SlotDecoderTraining
    )
    if start is not None and what != "clips":
        raise ConfigError(f"--start is for clips, not for a {what}")
    if what == "tokenizer":
        settings = _load(TokenizerTraining, path, data, skip_unreadable)
        task = TokenizerTask(settings, device, tokenizer)
    elif tokenizer is None:
        raise ConfigError(f"a {what} needs --tokenizer, the model folder of a trained tokenizer")
    elif what == "judge":
        settings = _load(JudgeTraining, path, data, skip_unreadable)
        task = JudgeTask(settings, tokenizer, device)
    elif what == "slots":
        settings = _load(SlotDecoderTraining, path, data, skip_unreadable)
        task = SlotDecoderTask(settings, tokenizer, device)
    elif what == "clips":
        settings = _load(ClipTraining, path, data, skip_unreadable)
        task = ClipTask(settings, tokenizer, start, device, out)
    else:
        settings = _load(TransformerTraining, path, data, skip_unreadable)
        task = TransformerTask(settings, tokenizer, device, out)
    Loop(task, settings.loop, out, device).run(resume, minutes)


def _load(kind: type[T], path: Path, data: Path | None, skip_unreadable: bool) -> T:
    """The configuration, with what the caller says of its data."""
    settings = config.load(kind, path)
    given = dataclasses.replace(
        settings.data,
        path=str(data) if data else settings.data.path,
        skip_unreadable=skip_unreadable or settings.data.skip_unreadable,
    )
    return dataclasses.replace(settings, data=given)

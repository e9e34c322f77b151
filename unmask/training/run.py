"""Starting and resuming training runs from configuration files."""

import dataclasses
from pathlib import Path
from typing import Literal

from unmask import config
from unmask.devices import usable_device
from unmask.errors import ConfigError
from unmask.scenes.data import DataConfig
from unmask.training.judge import JudgeTask, JudgeTraining
from unmask.training.loop import Loop, Task
from unmask.training.tokenizer import TokenizerTask, TokenizerTraining
from unmask.training.transformer import TransformerTask, TransformerTraining

What = Literal["tokenizer", "transformer", "judge"]


def train(
    what: What,
    path: Path,
    out: Path,
    *,
    data: Path | None = None,
    tokenizer: Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    device: str | None = None,
) -> None:
    """Train as the configuration at ``path`` says, into the run folder ``out``.

    ``data`` is the folder of captioned images or the sprite archive; ``tokenizer`` the folder of a
    trained tokenizer, for a transformer or a judge; for a tokenizer, that whose decoder is to be
    trained on. The result is the folder ``out/model``.
    """
    device = usable_device(device)
    task: Task
    settings: TokenizerTraining | TransformerTraining | JudgeTraining
    if what == "tokenizer":
        settings = config.load(TokenizerTraining, path)
        settings = dataclasses.replace(settings, data=_with_path(settings.data, data))
        task = TokenizerTask(settings, device, tokenizer)
    elif tokenizer is None:
        raise ConfigError(f"a {what} needs --tokenizer, the model folder of a trained tokenizer")
    elif what == "judge":
        settings = config.load(JudgeTraining, path)
        settings = dataclasses.replace(settings, data=_with_path(settings.data, data))
        task = JudgeTask(settings, tokenizer, device)
    else:
        settings = config.load(TransformerTraining, path)
        settings = dataclasses.replace(settings, data=_with_path(settings.data, data))
        task = TransformerTask(settings, tokenizer, device, out)
    Loop(task, settings.loop, out, device).run(resume, minutes)


def _with_path(settings: DataConfig, data: Path | None) -> DataConfig:
    return dataclasses.replace(settings, path=str(data)) if data else settings

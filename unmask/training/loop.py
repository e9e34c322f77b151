"""The training loop that every trainer shares: learning rate, averages, log, checkpoints, resume.

All randomness of a step comes from (seed, step), so a run that was killed and resumed follows the
curve of one that was not.
"""

import copy
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, Protocol, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from unmask.config import check_bounds
from unmask.errors import ConfigError
from unmask.scenes.seeds import LOOP, batch_seed

MOST = 10**9  # of what is counted
ALMOST_ONE = 0.99999  # of averages over steps
MOST_WORKERS = 256
AHEAD = 4  # batches that a worker prepares before they are asked for


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    The learning rate warms up linearly, then falls along a cosine to ``final_rate`` of its peak.
    ``muon`` moves the matrices of hidden layers along orthogonal directions, at AdamW's size of
    step; all else stays with AdamW. ``workers`` are processes that make up batches ahead of time;
    the batches are the same as without (0).
    """

    steps: int
    batch: int
    learning_rate: float
    optimizer: Literal["adamw", "muon"] = "adamw"
    warmup: int = 500
    final_rate: float = 0.05
    weight_decay: float = 0.03
    beta2: float = 0.98
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "bf16"
    compile: bool = False
    workers: int = 0
    log_every: int = 50
    checkpoint_every: int = 1000
    sheet_every: int = 2000

    def __post_init__(self) -> None:
        check_bounds(
            self,
            steps=(1, MOST),
            batch=(1, MOST),
            learning_rate=(1e-9, 10),
            warmup=(0, MOST),
            final_rate=(0, 1),
            weight_decay=(0, 10),
            beta2=(0, ALMOST_ONE),
            clip=(1e-6, 1e6),
            ema=(0, ALMOST_ONE),
            seed=(0, MOST),
            workers=(0, MOST_WORKERS),
            log_every=(1, MOST),
            checkpoint_every=(1, MOST),
            sheet_every=(1, MOST),
        )
        if self.checkpoint_every % self.log_every or self.sheet_every % self.log_every:
            raise ValueError(
                f"checkpoint_every: {self.checkpoint_every}, sheet_every: {self.sheet_every}; they "
                f"must be multiples of log_every, {self.log_every}"
            )


class Task(Protocol):
    """What a trainer adds to the loop."""

    module: nn.Module

    def prepare(self, index: int) -> Any:
        """What a CPU alone can make of batch ``index``; it depends on nothing but that, and may be
        made in another process."""
        ...

    def loss(
        self, module: nn.Module, index: int, prepared: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of batch ``index``, and the figures to log, of what ``prepare`` made of it."""
        ...

    def sheet(self, average: nn.Module) -> Image.Image:
        """A picture that shows how far the averaged weights are."""
        ...

    def measure(self, average: nn.Module) -> dict[str, float]:
        """Figures on data that training does not see."""
        ...

    def save(self, average: nn.Module, folder: Path) -> None:
        """Write the averaged weights as a model folder."""
        ...


class Unprepared:
    """What tasks share whose batches are made in the step itself."""

    def prepare(self, index: int) -> None:
        """Nothing."""


class Prepared(Dataset[Any]):
    """What a task prepares, by the index of the batch."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitem__(self, index: int) -> Any:
        return self.task.prepare(index)


def _as_it_is(prepared: Any) -> Any:
    return prepared


class Loop:
    """Trains a task in a run folder; ``run`` may be called again after any interruption."""

    def __init__(self, task: Task, config: LoopConfig, out: Path, device: str) -> None:
        self.task, self.config, self.out = task, config, out
        self.device = torch.device(device)
        self.module = task.module.to(self.device)
        self.average = copy.deepcopy(self.module).requires_grad_(False).eval()
        self.optimizers = _optimizers(self.module, config)
        self.step = 0
        self._window: list[dict[str, Tensor]] = []
        out.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """The file from which an interrupted run goes on."""
        return self.out / "checkpoint.pt"

    def run(self, resume: bool = False, minutes: float | None = None) -> None:
        """Train to the last step, or for ``minutes``; ``resume`` goes on from the last checkpoint.

        Raises ConfigError if there is a checkpoint without ``resume``, or ``resume`` without one.
        """
        if find_spec("matplotlib") is None:
            raise ConfigError(
                "training draws its curve with matplotlib: pip install 'unmask[train]'"
            )
        if resume:
            self._restore()
        elif self.checkpoint.exists():
            raise ConfigError(
                f"{self.out}: holds a run already; resume it or choose another folder"
            )
        self._trim_log()
        forward = (
            cast(nn.Module, torch.compile(self.module)) if self.config.compile else self.module
        )
        prepared = self._prepared()
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        with tqdm(
            total=self.config.steps, initial=self.step, unit="step", dynamic_ncols=True
        ) as bar:
            since, fresh = time.monotonic(), 0
            while self.step < self.config.steps and time.monotonic() < deadline:
                self._window.append(self._one_step(forward, next(prepared)))
                self.step, fresh = self.step + 1, fresh + 1
                bar.update()
                if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                    bar.set_postfix(self._log(fresh / (time.monotonic() - since)))
                    since, fresh = time.monotonic(), 0
                if self.step % self.config.sheet_every == 0:
                    self.task.sheet(self.average).save(self.out / f"sheet-{self.step:07d}.png")
                if self.step % self.config.checkpoint_every == 0:
                    self._save()
        self._save()
        self._report()

    def _prepared(self) -> Iterator[Any]:
        """What the task prepares for each step that is left."""
        steps = range(self.step, self.config.steps)
        if not self.config.workers:
            return map(self.task.prepare, steps)
        loader: DataLoader[Any] = DataLoader(
            Prepared(self.task),
            batch_size=None,
            sampler=steps,
            num_workers=self.config.workers,
            collate_fn=_as_it_is,
            multiprocessing_context="fork",  # the task is there already, and need not be pickled
            prefetch_factor=AHEAD,
        )
        return iter(loader)

    def _one_step(self, forward: nn.Module, prepared: Any) -> dict[str, Tensor]:
        config = self.config
        torch.manual_seed(batch_seed(config.seed, self.step, LOOP))
        rate = learning_rate(config, self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.module.train()
        low = config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            loss, figures = self.task.loss(forward, self.step, prepared)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._update_average()
        return {"loss": loss.detach(), **figures, "gradient_norm": norm.detach()}

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average follows quickly, or it would carry the first random weights for long.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.module.parameters()), 1 - decay
        )
        for ours, theirs in zip(self.average.buffers(), self.module.buffers(), strict=True):
            ours.copy_(theirs)

    def _log(self, steps_per_second: float) -> dict[str, str]:
        figures = {
            name: float(torch.stack([entry[name].float() for entry in self._window]).mean())
            for name in self._window[0]
        }
        self._window = []
        if not math.isfinite(figures["loss"]):
            raise ConfigError(
                f"step {self.step}: the loss is {figures['loss']}; lower the learning rate"
            )
        rate = steps_per_second * self.config.batch
        entry = {"step": self.step, **figures, "samples_per_second": round(rate, 1)}
        with self._log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        return {"loss": f"{figures['loss']:.4f}", "samples/s": f"{rate:.0f}"}

    @property
    def _log_path(self) -> Path:
        return self.out / "log.jsonl"

    def _trim_log(self) -> None:
        """Drop log lines after the checkpoint: those steps are run again."""
        if self._log_path.exists():
            lines = self._log_path.read_text(encoding="utf-8").splitlines()
            # A run that is killed while it writes leaves a broken last line.
            whole = [line for line in lines if line.endswith("}")]
            kept = [line for line in whole if json.loads(line)["step"] <= self.step]
            self._log_path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def _save(self) -> None:
        state = {
            "step": self.step,
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "window": self._window,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)
        self.task.save(self.average, self.out / "model")

    def _restore(self) -> None:
        if not self.checkpoint.exists():
            raise ConfigError(f"{self.checkpoint}: no checkpoint to resume from")
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            self.module.load_state_dict(state["module"])
            self.average.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            raise ConfigError(f"{self.checkpoint}: does not fit the configuration") from error
        self.step = state["step"]
        # Steps since the last log line, if the run was stopped between two, belong to the next.
        self._window = state.get("window", [])

    def _report(self) -> None:
        figures = {"step": self.step, **self.task.measure(self.average)}
        (self.out / "figures.json").write_text(
            json.dumps(figures, indent=2) + "\n", encoding="utf-8"
        )
        self.task.sheet(self.average).save(self.out / "sheet.png")
        if self._log_path.exists():
            plot_log(self._log_path, self.out / "loss.png")


def learning_rate(config: LoopConfig, step: int) -> float:
    """The learning rate of a step (0-based)."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


def plot_log(log: Path, image: Path) -> None:
    """Draw the logged loss against steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows])
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(image)
    pyplot.close(figure)


def _optimizers(module: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """Matrices decay; gains, biases and embeddings do not."""
    embeddings = {
        id(parameter)
        for child in module.modules()
        if isinstance(child, nn.Embedding)
        for parameter in child.parameters()
    }
    hidden: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or id(parameter) in embeddings:
            kept.append(parameter)
        # Like an embedding, a head has a row for each code: Muon is not for it. Nor for hints: they
        # start at zero, and in steps of Muon's length hardly leave it.
        elif (
            config.optimizer == "muon"
            and parameter.ndim == 2
            and not any(end in name for end in ("head", "hint"))
        ):
            hidden.append(parameter)
        else:
            decayed.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=True)
    ]
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers

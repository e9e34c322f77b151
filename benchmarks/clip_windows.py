"""Windowed attention beside full attention: what a clip model costs, and what it has learned.

Two clip models that differ in their windows alone train from the same weights on the same batches,
and are measured on the same held-out clips. Then both run in turns: passes over one clip with
guidance, and training steps.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from unmask import config
from unmask.models.native import NativeTransformer
from unmask.training.clip_transformer import ClipTask, ClipTraining
from unmask.training.loop import Loop
from unmask.training.transformer import MaskedLoss

PEERS = {"full": (), "windows": ((1, 8, 8), (0, 4, 4))}  # a key frame; a quarter of each side


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="of unmask train clips")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--data", required=True, help="sprites of the training")
    parser.add_argument("--start", type=Path, help="a picture model to train on from")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, help="that of the configuration if left out")
    parser.add_argument("--turns", type=int, default=10, help="how often each is timed")
    arguments = parser.parse_args()
    settings = config.load(ClipTraining, arguments.config)
    loop = replace(
        settings.loop,
        steps=arguments.steps,
        warmup=min(settings.loop.warmup, arguments.steps // 5),
        batch=arguments.batch or settings.loop.batch,
        log_every=arguments.steps,
        checkpoint_every=arguments.steps,
        sheet_every=2 * arguments.steps,
        ema=0.95,  # of few steps
        compile=False,
    )
    data = replace(settings.data, path=arguments.data)
    figures: dict[str, dict[str, float]] = {}
    runs: dict[str, dict[str, Callable[[], object]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, windows in PEERS.items():
            model = replace(settings.model, windows=windows)
            peer = replace(settings, data=data, model=model, loop=loop)
            out = Path(folder, name)
            task = ClipTask(peer, arguments.tokenizer, arguments.start, "cpu", out)
            Loop(task, loop, out, "cpu").run()
            figures[name] = json.loads((out / "figures.json").read_text())
            runs[name] = _runs(task)
    for name, found in _timed(runs, arguments.turns).items():
        figures[name] |= found
    print(f"| | {' | '.join(PEERS)} |\n|---|{'---|' * len(PEERS)}")
    for row in figures["full"]:
        print(f"| {row} | {' | '.join(f'{figures[name][row]:.3f}' for name in PEERS)} |")


def _runs(task: ClipTask) -> dict[str, Callable[[], object]]:
    """What is timed: a pass over one clip with guidance, and a step without its optimizer."""
    assert isinstance(task.module, MaskedLoss)
    backbone: NativeTransformer = task.module.backbone

    @torch.inference_mode()
    def one_pass() -> None:
        tokens = torch.full((2, backbone.config.tokens), backbone.mask_id)
        backbone(tokens, prefix)

    def one_step() -> None:
        with torch.autocast("cpu", torch.bfloat16, task.config.loop.precision == "bf16"):
            loss, _ = task.loss(task.module, 0, task.prepare(0))
        torch.autograd.backward(loss)
        task.module.zero_grad()

    with torch.inference_mode():
        prefix = backbone.encode(task.read(["a red car moves to the right", ""]))
    return {"pass_milliseconds": one_pass, "training_step_milliseconds": one_step}


def _timed(
    runs: dict[str, dict[str, Callable[[], object]]], turns: int
) -> dict[str, dict[str, float]]:
    """The median milliseconds of each run, taken in turns; the first of all is not counted."""
    taken: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in kinds} for name, kinds in runs.items()
    }
    for _ in range(turns + 1):
        for name, kinds in runs.items():
            for kind, run in kinds.items():
                began = time.perf_counter()
                run()
                taken[name][kind].append(1000 * (time.perf_counter() - began))
    return {
        name: {kind: statistics.median(times[1:]) for kind, times in kinds.items()}
        for name, kinds in taken.items()
    }


if __name__ == "__main__":
    main()

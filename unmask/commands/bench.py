"""The command that tells how fast a model draws on this machine."""

import statistics
from typing import Annotated

import typer

from unmask.commands.root import MODEL_HELP, commands
from unmask.devices import Precision

TOGETHER = 8  # pictures


@commands.command()
def bench(
    model: Annotated[str | None, typer.Argument(help=MODEL_HELP)] = None,
    prompt: Annotated[
        str, typer.Option(help="What is drawn.")
    ] = "a red apple to the left of a blue book on a yellow background",
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    precision: Annotated[Precision, typer.Option()] = "fp32",
    quick: Annotated[bool, typer.Option("--quick", help="Three rounds in place of ten.")] = False,
) -> None:
    """Tell in one line how fast a model draws: alone and eight at a time, the medians of rounds
    taken in turns, after one that is not counted."""
    import torch

    from unmask.devices import usable_device
    from unmask.pipeline import Pipeline
    from unmask.store import default_model

    pipeline = Pipeline.load(
        default_model() if model is None else model,
        device=usable_device(device),
        precision=precision,
    )
    seconds: dict[int, list[float]] = {1: [], TOGETHER: []}
    for seed in range(4 if quick else 11):
        for n, taken in seconds.items():
            taken.append(pipeline.generate(prompt, seed=seed, n=n).seconds)
    alone, together = (statistics.median(taken[1:]) for taken in seconds.values())
    print(
        f"{pipeline.info.name} on {device} ({precision}, {torch.get_num_threads()} threads, "
        f"{pipeline.card.steps} steps): {alone:.3f} s a picture, "
        f"{TOGETHER / together:.1f} pictures a second {TOGETHER} at a time"
    )

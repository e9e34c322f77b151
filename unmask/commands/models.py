"""Commands about models: list, convert, train, evaluate."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unmask.commands.root import MODEL_HELP, commands


@commands.command()
def models() -> None:
    """List the bundled models."""
    from unmask.box import available_models
    from unmask.pipeline import Pipeline

    for name in available_models():
        info = Pipeline.load(name).info
        millions = info.parameters / 1e6
        print(f"{name}  {info.width}x{info.height}  {millions:.1f}M  {info.description}")


@commands.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A published .pth of Halton-MaskGIT.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="LlamaGen's vq_ds16_c2i.pt, which is published apart.")
    ] = None,
    half: Annotated[bool, typer.Option(help="Write the transformer as fp16.")] = False,
) -> None:
    """Turn published pickles into a model folder, offline: nothing else ever reads a pickle."""
    from unmask.convert import convert as convert_files

    print(convert_files(source, out, tokenizer, half))


@commands.command()
def quantize(
    source: Annotated[Path, typer.Argument(help="A model folder.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
) -> None:
    """Write a model's weights as eight bits: half the size of bf16 on disk."""
    from unmask.quantize import quantize as write

    print(write(source, out))


@commands.command()
def train(
    what: Annotated[
        Literal["tokenizer", "transformer", "judge", "clips", "slots", "clip-tokenizer", "planes"],
        typer.Argument(),
    ],
    config: Annotated[Path, typer.Argument(help="A TOML file, such as those in configs/.")],
    out: Annotated[Path, typer.Option(help="The run folder; the result is OUT/model.")],
    data: Annotated[Path | None, typer.Option(help="Captioned images or sprites.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A trained tokenizer's folder.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            "--from",
            help="A model whose weights clips or a tuned transformer start from.",
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Go on without pictures that are damaged.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in OUT.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    device: Annotated[str | None, typer.Option(help="torch device; a GPU if there is one.")] = None,
) -> None:
    """Train a tokenizer, a transformer on its tokens (of pictures or of clips), or a judge."""
    from unmask.training import run

    run.train(
        what,
        config,
        out,
        data=data,
        tokenizer=tokenizer,
        start=start,
        skip_unreadable=skip_unreadable,
        resume=resume,
        minutes=minutes,
        device=device,
    )


@commands.command(name="eval")
def evaluate(
    config: Annotated[Path, typer.Argument(help="A TOML file, such as those in configs/eval/.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; what is there is kept.")],
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    data: Annotated[
        Path | None, typer.Option(help="Sprites of the training: for the ceiling and distances.")
    ] = None,
    judge: Annotated[Path | None, typer.Option(help="A judge; else that of the model.")] = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
) -> None:
    """Draw and judge settings of a model; write a table, plots and sheets."""
    from unmask.evaluation.run import run_evaluation
    from unmask.store import default_model

    chosen = default_model() if model is None else model
    print(run_evaluation(chosen, config, out, data=data, judge=judge, device=device))

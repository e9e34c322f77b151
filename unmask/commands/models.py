"""Commands about models: list, serve, convert, train, evaluate."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unmask.commands.root import MODEL_HELP, commands


@commands.command()
def models() -> None:
    """List the bundled models."""
    from unmask.pipeline import Pipeline
    from unmask.store import available_models

    for name in available_models():
        info = Pipeline.load(name).info
        millions = info.parameters / 1e6
        print(f"{name}  {info.width}x{info.height}  {millions:.1f}M  {info.description}")


@commands.command()
def serve(
    model: Annotated[str | None, typer.Argument(help=f"{MODEL_HELP} [UNMASK_MODEL]")] = None,
    device: Annotated[str | None, typer.Option(help="torch device [UNMASK_DEVICE]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16 [UNMASK_PRECISION]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="[UNMASK_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="[UNMASK_PORT]")] = None,
    threads: Annotated[int | None, typer.Option(help="torch threads [UNMASK_THREADS]")] = None,
    max_queue: Annotated[int | None, typer.Option(help="[UNMASK_MAX_QUEUE]")] = None,
    log_level: Annotated[str | None, typer.Option(help="[UNMASK_LOG_LEVEL]")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings [UNMASK_CONFIG]")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve whoever asks [UNMASK_INSECURE]")
    ] = False,
) -> None:
    """Serve a model over HTTP; /docs shows the API.

    An option left out is read from the environment variable in brackets, as are further settings;
    what is in neither, from the TOML file. unmask settings lists them all.
    """
    from unmask.settings import load_settings

    settings = load_settings(
        model=model,
        device=device,
        precision=precision,
        host=host,
        port=port,
        threads=threads,
        max_queue=max_queue,
        log_level=log_level,
        config=config,
        insecure=insecure or None,
    )
    from unmask.server.http.server import serve as serve_until_signal

    serve_until_signal(settings)


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
def train(
    what: Annotated[Literal["tokenizer", "transformer", "judge"], typer.Argument()],
    config: Annotated[Path, typer.Argument(help="A TOML file, such as those in configs/.")],
    out: Annotated[Path, typer.Option(help="The run folder; the result is OUT/model.")],
    data: Annotated[Path | None, typer.Option(help="Captioned images or sprites.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A trained tokenizer's folder.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in OUT.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    device: Annotated[str | None, typer.Option(help="torch device; a GPU if there is one.")] = None,
) -> None:
    """Train a tokenizer, a transformer on its tokens, or the judge of what it draws."""
    from unmask.training import run

    run.train(
        what,
        config,
        out,
        data=data,
        tokenizer=tokenizer,
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

    chosen = model or default_model()
    print(run_evaluation(chosen, config, out, data=data, judge=judge, device=device))

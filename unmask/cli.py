"""The command line: draw, list models, serve and train.

torch, the web framework and the trainers are imported in the commands that need them, so that
``unmask --help`` answers at once.
"""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from PIL import Image

from unmask import __version__
from unmask.errors import RequestError, UnmaskError, choices

if TYPE_CHECKING:
    from unmask.pipeline import Generated
    from unmask.server.encoding import ImageFormat

commands = typer.Typer(
    help="Draw images with masked generative transformers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

FORMATS: "dict[str, ImageFormat]" = {
    ".png": "png",
    ".webp": "webp",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}
QUALITY = 95  # of webp and jpeg files; more only makes them larger


def app() -> None:
    """Run the command line; an UnmaskError becomes one line on stderr and exit code 2."""
    try:
        commands()
    except UnmaskError as error:
        print(f"unmask: {error}", file=sys.stderr)
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unmask {__version__}")
        raise typer.Exit


@commands.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


@commands.command()
def generate(
    prompt: str,
    model: Annotated[str | None, typer.Option(help="Bundled name or folder.")] = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    n: Annotated[int, typer.Option("--n", help="Number of images.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Random if absent.")] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    scheduler: Annotated[str | None, typer.Option(help="Which tokens a step reveals.")] = None,
    mask_schedule: Annotated[
        str | None, typer.Option(help="How many stay masked after a step.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 = off.")] = None,
    guidance_schedule: Annotated[
        str | None, typer.Option(help="The scale over the steps: constant, linear or interval.")
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None, typer.Option(help="First and last part of the steps guided.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the token values.")] = None,
    choice_temperature: Annotated[float | None, typer.Option(help="Of the positions.")] = None,
    negative: Annotated[str | None, typer.Option(help="What to draw away from.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="png, webp or jpg file.")] = Path(
        "out.png"
    ),
    separate: Annotated[bool, typer.Option(help="One file an image, not one grid.")] = False,
) -> None:
    """Draw images from PROMPT into a file; several make a grid."""
    image_format = _check_output(output)
    from tqdm import tqdm

    from unmask.pipeline import Pipeline, default_model

    pipeline = Pipeline.load(model or default_model(), device)
    request = pipeline.request(
        prompt,
        negative_prompt=negative,
        n=n,
        seed=seed,
        steps=steps,
        scheduler=scheduler,
        mask_schedule=mask_schedule,
        temperature=temperature,
        choice_temperature=choice_temperature,
        guidance_scale=guidance,
        guidance=guidance_schedule,
        guidance_interval=guidance_interval,
    )
    # disable=None: no bar when stderr is not a terminal
    with tqdm(total=request.options.steps, unit="step", leave=False, disable=None) as bar:

        def on_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        generated = pipeline.run(request, on_step)
    for path in _write(generated, pipeline.info.name, output, image_format, separate):
        print(f"{path}  seed {request.seed}  {generated.seconds:.2f} s")


def _check_output(path: Path) -> "ImageFormat":
    """The format that the path asks for, found before any time is spent on drawing."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"output {path}: {choices(path.suffix, FORMATS)}", "output")
    if not path.parent.is_dir():
        raise RequestError(f"output {path}: there is no folder {path.parent}", "output")
    return FORMATS[path.suffix.lower()]


def _write(
    generated: "Generated", model: str, path: Path, image_format: "ImageFormat", separate: bool
) -> list[Path]:
    from unmask.server.encoding import encode, parameters

    text = parameters(generated.request, model)
    files = {path: grid(generated.images)}
    if separate:
        files = {
            path.with_stem(f"{path.stem}-{index}"): image
            for index, image in enumerate(generated.images)
        }
    try:
        for name, image in files.items():
            name.write_bytes(encode(image, image_format, QUALITY, text))
    except OSError as error:
        raise RequestError(f"output {path}: {error.strerror}", "output") from None
    return list(files)


def grid(images: list[Image.Image]) -> Image.Image:
    """One image that shows all of them, row by row, in a near square; one alone is itself."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    sheet = Image.new(images[0].mode, (columns * width, rows * height), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet


@commands.command()
def models() -> None:
    """List the bundled models."""
    from unmask.pipeline import Pipeline, available_models

    for name in available_models():
        info = Pipeline.load(name).info
        millions = info.parameters / 1e6
        print(f"{name}  {info.width}x{info.height}  {millions:.1f}M  {info.description}")


@commands.command()
def serve(
    model: Annotated[str | None, typer.Argument(help="Name or folder [UNMASK_MODEL]")] = None,
    device: Annotated[str | None, typer.Option(help="torch device [UNMASK_DEVICE]")] = None,
    host: Annotated[str | None, typer.Option(help="[UNMASK_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="[UNMASK_PORT]")] = None,
    threads: Annotated[int | None, typer.Option(help="torch threads [UNMASK_THREADS]")] = None,
    max_queue: Annotated[int | None, typer.Option(help="[UNMASK_MAX_QUEUE]")] = None,
    log_level: Annotated[str | None, typer.Option(help="[UNMASK_LOG_LEVEL]")] = None,
) -> None:
    """Serve a model over HTTP; /docs shows the API.

    An option left out is read from the environment variable in brackets, as are further settings.
    """
    from unmask.settings import load_settings

    settings = load_settings(
        model=model,
        device=device,
        host=host,
        port=port,
        threads=threads,
        max_queue=max_queue,
        log_level=log_level,
    )
    import logging

    import uvicorn

    from unmask.server.app import create_app

    logging.basicConfig(level=settings.log_level.upper())
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
    )


@commands.command()
def train(
    what: Annotated[Literal["tokenizer", "transformer"], typer.Argument()],
    config: Annotated[Path, typer.Argument(help="A TOML file, such as those in configs/.")],
    out: Annotated[Path, typer.Option(help="The run folder; the result is OUT/model.")],
    data: Annotated[Path | None, typer.Option(help="Captioned images or sprites.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A trained tokenizer's folder.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in OUT.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    device: Annotated[str | None, typer.Option(help="torch device; a GPU if there is one.")] = None,
) -> None:
    """Train a tokenizer, or a transformer on its tokens."""
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

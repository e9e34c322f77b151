"""The command line: draw, edit, list models, serve, train and evaluate.

torch, the web framework and the trainers are imported in the commands that need them, so that
``unmask --help`` answers at once.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from PIL import Image

from unmask import __version__
from unmask.devices import Precision, keep_freed_memory
from unmask.errors import RequestError, UnmaskError, choices

if TYPE_CHECKING:
    from unmask.editing import Edit
    from unmask.encoding import ImageFormat
    from unmask.pipeline import Generated, Options

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
MAX_FILE_BYTES = 64 << 20  # of pictures to edit
MODEL_HELP = "Bundled name, folder, or OWNER/NAME[@REVISION] of a hub."
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
    keep_freed_memory()


@dataclass
class Drawing:
    """The options of every command that draws, and the drawing."""

    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu"
    precision: Annotated[Precision, typer.Option(help="Of the backbone.")] = "fp32"
    n: Annotated[int, typer.Option("--n", help="Number of images.")] = 1
    seed: Annotated[int | None, typer.Option(help="Random if absent.")] = None
    steps: Annotated[int | None, typer.Option(help="More take longer.")] = None
    scheduler: Annotated[str | None, typer.Option(help="Which tokens a step reveals.")] = None
    mask_schedule: Annotated[
        str | None, typer.Option(help="How many stay masked after a step.")
    ] = None
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 = off.")] = None
    guidance_schedule: Annotated[
        str | None, typer.Option(help="How the scale runs over the steps.")
    ] = None
    guidance_interval: Annotated[
        tuple[float, float] | None, typer.Option(help="First and last part of the steps guided.")
    ] = None
    temperature: Annotated[float | None, typer.Option(help="Of the token values.")] = None
    choice_temperature: Annotated[float | None, typer.Option(help="Of the positions.")] = None
    negative: Annotated[str | None, typer.Option(help="What to draw away from.")] = None
    subject: Annotated[
        list[str] | None,
        typer.Option(help="The words of one object, as 'red apple'; once for each. Else found."),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: any sampling option; 'unmask options' lists them."),
    ] = None
    output: Annotated[Path, typer.Option("--output", "-o", help="png, webp or jpg file.")] = Path(
        "out.png"
    )
    separate: Annotated[bool, typer.Option(help="One file an image, not one grid.")] = False

    def draw(self, prompt: str, edit: "Edit | None" = None) -> None:
        """Draw, show how far it is, and write the files."""
        image_format = _check_output(self.output)
        from tqdm import tqdm

        from unmask.pipeline import Pipeline
        from unmask.store import default_model

        pipeline = Pipeline.load(
            self.model or default_model(), self.device, precision=self.precision
        )
        request = pipeline.request(prompt, **self._options(edit))
        if edit is not None and edit.keeps_alpha and image_format == "jpeg":
            raise RequestError(
                f"output {self.output}: jpeg has no transparency and the image does; "
                "choose png or webp",
                "output",
            )
        # disable=None: no bar when stderr is not a terminal
        with tqdm(total=request.options.steps, unit="step", leave=False, disable=None) as bar:

            def on_step(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            generated = pipeline.run(request, on_step)
        for path in _write(generated, pipeline.info.name, self.output, image_format, self.separate):
            print(f"{path}  seed {request.seed}  {generated.seconds:.2f} s")

    def _options(self, edit: "Edit | None") -> "Options":
        options: Options = {
            "edit": edit,
            "negative_prompt": self.negative,
            "n": self.n,
            "seed": self.seed,
            "subjects": None if self.subject is None else [each.split() for each in self.subject],
            "steps": self.steps,
            "scheduler": self.scheduler,
            "mask_schedule": self.mask_schedule,
            "temperature": self.temperature,
            "choice_temperature": self.choice_temperature,
            "guidance_scale": self.guidance,
            "guidance": self.guidance_schedule,
            "guidance_interval": self.guidance_interval,
        }
        for text in self.set or []:
            name, value = _parse_option(text)
            options[name] = value  # type: ignore[literal-required]  # checked against PlanOptions
        return options


def draws(command: Callable[..., None]) -> Callable[..., None]:
    """Put the options of Drawing behind the command's own, and hand them over as ``drawing``."""
    own = [
        each
        for name, each in signature(command, eval_str=True).parameters.items()
        if name != "drawing"
    ]
    shared = signature(Drawing, eval_str=True).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        drawing = Drawing(**{name: given.pop(name) for name in shared})
        command(**given, drawing=drawing)

    keyword = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*own, *shared.values())]
    run.__signature__ = Signature(keyword)  # type: ignore[attr-defined]  # what typer reads
    return run


def _parse_option(text: str) -> tuple[str, Any]:
    """The name and the value of ``NAME=VALUE``, as PlanOptions types it."""
    from unmask.config import from_mapping
    from unmask.sampling.plan import PlanOptions

    name, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"--set {text!r}: give NAME=VALUE", "set")
    try:
        parsed: object = json.loads(value)
    except ValueError:
        parsed = value  # a name, which JSON would quote
    # The scheduler is checked where all options come together.
    return name, getattr(from_mapping(PlanOptions, {name: parsed}), name)


@commands.command()
@draws
def generate(prompt: str, *, drawing: Drawing) -> None:
    """Draw images from PROMPT into a file; several make a grid."""
    drawing.draw(prompt)


ImagePath = Annotated[Path, typer.Argument(help="png, webp or jpg file.", metavar="IMAGE")]
MaskPath = Annotated[
    Path | None, typer.Option(help="Image of the same size: white, or alpha 0, is drawn anew.")
]
Feather = Annotated[int, typer.Option(help="Pixels over which the mask fades in, inside it.")]
Pixels = Annotated[int, typer.Option(help="Pixels to add on this side.", metavar="PIXELS")]


@commands.command()
@draws
def inpaint(
    image: ImagePath, prompt: str, mask: MaskPath = None, feather: Feather = 0, *, drawing: Drawing
) -> None:
    """Draw PROMPT where the mask says; every other pixel of IMAGE stays as it is.

    Without a mask the transparent part of IMAGE is drawn.
    """
    from unmask import editing

    drawing.draw(prompt, editing.inpaint(_read(image), _read_mask(mask), feather))


@commands.command()
@draws
def outpaint(
    image: ImagePath,
    prompt: str,
    left: Pixels = 0,
    right: Pixels = 0,
    top: Pixels = 0,
    bottom: Pixels = 0,
    feather: Feather = 0,
    *,
    drawing: Drawing,
) -> None:
    """Draw on beyond the edges of IMAGE."""
    from unmask import editing

    sides = {"left": left, "right": right, "top": top, "bottom": bottom}
    drawing.draw(prompt, editing.outpaint(_read(image), **sides, feather=feather))


@commands.command()
@draws
def restyle(
    image: ImagePath,
    prompt: str,
    strength: Annotated[float, typer.Option(help="Share of the tokens drawn anew.")] = 0.5,
    mask: MaskPath = None,
    feather: Feather = 0,
    *,
    drawing: Drawing,
) -> None:
    """Image to image: draw a share of IMAGE's tokens anew under PROMPT."""
    from unmask import editing

    edit = editing.image_to_image(_read(image), strength, _read_mask(mask), feather)
    drawing.draw(prompt, edit)


@commands.command()
@draws
def vary(
    image: ImagePath,
    prompt: Annotated[str, typer.Option(help="What it shows, if you can say.")] = "",
    strength: Annotated[float, typer.Option(help="Share of the tokens drawn anew.")] = 0.5,
    *,
    drawing: Drawing,
) -> None:
    """Draw variations of IMAGE."""
    from unmask import editing

    drawing.draw(prompt, editing.variation(_read(image), strength))


@commands.command()
@draws
def revise(
    image: ImagePath,
    prompt: str,
    share: Annotated[float, typer.Option(help="Of the tokens, masked at a time.")] = 0.5,
    mask: MaskPath = None,
    feather: Feather = 0,
    *,
    drawing: Drawing,
) -> None:
    """Mask-free editing: mask and redraw a share of IMAGE under PROMPT, again at every step."""
    from unmask import editing

    drawing.draw(prompt, editing.revise(_read(image), share, _read_mask(mask), feather))


def _read(path: Path) -> Image.Image:
    from unmask.editing import MAX_PIXELS
    from unmask.images import ImageLimits, read_image

    try:
        return read_image(path.read_bytes(), "image", ImageLimits(MAX_FILE_BYTES, MAX_PIXELS))
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}", "image") from None


def _read_mask(path: Path | None) -> Image.Image | None:
    return None if path is None else _read(path)


@commands.command()
def options() -> None:
    """List the sampling options that --set takes, with their defaults and bounds."""
    from dataclasses import fields

    from unmask.sampling.plan import PlanOptions

    for each in fields(PlanOptions):
        low, high = each.metadata.get("low"), each.metadata.get("high")
        bounds = "" if low is None else f", {low} to {high}"
        print(f"{each.name} = {each.default}{bounds}\n    {each.metadata['help']}")


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
    from unmask.encoding import encode, parameters

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
) -> None:
    """Serve a model over HTTP; /docs shows the API.

    An option left out is read from the environment variable in brackets, as are further settings.
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
    )
    import logging

    import uvicorn

    from unmask.server.http.app import create_app

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

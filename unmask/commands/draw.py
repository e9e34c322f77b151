"""The commands that draw, and the options that they share."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import typer

from unmask.commands.output import STANDARD, Output, Sheet, read_picture, read_pictures
from unmask.commands.root import MODEL_HELP, commands
from unmask.devices import Precision
from unmask.errors import RequestError, look_up

if TYPE_CHECKING:
    from unmask.editing import Edit


@dataclass
class Drawing:
    """The options of every command that draws, and the drawing."""

    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu"
    precision: Annotated[Precision, typer.Option(help="Of the backbone.")] = "fp32"
    n: Annotated[int, typer.Option("--n", help="Number of images.")] = 1
    seed: Annotated[int | None, typer.Option(help="Random if absent or -1.")] = None
    image_index: Annotated[
        int, typer.Option(help="Of the first image: 3 alone is the fourth of a seed.")
    ] = 0
    steps: Annotated[int | None, typer.Option(help="More take longer.")] = None
    scheduler: Annotated[str | None, typer.Option(help="Which tokens a step reveals.")] = None
    mask_schedule: Annotated[
        str | None, typer.Option(help="How many stay masked after a step.")
    ] = None
    guidance_scale: Annotated[float | None, typer.Option(help="1 = off.")] = None
    guidance: Annotated[
        str | None,
        typer.Option("--guidance", "--guidance-schedule", help="How it runs over the steps."),
    ] = None
    guidance_interval: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Parts of the steps where guidance begins and ends, as 0.2 0.8.",
            metavar="BEGIN END",
        ),
    ] = None
    temperature: Annotated[float | None, typer.Option(help="Of the token values.")] = None
    choice_temperature: Annotated[float | None, typer.Option(help="Of the positions.")] = None
    negative: Annotated[str | None, typer.Option(help="What to draw away from.")] = None
    long_prompt: Annotated[
        bool, typer.Option("--long-prompt", help="Read more than CLIP's 75 text tokens, in chunks.")
    ] = False
    subject: Annotated[
        list[str] | None,
        typer.Option(help="The words of one object, as 'red apple'; once for each. Else found."),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: any sampling option; 'unmask options' lists them."),
    ] = None
    output: Annotated[
        Path, typer.Option("--output", "-o", help="png, webp or jpg file; - = standard output.")
    ] = Path("out.png")
    separate: Annotated[bool, typer.Option(help="One file an image, not one grid.")] = False
    force: Annotated[bool, typer.Option(help="Write over files that are there.")] = False
    json: Annotated[bool, typer.Option("--json", help="Tell of each file in a line of JSON.")] = (
        False
    )

    def draw(self, prompts: Sequence[str], edit: "Edit | None" = None) -> None:
        """Draw, show how far it is, and write the files."""
        if self.json and self.output == STANDARD:
            raise RequestError("--json and -o - write to standard output: give one of them", "json")
        from tqdm import tqdm

        from unmask.pipeline import MAX_IMAGES, Pipeline
        from unmask.sampling.methods import check_range
        from unmask.store import default_model

        check_range("n", self.n, 1, MAX_IMAGES)
        output = Output(self.output, self.separate, self.force)
        output.check(len(prompts), range(self.image_index, self.image_index + self.n))
        options = self._options(edit)
        model = default_model() if self.model is None else self.model
        pipeline = Pipeline.load(model, self.device, precision=self.precision)
        requests = [pipeline.request(prompt, **options) for prompt in prompts]
        output.check_alpha(edit is not None and edit.keeps_alpha)
        for text in [*prompts, self.negative or ""]:
            if unknown := pipeline.unknown_words(text):
                told = ", ".join(map(repr, unknown))
                print(f"unmask: {pipeline.info.name} may not know: {told}", file=sys.stderr)
        # disable=None: no bar when stderr is not a terminal
        with tqdm(total=requests[0].options.steps, unit="step", leave=False, disable=None) as bar:

            def on_step(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            began = time.perf_counter()
            drawn = pipeline.run_all(requests, on_step)
            seconds = time.perf_counter() - began
        sheets = output.sheets(drawn)
        for sheet in sheets:
            output.write(sheet, pipeline.info.name)
        self._tell(sheets, pipeline.info.name, seconds)

    def _tell(self, sheets: Sequence[Sheet], model: str, seconds: float) -> None:
        """What was written. Images are drawn together, so none has a time of its own: ``seconds``
        is that of all."""
        images = sum(sheet.request.n for sheet in sheets)
        if self.json:
            from unmask.encoding import parameters

            for sheet in sheets:
                told = json.loads(parameters(sheet.request, model))
                # A name that is not UTF-8 is told with escapes, as no JSON could hold its bytes.
                file = str(sheet.path).encode(errors="backslashreplace").decode()
                told |= {"file": file, "seconds": seconds, "images_drawn": images}
                print(json.dumps(told, sort_keys=True))
            return
        # Beside a picture on standard output, words would damage it.
        stream = sys.stderr if self.output == STANDARD else sys.stdout
        if len(sheets) == 1:
            seed = sheets[0].request.seed
            print(f"{sheets[0].path}  seed {seed}  {seconds:.2f} s", file=stream)
            return
        for sheet in sheets:
            indices = sheet.request.image_indices
            index = str(indices[0]) if len(indices) == 1 else f"{indices[0]} to {indices[-1]}"
            print(f"{sheet.path}  seed {sheet.request.seed}  image_index {index}")
        print(f"{images} images in {seconds:.2f} s")

    def _options(self, edit: "Edit | None") -> dict[str, Any]:
        from unmask.sampling.options import flat_options

        scale, guidance = self._guidance()
        flags: dict[str, Any] = {
            "steps": self.steps,
            "scheduler": self.scheduler,
            "mask_schedule": self.mask_schedule,
            "temperature": self.temperature,
            "choice_temperature": self.choice_temperature,
            "guidance_scale": scale,
            "guidance": guidance,
            "guidance_interval": self.guidance_interval,
        }
        sampling = {name: value for name, value in flags.items() if value is not None}
        known = flat_options()
        for text in self.set or []:
            name, value = _parse_option(text)
            if name not in known and name in {field.name for field in fields(self)}:
                flag = f"--{name.replace('_', '-')}"
                raise RequestError(f"--set {name}: it is no sampling option; give {flag}", name)
            look_up("set", known, name)
            if isinstance(value, str) and get_origin(known[name].type) is not None:
                value = _json(f"[{value}]", value)  # a list, whose brackets a shell reads itself
            if name in sampling:
                raise RequestError(f"{name} is given twice: once is enough", name)
            sampling[name] = value
        return {
            "edit": edit,
            "negative_prompt": self.negative,
            "long_prompt": self.long_prompt,
            "n": self.n,
            "seed": self.seed,
            "image_index": self.image_index,
            "subjects": None if self.subject is None else [_words(text) for text in self.subject],
            **sampling,
        }

    def _guidance(self) -> tuple[float | None, str | None]:
        """Scale and kind. A number after --guidance is the scale, as it was before the kind had
        the name that it has everywhere else."""
        try:
            scale = float(self.guidance or "")
        except ValueError:
            return self.guidance_scale, self.guidance
        if self.guidance_scale is not None:
            raise RequestError("guidance_scale is given twice: once is enough", "guidance_scale")
        print("unmask: --guidance is the kind now; the scale is --guidance-scale", file=sys.stderr)
        return scale, None


def draws(command: Callable[..., None]) -> Callable[..., None]:
    """Put the options of Drawing after the command's own, and hand them over as ``drawing``."""
    parameters = signature(command, eval_str=True).parameters
    arguments = [parameter for name, parameter in parameters.items() if name != "drawing"]
    shared = signature(Drawing, eval_str=True).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        drawing = Drawing(**{name: given.pop(name) for name in shared})
        command(**given, drawing=drawing)

    keyword = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in (*arguments, *shared.values())
    ]
    run.__signature__ = Signature(keyword)  # type: ignore[attr-defined]  # what typer reads
    return run


def _parse_option(text: str) -> tuple[str, Any]:
    """The name and the value of ``NAME=VALUE``; they are checked where all options meet."""
    name, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"--set {text!r}: give NAME=VALUE", "set")
    return name, _json(value, value)  # else a name, which JSON would quote


def _json(text: str, otherwise: str) -> Any:
    """The value that the text holds as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return otherwise


def _words(subject: str) -> list[str]:
    if not subject.strip():
        raise RequestError(f"subject {subject!r}: give the words of one object", "subjects")
    return subject.split()


@commands.command()
@draws
def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...")], *, drawing: Drawing
) -> None:
    """Draw images from PROMPT into a file; several make a grid. Several prompts make a file each,
    with a number in its name."""
    drawing.draw(prompts)


ImagePath = Annotated[
    Path, typer.Argument(help="png, webp or jpg file; - = standard input.", metavar="IMAGE")
]
MaskPath = Annotated[
    Path | None,
    typer.Option(help="Image of the same size, or -: white, or alpha 0, is drawn anew."),
]
MaskMode = Annotated[
    Literal["auto", "alpha", "white"],
    typer.Option(help="What the mask selects by; auto is alpha if it has an alpha channel."),
]
Feather = Annotated[int, typer.Option(help="Pixels over which the mask fades in, inside it.")]
Pixels = Annotated[int, typer.Option(help="Pixels to add on this side.", metavar="PIXELS")]


@commands.command()
@draws
def inpaint(
    image: ImagePath,
    prompt: str,
    mask: MaskPath = None,
    mask_mode: MaskMode = "auto",
    feather: Feather = 0,
    *,
    drawing: Drawing,
) -> None:
    """Draw PROMPT where the mask says; every other pixel of IMAGE stays as it is.

    Without a mask the transparent part of IMAGE is drawn.
    """
    from unmask import editing

    picture, selected = read_pictures(image, mask)
    drawing.draw([prompt], editing.inpaint(picture, selected, feather, mask_mode=mask_mode))


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
    drawing.draw([prompt], editing.outpaint(read_picture(image), **sides, feather=feather))


@commands.command()
@draws
def restyle(
    image: ImagePath,
    prompt: str,
    strength: Annotated[float, typer.Option(help="Share of the tokens drawn anew.")] = 0.5,
    mask: MaskPath = None,
    mask_mode: MaskMode = "auto",
    feather: Feather = 0,
    *,
    drawing: Drawing,
) -> None:
    """Image to image: draw a share of IMAGE's tokens anew under PROMPT."""
    from unmask import editing

    picture, selected = read_pictures(image, mask)
    edit = editing.image_to_image(picture, strength, selected, feather, mask_mode=mask_mode)
    drawing.draw([prompt], edit)


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

    drawing.draw([prompt], editing.variation(read_picture(image), strength))


@commands.command()
@draws
def revise(
    image: ImagePath,
    prompt: str,
    share: Annotated[float, typer.Option(help="Of the tokens, masked at a time.")] = 0.5,
    mask: MaskPath = None,
    mask_mode: MaskMode = "auto",
    feather: Feather = 0,
    *,
    drawing: Drawing,
) -> None:
    """Mask-free editing: mask and redraw a share of IMAGE under PROMPT, again at every step."""
    from unmask import editing

    picture, selected = read_pictures(image, mask)
    drawing.draw([prompt], editing.revise(picture, share, selected, feather, mask_mode=mask_mode))


@commands.command()
def options(
    markdown: Annotated[bool, typer.Option(help="As a table of docs/schedulers.md.")] = False,
) -> None:
    """List the sampling options that --set takes, with their defaults, bounds and choices."""
    from unmask.sampling.options import flat_options

    if markdown:
        print("| option | default | bounds or choices | meaning | does something with |")
        print("|---|---|---|---|---|")
    for option in flat_options().values():
        default = "its method's" if option.owners and option.default is None else option.default
        bounds = "" if option.low is None else f"{option.low:g} to {option.high:g}"
        told = bounds or ", ".join(option.choices)
        owners = ", ".join(option.owners) or "all"
        if markdown:
            row = (f"`{option.name}`", str(default), told, option.meaning, owners)
            print("| " + " | ".join(row) + " |")
        else:
            print(f"{option.name} = {default}" + (f"  ({told})" if told else ""))
            print(f"    {option.meaning}" + (f"\n    with {owners}" if option.owners else ""))

"""The options that all commands that draw share, and the drawing."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, get_origin

import typer

from unmask.commands.output import STANDARD, Output, Sheet
from unmask.commands.root import MODEL_HELP
from unmask.devices import Precision
from unmask.errors import RequestError, look_up

if TYPE_CHECKING:
    from unmask.editing import Edit
    from unmask.pipeline import ModelInfo


@dataclass
class Drawing:
    """The options of every command that draws, and the drawing."""

    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu"
    precision: Annotated[Precision, typer.Option(help="Of the backbone.")] = "fp32"
    n: Annotated[int, typer.Option("--n", help="Number of images, or of clips.")] = 1
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
    strict_prompt: Annotated[
        bool, typer.Option("--strict-prompt", help="Refuse words that the model was not taught.")
    ] = False
    share_prompt: Annotated[
        bool | None,
        typer.Option(
            "--share-prompt/--repeat-prompt",
            help="Whether each window of a large image draws a part of the prompt, or all of it. "
            "Else the model decides.",
        ),
    ] = None
    subject: Annotated[
        list[str] | None,
        typer.Option(help="The words of one object, as 'red apple'; once for each. Else found."),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: any sampling option; 'unmask options' lists them."),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="png, webp or jpg file [out.png]; of a clip mp4, webm, webp, gif, apng, or no "
            "ending for a folder of frames [out.webp]; - = standard output, as png or webp.",
        ),
    ] = None
    sheet: Annotated[
        Path | None, typer.Option(help="Of a clip: also a strip of frames, as a picture file.")
    ] = None
    separate: Annotated[
        bool, typer.Option(help="One file an image, not one grid. Clips always have their own.")
    ] = False
    force: Annotated[bool, typer.Option(help="Write over files that are there.")] = False
    json: Annotated[bool, typer.Option("--json", help="Tell of each file in a line of JSON.")] = (
        False
    )

    def draw(
        self,
        prompts: Sequence[str],
        edit: "Edit | None" = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Draw pictures, of a ``size`` if it is given, show how far it is, and write the files."""
        if self.sheet is not None:
            raise RequestError("sheet: a picture has no frames; leave it out", "sheet")
        from unmask.editing import blank

        output = Output(self.output or Path("out.png"), self.separate, self.force)

        def wanted(info: "ModelInfo") -> dict[str, Any]:
            if size is None:
                return {"edit": edit}
            return {"size": size} if size in info.sizes else {"edit": blank(*size)}

        self._draw(prompts, [output], wanted)

    def draw_clips(
        self, prompts: Sequence[str], wanted: "Callable[[ModelInfo], dict[str, Any]]"
    ) -> None:
        """As ``draw``. ``wanted`` makes what is asked for beside the shared options, once it is
        known what the model draws."""
        separate = self.separate or self.n > 1
        outputs = [Output(self.output or Path("out.webp"), separate, self.force, clips=True)]
        if self.sheet is not None:
            outputs.append(Output(self.sheet, separate, self.force))
        self._draw(prompts, outputs, wanted)

    def _draw(
        self,
        prompts: Sequence[str],
        outputs: Sequence[Output],
        wanted: "Callable[[ModelInfo], dict[str, Any]]",
    ) -> None:
        """Draw into the first of the outputs, and what it shows into the others."""
        paths = [output.path for output in outputs]
        if self.json and STANDARD in paths:
            raise RequestError("--json and -o - write to standard output: give one of them", "json")
        if len({path.absolute() for path in paths}) < len(paths):
            raise RequestError(
                f"sheet {self.sheet}: the clip goes there; give another file", "sheet"
            )
        from tqdm import tqdm

        from unmask.pipeline import MAX_IMAGES, Pipeline
        from unmask.sampling.methods import check_range
        from unmask.store import default_model

        check_range("n", self.n, 1, MAX_IMAGES)
        clips = outputs[0].clips
        for output in outputs:
            output.check(len(prompts), range(self.image_index, self.image_index + self.n))
        options = self._options()
        model = default_model(clips) if self.model is None else self.model
        pipeline = Pipeline.load(model, self.device, precision=self.precision)
        if clips:
            _ = pipeline.info.clip_slot  # refuses a model of pictures
        options |= wanted(pipeline.info)
        requests = [pipeline.request(prompt, **options) for prompt in prompts]
        edit = requests[0].edit
        outputs[0].check_alpha(edit is not None and edit.keeps_alpha)
        for warning in dict.fromkeys(warned for request in requests for warned in request.warnings):
            print(f"unmask: {warning.message}", file=sys.stderr)
        # disable=None: no bar when stderr is not a terminal
        with tqdm(total=requests[0].options.steps, unit="step", leave=False, disable=None) as bar:

            def on_step(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            began = time.perf_counter()
            drawn = pipeline.run_all(requests, on_step)
            seconds = time.perf_counter() - began
        written = [(output, output.sheets(drawn)) for output in outputs]
        for output, sheets in written:
            for sheet in sheets:
                output.write(sheet, pipeline.info.name)
        # Beside a picture on standard output, words would damage it.
        stream = sys.stderr if STANDARD in paths else sys.stdout
        self._tell(written[0][1], pipeline.info.name, seconds, stream)

    def _tell(self, sheets: Sequence[Sheet], model: str, seconds: float, stream: TextIO) -> None:
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
                if sheet.request.warnings:
                    told["warnings"] = [asdict(warning) for warning in sheet.request.warnings]
                print(json.dumps(told, sort_keys=True))
            return
        if len(sheets) == 1:
            seed = sheets[0].request.seed
            print(f"{sheets[0].path}  seed {seed}  {seconds:.2f} s", file=stream)
            return
        for sheet in sheets:
            indices = sheet.request.image_indices
            index = str(indices[0]) if len(indices) == 1 else f"{indices[0]} to {indices[-1]}"
            print(f"{sheet.path}  seed {sheet.request.seed}  image_index {index}", file=stream)
        what = "clips" if sheets[0].request.is_clip else "images"
        print(f"{images} {what} in {seconds:.2f} s", file=stream)

    def _options(self) -> dict[str, Any]:
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
            "negative_prompt": self.negative,
            "long_prompt": self.long_prompt,
            "strict_prompt": self.strict_prompt,
            "share_prompt": self.share_prompt,
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

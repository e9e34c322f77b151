"""The commands that draw clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.commands.drawing import Drawing, draws
from unmask.commands.output import read_picture
from unmask.commands.root import commands
from unmask.commands.sources import Source, clip_for, read_source, read_sources
from unmask.errors import RequestError

if TYPE_CHECKING:
    from unmask.pipeline import ModelInfo, Scene

Seconds = Annotated[
    float | None, typer.Option(help="How long the clip is, to the nearest whole slot.")
]
Frames = Annotated[int | None, typer.Option(help="How many frames it has, instead of --seconds.")]


@commands.command()
@draws
def video(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...")],
    seconds: Seconds = None,
    frames: Frames = None,
    then: Annotated[
        list[str] | None,
        typer.Option(help="A further scene with a prompt of its own.", metavar="PROMPT:SECONDS"),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture, or a clip that begins there, as frames of the clip; frame 0 is the "
            "first.",
            metavar="FRAME=FILE",
        ),
    ] = None,
    *,
    drawing: Drawing,
) -> None:
    """Draw a clip from PROMPT into a file. Several prompts make a file each, with a number in its
    name."""
    from unmask.editing import pin

    if at and then:
        raise RequestError("at: it cannot be used with --then; leave one of them out", "at")
    given = _pinned(at or [])

    def wanted(info: "ModelInfo") -> dict[str, Any]:
        length = info.length(seconds, frames)
        if given:
            pictures = {frame: clip_for(info, source, "at") for frame, source in given.items()}
            return {"edit": pin(pictures, length)}
        scenes = [_scene(text, info.clip_slot) for text in then or []]
        return {"frames": length, "scenes": scenes}

    drawing.draw_clips(prompts, wanted)


def _pinned(texts: list[str]) -> dict[int, Source]:
    """The pictures and clips of FRAME=FILE, by their frame."""
    given: dict[int, Source] = {}
    for text in texts:
        number, equals, path = text.partition("=")
        if not (equals and path and number.strip().isdecimal()):
            raise RequestError(f"at {text[:80]!r}: give FRAME=FILE, as 6=end.png", "at")
        if int(number) in given:
            raise RequestError(f"at: frame {int(number)} is given twice; once is enough", "at")
        given[int(number)] = read_source(Path(path), "at")
    return given


def _scene(text: str, slot: int) -> "Scene":
    """The scene of PROMPT:SECONDS."""
    from unmask.pipeline import Scene, whole_slots

    prompt, _, seconds = text.rpartition(":")
    try:
        return Scene(prompt, whole_slots(float(seconds), slot, "then"))
    except ValueError:
        raise RequestError(f"then {text[:80]!r}: give PROMPT:SECONDS", "then") from None


@commands.command()
@draws
def animate(
    picture: Annotated[
        Path, typer.Argument(help="png, webp or jpg file; - = standard input.", metavar="PICTURE")
    ],
    prompt: str,
    seconds: Seconds = None,
    frames: Frames = None,
    *,
    drawing: Drawing,
) -> None:
    """Draw a clip that begins with PICTURE."""
    from unmask.editing import extend

    first = read_picture(picture)

    def wanted(info: "ModelInfo") -> dict[str, Any]:
        length = info.length(seconds, frames)
        if length < 2:
            raise RequestError(
                f"frames is {length}; the least is 2, the first of which is the picture", "frames"
            )
        return {"edit": extend(clip_for(info, first), length - 1)}

    drawing.draw_clips([prompt], wanted)


@commands.command()
@draws
def interpolate(
    first: Annotated[Path, typer.Argument(help="A picture or a clip; - = standard input.")],
    last: Annotated[Path, typer.Argument(help="A picture or a clip; - = standard input.")],
    prompt: Annotated[str, typer.Argument(help="What happens, if you can say.")] = "",
    seconds: Seconds = None,
    frames: Frames = None,
    through: Annotated[
        Path | None,
        typer.Option(help="A clip whose first and last frames these are to replace."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="Share of the tokens between that is drawn anew, with --through. [0.5]"),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="Instead: that share of them is masked at a time, to revise them."),
    ] = None,
    *,
    drawing: Drawing,
) -> None:
    """Draw a clip that begins with FIRST and ends with LAST; or redraw what lies between in the
    clip of --through, which tells how things move."""
    from unmask import editing

    if through is not None and (seconds is not None or frames is not None):
        name = "frames" if seconds is None else "seconds"
        raise RequestError(f"{name}: the clip of --through tells it; leave it out", name)
    for name, value in (("strength", strength), ("share", share)):
        if through is None and value is not None:
            raise RequestError(f"{name}: it is for the clip of --through; give that too", name)
    begin, end, source = read_sources(first=first, last=last, through=through)
    assert begin is not None, "it was given"
    assert end is not None, "it was given"

    def wanted(info: "ModelInfo") -> dict[str, Any]:
        ends = clip_for(info, begin, "first"), clip_for(info, end, "last")
        if source is None:
            return {"edit": editing.interpolate(*ends, info.length(seconds, frames))}
        clip = clip_for(info, source, "through")
        given = sum(map(len, ends))
        if given >= len(clip):
            raise RequestError(
                f"through: it has {len(clip)} frames, and {given} are given; there must be one "
                "more at least",
                "through",
            )
        pictures = {0: ends[0], len(clip) - len(ends[1]): ends[1]}
        return {"edit": editing.interpolate_through(clip, pictures, strength, share)}

    drawing.draw_clips([prompt], wanted)


@commands.command()
@draws
def extend(
    clip: Annotated[Path, typer.Argument(help="A clip or a picture; - = standard input.")],
    prompt: str,
    seconds: Annotated[
        float | None, typer.Option(help="How much longer it gets, to the nearest whole slot.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="The same, in frames.")] = None,
    *,
    drawing: Drawing,
) -> None:
    """Go on with CLIP, which comes back as it is."""
    from unmask import editing

    source = read_source(clip, "clip")

    def wanted(info: "ModelInfo") -> dict[str, Any]:
        more = info.length(seconds, frames, begun=True)
        return {"edit": editing.extend(clip_for(info, source, "clip"), more)}

    drawing.draw_clips([prompt], wanted)

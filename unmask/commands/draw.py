"""The commands that draw pictures, and those that edit pictures and clips alike."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unmask.clips.clip import Clip
from unmask.commands.drawing import Drawing, draws
from unmask.commands.output import read_picture
from unmask.commands.root import commands
from unmask.commands.sources import read_region, read_size


@commands.command()
@draws
def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...")],
    size: Annotated[
        str | None,
        typer.Option(
            help="Of the image: another than the model's own is drawn window by window.",
            metavar="WxH",
        ),
    ] = None,
    *,
    drawing: Drawing,
) -> None:
    """Draw images from PROMPT into a file; several make a grid. Several prompts make a file each,
    with a number in its name."""
    drawing.draw(prompts, size=None if size is None else read_size(size))


ImagePath = Annotated[
    Path,
    typer.Argument(
        help="png, webp or jpg file, or a clip: mp4, webm, gif, or a png or webp that moves; - = "
        "standard input.",
        metavar="IMAGE",
    ),
]
MaskPath = Annotated[
    Path | None,
    typer.Option(
        help="Image of the same size, or -: white, or alpha 0, is drawn anew. Of a clip it may be "
        "a clip too, with a mask a frame."
    ),
]
Box = Annotated[
    str | None,
    typer.Option(help="Of a clip, in pixels: instead of a mask, a box.", metavar="L,T,R,B"),
]
LastBox = Annotated[
    str | None,
    typer.Option(help="Where --box has moved to in the last frame.", metavar="L,T,R,B"),
]
Size = Annotated[
    str | None,
    typer.Option(help="Of a clip: scale and cut its frames to this first.", metavar="WxH"),
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
    box: Box = None,
    last_box: LastBox = None,
    size: Size = None,
    *,
    drawing: Drawing,
) -> None:
    """Draw PROMPT where the mask says; every other pixel of IMAGE stays as it is.

    Without a mask the transparent part of IMAGE is drawn. IMAGE may be a clip.
    """
    from unmask import editing

    source, region = read_region(image, mask, mask_mode, feather, box, last_box, size)
    if isinstance(source, Clip):
        region.needed()
        drawing.draw_clips([prompt], region.edits(source, editing.inpaint_clip))
        return
    selected = region.of_picture()
    drawing.draw([prompt], editing.inpaint(source, selected, feather, mask_mode=mask_mode))


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
    box: Annotated[
        str | None,
        typer.Option(help="Of a clip, in pixels: what is kept of its frames.", metavar="L,T,R,B"),
    ] = None,
    last_box: LastBox = None,
    size: Size = None,
    *,
    drawing: Drawing,
) -> None:
    """Draw on beyond the edges of IMAGE; of a clip also all that lies outside of --box."""
    from unmask import editing

    source, region = read_region(image, None, "auto", feather, box, last_box, size)
    sides = {"left": left, "right": right, "top": top, "bottom": bottom}
    if isinstance(source, Clip):
        if not any(sides.values()):
            region.needed()
        drawing.draw_clips(
            [prompt],
            region.edits(source, lambda clip, kept: editing.outpaint_clip(clip, kept, **sides)),
        )
        return
    region.of_picture()
    drawing.draw([prompt], editing.outpaint(source, **sides, feather=feather))


@commands.command()
@draws
def restyle(
    image: ImagePath,
    prompt: str,
    strength: Annotated[float, typer.Option(help="Share of the tokens drawn anew.")] = 0.5,
    mask: MaskPath = None,
    mask_mode: MaskMode = "auto",
    feather: Feather = 0,
    box: Box = None,
    last_box: LastBox = None,
    size: Size = None,
    *,
    drawing: Drawing,
) -> None:
    """Image to image: draw a share of IMAGE's tokens anew under PROMPT. IMAGE may be a clip."""
    from unmask import editing

    source, region = read_region(image, mask, mask_mode, feather, box, last_box, size)
    if isinstance(source, Clip):
        drawing.draw_clips(
            [prompt],
            region.edits(source, lambda clip, masks: editing.restyle_clip(clip, strength, masks)),
        )
        return
    selected = region.of_picture()
    edit = editing.image_to_image(source, strength, selected, feather, mask_mode=mask_mode)
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
    box: Box = None,
    last_box: LastBox = None,
    size: Size = None,
    *,
    drawing: Drawing,
) -> None:
    """Mask-free editing: mask and redraw a share of IMAGE under PROMPT, again at every step. IMAGE
    may be a clip."""
    from unmask import editing

    source, region = read_region(image, mask, mask_mode, feather, box, last_box, size)
    if isinstance(source, Clip):
        drawing.draw_clips(
            [prompt],
            region.edits(source, lambda clip, masks: editing.revise_clip(clip, share, masks)),
        )
        return
    selected = region.of_picture()
    drawing.draw([prompt], editing.revise(source, share, selected, feather, mask_mode=mask_mode))


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

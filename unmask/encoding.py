"""Images to bytes, with the parameters they were drawn from written into a PNG."""

import base64
import io
import json
from dataclasses import asdict
from typing import Literal

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from unmask.pipeline import DrawRequest

ImageFormat = Literal["png", "webp", "jpeg"]
Size = tuple[int, int]


def parameters(request: DrawRequest, model: str) -> str:
    """The model and the resolved request as JSON: the same request gives the same text.

    Of an edited picture there is a digest, not its pixels.
    """
    values = vars(request) | request.options.flat()
    del values["options"], values["warnings"]
    if not request.is_clip:  # so what a picture's file says does not tell of clips
        del values["frames"], values["scenes"]
    else:
        values["scenes"] = [asdict(scene) for scene in request.scenes]
    values |= {"model": model, "size": size_text(request.size)}
    values["edit"] = request.edit.summary() if request.edit else None
    return json.dumps(values, sort_keys=True)


def size_text(size: Size) -> str:
    """A (width, height) as WxH."""
    return f"{size[0]}x{size[1]}"


def encode(image: Image.Image, image_format: ImageFormat, quality: int, text: str) -> bytes:
    """The bytes of a file: ``quality`` is read by webp and jpeg, ``text`` goes into a png."""
    file = io.BytesIO()
    if image_format == "png":
        notes = PngInfo()
        notes.add_itxt("unmask", text)
        image.save(file, "png", pnginfo=notes)
    else:
        image.save(file, image_format, quality=quality)
    return file.getvalue()


def scaled(image: Image.Image, size: Size) -> Image.Image:
    """The image at another size: it keeps its proportions, and what then overhangs is cut off."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def base_64(data: bytes) -> str:
    """Bytes as JSON holds them."""
    return base64.b64encode(data).decode()

"""Pictures and forms that hold them, for the routes that edit."""

import io
from collections.abc import Mapping
from typing import Any

import httpx2
import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

Colour = int | tuple[int, ...]
EDITS, OUTPAINT, VARIATIONS = (f"/v1/images/{name}" for name in ("edits", "outpaint", "variations"))


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


def file(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def left_half(
    mode: str, chosen: Colour, rest: Colour, size: tuple[int, int] = (40, 24)
) -> Image.Image:
    mask = Image.new(mode, size, rest)
    mask.paste(chosen, (0, 0, size[0] // 2, size[1]))
    return mask


IMAGE = noise()
PNG = file(IMAGE)
MASK = file(left_half("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)))


def post(
    client: TestClient,
    url: str = EDITS,
    data: Mapping[str, object] | None = None,
    **files: Any,
) -> httpx2.Response:
    data = {"prompt": "a red cat"} if data is None else dict(data)
    named: dict[str, Any] = {
        name: (f"{name}.png", content, "image/png") for name, content in files.items()
    }
    return client.post(url, data=data, files=named or {"": b""})

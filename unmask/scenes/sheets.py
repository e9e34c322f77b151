"""Contact sheets: many pictures in one."""

import torch
from PIL import Image
from torch import Tensor


def to_image(pixels: Tensor) -> Image.Image:
    """A PIL image of one (3, height, width) tensor in [0, 1]."""
    array = (pixels.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return Image.fromarray(array.permute(1, 2, 0).numpy())


def contact_sheet(images: Tensor, columns: int, enlarge: int = 1) -> Image.Image:
    """One picture of (count, 3, height, width) images in rows, two pixels of white between."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.ones(3, rows * (height + 2) - 2, columns * (width + 2) - 2)
    for i, image in enumerate(images.cpu()):
        top, left = i // columns * (height + 2), i % columns * (width + 2)
        sheet[:, top : top + height, left : left + width] = image
    picture = to_image(sheet)
    return picture.resize(
        (picture.width * enlarge, picture.height * enlarge), Image.Resampling.NEAREST
    )

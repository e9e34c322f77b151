"""How a picture looks before all of it is drawn."""

from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import Tensor


def preview(frames: Tensor, mask_id: int, picture: Callable[[Tensor], Image.Image]) -> Image.Image:
    """Frames (frames, rows, columns) of tokens side by side, grey where they are masked;
    ``picture`` makes that of one (cells,)."""
    return Image.fromarray(np.concatenate([_frame(one, mask_id, picture) for one in frames], 1))


def _frame(
    tokens: Tensor, mask_id: int, picture: Callable[[Tensor], Image.Image]
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    masked = tokens == mask_id
    # The decoder looks at neighbours: for a masked one it sees what there is most of.
    most = int(tokens[~masked].mode().values) if not bool(masked.all()) else 0
    image = np.array(picture(tokens.masked_fill(masked, most).flatten()))
    grey = masked.cpu().numpy()
    patch = image.shape[0] // grey.shape[0]
    image[grey.repeat(patch, 0).repeat(patch, 1)] = 128
    return image

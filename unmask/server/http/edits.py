"""From uploaded pictures to the edit that a route is for, and the sizes that come back."""

from dataclasses import dataclass
from functools import partial

from PIL import Image

from unmask.editing import (
    MAX_DRAWN_PIXELS,
    MAX_PIXELS,
    Edit,
    MaskMode,
    has_transparency,
    image_to_image,
    inpaint,
    outpaint,
    revise,
    variation,
)
from unmask.encoding import Size
from unmask.errors import RequestError
from unmask.images import ImageLimits, read_image
from unmask.server.http.bodies import Upload
from unmask.server.http.schemas import EditBody, OutpaintBody, VariationBody

MAX_SCALED_PIXELS = 1 << 23  # of an image that is scaled to what was asked


@dataclass(frozen=True)
class Picture:
    """What a route draws over, and the size of the picture as it was sent if it was shrunk."""

    edit: Edit
    sent: Size | None = None


@dataclass(frozen=True)
class Reading:
    """How pictures are read: the largest file, and the size to which one that is too large to be
    drawn whole is shrunk; None: it is refused."""

    max_bytes: int
    shrink_to: Size | None

    @property
    def limits(self) -> ImageLimits:
        """Those of one picture."""
        return ImageLimits(self.max_bytes, MAX_PIXELS)

    def shrunk(self, image: Image.Image) -> tuple[Image.Image, Size | None]:
        """A picture that changes everywhere, at a size that can be drawn, and its size before."""
        pixels = image.width * image.height
        if self.shrink_to is None or pixels <= MAX_DRAWN_PIXELS:
            return image, None
        factor = max(self.shrink_to[0] / image.width, self.shrink_to[1] / image.height)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return image.resize(size, Image.Resampling.LANCZOS), image.size


def make_edit(upload: Upload[EditBody], reading: Reading) -> Picture:
    """What /v1/images/edits asks for; see its documentation for what decides the kind."""
    body = upload.body
    picture = partial(read_image, limits=reading.limits)
    image = picture(upload.files["image"], "image")
    mask = picture(upload.files["mask"], "mask") if "mask" in upload.files else None
    masked = mask is not None or has_transparency(image)
    if body.strength is not None and body.share is not None:
        raise RequestError("share: give it or a strength, not both", "share")
    feather = body.feather or 0
    if feather and not masked:
        raise RequestError("feather: there is no mask whose edge it could soften", "feather")
    mode: MaskMode = body.mask_mode or "auto"
    if mode != "auto" and mask is None:
        raise RequestError(f"mask_mode is {mode}, but there is no mask to read", "mask_mode")
    sent = None
    if not masked:
        image, sent = reading.shrunk(image)
    if body.strength is not None:
        edit = image_to_image(image, body.strength, mask, feather, mask_mode=mode)
    elif body.share is not None:
        edit = revise(image, body.share, mask, feather, mask_mode=mode)
    else:
        edit = inpaint(image, mask, feather, mask_mode=mode) if masked else revise(image)
    return Picture(edit, sent)


def make_outpaint(upload: Upload[OutpaintBody], reading: Reading) -> Picture:
    """What /v1/images/outpaint asks for."""
    body = upload.body
    image = read_image(upload.files["image"], "image", reading.limits)
    return Picture(outpaint(image, **body.sides, feather=body.feather or 0))


def make_variation(upload: Upload[VariationBody], reading: Reading) -> Picture:
    """What /v1/images/variations asks for."""
    image, sent = read_image(upload.files["image"], "image", reading.limits), None
    if not has_transparency(image):
        image, sent = reading.shrunk(image)
    strength = upload.body.strength
    return Picture(variation(image) if strength is None else variation(image, strength), sent)


def check_scaled_size(size: Size) -> None:
    """RequestError for a size that nothing is scaled to."""
    if size[0] * size[1] > MAX_SCALED_PIXELS:
        raise RequestError(
            f"size {size[0]}x{size[1]}: it has {size[0] * size[1]} pixels; images are scaled to "
            f"at most {MAX_SCALED_PIXELS}",
            "size",
        )

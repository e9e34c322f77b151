"""An order: what a sender asks for, checked, and how the answer must look."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from PIL import Image

from unmask.encoding import Size, encode, scaled, size_text
from unmask.pipeline import DrawRequest, ModelInfo, Pipeline
from unmask.server.engine.costs import WeighedRequest
from unmask.server.http.answer_schemas import PictureVerdict, RequestWarning, Usage
from unmask.server.http.bodies import DrawingBody
from unmask.server.http.schemas import ImageBody

# OpenAI's own names of models, and what clients write for none: they send them when their
# user chose none.
ALIASES = ("dall-e-", "gpt-image-", "chatgpt-image-", "sora-")
NO_MODEL = ("", "None", "null")


@dataclass(frozen=True)
class DrawingOrder:
    """A resolved request, the body it came in, and who asks."""

    body: DrawingBody
    weighed: WeighedRequest
    key: str
    timeout: float

    @property
    def request(self) -> DrawRequest:
        """What is drawn."""
        return self.weighed.request

    @property
    def model(self) -> ModelInfo:
        """The model that draws it."""
        return self.weighed.model.pipeline.info

    @property
    def warnings(self) -> tuple[RequestWarning, ...] | None:
        """What the sender should know; None if there is nothing."""
        told = (asdict(warning) for warning in self.request.warnings)
        return tuple(RequestWarning(**warning) for warning in told) or None


@dataclass(frozen=True)
class Order(DrawingOrder):
    """An order of images."""

    body: ImageBody
    size: Size  # of the images that come back: what is drawn is scaled to it

    @property
    def background(self) -> Literal["opaque", "transparent"]:
        """OpenAI's word for what lies behind."""
        edit = self.request.edit
        return "transparent" if edit is not None and edit.keeps_alpha else "opaque"

    @property
    def size_policy(self) -> Literal["scale"] | None:
        """How the images came to their size, if it is not the one that was drawn."""
        return None if self.size == self.request.size else "scale"

    @property
    def drawn_size(self) -> str | None:
        """The size that was drawn, if it is another."""
        return None if self.size == self.request.size else size_text(self.request.size)

    def verdicts(self, images: Sequence[Image.Image]) -> list[PictureVerdict | None]:
        """What the judge says of images as they were drawn; None if it was not asked."""
        if not self.body.judged:
            return [None] * len(images)
        verdicts = self.weighed.model.pipeline.judge(self.request.prompt, images)
        return [PictureVerdict.model_validate(verdict) for verdict in verdicts]

    def usage(self, position: int | None = None) -> Usage:
        """Tokens of the prompt, and of all windows of the images; or what one of the images adds,
        by its position: the prompt counts with the first."""
        read = 0 if position else self.weighed.model.pipeline.text_tokens(self.request.prompt)
        drawn = self.weighed.cost.drawn_tokens
        if position is not None:
            drawn //= self.request.n
        return Usage(
            input_tokens=read,
            input_tokens_details={"text_tokens": read, "image_tokens": 0},
            output_tokens=drawn,
            total_tokens=read + drawn,
        )

    def file(self, image: Image.Image, text: str = "") -> bytes:
        """An image as the body asks for it."""
        if image.size != self.size:
            image = scaled(image, self.size)
        return encode(image, self.body.image_format, self.body.image_quality, text)


def model_name(body: DrawingBody) -> str | None:
    """The served model that is asked for; None: the default one."""
    name = body.model or ""
    return None if name in NO_MODEL or name.startswith(ALIASES) else name


def resolve(body: DrawingBody, model: Pipeline, **more: Any) -> DrawRequest:
    """The request for what a body tells, and for ``more``. RequestError."""
    options = {"steps": body.given_steps, **more}
    return model.request(
        body.prompt,
        negative_prompt=body.negative_prompt,
        seed=body.seed,
        size=body.width_height,
        subjects=body.subjects,
        long_prompt=body.long_prompt,
        strict_prompt=body.strict_prompt,
        **{**body.sampling, **options},
    )

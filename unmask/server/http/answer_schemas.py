"""The bodies of answers: OpenAI's fields, and ours beside them.

Fields that are null are left out of an answer, so only what is always there is required.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from unmask.encoding import ImageFormat
from unmask.sampling.options import flat_options


class JudgedObject(BaseModel):
    """A whole object that the judge sees: its centre and side in pixels of what was drawn."""

    model_config = ConfigDict(from_attributes=True)

    noun: str
    colours: tuple[str, ...] = Field(description="all that it carries")
    x: float
    y: float
    side: float
    whole: float = Field(description="how sure the judge is that it is whole, 0 to 1")


class PictureVerdict(BaseModel):
    """What the model's judge says of an image."""

    model_config = ConfigDict(from_attributes=True)

    right: bool | None = Field(
        default=None,
        description="all that the prompt asks for is there; absent if the judge cannot read it",
    )
    faults: tuple[Literal["missing", "count", "position", "colours", "background"], ...]
    reason: str | None = Field(default=None, description="why the judge cannot read the prompt")
    objects: tuple[JudgedObject, ...]
    background: str


class ImageData(BaseModel):
    """One image; the same (seed, image_index) and parameters give it again."""

    b64_json: str | None = None
    url: str | None = Field(default=None, description="where it is, as long as its job is kept")
    seed: int
    image_index: int
    verdict: PictureVerdict | None = Field(default=None, description="with judge: true")


class Usage(BaseModel):
    """What was read and drawn, in tokens: those of the prompt, and those of the images."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    total_tokens: int


class Timings(BaseModel):
    """Where the seconds went."""

    queue: float
    generate: float
    judge: float | None = Field(default=None, description="absent if nothing was judged")
    encode: float


class EditSummary(BaseModel):
    """What was drawn over: enough to tell one edit from another."""

    kind: str
    feather: int
    sha256: str
    strength: float | None = None
    share: float | None = None


class UnknownWord(BaseModel):
    """A word as it stands in a prompt, and the known words that look most like it."""

    word: str
    nearest: tuple[str, ...]


class RequestWarning(BaseModel):
    """What was drawn all the same, but its sender should know."""

    code: Literal["unknown_words"]
    param: str = Field(description="the field that it is about")
    message: str
    words: tuple[UnknownWord, ...] = Field(description="that the model was not taught")


class ImagesAnswer(BaseModel):
    """OpenAI's ImagesResponse, then the values the images were drawn from."""

    created: int
    data: list[ImageData]
    background: Literal["opaque", "transparent"]
    output_format: ImageFormat
    quality: str | None = None
    size: str
    safety_identifier: str | None = None
    usage: Usage

    model: str
    seed: int
    timings: Timings
    subjects: tuple[tuple[str, ...], ...]
    warnings: tuple[RequestWarning, ...] | None = None
    long_prompt: Literal[True] | None = Field(
        default=None, description="the prompts were read in chunks, if they are long"
    )
    edit: EditSummary | None = None
    size_policy: Literal["scale"] | None = Field(
        default=None, description="the size that was asked for is not the one that was drawn"
    )
    drawn_size: str | None = Field(
        default=None, description="the size before it was scaled, if it was"
    )


RESOLVED: dict[str, Any] = {
    name: (
        option.type | None,
        Field(default=None, description=f"{option.meaning}; absent if it is idle"),
    )
    for name, option in flat_options().items()
}
ImageAnswer = create_model(
    "ImageAnswer", __base__=ImagesAnswer, __doc__=ImagesAnswer.__doc__, **RESOLVED
)


class PreviewEvent(BaseModel):
    """A preview in a stream; partial_image_index counts those of its image from 0."""

    type: Literal["image_generation.partial_image", "image_edit.partial_image"]
    b64_json: str
    partial_image_index: int
    step: int = Field(description="how many steps of the image were done, those of all its windows")
    created_at: int
    size: str
    quality: str
    background: Literal["opaque", "transparent"]
    output_format: ImageFormat
    seed: int
    image_index: int


class CompletedEvent(BaseModel):
    """A finished image in a stream. Its usage is its own: the prompt counts with the first."""

    type: Literal["image_generation.completed", "image_edit.completed"]
    b64_json: str
    created_at: int
    size: str
    quality: str
    background: Literal["opaque", "transparent"]
    output_format: ImageFormat
    seed: int
    image_index: int
    usage: Usage
    model: str
    warnings: tuple[RequestWarning, ...] | None = None
    verdict: PictureVerdict | None = None
    safety_identifier: str | None = None
    long_prompt: Literal[True] | None = None
    size_policy: Literal["scale"] | None = None
    drawn_size: str | None = None


ImageEvent = create_model(
    "ImageEvent", __base__=CompletedEvent, __doc__=CompletedEvent.__doc__, **RESOLVED
)


class Bound(BaseModel):
    """What a field of a request may be; of a list of numbers it is that of each."""

    model_config = ConfigDict(populate_by_name=True)

    minimum: int | float | None = None
    maximum: int | float | None = None
    exclusive_minimum: int | float | None = Field(default=None, alias="exclusiveMinimum")
    max_length: int | None = Field(default=None, alias="maxLength")
    max_items: int | None = Field(default=None, alias="maxItems")
    enum: list[str] | None = None


class ModelCard(BaseModel):
    """OpenAI's Model, then whether it is loaded, what the server takes, and what the model can do:
    known once it was loaded."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "unmask"
    state: Literal["absent", "loading", "loaded", "failed"]
    reason: str | None = Field(default=None, description="why it could not be loaded")
    size_policy: Literal["exact", "scale"] = Field(
        description="another size than that which is drawn is refused, or scaled to"
    )
    max_edit_images: int = Field(description="pictures that one edit reads")
    max_edit_pixels: int = Field(description="of the result of an edit")
    max_drawn_pixels: int = Field(description="that may be drawn in a result that has more")
    max_scaled_pixels: int | None = Field(default=None, description="of a size that is scaled to")
    max_body_bytes: int
    max_upload_bytes: int = Field(description="of a body that holds pictures")
    max_seconds: float = Field(description="for one request, its wait included")
    bounds: dict[str, Bound] = Field(description="of the fields of all requests")
    description: str | None = None
    size: str | None = None
    sizes: list[str] | None = Field(
        default=None, description="that it draws at once, largest first"
    )
    grid: tuple[int, ...] | None = None
    parameters: int | None = None
    codebook_size: int | None = None
    condition: str | None = None
    schedulers: tuple[str, ...] | None = None
    mask_schedules: tuple[str, ...] | None = None
    guidances: tuple[str, ...] | None = None
    count_rules: tuple[str, ...] | None = None
    reuse_policies: tuple[str, ...] | None = None
    max_steps: int | None = None
    max_n: int | None = None
    max_prompt_characters: int | None = None
    max_text_tokens: int | None = Field(
        default=None, description="of a prompt; absent if the model reads no text"
    )
    max_long_prompt_text_tokens: int | None = Field(
        default=None, description="with long_prompt; absent if the model reads no chunks"
    )
    frames: int | None = Field(
        default=None, description="of a clip that is drawn at once; absent if it draws no clips"
    )
    max_frames: int | None = Field(default=None, description="of a clip")
    rate: int | None = Field(default=None, description="frames a second of a clip")
    slot: int | None = Field(default=None, description="frames between two key frames of a clip")
    words: tuple[str, ...] | None = Field(
        default=None,
        description="that it was taught, sorted; absent in a list, and where that cannot be told",
    )
    judge: bool | None = Field(default=None, description="it has a judge of its pictures")


class ModelList(BaseModel):
    """All models that this server draws with."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Status(BaseModel):
    """What the probes answer when all is well."""

    status: Literal["live", "ready"]

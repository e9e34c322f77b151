"""From a body of ``/sdapi/v1`` to an order as ``/v1`` has it, and what is told of it."""

import base64
import binascii
import io
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import ImageOps
from starlette.concurrency import run_in_threadpool

from unmask.editing import MAX_PIXELS
from unmask.encoding import parameters, size_text
from unmask.errors import RequestError
from unmask.images import ImageLimits, read_image
from unmask.pipeline import ModelInfo
from unmask.pipeline.request import MAX_IMAGES
from unmask.sampling.noise import SEED_BOUND
from unmask.server.a1111.schemas import HINTS, ImageToImage, TextToImage
from unmask.server.engine.costs import WeighedRequest
from unmask.server.engine.face import EngineFace
from unmask.server.http.bodies import Upload, read_body
from unmask.server.http.order import Order
from unmask.server.http.orders import EDIT, GENERATION, make_order
from unmask.server.http.schemas import EditBody, GenerationBody
from unmask.settings import Settings

STRENGTH, BLUR = 0.75, 4  # A1111's defaults
AUTOMATIC = ("", "automatic", "use same sampler", "use same scheduler")
MODEL = "sd_model_checkpoint"


@dataclass(frozen=True)
class Translated:
    """An order of all images of a request; and what was not done as it was asked for."""

    body: TextToImage
    order: Order
    notes: list[str]

    def parts(self) -> list[WeighedRequest]:
        """A request for each image: here image i has seed + i, so each is the first of a seed."""
        weighed = self.order.weighed
        return [
            WeighedRequest(
                weighed.model,
                replace(
                    weighed.prepared, request=replace(weighed.request, n=1, seed=self._seed(index))
                ),
                replace(weighed.cost, images=1),
            )
            for index in range(weighed.request.n)
        ]

    def _seed(self, index: int) -> int:
        return (self.order.request.seed + index) % SEED_BOUND

    def info(self, parts: list[WeighedRequest], notes: list[str]) -> str:
        """All that A1111 tells of its images, as the JSON text that its clients expect."""
        request, model = self.order.request, self.order.model
        seeds = [part.request.seed for part in parts]
        options = request.options.flat()
        edit = request.edit.summary() if request.edit else {}
        told = {
            "prompt": request.prompt,
            "all_prompts": [request.prompt] * len(parts),
            "negative_prompt": request.negative_prompt or "",
            "all_negative_prompts": [request.negative_prompt or ""] * len(parts),
            "seed": request.seed,
            "all_seeds": seeds,
            "subseed": 0,
            "all_subseeds": [0] * len(parts),
            "subseed_strength": 0,
            "width": self.order.size[0],
            "height": self.order.size[1],
            "sampler_name": options["scheduler"],
            "cfg_scale": options["guidance_scale"],
            "steps": options["steps"],
            "batch_size": self.body.batch_size or 1,
            "sd_model_name": model.name,
            "sd_model_hash": "",
            "denoising_strength": edit.get("strength"),
            "extra_generation_params": options | {"drawn_size": size_text(request.size)},
            "index_of_first_image": 0,
            "infotexts": [parameters(part.request, model.name) for part in parts],
            "styles": [],
            "clip_skip": 1,
            "notes": notes,
            "warnings": [asdict(warning) for warning in request.warnings],
        }
        return json.dumps(told)


async def translate(
    engine: EngineFace, settings: Settings, body: TextToImage, model: str, sender: str
) -> Translated:
    """The order of a body; ``model`` is asked for unless it names another. RequestError, and all
    that making an order raises."""
    if body.script_name or body.alwayson_scripts:
        raise RequestError(
            "script_name, alwayson_scripts: this server has no scripts, so leave both empty",
            "script_name" if body.script_name else "alwayson_scripts",
        )
    if body.images > MAX_IMAGES:
        raise RequestError(
            f"batch_size times n_iter is {body.images}: at most {MAX_IMAGES} images are drawn",
            "batch_size",
        )
    overrides = dict(body.override_settings or {})
    model = checkpoint(overrides.pop(MODEL, None)) or model
    opened = await engine.open(model)
    fields, notes = _fields(body, opened.pipeline.info)
    fields["model"] = model
    notes += [f"override_settings: {name[:64]}: ignored" for name in overrides]
    if isinstance(body, ImageToImage):
        upload = await run_in_threadpool(_edit, body, fields, settings)
        order = await make_order(engine, settings, EDIT, upload, sender)
    else:
        generation = Upload(_read(fields, GenerationBody), {})
        order = await make_order(engine, settings, GENERATION, generation, sender)
    return Translated(body, order, notes)


def checkpoint(title: object) -> str:
    """The name of a model in what a client chose, which may end with a hash in brackets."""
    if title is None:
        return ""
    if not isinstance(title, str):
        raise RequestError(f"{MODEL}: give the title of a model, as sd-models has it", MODEL)
    return title.partition(" [")[0].strip()


def _fields(body: TextToImage, model: ModelInfo) -> tuple[dict[str, Any], list[str]]:
    """The fields of ``/v1`` that all bodies have, and what had to be ignored."""
    notes = [
        f"{name[:64]}: ignored"
        for name, value in (body.model_extra or {}).items()
        if value and name not in HINTS
    ]
    fields: dict[str, Any] = {
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt or None,
        "n": body.images,
        "seed": body.seed,
        "steps": body.steps,
        "guidance_scale": body.cfg_scale,
    }
    if body.width is not None and body.height is not None:
        fields["size"] = size_text((body.width, body.height))
    elif body.width is not None or body.height is not None:
        raise RequestError("width, height: give both, or neither", "width")
    known = {"scheduler": model.schedulers, "mask_schedule": model.mask_schedules}
    asked = {
        "scheduler": body.sampler_name or body.sampler_index or "",
        "mask_schedule": body.scheduler or "",
    }
    for name, value in asked.items():
        if value in known[name]:
            fields[name] = value
        elif value.lower() not in AUTOMATIC:
            field = "sampler_name" if name == "scheduler" else "scheduler"
            notes.append(f"{field}: there is no {value[:64]!r}, so the default was taken")
    return fields, notes


def _edit(body: ImageToImage, fields: dict[str, Any], settings: Settings) -> Upload[EditBody]:
    strength = STRENGTH if body.denoising_strength is None else body.denoising_strength
    fields["strength"] = strength
    files: dict[str, bytes] = {"image": _picture("init_images", body.init_images[0])}
    if body.mask:
        mask = _picture("mask", body.mask)
        files["mask"] = _inverted(mask, settings) if body.inpainting_mask_invert else mask
        fields["mask_mode"] = "white"
        fields["feather"] = BLUR if body.mask_blur is None else body.mask_blur
    return Upload(_read(fields, EditBody), files)


def _read(fields: dict[str, Any], kind: Any) -> Any:
    """The body of ``/v1``, checked as if it had been sent there."""
    return read_body(json.dumps(fields).encode(), kind)


def _picture(name: str, text: str) -> bytes:
    """The bytes of a picture in base 64; A1111 fetches addresses too, but nothing does here."""
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RequestError(
            f"{name}: give a picture in base 64, or as data:image/png;base64,...; nothing is "
            "fetched from elsewhere",
            name,
        ) from None


def _inverted(mask: bytes, settings: Settings) -> bytes:
    image = read_image(mask, "mask", ImageLimits(settings.max_upload_bytes, MAX_PIXELS))
    file = io.BytesIO()
    ImageOps.invert(image.convert("L")).save(file, "PNG")
    return file.getvalue()

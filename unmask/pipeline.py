"""A loaded model: from a prompt to pictures."""

import dataclasses
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from PIL import Image

from unmask import config
from unmask.devices import usable_device
from unmask.errors import ConfigError, NotFoundError, RequestError, choices
from unmask.models.conditions import ConditionEncoder
from unmask.models.folder import load_native
from unmask.models.native import Condition, NativeTransformer, Prefix
from unmask.sampling.generate import OnStep, all_masked, generate_tokens
from unmask.sampling.noise import SEED_BOUND
from unmask.sampling.plan import MAX_STEPS, Plan, PlanOptions, check_range, make_plan
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.schedules import GUIDANCE_SCHEDULES, MASK_SCHEDULES
from unmask.tokenizers.folder import load_tokenizer
from unmask.tokenizers.vqgan import VQGAN

BUNDLED = Path(__file__).parent / "bundled"
MAX_IMAGES = 10
MAX_PROMPT_CHARACTERS = 1000


@dataclass(frozen=True)
class ModelCard:
    """``model.json`` of a model folder: what it is, and the options that suit each scheduler."""

    name: str
    description: str
    scheduler: str  # the default
    presets: tuple[PlanOptions, ...]

    def preset(self, scheduler: str) -> PlanOptions:
        """The options that suit a scheduler; plain defaults for one that was never tuned."""
        tuned = {options.scheduler: options for options in self.presets}
        return tuned.get(scheduler) or PlanOptions(scheduler=scheduler)


class Options(TypedDict, total=False):
    """What a caller may leave open; None is as good as absent."""

    negative_prompt: str | None
    n: int | None
    seed: int | None
    size: tuple[int, int] | None  # width, height
    steps: int | None
    scheduler: str | None
    mask_schedule: str | None
    temperature: float | None
    choice_temperature: float | None
    guidance_scale: float | None
    guidance: str | None
    guidance_interval: tuple[float, float] | None


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded model is and what it takes."""

    name: str
    description: str
    width: int
    height: int
    grid: tuple[int, int]
    parameters: int
    codebook_size: int
    condition: str
    schedulers: tuple[str, ...]
    mask_schedules: tuple[str, ...]
    guidances: tuple[str, ...]
    max_steps: int
    max_n: int
    max_prompt_characters: int


@dataclass(frozen=True)
class Request:
    """A checked request with nothing left open. Image i is drawn from (seed, i)."""

    prompt: str
    negative_prompt: str | None
    n: int
    seed: int
    size: tuple[int, int]  # width, height
    steps: int
    scheduler: str
    mask_schedule: str
    temperature: float
    choice_temperature: float
    guidance_scale: float
    guidance: str
    guidance_interval: tuple[float, float]


@dataclass(frozen=True)
class Generated:
    """The pictures of a request, and how long drawing them took."""

    images: list[Image.Image]
    request: Request
    seconds: float


class Pipeline:
    """A tokenizer, a backbone and a condition encoder that belong together."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: VQGAN,
        backbone: NativeTransformer,
        condition: ConditionEncoder,
    ) -> None:
        self.card, self.tokenizer, self.backbone, self.condition = (
            card,
            tokenizer,
            backbone,
            condition,
        )
        self.device = next(backbone.parameters()).device
        rows, columns = backbone.config.grid
        self.info = ModelInfo(
            name=card.name,
            description=card.description,
            width=columns * tokenizer.patch,
            height=rows * tokenizer.patch,
            grid=(rows, columns),
            parameters=sum(p.numel() for p in [*backbone.parameters(), *tokenizer.parameters()]),
            codebook_size=tokenizer.codebook_size,
            condition=backbone.config.condition,
            schedulers=tuple(SCHEDULERS),
            mask_schedules=tuple(MASK_SCHEDULES),
            guidances=tuple(GUIDANCE_SCHEDULES),
            max_steps=MAX_STEPS,
            max_n=MAX_IMAGES,
            max_prompt_characters=MAX_PROMPT_CHARACTERS,
        )

    @classmethod
    def load(
        cls, name_or_folder: str | Path, device: str = "cpu", attention: str = "sdpa"
    ) -> "Pipeline":
        """The model of that name (``available_models``), or of a folder with ``model.json``,
        ``tokenizer/`` and ``transformer/``; NotFoundError or ConfigError if there is none such."""
        folder = _model_folder(name_or_folder)
        card, device = _read_card(folder), usable_device(device)
        tokenizer = load_tokenizer(folder / "tokenizer", device)
        backbone, condition = load_native(folder / "transformer", device)
        if backbone.config.codebook_size != tokenizer.codebook_size:
            raise ConfigError(
                f"{folder}: the transformer knows {backbone.config.codebook_size} codes, "
                f"the tokenizer has {tokenizer.codebook_size}"
            )
        backbone.use_attention(attention)
        return cls(card, tokenizer, backbone, condition)

    def request(self, prompt: str, **options: Unpack[Options]) -> Request:
        """The request with every open option filled from the model's preset for the scheduler.

        RequestError tells the field, its bounds and choices.
        """
        native = (self.info.width, self.info.height)
        size = options.pop("size", None)
        if size is not None and size != native:
            raise RequestError(
                f"size {size[0]}x{size[1]}: this model draws {native[0]}x{native[1]} only", "size"
            )
        n = options.pop("n", None)
        check_range("n", 1 if n is None else n, 1, MAX_IMAGES)
        seed = options.pop("seed", None)
        if seed is not None:
            check_range("seed", seed, 0, SEED_BOUND - 1)
        negative_prompt = options.pop("negative_prompt", None)
        self._check_prompt(prompt, "prompt")
        if negative_prompt is not None and negative_prompt.strip():
            self._check_prompt(negative_prompt, "negative_prompt")
        chosen: dict[str, Any] = {
            name: value for name, value in options.items() if value is not None
        }
        preset = self.card.preset(options.get("scheduler") or self.card.scheduler)
        return Request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            n=1 if n is None else n,
            seed=secrets.randbits(32) if seed is None else seed,
            size=native,
            **vars(dataclasses.replace(preset, **chosen)),
        )

    def run(self, request: Request, on_step: OnStep | None = None) -> Generated:
        """Draw a request; ``on_step`` hears of every step of every image.

        Images are drawn one by one: a CPU sums in another order when more rows are multiplied at
        once, and a sampled token then flips now and again. So image i is the same whatever ``n``.
        """
        began = time.perf_counter()
        fields = dataclasses.fields(PlanOptions)
        options = PlanOptions(**{field.name: getattr(request, field.name) for field in fields})
        with torch.inference_mode():
            condition = self.condition([request.prompt, request.negative_prompt or ""])
            prefix = self.backbone.encode(
                Condition(*(tensor.to(self.device) for tensor in condition))
            )
            images = []
            for i in range(request.n):
                plan = make_plan(options, self.info.grid, request.seed, i)
                images.append(self._draw(plan, prefix, _part(on_step, i, request.n)))
        return Generated(images, request, time.perf_counter() - began)

    def _draw(self, plan: Plan, prefix: Prefix, on_step: OnStep | None) -> Image.Image:
        rows, columns = plan.grid
        blank = all_masked(1, rows * columns, self.backbone.mask_id, self.device)
        tokens = generate_tokens(self.backbone, prefix, [plan], blank, on_step)
        pixels = self.tokenizer.decode(tokens.view(1, rows, columns))[0]
        array = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(array)

    def generate(
        self, prompt: str, *, on_step: OnStep | None = None, **options: Unpack[Options]
    ) -> Generated:
        """Check and draw in one call; ``options`` are those of ``request``."""
        return self.run(self.request(prompt, **options), on_step)

    def _check_prompt(self, prompt: str, param: str) -> None:
        if not prompt.strip():
            raise RequestError(f"the {param} is empty", param)
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise RequestError(
                f"the {param} has {len(prompt)} characters; the bound is {MAX_PROMPT_CHARACTERS}",
                param,
            )
        try:
            self.condition([prompt])
        except RequestError as error:
            raise RequestError(str(error), param) from error


def available_models() -> list[str]:
    """The names of the models in the box."""
    return sorted(folder.parent.name for folder in BUNDLED.glob("*/model.json"))


def default_model() -> str:
    """The model that is used when none is named; NotFoundError if the box is empty."""
    for name in available_models():
        return name
    raise NotFoundError(f"{BUNDLED}: holds no model; name a folder", "model")


def read_card(name_or_folder: str | Path) -> ModelCard:
    """The card of a model, without loading its weights."""
    return _read_card(_model_folder(name_or_folder))


def _model_folder(name_or_folder: str | Path) -> Path:
    if str(name_or_folder) in available_models():
        return BUNDLED / str(name_or_folder)
    folder = Path(name_or_folder)
    if not (folder / "model.json").is_file():
        known = choices(str(name_or_folder), available_models())
        raise NotFoundError(
            f"model {str(name_or_folder)!r}: neither a folder with model.json nor a known name; "
            f"{known}",
            "model",
        )
    return folder


def _read_card(folder: Path) -> ModelCard:
    return config.load(ModelCard, folder / "model.json")


def _part(on_step: OnStep | None, part: int, parts: int) -> OnStep | None:
    """``on_step`` for one of several equal parts of the work."""
    if on_step is None:
        return None
    return lambda done, total: on_step(part * total + done, parts * total)

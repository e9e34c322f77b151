"""A loaded model: from a prompt to pictures."""

import dataclasses
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unmask.devices import Precision, usable_device
from unmask.editing import Edit, Window, prepare
from unmask.errors import RequestError
from unmask.families import family_of
from unmask.families.base import ModelCard
from unmask.models.base import Condition, ImageBackbone
from unmask.models.conditions import ConditionEncoder
from unmask.models.linear import pack
from unmask.models.subjects import find_subjects
from unmask.sampling.backbone import Prefix
from unmask.sampling.counts import COUNT_RULES
from unmask.sampling.generate import OnStep, all_masked, generate_tokens
from unmask.sampling.noise import SEED_BOUND, Purpose, uniforms
from unmask.sampling.plan import MAX_STEPS, Plan, PlanOptions, check_range, make_plan
from unmask.sampling.schedulers import SCHEDULERS, Subjects, make_scheduler
from unmask.sampling.schedules import GUIDANCE_SCHEDULES, MASK_SCHEDULES
from unmask.store import find_model, local_model
from unmask.tokenizers.base import Tokenizer

MAX_IMAGES = 10
MAX_PROMPT_CHARACTERS = 1000
MAX_SUBJECTS = 16
KEPT_BYTES = 256 << 20  # of encoded prompts
REVISER = "remdm-rescale"  # with eta 1 it masks any tokens alike, as many as it has just revealed


class Options(TypedDict, total=False):
    """What a caller may leave open; None is as good as absent. Behind the blank line: PlanOptions,
    which tells what each means."""

    negative_prompt: str | None
    n: int | None
    seed: int | None
    size: tuple[int, int] | None  # width, height
    edit: Edit | None
    subjects: Sequence[Sequence[str]] | None  # each object's words; found in the prompt if None

    steps: int | None
    scheduler: str | None
    mask_schedule: str | None
    mask_shares: tuple[float, ...] | None
    temperature: float | None
    choice_temperature: float | None
    guidance_scale: float | None
    guidance: str | None
    guidance_interval: tuple[float, float] | None
    guidance_power: float | None
    count_rule: str | None
    entropy_bound: float | None
    stable_confidence: float | None
    stable_divergence: float | None
    reuse: int | None
    reuse_after: float | None
    eta: float | None
    uncage_base: str | None
    uncage_weight: float | None
    uncage_share: float | None
    uncage_blur: float | None
    noise_regularisation: float | None
    differential: float | None
    zigzag: bool | None
    temperature_last: float | None
    temperature_warmup: int | None
    top_k: int | None
    halton_shift: bool | None


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
    count_rules: tuple[str, ...]
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
    size: tuple[int, int]  # width, height of the images that come back
    options: PlanOptions
    subjects: tuple[tuple[str, ...], ...] = ()  # the words of each object in the prompt
    edit: Edit | None = None  # what is drawn over; a blank if None


@dataclass(frozen=True)
class Generated:
    """The pictures of a request, and how long drawing them took."""

    images: list[Image.Image]
    request: Request
    seconds: float


class Start(NamedTuple):
    """Tokens (cells,) that a plan is to finish, and which of them it may change (cells,) bool; the
    part-th of so many that an image takes."""

    plan: Plan
    tokens: Tensor
    unknown: Tensor
    part: int = 0
    parts: int = 1


class Pipeline:
    """A tokenizer, a backbone and a condition encoder that belong together."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: Tokenizer,
        backbone: ImageBackbone,
        condition: ConditionEncoder,
    ) -> None:
        self.card, self.tokenizer, self.backbone, self.condition = (
            card,
            tokenizer,
            backbone,
            condition,
        )
        self.device = next(backbone.parameters()).device
        self._prefixes: OrderedDict[str, Prefix] = OrderedDict()
        rows, columns = backbone.grid
        self.info = ModelInfo(
            name=card.name,
            description=card.description,
            width=columns * tokenizer.patch,
            height=rows * tokenizer.patch,
            grid=(rows, columns),
            parameters=sum(p.numel() for p in [*backbone.parameters(), *tokenizer.parameters()]),
            codebook_size=tokenizer.codebook_size,
            condition=backbone.reads,
            schedulers=tuple(
                name
                for name in SCHEDULERS
                if backbone.attends or not make_scheduler(name, PlanOptions()).attends
            ),
            mask_schedules=tuple(MASK_SCHEDULES),
            guidances=tuple(GUIDANCE_SCHEDULES),
            count_rules=tuple(COUNT_RULES),
            max_steps=MAX_STEPS,
            max_n=MAX_IMAGES,
            max_prompt_characters=MAX_PROMPT_CHARACTERS,
        )

    @classmethod
    def load(
        cls,
        model: str | Path,
        device: str = "cpu",
        attention: str = "sdpa",
        precision: Precision = "fp32",
        packed: bool = True,
    ) -> "Pipeline":
        """The model of a bundled name, a folder, or a hub's OWNER/NAME or OWNER/NAME@REVISION.

        NotFoundError if there is none such, ConfigError naming the file that cannot be used.
        ``precision`` is that of the backbone; sampling computes in fp32, and so do tokenizers,
        but for decoders that bear bf16. ``packed``: lay the weights of a published backbone out
        for the CPU (``models.linear``), which may change the last bits of its numbers.
        """
        device = usable_device(device)
        folder, name = find_model(model, precision)
        family = family_of(folder)
        card, parts = family.card(folder, name), family.load(folder, device, precision)
        parts.backbone.use_attention(attention)
        if packed:
            pack(parts.backbone)
        return cls(card, *parts)

    def request(self, prompt: str, **options: Unpack[Options]) -> Request:
        """The request with every open option filled from the model's preset for the scheduler.

        RequestError tells the field, its bounds and choices. Only an edit may have no prompt.
        """
        given: dict[str, Any] = {
            name: value for name, value in options.items() if value is not None
        }
        edit: Edit | None = given.pop("edit", None)
        size = self._check_size(given.pop("size", None), edit)
        n, seed = given.pop("n", 1), given.pop("seed", None)
        check_range("n", n, 1, MAX_IMAGES)
        if seed is not None:
            check_range("seed", seed, 0, SEED_BOUND - 1)
        negative_prompt = given.pop("negative_prompt", None)
        if edit is None or prompt.strip():
            self._check_prompt(prompt, "prompt")
        if negative_prompt is not None and negative_prompt.strip():
            self._check_prompt(negative_prompt, "negative_prompt")
        subjects = self._check_subjects(prompt, given.pop("subjects", None))
        return Request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            n=n,
            seed=secrets.randbits(32) if seed is None else seed,
            size=size,
            options=self._options(given, edit),
            subjects=subjects,
            edit=edit,
        )

    def run(self, request: Request, on_step: OnStep | None = None) -> Generated:
        """Draw a request; ``on_step`` hears of every step. Image i is the same whatever ``n``."""
        began = time.perf_counter()
        images = self._draw([(request, i) for i in range(request.n)], on_step)
        return Generated(images, request, time.perf_counter() - began)

    def draw_batch(self, requests: Sequence[Request]) -> list[Image.Image]:
        """The first image of each request, all drawn together: the same bytes as one by one."""
        return self._draw([(request, 0) for request in requests])

    def drawing(self, request: Request, image_index: int) -> Generator[Start, Tensor, Image.Image]:
        """Drawing one image: yields what its tokens start from, is sent them finished, and returns
        the image; an edit does so window by window."""
        if request.edit is None:
            cells = self.info.grid[0] * self.info.grid[1]
            blank = all_masked(1, cells, self.backbone.mask_id, self.device)[0]
            plan = self.plan(request, image_index)
            tokens = yield Start(plan, blank, blank == self.backbone.mask_id)
            return self._picture(tokens)

        def choose(count: int) -> Tensor:
            return uniforms(request.seed, image_index, count, Purpose.CELLS)

        revising = request.edit.kind == "revise"
        prepared = prepare(request.edit, self.tokenizer, self.info.grid, self.device)
        edited = prepared.image(choose)
        windows = edited.start()
        while edited.image is None:
            window = min(windows, key=lambda window: window.part)
            windows.remove(window)
            plan = self.plan(request, image_index, window)
            masked = window.tokens.masked_fill(window.unknown, self.backbone.mask_id)
            start = window.tokens if revising else masked
            tokens = yield Start(plan, start, window.unknown, window.part, window.parts)
            windows += edited.finish(window, tokens)
        return edited.image

    def plan(self, request: Request, image_index: int = 0, window: Window | None = None) -> Plan:
        """The plan of an image on a blank, or of a window of an edit."""
        return make_plan(
            request.options,
            self.info.grid,
            request.seed,
            image_index,
            None if window is None else int(window.unknown.sum()),
            window=0 if window is None else window.part,
            subjects=self._positions(request),
            revise=request.edit.share if request.edit is not None else None,
        )

    @torch.inference_mode()
    def _draw(
        self, wanted: list[tuple[Request, int]], on_step: OnStep | None = None
    ) -> list[Image.Image]:
        """Images of requests, by their index."""
        requests = list(dict.fromkeys(request for request, _ in wanted))
        prefix = self.encode(requests)
        drawings = [self.drawing(request, index) for request, index in wanted]
        starts = {place: next(drawing) for place, drawing in enumerate(drawings)}
        images: dict[int, Image.Image] = {}
        while starts:
            own = torch.tensor([requests.index(wanted[i][0]) for i in starts], device=self.device)
            first = next(iter(starts.values()))
            finished = generate_tokens(
                self.backbone,
                prefix.select(torch.cat([own, own + len(requests)])),
                [start.plan for start in starts.values()],
                torch.stack([start.tokens for start in starts.values()]),
                _part(on_step, first.part, first.parts),
                torch.stack([start.unknown for start in starts.values()]),
            )
            for place, tokens in zip(list(starts), finished, strict=True):
                try:
                    starts[place] = drawings[place].send(tokens)
                except StopIteration as end:
                    images[place] = end.value
                    del starts[place]
        return [images[place] for place in range(len(wanted))]

    def _picture(self, tokens: Tensor) -> Image.Image:
        """Alone: a CPU's convolutions round in another way when they see more images at once."""
        pixels = self.tokenizer.decode(tokens.view(1, *self.info.grid))[0]
        array = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(array)

    def encode(self, requests: Sequence[Request]) -> Prefix:
        """The conditions of the requests, then their null conditions."""
        prompts = [request.prompt for request in requests]
        return self.encode_prompts(
            prompts + [request.negative_prompt or "" for request in requests]
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Prefix:
        """The prefixes of prompts; an empty one gives the null condition.

        Each alone: a CPU sums fewer than 16 rows in another order than more of them. They are kept
        for the next that asks.
        """
        encoded = []
        for prompt in prompts:
            prefix = self._prefixes.pop(prompt, None)
            if prefix is None:
                condition = self.condition([prompt])
                prefix = self.backbone.encode(
                    Condition(*(tensor.to(self.device) for tensor in condition))
                )
            self._prefixes[prompt] = prefix  # now the youngest
            encoded.append(prefix)
        # A prompt's prefix is as large as any other's.
        while len(self._prefixes) > max(2, KEPT_BYTES // max(1, bytes_of(encoded[0]))):
            self._prefixes.popitem(last=False)
        return type(encoded[0]).join(encoded)

    def text_tokens(self, prompt: str) -> int:
        """How many text tokens the model reads of a prompt."""
        return self.condition.count(prompt)

    def preview(self, tokens: Tensor) -> Image.Image:
        """How a window (cells,) looks so far: what is still masked is grey."""
        rows, columns = self.info.grid
        masked = tokens == self.backbone.mask_id
        # The decoder looks at neighbours: for a masked one it sees what there is most of.
        most = int(tokens[~masked].mode().values) if not bool(masked.all()) else 0
        image = np.array(self._picture(tokens.masked_fill(masked, most)))
        grey = masked.view(rows, columns).cpu().numpy()
        image[grey.repeat(self.tokenizer.patch, 0).repeat(self.tokenizer.patch, 1)] = 128
        return Image.fromarray(image)

    def _options(self, given: dict[str, Any], edit: Edit | None) -> PlanOptions:
        revising = edit is not None and edit.kind == "revise"
        scheduler = given.get("scheduler") or (REVISER if revising else self.card.scheduler)
        shares = given.get("mask_shares")
        steps = given.get("steps", len(shares) if shares else None)
        preset = self.card.preset(scheduler, steps)
        if revising:
            given = {"eta": 1.0, **given}
        chosen = dataclasses.replace(preset, **given)
        self._check_abilities(chosen)
        if revising:
            make_plan(chosen, self.info.grid, 0, revise=0.5)  # refuses what cannot revise
        return chosen

    def _check_abilities(self, options: PlanOptions) -> None:
        """RequestError for what this model's family cannot do."""
        if make_scheduler(options.scheduler, options).attends and not self.backbone.attends:
            raise RequestError(
                f"scheduler {options.scheduler!r} reads what image tokens attend to in a text, and "
                f"model {self.card.name!r} has none to read; choose another scheduler",
                "scheduler",
            )
        if options.reuse and not self.backbone.reuses:
            raise RequestError(
                f"reuse: model {self.card.name!r} keeps nothing that could be reused; leave it 0",
                "reuse",
            )

    def _check_size(self, size: tuple[int, int] | None, edit: Edit | None) -> tuple[int, int]:
        drawn = (self.info.width, self.info.height)
        if edit is not None:
            drawn = (edit.pixels.shape[1], edit.pixels.shape[0])
        if size is not None and size != drawn:
            what = "this model draws" if edit is None else "the edited image has"
            raise RequestError(
                f"size {size[0]}x{size[1]}: {what} {drawn[0]}x{drawn[1]} only", "size"
            )
        return drawn

    def _check_subjects(
        self, prompt: str, subjects: Sequence[Sequence[str]] | None
    ) -> tuple[tuple[str, ...], ...]:
        """The subjects as given, or as found in the prompt; each word must stand in it."""
        if subjects is None:
            return find_subjects(prompt)
        if len(subjects) > MAX_SUBJECTS or any(not 0 < len(words) <= 16 for words in subjects):
            raise RequestError(
                f"subjects: give at most {MAX_SUBJECTS} lists of 1 to 16 words each", "subjects"
            )
        checked = tuple(tuple(words) for words in subjects)
        for word in (word for words in checked for word in words):
            if not self.condition.positions(prompt, word):
                raise RequestError(
                    f"subjects: {word[:80]!r} does not stand in the prompt", "subjects"
                )
        return checked

    def _positions(self, request: Request) -> Subjects:
        """The text positions of each word of each subject; of the n-th mention the n-th place."""
        mentions: Counter[str] = Counter()
        found = []
        for words in request.subjects:
            places = []
            for word in words:
                all_places = self.condition.positions(request.prompt, word)
                if all_places:
                    places.append(all_places[min(mentions[word], len(all_places) - 1)])
                mentions[word] += 1
            if places:
                found.append(tuple(places))
        return tuple(found)

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


def read_card(model: str | Path) -> ModelCard:
    """The card of a model that is on this machine, without loading its weights."""
    folder, name = local_model(model)
    return family_of(folder).card(folder, name)


def _part(on_step: OnStep | None, part: int, parts: int) -> OnStep | None:
    """``on_step`` for one of several equal parts of the work."""
    if on_step is None:
        return None
    return lambda done, total: on_step(part * total + done, parts * total)


def bytes_of(prefix: object) -> int:
    """The bytes of all tensors of a prefix."""
    if isinstance(prefix, Tensor):
        return prefix.numel() * prefix.element_size()
    return sum(map(bytes_of, prefix)) if isinstance(prefix, tuple) else 0

"""A loaded model: from a prompt to pictures."""

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from unmask.card import ModelCard
from unmask.clips.clip import Clip
from unmask.config import checked
from unmask.devices import Precision, check_precision, usable_device
from unmask.editing import Edit, Window, prepare
from unmask.editing.clip_drawing import ClipWindow, DrawnClip, prepare_clip, slots_of
from unmask.editing.clip_edits import ClipEdit
from unmask.errors import RequestError
from unmask.families import family_of
from unmask.models.base import ImageBackbone
from unmask.models.conditions import ConditionEncoder, TextCondition
from unmask.models.linear import pack
from unmask.models.subjects import find_subjects
from unmask.pipeline.clips import ClipDrawing, Scene
from unmask.pipeline.drawing import BlankDrawing, Drawing, Drawn, EditDrawing
from unmask.pipeline.info import model_info
from unmask.pipeline.judging import PictureJudge, PictureVerdict
from unmask.pipeline.previews import preview
from unmask.pipeline.progress import Progress, batches, pairs_of, part_of
from unmask.pipeline.prompts import EncodedPrompts, chunks_of, subject_positions
from unmask.pipeline.request import DrawRequest, RequestCheck
from unmask.pipeline.results import Generated, PreparedRequest
from unmask.pipeline.scales import Scales, Size
from unmask.pipeline.sharing import check_parts, share
from unmask.sampling.backbone import Pair, RowTensors
from unmask.sampling.generate import OnStep, all_masked, generate_tokens
from unmask.sampling.noise import Purpose, uniforms
from unmask.sampling.plan import Plan, make_plan
from unmask.store import card_of, find_model, parted
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.clip import ClipTokenizer

Prompts = list[str] | tuple[str, ...]


class Pipeline:
    """A tokenizer, a backbone and a condition encoder that belong together."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: Tokenizer,
        backbone: ImageBackbone,
        condition: ConditionEncoder,
        judge: PictureJudge | None = None,
    ) -> None:
        self.card, self.tokenizer, self.backbone, self.condition = (
            card,
            tokenizer,
            backbone,
            condition,
        )
        self.device = next(backbone.parameters()).device
        self.prompts = EncodedPrompts(
            condition, lambda encoded: backbone.encode(encoded), self.device
        )
        self._scales = Scales(tokenizer, *backbone.grid[-2:])
        self.info = model_info(
            card, tokenizer, backbone, condition, judge is not None, self._scales.sizes
        )
        self._judge = judge

    @property
    def _clips(self) -> ClipTokenizer | None:
        """The tokenizer, if it is one of clips."""
        return self.tokenizer if isinstance(self.tokenizer, ClipTokenizer) else None

    @property
    def picture_grid(self) -> tuple[int, ...]:
        """The grid of a picture: a model of clips draws it as a clip of one frame."""
        return (1, *self.info.grid[1:]) if self._clips else self.info.grid

    @classmethod
    def load(
        cls,
        model: str | Path,
        device: str = "cpu",
        attention: str = "sdpa",
        precision: Precision = "fp32",
        packed: bool = True,
    ) -> "Pipeline":
        """The model of a bundled name, a folder, or a hub's OWNER/NAME or OWNER/NAME@REVISION; with
        ``+`` and an adapter's file behind it, changed by that (``models.adapter``).

        NotFoundError if there is none such, ConfigError naming the file that cannot be used,
        RequestError for an argument that cannot be one.
        ``precision`` is that of the backbone; sampling computes in fp32, and so do tokenizers,
        but for decoders that bear bf16. ``int8`` is that of matrices and what they multiply, on a
        CPU with VNNI; ConfigError elsewhere. ``packed``: lay the weights of a published backbone
        out for the CPU (``models.linear``), which may change the last bits of its numbers.
        """
        for argument, kind, value in (
            ("device", str, device),
            ("attention", str, attention),
            ("precision", Precision, precision),
        ):
            checked(argument, kind, value)
        device = usable_device(device)
        check_precision(precision, device)
        folder, name = find_model(model, precision)
        parts = family_of(folder).load(folder, device, precision)
        _, adapter = parted(model)
        if adapter is not None:
            adapter.merge(parts.backbone)
            if isinstance(parts.condition, TextCondition):
                parts = parts._replace(condition=parts.condition.with_words(adapter.words))
        parts.backbone.use_attention(attention)
        if precision == "int8":
            parts.backbone.use_eight_bits()
        elif packed:
            pack(parts.backbone)
        return cls(card_of(folder, name, adapter), *parts, PictureJudge.of(folder))

    def request(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        n: int | None = None,
        seed: int | None = None,
        image_index: int | None = None,
        size: tuple[int, int] | None = None,
        edit: Edit | ClipEdit | None = None,
        frames: int | None = None,
        scenes: Sequence[Scene] | None = None,
        subjects: Sequence[Sequence[str]] | None = None,
        long_prompt: bool | None = None,
        strict_prompt: bool | None = None,
        share_prompt: bool | None = None,
        **sampling: object,
    ) -> DrawRequest:
        """The request with every open option filled from the model's preset for the scheduler.

        ``seed`` is random if None or -1, ``image_index`` that of the first image: 3 alone gives
        the fourth of a seed. ``size`` is (width, height), ``subjects`` the words of each object
        (found in the prompt if None). ``long_prompt`` lets a model behind CLIP read more text
        tokens than CLIP takes, in chunks. ``strict_prompt`` refuses words that the model was not
        taught (UnknownWordsError); else the request has ``warnings`` of them. ``share_prompt``:
        each window of a large picture draws a part of the prompt; None leaves that to the model.
        ``sampling`` are any options that ``unmask options`` lists; None is as good as absent.
        ``frames`` asks a model of clips for a clip; so do ``scenes``, which have prompts of their
        own and come after ``frames`` of the first prompt, and the edit of a clip. RequestError
        tells the field, its bounds and choices. Only an edit may have no prompt.
        """
        check = RequestCheck(
            self.card,
            self.info,
            self.condition,
            self.backbone.gives_attention,
            self.backbone.has_memory,
            self.backbone.hint_offsets > 0,
        )
        return check.make(
            prompt,
            negative_prompt=negative_prompt,
            n=n,
            seed=seed,
            image_index=image_index,
            size=size,
            edit=edit,
            frames=frames,
            scenes=scenes,
            subjects=subjects,
            long_prompt=long_prompt,
            strict_prompt=strict_prompt,
            share_prompt=share_prompt,
            sampling=sampling,
        )

    @overload
    def generate(
        self,
        prompt: str,
        *,
        on_step: OnStep | None = None,
        negative_prompt: str | None = None,
        n: int | None = None,
        seed: int | None = None,
        image_index: int | None = None,
        size: tuple[int, int] | None = None,
        edit: Edit | None = None,
        frames: None = None,
        scenes: None = None,
        subjects: Sequence[Sequence[str]] | None = None,
        long_prompt: bool | None = None,
        strict_prompt: bool | None = None,
        share_prompt: bool | None = None,
        **sampling: object,
    ) -> Generated: ...

    @overload
    def generate(
        self,
        prompt: Prompts,
        *,
        on_step: OnStep | None = None,
        negative_prompt: str | None = None,
        n: int | None = None,
        seed: int | None = None,
        image_index: int | None = None,
        size: tuple[int, int] | None = None,
        edit: Edit | None = None,
        frames: None = None,
        scenes: None = None,
        subjects: Sequence[Sequence[str]] | None = None,
        long_prompt: bool | None = None,
        strict_prompt: bool | None = None,
        share_prompt: bool | None = None,
        **sampling: object,
    ) -> list[Generated]: ...

    @overload
    def generate(self, prompt: str, *, frames: int, **options: Any) -> Clip: ...

    @overload
    def generate(self, prompt: str, *, scenes: Sequence[Scene], **options: Any) -> Clip: ...

    @overload
    def generate(self, prompt: str, *, edit: ClipEdit, **options: Any) -> Clip: ...

    @overload
    def generate(self, prompt: Prompts, *, frames: int, **options: Any) -> list[Clip]: ...

    @overload
    def generate(
        self, prompt: Prompts, *, scenes: Sequence[Scene], **options: Any
    ) -> list[Clip]: ...

    @overload
    def generate(self, prompt: Prompts, *, edit: ClipEdit, **options: Any) -> list[Clip]: ...

    def generate(
        self, prompt: str | Prompts, *, on_step: OnStep | None = None, **options: Any
    ) -> Generated | Clip | list[Generated] | list[Clip]:
        """Check and draw in one call; the options are those of ``request``.

        With ``frames``, ``scenes`` or the edit of a clip what comes back is the clip itself, and
        ``n`` must be left out or 1; ``run`` draws several. Of a list of prompts all are checked
        before the first is drawn, and what comes back is a list: of the clips, or of the pictures
        of each prompt, as it would have drawn them by itself.
        """
        alone = not isinstance(prompt, list | tuple)
        prompts = prompt if isinstance(prompt, list | tuple) else [prompt]
        if not prompts:
            raise RequestError("the list of prompts is empty", "prompt")
        requests = [self.request(text, **options) for text in prompts]
        if not requests[0].is_clip:
            drawn = self.run_all(requests, on_step)
            return drawn[0] if alone else drawn
        if requests[0].n > 1:
            raise RequestError(
                f"n is {requests[0].n}; generate draws 1 clip of a prompt, and run several", "n"
            )
        clips = [generated.clips[0] for generated in self.run_all(requests, on_step)]
        return clips[0] if alone else clips

    def run(self, request: DrawRequest, on_step: OnStep | None = None) -> Generated:
        """Draw a request; ``on_step`` hears of every step. Image i is the same whatever ``n``."""
        return self.run_all([request], on_step)[0]

    def run_all(
        self, requests: Sequence[DrawRequest], on_step: OnStep | None = None
    ) -> list[Generated]:
        """Draw requests, as many images together as a single one may ask for, each as if alone.

        ``on_step`` hears of every step and of how many there are, if all take as many steps.
        """
        groups = list(batches(requests))
        generated = []
        for number, batch in enumerate(groups):
            began = time.perf_counter()
            wanted = [(request, index) for request in batch for index in request.image_indices]
            drawn = iter(self._draw(wanted, part_of(on_step, number, len(groups))))
            seconds = time.perf_counter() - began
            generated += [
                Generated(list(islice(drawn, request.n)), request, seconds) for request in batch
            ]
        return generated

    def judge(self, prompt: str, images: Sequence[Image.Image]) -> list[PictureVerdict]:
        """Whether pictures of the model's size show what a prompt asks for. RequestError if the
        model has no judge."""
        self.info.check_judge()
        assert self._judge is not None, "the model has one"
        return [self._judge(prompt, image, self._scales.times(image.size)) for image in images]

    def draw_batch(self, requests: Sequence[DrawRequest]) -> list[Image.Image]:
        """The first picture of each request, all drawn together: the same bytes as one by one."""
        drawn = self._draw([(request, request.image_index) for request in requests])
        return [image for image in drawn if isinstance(image, Image.Image)]

    @torch.inference_mode()
    def prepare(self, request: DrawRequest) -> PreparedRequest:
        """What the images of a request share; it may be given to ``drawing`` from any thread."""
        if request.is_clip:
            assert self._clips is not None, "the request was checked"
            lengths = [request.first_frames, *(scene.frames for scene in request.scenes)]
            clip = request.edit if isinstance(request.edit, ClipEdit) else None
            prepared = prepare_clip(
                clip, lengths, self._clips, self.info.grid, self.device, self.backbone.hint_offsets
            )
            return PreparedRequest(request, None, prepared)
        if not isinstance(request.edit, Edit):
            return PreparedRequest(request, None)
        grid = self.info.grid[-2:] if self._clips else self.info.grid
        times = self._scales.times(request.size)
        shared = share(request.prompt, request.edit, self._judge, times) if request.shares else None
        sharing = None if shared is None else shared.sharing
        tokenizer = self.tokenizer_for(request.size)
        edit = prepare(request.edit, tokenizer, grid, self.device, sharing)
        if not request.whole and shared is not None:
            check_parts(self.condition, shared, edit.plan)
        return PreparedRequest(request, edit, shared=shared)

    def drawing(self, prepared: PreparedRequest, image_index: int) -> Drawing:
        """Drawing one image of a request; an edit is drawn window by window."""
        request = prepared.request
        mask_id = None if request.revises else self.backbone.mask_id

        def choose(count: int) -> Tensor:
            return uniforms(request.seed, image_index, count, Purpose.CELLS)

        if prepared.clip is not None:
            assert self._clips is not None, "the request was prepared"
            return ClipDrawing(
                DrawnClip(prepared.clip.on(self.device), choose),
                partial(self._window_plan, prepared, image_index),
                partial(self._window_pair, prepared),
                mask_id,
                self._clips,
            )
        if prepared.edit is None:
            blank = all_masked(1, self.cells, self.backbone.mask_id, self.device)[0]
            decode = partial(self.picture, size=request.size)
            return BlankDrawing(self.plan(request, image_index), blank, decode)
        edited = prepared.edit.on(self.tokenizer_for(request.size), self.device).image(choose)
        return EditDrawing(
            edited,
            partial(self._window_plan, prepared, image_index),
            partial(self._window_pair, prepared),
            mask_id,
        )

    def _window_pair(self, prepared: PreparedRequest, window: Window | ClipWindow) -> Pair | None:
        """The condition and the null of a window that has a prompt or hints of its own; None: they
        are the request's."""
        request, prompt = prepared.request, prepared.prompt_of(window)
        hints = window.hints if isinstance(window, ClipWindow) else None
        if prompt == request.read_prompt and hints is None:
            return None
        chunks = chunks_of(self.condition, [request])
        pair = Pair.of(self.encode_prompts([prompt, request.negative_prompt or ""], chunks))
        return pair if hints is None else Pair.of(self.backbone.hinted(pair.both, hints[None]))

    def _window_plan(
        self, prepared: PreparedRequest, image_index: int, window: Window | ClipWindow
    ) -> Plan:
        return self.plan(prepared.request, image_index, window, prepared.prompt_of(window))

    def plan(
        self,
        request: DrawRequest,
        image_index: int = 0,
        window: Window | ClipWindow | None = None,
        prompt: str | None = None,
    ) -> Plan:
        """The plan of an image on a blank, or of a window of an edit or a clip, which may have a
        prompt of its own."""
        grid = self.picture_grid
        if request.is_clip:
            slots = self.info.grid[0]
            if isinstance(window, ClipWindow):
                slots = window.window.end - window.window.first
            elif self._clips is not None and request.frames is not None:
                slots = min(slots, slots_of(request.frames, self._clips.slot))
            grid = (slots, *grid[1:])
        subjects, options = request.subjects, request.options
        if prompt is None or prompt == request.read_prompt:
            prompt = request.read_prompt
        else:
            subjects = find_subjects(prompt)
            if not (prompt or request.negative_prompt):  # one condition, and not two alike
                options = options.unguided
        return make_plan(
            options,
            grid,
            request.seed,
            image_index,
            None if window is None else int(window.unknown.sum()),
            window=0 if window is None else window.part,
            subjects=subject_positions(self.condition, prompt, subjects),
            revise=request.edit.share if request.edit is not None else None,
        )

    @property
    def cells(self) -> int:
        """The tokens of a picture."""
        return math.prod(self.picture_grid)

    @torch.inference_mode()
    def _draw(
        self, wanted: list[tuple[DrawRequest, int]], on_step: OnStep | None = None
    ) -> list[Drawn]:
        """Images of requests, by their index. Those whose conditions differ in length cannot share
        a batch: each such group is drawn after the other."""
        requests = dict.fromkeys(request for request, _ in wanted)
        pairs = {request: self.encode([request]) for request in requests}
        groups: dict[object, list[int]] = {}
        for place, (request, _) in enumerate(wanted):
            groups.setdefault(pairs[request].both.row_shapes, []).append(place)
        images: dict[int, Drawn] = {}
        for number, places in enumerate(groups.values()):
            told = part_of(on_step, number, len(groups))
            drawn = self._draw_together([wanted[place] for place in places], pairs, told)
            images.update(zip(places, drawn, strict=True))
        return [images[place] for place in range(len(wanted))]

    def _draw_together(
        self,
        wanted: list[tuple[DrawRequest, int]],
        pairs: Mapping[DrawRequest, Pair],
        on_step: OnStep | None,
    ) -> list[Drawn]:
        requests = list(dict.fromkeys(request for request, _ in wanted))
        prepared = {request: self.prepare(request) for request in requests}
        pair = Pair.join([pairs[request] for request in requests])
        place_of = {request: place for place, request in enumerate(requests)}
        drawings = [self.drawing(prepared[request], index) for request, index in wanted]
        ready = [(i, start) for i, drawing in enumerate(drawings) for start in drawing.start()]
        progress = Progress(on_step, len(wanted))
        while ready:
            # Those of one grid run together.
            grid = ready[0][1].plan.grid
            now = [entry for entry in ready if entry[1].plan.grid == grid]
            later = [entry for entry in ready if entry[1].plan.grid != grid]
            index = torch.tensor([place_of[wanted[i][0]] for i, _ in now]).to(self.device)
            finished = generate_tokens(
                self.backbone,
                pairs_of(pair, index, [start.pair for _, start in now]),
                [start.plan for _, start in now],
                torch.stack([start.tokens for _, start in now]),
                progress.of([start for _, start in now]),
                torch.stack([start.unknown for _, start in now]),
            )
            ready = later + [
                (i, follower)
                for (i, start), tokens in zip(now, finished, strict=True)
                for follower in drawings[i].finish(start, tokens)
            ]
        return [drawing.image for drawing in drawings if drawing.image is not None]

    def tokenizer_for(self, size: Size) -> Tokenizer:
        """What stands between pixels and tokens in pictures of a size (width, height)."""
        return self._scales.of(size)

    def picture(self, tokens: Tensor, size: Size | None = None) -> Image.Image:
        """The picture of one grid of tokens (cells,), decoded alone (docs/numerics.md): a window of
        a picture of that size, or of the model's own."""
        tokenizer = self.tokenizer if size is None else self.tokenizer_for(size)
        pixels = tokenizer.decode(tokens.view(1, *self.info.grid[-2:]))[0]
        array = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(array)

    def encode(self, requests: Sequence[DrawRequest]) -> Pair:
        """The conditions of the requests and their null conditions, all read in as many chunks as
        the longest of them takes."""
        prompts = [request.read_prompt for request in requests]
        nulls = [request.negative_prompt or "" for request in requests]
        return Pair.of(self.encode_prompts(prompts + nulls, chunks_of(self.condition, requests)))

    def encode_prompts(self, prompts: Sequence[str], chunks: int = 1) -> RowTensors:
        """The prefixes of prompts, read in so many chunks; an empty one is the null condition."""
        return self.prompts(prompts, chunks)

    def text_tokens(self, prompt: str) -> int:
        """How many text tokens the model reads of a prompt."""
        return self.condition.count(prompt)

    def preview(self, tokens: Tensor, size: Size | None = None) -> Image.Image:
        """How a window (cells,) of a picture of that size looks so far: what is still masked is
        grey. Of a clip the key frames stand side by side."""
        frames = tokens.view(-1, *self.info.grid[-2:])
        return preview(frames, self.backbone.mask_id, partial(self.picture, size=size))

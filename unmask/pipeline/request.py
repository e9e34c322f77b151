"""From what a caller asks for to a request with nothing left open."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unmask.card import ModelCard
from unmask.config import checked
from unmask.editing import EDIT_KINDS, Edit, window_count
from unmask.editing.clip_edits import MAX_WINDOW_FRAMES, ClipEdit, check_frames, check_pinned
from unmask.errors import PromptTooLongError, RequestError, UnknownWordsError, shown
from unmask.models.conditions import ConditionEncoder
from unmask.models.subjects import find_parts, find_subjects
from unmask.pipeline.clips import Scene, check_scenes, whole_slots
from unmask.pipeline.warnings import RequestWarning, unknown_words
from unmask.sampling.methods import check_range
from unmask.sampling.noise import SEED_BOUND
from unmask.sampling.options import PlanOptions, choose_options, listed_steps
from unmask.sampling.plan import make_plan

RANDOM_SEED = -1  # asks for one that is picked here
MAX_IMAGES = 10
MAX_PROMPT_CHARACTERS = 1000
MAX_IMAGE_INDEX = 2**32 - 1
MAX_SUBJECTS = 16
MAX_SUBJECT_WORDS = 16
REVISER = "remdm-rescale"  # with eta 1 it masks any tokens alike, as many as it has just revealed


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded model is and what it takes."""

    name: str
    description: str
    sizes: tuple[tuple[int, int], ...]  # (width, height) of what it draws at once, largest first
    grid: tuple[int, ...]
    parameters: int
    codebook_size: int
    condition: str
    schedulers: tuple[str, ...]
    mask_schedules: tuple[str, ...]
    guidances: tuple[str, ...]
    count_rules: tuple[str, ...]
    reuse_policies: tuple[str, ...]
    max_steps: int
    max_n: int
    max_prompt_characters: int
    max_text_tokens: int | None = None  # of a prompt; None: it is no text that it reads
    frames: int | None = None  # of a clip that is drawn at once; None: it draws pictures alone
    max_frames: int | None = None
    rate: int | None = None  # frames a second
    slot: int | None = None  # frames that a slot of a clip stands for

    @property
    def width(self) -> int:
        """Of what it draws unless another size is asked for, in pixels."""
        return self.sizes[0][0]

    @property
    def height(self) -> int:
        """As ``width``."""
        return self.sizes[0][1]

    def check_judge(self) -> None:
        """RequestError if it has no judge."""
        if not self.judge:
            raise RequestError(f"judge: model {self.name!r} has none; leave it out", "judge")

    @property
    def clip_slot(self) -> int:
        """``slot``; RequestError if it draws pictures alone."""
        if self.slot is None:
            raise RequestError(
                f"frames: model {self.name!r} draws pictures, not clips; choose another model",
                "frames",
            )
        return self.slot

    def length(self, seconds: float | None, frames: int | None, begun: bool = False) -> int:
        """The frames that are asked for in either way: if in none, as many as the model draws at
        once. The one before all whole slots is left out if the clip has ``begun``. RequestError."""
        if seconds is not None and frames is not None:
            raise RequestError("seconds and frames tell the same: give one of them", "frames")
        slot = self.clip_slot
        if frames is not None:
            return frames
        assert self.frames is not None, "it is a model of clips"
        further = self.frames - 1 if seconds is None else whole_slots(seconds, slot)
        return further if begun else 1 + further

    max_long_prompt_text_tokens: int | None = None  # with long_prompt; None: it reads none
    words: tuple[str, ...] | None = None  # that it was taught, sorted; None: that cannot be told
    judge: bool = False  # whether there is one that tells what its pictures show


@dataclass(frozen=True)
class DrawRequest:
    """A checked request with nothing left open.

    Image i of a seed is drawn from (seed, i); a request wants ``n``, from ``image_index`` on.
    """

    prompt: str
    negative_prompt: str | None
    n: int
    seed: int
    size: tuple[int, int]  # width, height of the images that come back
    options: PlanOptions
    subjects: tuple[tuple[str, ...], ...] = ()  # the words of each object in the prompt
    edit: Edit | ClipEdit | None = None  # what is drawn over; a blank if None
    image_index: int = 0  # of its first image
    frames: int | None = None  # of a clip, all scenes together; None: pictures
    scenes: tuple[Scene, ...] = ()  # of a clip, those that follow the first prompt's
    long_prompt: bool = False  # its prompts may be read in chunks
    warnings: tuple[RequestWarning, ...] = ()  # what its sender should know
    shares: bool = False  # each window of a large picture draws a part of the prompt
    whole: bool = True  # the model can read the prompt as it is, and not in parts alone

    @property
    def is_clip(self) -> bool:
        """Whether clips are drawn."""
        return self.frames is not None

    @property
    def read_prompt(self) -> str:
        """The prompt; empty if it can be read in parts alone."""
        return self.prompt if self.whole else ""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Those of its scenes, from the first on; a picture has one."""
        return (self.read_prompt, *(scene.prompt for scene in self.scenes))

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """These and the negative one; an empty one stands for none."""
        return (*self.prompts, self.negative_prompt or "")

    @property
    def first_frames(self) -> int:
        """Frames of the first prompt's scene."""
        assert self.frames is not None, "a clip has frames"
        return self.frames - sum(scene.frames for scene in self.scenes)

    @property
    def image_indices(self) -> range:
        """The indices of its images, in the order in which they come back."""
        return range(self.image_index, self.image_index + self.n)

    def alone(self, image_index: int) -> "DrawRequest":
        """The request that draws one of its images by itself."""
        return replace(self, n=1, image_index=image_index)

    @property
    def revises(self) -> bool:
        """Whether it starts from tokens that are all there."""
        return self.edit is not None and self.edit.share is not None


@dataclass(frozen=True)
class RequestCheck:
    """Makes requests for one model; RequestError tells the field, its bounds and choices."""

    card: ModelCard
    info: ModelInfo
    condition: ConditionEncoder
    gives_attention: bool
    has_memory: bool
    takes_hints: bool = False

    def make(
        self,
        prompt: str,
        *,
        negative_prompt: str | None,
        n: int | None,
        seed: int | None,
        image_index: int | None,
        size: tuple[int, int] | None,
        edit: Edit | ClipEdit | None,
        frames: int | None,
        scenes: Sequence[Scene] | None,
        subjects: Sequence[Sequence[str]] | None,
        long_prompt: bool | None,
        strict_prompt: bool | None,
        share_prompt: bool | None,
        sampling: Mapping[str, object],
    ) -> DrawRequest:
        """The request, with every open option filled from the model's preset for the scheduler.
        Only an edit may have no prompt."""
        if edit is not None and not isinstance(edit, Edit | ClipEdit):
            raise RequestError(
                f"edit: expected an edit, got {shown(edit)}; make one with unmask.editing: "
                f"{', '.join(EDIT_KINDS)}",
                "edit",
            )
        drawn_size = self._check_size(size, edit)
        n = checked("n", int, 1 if n is None else n)
        check_range("n", n, 1, MAX_IMAGES)
        image_index = checked("image_index", int, 0 if image_index is None else image_index)
        check_range("image_index", image_index, 0, MAX_IMAGE_INDEX)
        if image_index + n - 1 > MAX_IMAGE_INDEX:
            raise RequestError(
                f"image_index is {image_index}: of {n} images the last would be "
                f"{image_index + n - 1}; the bound is {MAX_IMAGE_INDEX}",
                "image_index",
            )
        seed = checked("seed", int, RANDOM_SEED if seed is None else seed)
        check_range("seed", seed, RANDOM_SEED, SEED_BOUND - 1)
        long_prompt = checked("long_prompt", bool, False if long_prompt is None else long_prompt)
        chunks = self._most_chunks(long_prompt)
        all_frames = self._check_frames(frames, scenes or (), edit, chunks)
        checked("prompt", str, prompt)
        shares = self._shares(share_prompt, edit)
        whole = True
        if edit is None or prompt.strip():
            whole = self._check_whole(prompt, chunks, shares)
        options = self._options(sampling, edit)
        if negative_prompt is not None:
            checked("negative_prompt", str, negative_prompt)
        if negative_prompt is not None and negative_prompt.strip():
            self._check_prompt(negative_prompt, "negative_prompt", chunks)
            if options.scale.guidance_scale == 1:
                raise RequestError(
                    "negative_prompt does nothing: guidance_scale is 1, which is off; "
                    "give another scale",
                    "negative_prompt",
                )
        texts = [("prompt", prompt), ("negative_prompt", negative_prompt or "")]
        texts += [("scenes", scene.prompt) for scene in scenes or ()]
        warnings = unknown_words(self.condition, self.card.name, texts)
        if checked("strict_prompt", bool, strict_prompt or False) and warnings:
            raise UnknownWordsError(warnings[0].message, warnings[0].param)
        return DrawRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            n=n,
            seed=secrets.randbits(32) if seed == RANDOM_SEED else seed,
            size=drawn_size,
            options=options,
            subjects=self._check_subjects(prompt, subjects),
            edit=edit,
            image_index=image_index,
            frames=all_frames,
            scenes=tuple(scenes or ()),
            long_prompt=long_prompt,
            warnings=warnings,
            shares=shares,
            whole=whole,
        )

    def _shares(self, asked: bool | None, edit: Edit | ClipEdit | None) -> bool:
        """Whether windows share the prompt. If nobody says so, they do where a model tells which
        words it was taught: its scenes are things on a ground."""
        able = isinstance(edit, Edit) and edit.blind
        if asked is None:
            return able and self.condition.words is not None
        if checked("share_prompt", bool, asked) and not able:
            raise RequestError(
                "share_prompt: windows share a prompt only where they do not see what was there; "
                "leave it out",
                "share_prompt",
            )
        return asked

    def _check_whole(self, prompt: str, chunks: int, shares: bool) -> bool:
        """Whether the prompt can be read as a whole; RequestError if not even in parts."""
        try:
            self._check_prompt(prompt, "prompt", chunks)
        except PromptTooLongError:
            if len(prompt) > MAX_PROMPT_CHARACTERS:
                raise
            parts = find_parts(prompt)
            if not shares or chunks > 1 or len(parts.names) < 2:
                raise
            for name in parts.names:
                self._check_prompt(parts.only([name]).text(), "prompt", chunks)
            return False
        return True

    def _check_frames(
        self, frames: int | None, scenes: Sequence[Scene], edit: Edit | ClipEdit | None, chunks: int
    ) -> int | None:
        """The frames of the clip that is asked for, None for pictures."""
        clip = isinstance(edit, ClipEdit)
        if frames is None and not scenes and not clip:
            return None
        slot = self.info.clip_slot
        if isinstance(edit, Edit):
            raise RequestError("frames: this edit is one of a picture; leave frames out", "frames")
        if isinstance(edit, ClipEdit):
            if frames is not None or scenes:
                raise RequestError(
                    f"frames: the edited clip has {len(edit.frames)}; leave frames and scenes out",
                    "frames",
                )
            self._check_windows(edit)
            if edit.kind in ("pin", "through") and not self.takes_hints:
                check_pinned(edit, slot)
            frames = len(edit.frames)
        first = checked("frames", int, self.info.frames if frames is None else frames)
        check_frames(first)
        if scenes:
            check_scenes(scenes, slot)
            for scene in scenes:
                self._check_prompt(scene.prompt, "scenes", chunks)
        total: int = first + sum(scene.frames for scene in scenes)
        check_frames(total)
        return total

    def _check_windows(self, edit: ClipEdit) -> None:
        """RequestError for more than a clip may have of what a model of clips draws at once."""
        rows, columns = self.info.grid[-2:]
        width, height = self.info.width, self.info.height
        corners = window_count(edit, width // columns, (rows, columns))
        if corners > 1 and corners * len(edit.frames) > MAX_WINDOW_FRAMES:
            raise RequestError(
                f"size: {edit.size[0]}x{edit.size[1]} pixels in {len(edit.frames)} frames take "
                f"{corners} windows of {width}x{height} in each; windows times frames may be "
                f"{MAX_WINDOW_FRAMES}: scale it to {width}x{height}, mask less of it, or make it "
                "shorter",
                "size",
            )

    def _most_chunks(self, long_prompt: bool) -> int:
        """How many chunks a prompt may be read in; RequestError if the family reads none."""
        if not long_prompt:
            return 1
        if self.condition.max_chunks == 1:
            read = self.condition.max_text_tokens
            why = "no text" if read is None else f"one text of at most {read} tokens, as trained"
            raise RequestError(
                f"long_prompt: model {self.card.name!r} reads {why}; only models behind CLIP read "
                "chunks",
                "long_prompt",
            )
        return self.condition.max_chunks

    def _options(self, sampling: Mapping[str, object], edit: Edit | ClipEdit | None) -> PlanOptions:
        revising = edit is not None and edit.share is not None
        given = {name: value for name, value in sampling.items() if value is not None}
        default = REVISER if revising else self.card.scheduler
        scheduler = checked("scheduler", str, given.setdefault("scheduler", default))
        steps = listed_steps(given) or given.get("steps")
        preset = self.card.preset(
            scheduler, None if steps is None else checked("steps", int, steps)
        )
        if revising:
            preset = {**preset, "eta": 1.0}
        options = choose_options(given, preset)
        self._check_abilities(options)
        if revising:
            make_plan(options, self.info.grid, 0, revise=0.5)  # refuses what cannot revise
        return options

    def _check_abilities(self, options: PlanOptions) -> None:
        """RequestError for what this model's family cannot do."""
        if options.scheduler.reads_attention and not self.gives_attention:
            raise RequestError(
                f"scheduler {options.scheduler.name!r} reads what image tokens attend to in a "
                f"text, and model {self.card.name!r} has none to read; choose another scheduler",
                "scheduler",
            )
        policy = options.reuse_policy
        if policy.active and policy.reads_memory and not self.has_memory:
            raise RequestError(
                f"reuse: model {self.card.name!r} keeps nothing that could be reused; leave it 0",
                "reuse",
            )

    def _check_size(
        self, size: tuple[int, int] | None, edit: Edit | ClipEdit | None
    ) -> tuple[int, int]:
        usual = (self.info.width, self.info.height) if edit is None else edit.size
        drawn = usual if size is None else checked("size", tuple[int, int], size)
        possible = self.info.sizes if edit is None else (usual,)
        if drawn not in possible:
            what = "this model draws" if edit is None else "the edited image has"
            known = " or ".join(f"{width}x{height}" for width, height in possible)
            raise RequestError(f"size {drawn[0]}x{drawn[1]}: {what} {known} only", "size")
        return drawn

    def _check_subjects(
        self, prompt: str, subjects: Sequence[Sequence[str]] | None
    ) -> tuple[tuple[str, ...], ...]:
        """The subjects as given, or as found in the prompt; each word must stand in it."""
        if subjects is None:
            return find_subjects(prompt)
        given: tuple[tuple[str, ...], ...] = checked(
            "subjects", tuple[tuple[str, ...], ...], subjects
        )
        if len(given) > MAX_SUBJECTS or any(
            not 0 < len(words) <= MAX_SUBJECT_WORDS for words in given
        ):
            raise RequestError(
                f"subjects: give at most {MAX_SUBJECTS} lists of 1 to {MAX_SUBJECT_WORDS} words "
                "each",
                "subjects",
            )
        for word in (word for words in given for word in words):
            if not word.strip() or not self.condition.positions(prompt, word):
                raise RequestError(
                    f"subjects: {word[:80]!r} does not stand in the prompt", "subjects"
                )
        return given

    def _check_prompt(self, prompt: str, param: str, chunks: int) -> None:
        if not prompt.strip():
            raise RequestError(f"the {param} is empty", param)
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise PromptTooLongError(
                f"the {param} has {len(prompt)} characters; the bound is {MAX_PROMPT_CHARACTERS}",
                param,
            )
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"the {param} is not text: character {error.start} stands for no letter", param
            ) from None
        try:
            self.condition([prompt], chunks)
        except RequestError as error:
            raise type(error)(str(error), param) from error

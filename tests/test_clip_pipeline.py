"""Clips through a pipeline, and through an engine: what is known stays, and seeds give bytes."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from tests.worlds.clip_models import SLOT, clip_pipeline, noise_clip
from tests.worlds.native import PROMPT, native_pipeline
from tests.worlds.server import FakeSource, until
from unmask.clips.clip import Clip
from unmask.editing import outpaint, variation
from unmask.editing.clip_drawing import ClipWindow, DrawnClip
from unmask.editing.clip_edits import (
    ClipEdit,
    boxes_through,
    extend,
    inpaint_clip,
    interpolate,
    interpolate_through,
    outpaint_clip,
    pin,
    restyle_clip,
    revise_clip,
)
from unmask.encoding import parameters
from unmask.errors import ModerationError, RequestError, UnknownWordsError
from unmask.models.subjects import find_subjects
from unmask.pipeline import MAX_FRAMES, DrawRequest, Generated, Pipeline, Scene, whole_slots
from unmask.pipeline.prompts import subject_positions
from unmask.sampling.backbone import RowTensors
from unmask.sampling.counts import COUNT_RULES
from unmask.sampling.guidance import GUIDANCES
from unmask.sampling.logits import LOGIT_OPTIONS
from unmask.sampling.options import plan_options
from unmask.sampling.reuse import REUSE_POLICIES
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.schedules import MASK_SCHEDULES
from unmask.server.engine.engine import Engine, EngineOptions
from unmask.server.moderation import ModeratedEngine, Moderation, WordList

OTHER = "two blue squares"


@pytest.fixture(name="pipeline", scope="module")
def _pipeline() -> Pipeline:
    return clip_pipeline()


def _bytes(clip: Clip) -> bytes:
    return clip.frames.tobytes()


def _all_bytes(generated: Generated) -> list[bytes]:
    return [picture.tobytes() for picture in generated.pictures]


def _corner(clip: Clip) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return boxes_through((0, 0, 4, 4), (4, 4, 8, 8), clip)


ENDS = {0: noise_clip(1, seed=1), 8: noise_clip(1, seed=2)}
EDITS: dict[str, Callable[[], ClipEdit]] = {
    "extend": lambda: extend(noise_clip(3), 7),
    "extend a long one": lambda: extend(noise_clip(14), 9),
    "interpolate": lambda: interpolate(noise_clip(1), noise_clip(2, seed=1), 9),
    "interpolate at once": lambda: interpolate(noise_clip(1), noise_clip(1, seed=1), 4),
    "inpaint": lambda: inpaint_clip(noise_clip(9), _corner(noise_clip(9))),
    "outpaint": lambda: outpaint_clip(noise_clip(9), _corner(noise_clip(9))),
    "restyle": lambda: restyle_clip(noise_clip(9), 0.4),
    "restyle a part": lambda: restyle_clip(noise_clip(9), 0.4, _corner(noise_clip(9))),
    "pin": lambda: pin({4: noise_clip(1), 11: noise_clip(2, seed=1)}, 17),
    "interpolate through": lambda: interpolate_through(noise_clip(9), ENDS, 0.4),
    "revise between edited ends": lambda: interpolate_through(noise_clip(9), ENDS, share=0.4),
    "revise": lambda: revise_clip(noise_clip(9), 0.4),
    "extend larger frames": lambda: extend(noise_clip(3, 12, 16), 7),
    "outpaint on two sides": lambda: outpaint_clip(noise_clip(9), right=6, top=4),
    "revise a part of larger frames": lambda: revise_clip(
        noise_clip(9, 21, 10),
        0.4,
        boxes_through((0, 0, 8, 8), (13, 2, 21, 10), noise_clip(9, 21, 10)),
    ),
    "revise a part": lambda: revise_clip(noise_clip(9), 0.4, _corner(noise_clip(9))),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_known_comes_back_frame_by_frame(pipeline: Pipeline, name: str) -> None:
    edit = EDITS[name]()
    clip = pipeline.generate(PROMPT, edit=edit, seed=1)
    assert clip.frames.shape == edit.frames.shape
    assert np.array_equal(clip.frames[~edit.masks], edit.frames[~edit.masks])
    assert not np.array_equal(clip.frames[edit.masks], edit.frames[edit.masks])
    assert _bytes(clip) == _bytes(pipeline.generate(PROMPT, edit=EDITS[name](), seed=1))


def test_an_edit_that_keeps_nothing_is_a_clip_from_the_prompt(pipeline: Pipeline) -> None:
    """However many parts it is decoded in."""
    for frames in (1, 13, 1 + 17 * SLOT, 3 + 16 * SLOT):
        masks = np.ones((frames, 8, 8), bool)
        edited = pipeline.generate(PROMPT, edit=inpaint_clip(noise_clip(frames), masks), seed=1)
        whole = pipeline.generate(PROMPT, frames=frames, seed=1)
        assert np.array_equal(edited.frames, whole.frames)


def test_the_model_sees_both_ends_of_an_interpolation(pipeline: Pipeline) -> None:
    ends = noise_clip(1), noise_clip(1, seed=1)
    request = pipeline.request(PROMPT, edit=interpolate(*ends, 9), seed=1)
    (start,) = pipeline.drawing(pipeline.prepare(request), 0).start()
    tokens, unknown = start.tokens.view(3, 4), start.unknown.view(3, 4)
    assert unknown.all(1).tolist() == [False, True, False]
    for slot, end in zip((0, 2), ends, strict=True):
        pixels = torch.from_numpy(end.frames).permute(0, 3, 1, 2).float() / 255
        assert torch.equal(tokens[slot], pipeline.tokenizer.encode(pixels).flatten())
    assert (tokens[1] == pipeline.backbone.mask_id).all()


def test_a_clip_between_edited_ends_keeps_its_tokens_as_far_as_it_is_not_redrawn(
    pipeline: Pipeline,
) -> None:
    clip = noise_clip(9)
    own = pipeline.tokenizer.encode(torch.from_numpy(clip.frames[4:5]).permute(0, 3, 1, 2) / 255)

    def middle(strength: float) -> torch.Tensor:
        edit = interpolate_through(clip, ENDS, strength)
        (start,) = pipeline.drawing(
            pipeline.prepare(pipeline.request(PROMPT, edit=edit)), 0
        ).start()
        kept = start.tokens.view(3, 4)[1] == own.flatten()
        assert torch.equal(kept, ~start.unknown.view(3, 4)[1])
        return kept

    assert [int(middle(strength).sum()) for strength in (0.01, 0.5, 1)] == [3, 2, 0]
    plain = pipeline.generate(PROMPT, edit=interpolate(ENDS[0], ENDS[8], 9), seed=1)
    whole = pipeline.generate(PROMPT, edit=interpolate_through(clip, ENDS, 1), seed=1)
    assert np.array_equal(whole.frames, plain.frames)
    part = pipeline.generate(PROMPT, edit=interpolate_through(clip, ENDS, 0.01), seed=1)
    assert not np.array_equal(part.frames, plain.frames)


def test_a_clip_has_as_many_frames_as_were_asked_for(pipeline: Pipeline) -> None:
    for frames in (1, 2, 5, 9, 10, 23):
        clip = pipeline.generate(PROMPT, frames=frames, seed=2)
        assert isinstance(clip, Clip)
        assert (len(clip), clip.size, clip.rate) == (frames, (8, 8), 8)
    assert pipeline.info.frames == 9


def test_the_same_seed_gives_the_same_bytes(pipeline: Pipeline) -> None:
    one, two, other = (_bytes(pipeline.generate(PROMPT, frames=9, seed=s)) for s in (4, 4, 5))
    assert one == two != other


def test_a_clip_of_one_frame_is_the_picture_of_its_seed(pipeline: Pipeline) -> None:
    picture = pipeline.generate(PROMPT, seed=6, guidance_scale=2.0).images[0]
    clip = pipeline.generate(PROMPT, frames=1, seed=6, guidance_scale=2.0)
    assert clip.frames.tobytes() == picture.tobytes()


def test_frames_that_are_cut_away_change_nothing(pipeline: Pipeline) -> None:
    whole = pipeline.generate(PROMPT, frames=9, seed=3)
    assert np.array_equal(pipeline.generate(PROMPT, frames=7, seed=3).frames, whole.frames[:7])


def test_a_longer_clip_goes_on_from_tokens_that_stay(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[torch.Tensor, ...]] = []
    finish = DrawnClip.finish

    def spied(self: DrawnClip, window: object, tokens: torch.Tensor) -> None:
        finish(self, window, tokens)  # type: ignore[arg-type]
        assert isinstance(window, ClipWindow)
        begun.append(tuple(each.view(-1, 2, 2) for each in (window.unknown, window.tokens, tokens)))

    monkeypatch.setattr(DrawnClip, "finish", spied)
    clip = pipeline.generate(PROMPT, frames=1 + 4 * SLOT, seed=3)
    assert len(clip) == 17
    assert [unknown.flatten(1).all(1).tolist() for unknown, _, _ in begun] == [
        [True] * 3,
        [False, False, True],
        [False, False, True],
    ]
    for (_, _, drawn), (_, given, after) in pairwise(begun):
        assert torch.equal(given[:2], drawn[1:])
        assert torch.equal(after[:2], drawn[1:])
    assert np.array_equal(clip.frames[:9], pipeline.generate(PROMPT, frames=9, seed=3).frames)


def test_each_scene_has_its_prompt(pipeline: Pipeline) -> None:
    def drawn(prompt: str, scene: str) -> Clip:
        return pipeline.generate(prompt, frames=5, scenes=[Scene(scene, 8)], seed=1)

    clip, other = drawn(PROMPT, PROMPT), drawn(PROMPT, OTHER)
    assert len(clip) == 13
    assert np.array_equal(clip.frames[:5], other.frames[:5])
    assert not np.array_equal(clip.frames[5:], other.frames[5:])


def test_the_prompts_of_all_scenes_are_looked_through(pipeline: Pipeline) -> None:
    scenes = [Scene(PROMPT, 4), Scene("a sqare", 4)]
    [warning] = pipeline.request(PROMPT, frames=5, scenes=scenes).warnings
    assert (warning.param, warning.words[0].word) == ("scenes", "sqare")
    with pytest.raises(UnknownWordsError, match="sqare"):
        pipeline.generate(PROMPT, frames=5, scenes=scenes, strict_prompt=True)


def test_a_clip_reads_all_its_prompts_in_as_many_chunks_as_the_longest(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pipeline.request(PROMPT, frames=5, scenes=[Scene(OTHER, 8)], seed=1)
    long = replace(request, long_prompt=True)
    chunks: list[int] = []
    read = pipeline.encode_prompts
    monkeypatch.setattr(pipeline.condition, "chunks", {PROMPT: 1, OTHER: 3, "": 1}.__getitem__)

    def counted(prompts: list[str], count: int) -> RowTensors:
        chunks.append(count)
        return read(prompts)

    monkeypatch.setattr(pipeline, "encode_prompts", counted)
    for each in (request, long):
        pipeline.encode([each])
        drawing = pipeline.drawing(pipeline.prepare(each), 0)
        (first,) = drawing.start()
        drawing.finish(first, first.tokens.clamp_max(11))
    assert chunks == [1, 1, 3, 3]


def test_a_scene_is_drawn_by_its_own_objects(pipeline: Pipeline) -> None:
    """Uncage reads where a text tells of an object: in the scene's, not in the first one's."""
    later = "squares and a red circle"
    request = pipeline.request(
        "a red circle", frames=5, scenes=[Scene(later, 8)], scheduler="uncage", seed=1
    )
    prepared = pipeline.prepare(request)
    drawing = pipeline.drawing(prepared, 0)
    (first,) = drawing.start()
    (second,) = drawing.finish(first, first.tokens.clamp_max(11))
    circle = subject_positions(pipeline.condition, "a red circle", [["red", "circle"]])
    both = subject_positions(pipeline.condition, later, find_subjects(later))
    assert first.plan.subjects == circle
    assert second.plan.subjects == both
    assert len(both) == 2


def test_a_list_of_prompts_gives_a_list_of_clips(pipeline: Pipeline) -> None:
    clips = pipeline.generate([PROMPT, OTHER], frames=5, seed=2)
    alone = [pipeline.generate(prompt, frames=5, seed=2) for prompt in (PROMPT, OTHER)]
    assert [_bytes(clip) for clip in clips] == [_bytes(clip) for clip in alone]


def test_the_file_of_a_clip_tells_its_scenes(pipeline: Pipeline) -> None:
    request = pipeline.request(PROMPT, frames=5, scenes=[Scene(OTHER, 4)], seed=1)
    told = json.loads(parameters(request, "tiny"))
    assert (told["frames"], told["scenes"]) == (9, [{"prompt": OTHER, "frames": 4}])
    assert "frames" not in json.loads(parameters(pipeline.request(PROMPT), "tiny"))


def test_every_step_of_what_is_drawn_is_reported(pipeline: Pipeline) -> None:
    heard: list[tuple[int, int]] = []
    pipeline.generate(
        PROMPT,
        edit=extend(noise_clip(17), 8),
        seed=1,
        steps=3,
        on_step=lambda done, total: heard.append((done, total)),
    )
    assert heard == [(done, 6) for done in range(1, 7)]  # two windows of three steps


def _mixed(pipeline: Pipeline) -> list[DrawRequest]:
    return [
        pipeline.request(PROMPT, frames=9, seed=1, n=2, guidance_scale=2.0),
        pipeline.request(OTHER, seed=2),
        pipeline.request(OTHER, frames=14, seed=3, scheduler="confidence", steps=2),
        pipeline.request(PROMPT, edit=EDITS["extend"](), seed=4),
        pipeline.request(PROMPT, edit=EDITS["interpolate at once"](), seed=4),
        pipeline.request(PROMPT, edit=EDITS["revise"](), seed=5),
        pipeline.request(OTHER, frames=5, scenes=[Scene(PROMPT, 8)], seed=6, guidance_scale=3.0),
        pipeline.request("", edit=variation(noise_clip(1).pictures()[0], 0.5), seed=7),
        pipeline.request(PROMPT, edit=outpaint(noise_clip(1).pictures()[0], right=4), seed=8),
    ]


def test_clips_and_pictures_of_one_batch_are_what_they_are_alone(pipeline: Pipeline) -> None:
    requests = _mixed(pipeline)
    together = pipeline.run_all(requests)
    for request, found in zip(requests, together, strict=True):
        assert _all_bytes(found) == _all_bytes(pipeline.run(request))


@pytest.mark.anyio
async def test_clips_and_pictures_of_a_busy_engine_are_what_they_are_alone(
    pipeline: Pipeline,
) -> None:
    engine = Engine(
        EngineOptions(("tiny",), ("cpu",), max_queue=100, max_rows=6, step_rows=4),
        FakeSource(lambda key, device: pipeline),
    )
    engine.start()
    await until(lambda: engine.stats().ready_workers == 1)
    model = await engine.open()

    async def drawn(request: DrawRequest) -> Generated:
        return await engine.submit(await engine.weigh(request, model))

    requests = _mixed(pipeline) * 2
    together = await asyncio.gather(*map(drawn, requests))
    await engine.stop()
    for request, found in zip(requests, together, strict=True):
        assert _all_bytes(found) == _all_bytes(pipeline.run(request))


@pytest.mark.anyio
async def test_every_scene_is_moderated(pipeline: Pipeline) -> None:
    source = FakeSource(lambda key, device: pipeline)
    engine = Engine(EngineOptions(("tiny",), ("cpu",)), source)
    engine.start()
    await until(lambda: engine.stats().ready_workers == 1)
    watched = ModeratedEngine(engine, Moderation(WordList(["squares"]).judge))
    request = pipeline.request(PROMPT, frames=5, scenes=[Scene(PROMPT, 4), Scene(OTHER, 4)])
    with pytest.raises(ModerationError) as caught:
        await watched.weigh(request, await watched.open())
    assert caught.value.param == "scenes"
    await engine.stop()


# What is set to turn an option of logits or of values on.
LOGITS: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 3},
    "noise_regularisation": {"noise_regularisation": 1.0},
    "differential": {"differential": 0.5},
}
# Frames that no token stands for: for a model that takes hints.
HINTED: dict[str, Callable[[], ClipEdit]] = {
    "pin": lambda: pin({0: noise_clip(1), 6: noise_clip(1, seed=1)}, 9),
    "pin alone": lambda: pin({3: noise_clip(1)}, 9),
    "pin in a later window": lambda: pin({0: noise_clip(1), 14: noise_clip(2, seed=1)}, 17),
    "extend": lambda: extend(noise_clip(7), 6),
}


@pytest.fixture(name="hinted", scope="module")
def _hinted() -> Pipeline:
    return clip_pipeline(hints=3)


@pytest.mark.parametrize("name", HINTED)
def test_a_frame_between_key_frames_comes_back_and_tells_of_the_rest(
    hinted: Pipeline, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = HINTED[name]()
    seeds = range(4)  # of a clip of few tokens not every one is another
    drawn = [hinted.generate(PROMPT, edit=edit, seed=seed) for seed in seeds]
    for clip in drawn:
        assert np.array_equal(clip.frames[~edit.masks], edit.frames[~edit.masks])
    assert _bytes(drawn[0]) == _bytes(hinted.generate(PROMPT, edit=HINTED[name](), seed=0))
    monkeypatch.setattr(hinted.backbone, "hinted", lambda prefix, hints: prefix)
    untold = [hinted.generate(PROMPT, edit=edit, seed=seed) for seed in seeds]
    assert [_bytes(clip) for clip in untold] != [_bytes(clip) for clip in drawn]


def test_hints_leave_what_they_are_not_told_alone(hinted: Pipeline) -> None:
    """A batch holds rows with and without; a method of sampling does not know of them."""
    requests = [
        hinted.request(PROMPT, edit=HINTED["pin"](), seed=1, guidance_scale=2.0),
        hinted.request(PROMPT, edit=HINTED["pin alone"](), seed=2, scheduler="p2"),
        hinted.request(OTHER, edit=HINTED["pin"](), seed=2, steps=4, reuse=1, reuse_after=0.0),
        *_mixed(hinted),
    ]
    for request, found in zip(requests, hinted.run_all(requests), strict=True):
        assert _all_bytes(found) == _all_bytes(hinted.run(request))


def test_a_model_with_windows_refuses_by_name_what_it_cannot_do() -> None:
    windows = ((1, 2, 2), (0, 1, 1))
    pipeline = clip_pipeline(windows=windows)
    assert len(pipeline.generate(PROMPT, frames=13, seed=1)) == 13
    for options in ({"reuse": 1}, {"scheduler": "uncage"}):
        (param,) = options
        with pytest.raises(RequestError, match=param) as caught:
            pipeline.request(PROMPT, frames=9, **options)
        assert caught.value.param == param
    assert "uncage" not in pipeline.info.schedulers
    assert set(pipeline.info.reuse_policies) == {"carried-null", "none"}


METHODS: list[dict[str, Any]] = [
    *({"scheduler": name} for name in SCHEDULERS),
    *({"mask_schedule": name} for name in MASK_SCHEDULES),
    *({"guidance": name, "guidance_scale": 2.0} for name in GUIDANCES),
    *({"count_rule": name} for name in COUNT_RULES),
    *({"reuse_policy": name, "guidance_scale": 2.0} for name in REUSE_POLICIES),
    *LOGITS.values(),
    {"reuse_policy": "recap", "reuse": 1, "reuse_after": 0.0},
    {"zigzag": True},
    {"temperature": 0.5, "temperature_last": 0.2, "temperature_warmup": 1},
]


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_every_method_draws_a_clip(pipeline: Pipeline, options: dict[str, Any]) -> None:
    clip, again = (
        pipeline.run(pipeline.request(PROMPT, frames=13, seed=1, steps=4, **options)).clips[0]
        for _ in range(2)
    )
    assert len(clip) == 13
    assert _bytes(clip) == _bytes(again)


def test_every_logit_option_is_among_those_that_drew() -> None:
    assert set(LOGITS) == set(LOGIT_OPTIONS)


def _refused(pipeline: Pipeline, edit: str | None = None, **options: Any) -> str | None:
    """The option that is refused by name; None if a clip is drawn, the same twice."""
    what: dict[str, Any] = {"frames": 9} if edit is None else {"edit": EDITS[edit]()}
    try:
        request = pipeline.request(PROMPT, seed=1, steps=3, **what, **options)
    except RequestError as error:
        return error.param if (error.param or "?") in str(error) else str(error)
    drawn, again = (_all_bytes(pipeline.run(request)) for _ in range(2))
    return None if drawn == again else "not the same twice"


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_a_scheduler_cannot_do_beside_it_is_refused_by_name(
    pipeline: Pipeline, name: str
) -> None:
    """A clip's methods combine as a picture's: those that take tokens back revise, and nothing that
    fixes an order goes with them, but for local steps, which only reveal."""
    scheduler = plan_options(scheduler=name).scheduler
    remasks = scheduler.remasks
    beside: list[dict[str, Any]] = [
        *({"count_rule": rule} for rule in COUNT_RULES if rule != "planned"),
        {"zigzag": True},
    ]
    kept = "reuse" if scheduler.keeps_reveals else None
    assert _refused(pipeline, scheduler=name, reuse=1) == kept
    if remasks:
        assert _refused(pipeline, "revise", scheduler=name, reuse=1) == "reuse"
    for options in beside:
        (param,) = options
        assert _refused(pipeline, scheduler=name, **options) == (param if remasks else None)
    for edit in ("extend", "inpaint", "pin"):
        assert _refused(pipeline, edit, scheduler=name) is None
    assert _refused(pipeline, "revise", scheduler=name) == (None if remasks else "scheduler")


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"frames": 0}, "frames", f"between 1 and {MAX_FRAMES}"),
        ({"frames": MAX_FRAMES + 1}, "frames", f"between 1 and {MAX_FRAMES}"),
        ({"frames": "5"}, "frames", "expected int"),
        ({"frames": 5, "scenes": [Scene(PROMPT, 3)]}, "scenes", "the least is 4"),
        ({"frames": 5, "scenes": [Scene(" ", 4)]}, "scenes", "is empty"),
        ({"frames": 5, "scenes": [Scene(PROMPT, 4)] * 17}, "scenes", "give 1 to 16"),
        ({"frames": 5, "scenes": [{"prompt": PROMPT, "frames": 4}]}, "scenes", "a list of Scene"),
        ({"frames": 5, "scenes": PROMPT}, "scenes", "a list of Scene, got"),
        ({"frames": 5, "scenes": [Scene(PROMPT, "4")]}, "scenes", "expected int, got '4'"),  # type: ignore[arg-type]
        ({"frames": 5, "scenes": [Scene(7, 4)]}, "scenes", "expected str, got 7"),  # type: ignore[arg-type]
        ({"frames": 400, "scenes": [Scene(PROMPT, 100)]}, "frames", "frames is 500"),
        ({"frames": 5, "n": 2}, "n", "n is 2"),
        ({"frames": 9, "edit": extend(noise_clip(1), 8)}, "frames", "leave frames"),
        ({"edit": restyle_clip(noise_clip(9, 99, 99), 0.5)}, "size", "576 windows of 8x8 in each"),
    ],
)
def test_what_no_clip_can_be_is_refused_by_name(
    pipeline: Pipeline, options: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        pipeline.generate(PROMPT, **options)
    assert caught.value.param == param


def test_a_model_of_pictures_draws_no_clips() -> None:
    with pytest.raises(RequestError, match="draws pictures, not clips"):
        native_pipeline().generate(PROMPT, frames=5)


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 4), (0.5, 4), (1, 8), (2, 16), (2.2, 16)])
def test_seconds_are_whole_slots(seconds: float, frames: int) -> None:
    assert whole_slots(seconds, SLOT) == frames


@pytest.mark.parametrize("seconds", [0, -1, 61, float("nan"), float("inf")])
def test_no_time_and_too_long_a_time_are_refused(seconds: float) -> None:
    with pytest.raises(RequestError, match="must lie above 0, up to"):
        whole_slots(seconds, SLOT)

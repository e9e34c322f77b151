"""What of a clip is known, and which tokens are to be drawn."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.worlds.clip_models import PATCH, SLOT, clip_tokenizer, noise_clip
from unmask.clips.clip import Clip
from unmask.editing.clip_drawing import (
    OVERLAP,
    DrawnClip,
    PreparedClip,
    TimeWindow,
    prepare_clip,
)
from unmask.editing.clip_drawing import time_windows as windows_of
from unmask.editing.clip_edits import (
    MAX_FRAMES,
    Box,
    ClipEdit,
    boxes_through,
    check_pinned,
    extend,
    fitted,
    inpaint_clip,
    interpolate,
    interpolate_through,
    outpaint_clip,
    pin,
    restyle_clip,
    revise_clip,
    select,
    still_clip,
)
from unmask.editing.edits import inpaint
from unmask.editing.windows import window_plan
from unmask.errors import RequestError

GRID = (4, 4, 12)  # 13 frames of 48x16 pixels
FRAMES, WIDTH, HEIGHT = 13, GRID[2] * PATCH, GRID[1] * PATCH
CENTRE: Box = (WIDTH // 4, HEIGHT // 4, 3 * WIDTH // 4, 3 * HEIGHT // 4)


def _prepared(edit: ClipEdit | None, grid: tuple[int, ...] = GRID) -> PreparedClip:
    frames = FRAMES if edit is None else len(edit.frames)
    return prepare_clip(edit, [frames], clip_tokenizer(), grid)


def _clip(frames: int = FRAMES) -> Clip:
    return noise_clip(frames, WIDTH, HEIGHT)


def _outpaint(first: Box, last: Box | None = None) -> ClipEdit:
    return outpaint_clip(_clip(), boxes_through(first, last, _clip()))


def _inpaint(first: Box, last: Box | None = None) -> ClipEdit:
    return inpaint_clip(_clip(), boxes_through(first, last, _clip()))


# Of the dynamic tasks the box slides from the left edge to the right one.
SLIDING: dict[str, tuple[Box, Box]] = {
    "OPD": ((0, 0, WIDTH // 2, HEIGHT), (WIDTH // 2, 0, WIDTH, HEIGHT)),
    "IPD": ((0, 4, WIDTH // 2, 12), (WIDTH // 2, 4, WIDTH, 12)),
}


@pytest.mark.parametrize(
    ("task", "edit", "share"),
    [
        ("FP", lambda: extend(_clip(1), FRAMES - 1), 0.75),
        ("FI", lambda: interpolate(_clip(1), _clip(1), FRAMES), 0.5),
        ("OPC", lambda: _outpaint(CENTRE), 0.75),
        ("OPV", lambda: _outpaint((WIDTH // 4, 0, 3 * WIDTH // 4, HEIGHT)), 0.5),
        ("OPH", lambda: _outpaint((0, 4, WIDTH, 12)), 0.5),
        ("OPD", lambda: _outpaint(*SLIDING["OPD"]), 0.5),
        ("IPC", lambda: _inpaint(CENTRE), 0.25),
        ("IPD", lambda: _inpaint(*SLIDING["IPD"]), 0.25),
        ("CG", lambda: None, 1.0),
        ("CFP", lambda: extend(_clip(1), FRAMES - 1), 0.75),
    ],
)
def test_the_ten_tasks_of_magvit_mask_their_share_of_the_tokens(
    task: str, edit: Callable[[], ClipEdit | None], share: float
) -> None:
    """The table of the tasks (arXiv 2212.05199), at 13 frames: four slots, as there."""
    prepared = _prepared(edit())
    assert prepared.unknown.shape == GRID
    assert prepared.unknown.double().mean().item() == pytest.approx(share)
    assert prepared.windows == (TimeWindow(0, 4),)


def test_a_box_that_cuts_through_tokens_leaves_them_unknown() -> None:
    box = (6, 4, 22, 12)  # of pixels; the columns of tokens 1 to 5 hold some of it, 2 to 4 no more
    assert _prepared(_inpaint(box)).unknown[0].sum() == 2 * 5
    assert (~_prepared(_outpaint(box)).unknown[0]).sum() == 2 * 3


def test_known_tokens_are_those_of_the_key_frames() -> None:
    clip, tokenizer = _clip(), clip_tokenizer()
    prepared = _prepared(_inpaint(*SLIDING["IPD"]))
    pixels = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255
    keys = tokenizer.encode(pixels[::SLOT])
    known = ~prepared.unknown
    assert torch.equal(prepared.tokens[known], keys[known])


def _hinted(edit: ClipEdit, offsets: int = SLOT - 1) -> PreparedClip:
    return prepare_clip(edit, [len(edit.frames)], clip_tokenizer(), GRID, "cpu", offsets)


def _offsets(prepared: PreparedClip) -> list[int]:
    """The offset of each slot, which all of its cells share."""
    assert prepared.hints is not None
    offsets = prepared.hints[..., 1].flatten(1)
    assert (offsets == offsets[:, :1]).all()
    return [int(offset) for offset in offsets[:, 0]]


def test_a_frame_between_two_key_frames_is_a_hint() -> None:
    clip = _clip(1)
    prepared = _hinted(pin({0: clip, 6: clip}, FRAMES))
    assert prepared.unknown.flatten(1).all(1).tolist() == [False, True, True, True]
    assert prepared.hints is not None
    codes = clip_tokenizer().encode(torch.from_numpy(clip.frames).permute(0, 3, 1, 2) / 255)
    assert torch.equal(prepared.hints[2, ..., 0], codes[0])
    assert _offsets(prepared) == [0, 0, 2, 0]  # frame 6 comes two before 8, which ends its slot


def test_of_several_given_frames_the_last_of_a_slot_is_its_hint() -> None:
    first, last = noise_clip(1, WIDTH, HEIGHT), noise_clip(1, WIDTH, HEIGHT, seed=1)
    hints = _hinted(pin({5: first, 7: last}, FRAMES)).hints
    assert hints is not None
    assert (hints[2, ..., 1] == 1).all()
    alone = _hinted(pin({7: last}, FRAMES)).hints
    assert alone is not None
    assert torch.equal(hints, alone)


def test_a_hint_is_of_whole_cells_that_are_unknown() -> None:
    masks = np.ones((FRAMES, HEIGHT, WIDTH), bool)
    masks[6, :8, : WIDTH // 2] = False  # two rows of tokens, the left half
    masks[6, 8:10] = False  # half a row
    masks[8, :4] = False  # the key frame knows the first row itself
    prepared = _hinted(inpaint_clip(_clip(), masks))
    assert prepared.hints is not None
    expected = torch.zeros(GRID, dtype=torch.bool)
    expected[2, 1, : GRID[2] // 2] = True
    assert torch.equal(prepared.hints[..., 1] > 0, expected)


def test_known_key_frames_need_no_hints() -> None:
    assert _hinted(extend(_clip(5), FRAMES - 5)).hints is None
    assert _hinted(pin({0: _clip(1), 4: _clip(1), 8: _clip(5)}, FRAMES)).hints is None
    assert _offsets(_hinted(extend(_clip(6), FRAMES - 6))) == [0, 0, 3, 0]  # frame 5 tells of 8


def test_a_slot_that_is_cut_short_counts_from_its_last_frame() -> None:
    assert _offsets(_hinted(pin({10: _clip(1)}, 12))) == [0, 0, 0, 1]


def test_a_model_without_hints_takes_pictures_at_key_frames_alone() -> None:
    with pytest.raises(RequestError, match=r"frame 6; .* only if frame 8, the next") as told:
        check_pinned(pin({0: _clip(1), 6: _clip(1)}, FRAMES), SLOT)
    assert told.value.param == "at"
    with pytest.raises(RequestError, match="only if frame 13, the next"):
        check_pinned(pin({9: _clip(1)}, 10 + SLOT), 2 * SLOT)
    check_pinned(pin({0: _clip(3)}, FRAMES), SLOT)  # as one that is extended
    with pytest.raises(RequestError, match="frame 6"):
        check_pinned(interpolate_through(_clip(), {0: _clip(3), 6: _clip(1)}), SLOT)
    edit = pin({0: _clip(1), 7: _clip(2)}, FRAMES)
    check_pinned(edit, SLOT)
    prepared = _prepared(edit)
    assert prepared.unknown.flatten(1).all(1).tolist() == [False, True, False, True]
    assert prepared.hints is None


@pytest.mark.parametrize(
    ("pictures", "frames", "words"),
    [
        ({}, 9, "no frame is given"),
        ({9: _clip(1)}, 9, "frames 9 to 9; a clip of 9 has 0 to 8"),
        ({-1: _clip(1)}, 9, "has 0 to 8"),
        ({6: _clip(4)}, 9, "frames 6 to 9"),
        ({0: _clip(3), 2: _clip(1)}, 9, "frame 2 is given twice"),
        ({0: _clip(1), 4: noise_clip(1)}, 9, "frame 4 has 8x8 pixels"),
    ],
)
def test_what_cannot_be_pinned_is_refused(
    pictures: dict[int, Clip], frames: int, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as told:
        pin(pictures, frames)
    assert told.value.param == "at"


def test_nothing_under_the_mask_of_a_blind_edit_is_seen() -> None:
    clip = _clip()
    box = boxes_through(CENTRE, None, clip)
    other = Clip(np.where(box[..., None], 255 - clip.frames, clip.frames), clip.rate)
    assert not np.array_equal(clip.frames, other.frames)
    one, two = (_prepared(inpaint_clip(each, box)).tokens for each in (clip, other))
    assert torch.equal(one, two)
    one, two = (_prepared(restyle_clip(each, 0.5, box)).tokens for each in (clip, other))
    assert not torch.equal(one, two)


def test_only_what_is_looked_at_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 known slots those that the last windows see; not of the one to be drawn, nor where
    nothing can be seen anyhow."""
    tokenizer, seen = clip_tokenizer(), []
    encode = tokenizer.encode

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return encode(pixels)

    monkeypatch.setattr(tokenizer, "encode", counted)
    long = extend(_clip(1 + 60 * SLOT), SLOT)
    prepared = prepare_clip(long, [len(long.frames)], tokenizer, GRID)
    assert len(seen) == sum(window.end - window.first for window in prepared.windows) - 1 <= GRID[0]
    seen.clear()
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    masks[SLOT] = True
    prepared = prepare_clip(inpaint_clip(_clip(), masks), [FRAMES], tokenizer, GRID)
    assert len(seen) == 3  # one of four is drawn
    seen.clear()
    masks[SLOT], masks[SLOT + 1] = False, True
    prepared = prepare_clip(inpaint_clip(_clip(), masks), [FRAMES], tokenizer, GRID)
    assert (prepared.windows, len(seen)) == ((), 2)


def test_a_prepared_clip_moves_to_the_device_of_who_draws_it() -> None:
    moved = _prepared(extend(_clip(), 4)).on("meta")
    assert moved.tokens.is_meta
    assert moved.unknown.is_meta


def test_what_lies_between_known_key_frames_needs_no_token() -> None:
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    masks[5:8] = True  # the key frames are 4 and 8
    prepared = _prepared(inpaint_clip(_clip(), masks))
    assert not prepared.unknown.any()
    assert prepared.windows == ()


@pytest.mark.parametrize(
    ("scenes", "expected"),
    [
        ([5], [(0, 5, 0)]),
        ([9], [(0, 5, 0), (3, 8, 0), (6, 9, 0)]),
        ([3, 4], [(0, 3, 0), (1, 6, 1), (4, 7, 1)]),
        ([1, 1], [(0, 1, 0), (0, 2, 1)]),
    ],
)
def test_windows_overlap_in_time(scenes: list[int], expected: list[tuple[int, int, int]]) -> None:
    windows = windows_of(scenes, 5)
    assert [tuple(window[:3]) for window in windows] == expected
    for before, after in pairwise(windows):
        assert before.end - after.first == min(OVERLAP, before.end)


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_windows_of_any_length_cover_all_slots(longest: int) -> None:
    covered: set[int] = set()
    for window in windows_of([3, 2, 6], longest):
        assert window.end - window.first <= longest
        covered |= set(range(window.first, window.end))
    assert covered == set(range(11))


def test_larger_frames_have_the_windows_of_a_picture_at_each_time() -> None:
    clip = noise_clip(1 + 5 * SLOT, 2 * WIDTH, HEIGHT)  # 24 columns, 12 at once; 6 slots, 4 at once
    masks = np.zeros(clip.frames.shape[:3], bool)
    masks[:, 4:, : WIDTH // 2] = masks[-1, :, -4:] = True
    prepared = _prepared(inpaint_clip(clip, masks))
    assert prepared.unknown.shape == (6, 4, 24)
    whole = Image.fromarray(masks.any(0).astype(np.uint8) * 255)
    picture = inpaint(clip.pictures()[0], whole)
    plan = window_plan(picture, PATCH, GRID[1:])
    assert plan.corners == ((0, 12), (0, 0))  # first where there is more that is known
    assert prepared.windows == (
        TimeWindow(0, 4, 0, (0, 0)),  # there is nothing to draw at the other yet
        TimeWindow(2, 6, 0, (0, 12)),
        TimeWindow(2, 6, 0, (0, 0)),
    )
    tokenizer = clip_tokenizer()
    keys = torch.from_numpy(clip.frames[::SLOT]).permute(0, 3, 1, 2) / 255
    seen = torch.ones_like(prepared.unknown)
    seen[:2, :, 12:] = False  # by no window
    known = seen & ~prepared.unknown
    assert torch.equal(prepared.tokens[known], tokenizer.encode(keys)[known])


def test_each_masked_token_of_larger_frames_is_drawn_once_and_seen_by_those_after() -> None:
    clip = noise_clip(1 + 5 * SLOT, 30 * PATCH, 7 * PATCH)
    masks = np.random.default_rng(0).random(clip.frames.shape[:3]) < 0.02
    prepared = _prepared(inpaint_clip(clip, masks))
    drawn = DrawnClip(prepared, lambda count: torch.rand(count))
    done = torch.zeros_like(prepared.unknown)
    while (window := drawn.next_window()) is not None:
        cells = prepared.cells(window.window)
        unknown, tokens = (each.view(GRID) for each in (window.unknown, window.tokens))
        assert torch.equal(unknown, prepared.unknown[cells] & ~done[cells])
        assert (tokens[done[cells]] == 7).all()
        done[cells] |= unknown
        drawn.finish(window, torch.full_like(window.tokens, 7))
    assert torch.equal(done, prepared.unknown)
    frames = drawn.frames(clip_tokenizer())
    assert np.array_equal(frames[~masks], clip.frames[~masks])
    assert not np.array_equal(frames[masks], clip.frames[masks])


def test_frames_that_are_no_whole_tokens_or_too_small_are_continued() -> None:
    clip = noise_clip(5, WIDTH - 6, 7)
    prepared = _prepared(restyle_clip(clip, 0.5))
    assert prepared.unknown.shape == (2, *GRID[1:])
    assert prepared.windows == (TimeWindow(0, 2),)
    assert DrawnClip(prepared, torch.rand).frames(clip_tokenizer()).shape == clip.frames.shape


def test_a_clip_grows_on_its_sides() -> None:
    clip = _clip()
    edit = outpaint_clip(clip, left=WIDTH, bottom=3)
    assert edit.size == (2 * WIDTH, HEIGHT + 3)
    assert np.array_equal(edit.frames[:, :HEIGHT, WIDTH:], clip.frames)
    assert not edit.masks[:, :HEIGHT, WIDTH:].any()
    assert edit.masks.sum() == FRAMES * (2 * WIDTH * (HEIGHT + 3) - WIDTH * HEIGHT)
    both = outpaint_clip(clip, boxes_through(CENTRE, None, clip), right=4)
    assert both.masks.sum() == FRAMES * ((WIDTH + 4) * HEIGHT - WIDTH * HEIGHT // 4)


def test_windows_that_have_nothing_to_draw_are_left_out() -> None:
    prepared = _prepared(extend(_clip(1 + 8 * SLOT), 2 * SLOT))
    # (0, 4), (2, 6), (4, 8) hold known slots alone: 0 to 8.
    assert prepared.windows == (TimeWindow(6, 10), TimeWindow(8, 11))
    assert prepared.unknown.flatten(1).any(1).tolist() == [False] * 9 + [True] * 2


def test_a_clip_of_another_size_can_be_fitted() -> None:
    clip = noise_clip(5, 40, 30)
    small = fitted(clip, (WIDTH, HEIGHT))
    assert small.size == (WIDTH, HEIGHT)
    assert fitted(small, (WIDTH, HEIGHT)) is small
    assert len(_prepared(extend(small, 4)).windows) == 1


def test_a_picture_is_a_clip_of_one_frame_and_what_is_transparent_is_white() -> None:
    clip = still_clip(Image.new("RGBA", (30, 20), (9, 9, 9, 0)), (WIDTH, HEIGHT), 8)
    assert (len(clip), clip.size) == (1, (WIDTH, HEIGHT))
    assert (clip.frames == 255).all()


@pytest.mark.parametrize("form", ["picture", "pictures", "array"])
def test_a_mask_is_one_for_all_frames_or_one_a_frame(form: str) -> None:
    clip = _clip()
    picture = Image.new("L", clip.size)
    picture.paste(255, CENTRE)
    inside = boxes_through(CENTRE, None, clip)
    masks = {"picture": picture, "pictures": [picture] * FRAMES, "array": inside}[form]
    for edit in (inpaint_clip(clip, masks), revise_clip(clip, 0.5, masks)):  # type: ignore[arg-type]
        assert np.array_equal(edit.masks, inside)


def test_a_mask_or_a_box_selects() -> None:
    clip, picture = _clip(3), Image.new("L", (WIDTH, HEIGHT))
    picture.paste(255, CENTRE)
    assert select(clip, None) is None
    boxes = select(clip, None, box=CENTRE)
    assert boxes is not None
    masks = Clip.of_pictures([picture.convert("RGB")] * 3, clip.rate)
    for mask in (picture, masks):
        selected = select(clip, mask)
        assert selected is not None
        assert np.array_equal(selected, boxes)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"last_box": CENTRE}, "last_box"),
        ({"mask": Image.new("L", (WIDTH, HEIGHT)), "box": CENTRE}, "box"),
        ({"mode": "white", "box": CENTRE}, "mask_mode"),
        ({"mask": Image.new("L", (WIDTH, HEIGHT + 1))}, "mask"),
    ],
)
def test_what_cannot_select_is_refused_by_name(options: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refusal:
        select(_clip(3), **{"mask": None, **options})
    assert refusal.value.param == param


def test_restyling_and_revising_may_change_everything() -> None:
    assert restyle_clip(_clip(), 0.5).masks.all()
    assert revise_clip(_clip()).masks.all()
    assert revise_clip(_clip(), 0.3).share == 0.3


@pytest.mark.parametrize(
    ("make", "param", "words"),
    [
        (lambda: extend(_clip(), 0), "frames", "the least is 1"),
        (lambda: extend(_clip(), 10**12), "frames", f"between 1 and {MAX_FRAMES}"),
        (lambda: interpolate(_clip(1), _clip(1), 10**12), "frames", "between 1 and"),
        (lambda: interpolate(_clip(1), _clip(1), 2), "frames", "there must be one"),
        (lambda: interpolate(_clip(1), noise_clip(1), 9), "last", "make them alike"),
        (lambda: interpolate_through(_clip(), {0: noise_clip(1)}), "at", "another 48x16"),
        (lambda: interpolate_through(_clip(), {13: _clip(1)}), "at", "has 0 to 12"),
        (lambda: interpolate_through(_clip(), {0: _clip()}), "mask", "nothing to draw"),
        (lambda: interpolate_through(_clip(), {0: _clip(1)}, 0), "strength", "strength is 0"),
        (lambda: interpolate_through(_clip(), {}), "at", "no frame is given"),
        (lambda: interpolate_through(_clip(), {0: _clip(1)}, share=2), "share", "share is 2"),
        (lambda: interpolate_through(_clip(), {0: _clip(1)}, 0.5, 0.5), "share", "not both"),
        (lambda: _inpaint((0, 0, WIDTH + 1, 4)), "box", "within 48x16"),
        (lambda: _inpaint((4, 0, 4, 4)), "box", r"\[4, 0, 4, 4\]"),
        (lambda: _inpaint(CENTRE, (0, -1, 4, 4)), "last_box", "within 48x16"),
        (lambda: _outpaint((0, 0, WIDTH, HEIGHT)), "mask", "it selects nothing"),
        (lambda: outpaint_clip(_clip(), left=-1), "left", "between 0 and"),
        (lambda: outpaint_clip(_clip(), top=9, right=10**6), "right", "the bound is 5162220"),
        (lambda: fitted(_clip(), (10**5, 10**5)), "size", "1 to 5162220 pixels in each"),
        (lambda: fitted(_clip(), (0, 4)), "size", "size 0x4"),
        (lambda: inpaint_clip(_clip(), [Image.new("L", (48, 16), 255)] * 2), "mask", "2 frames"),
        (lambda: inpaint_clip(_clip(), Image.new("L", (8, 8), 255)), "mask", "make them alike"),
        (lambda: restyle_clip(_clip(), 0), "strength", "strength is 0"),
        (lambda: revise_clip(_clip(), 1.5), "share", "share is 1.5"),
        (lambda: revise_clip(_clip(), None), "share", "expected float, got None"),  # type: ignore[arg-type]
        (
            lambda: inpaint_clip(_clip(2), [Image.new("L", (8, 8)), Image.new("L", (8, 9))]),
            "mask",
            "2 sizes",
        ),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(
    make: Callable[[], ClipEdit], param: str, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        make()
    assert caught.value.param == param


def test_the_summary_tells_edits_apart_and_holds_no_pixels() -> None:
    one, two = extend(_clip(), 4), extend(noise_clip(FRAMES, WIDTH, HEIGHT, seed=1), 4)
    assert one.summary() == extend(_clip(), 4).summary() != two.summary()
    assert one.summary()["kind"] == "extend"

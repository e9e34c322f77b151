import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from torch import Tensor

from tests.worlds.moving import mirrored, shapes_moving, true_clip
from unmask.box import BUNDLED
from unmask.evaluation.clips.prompts import (
    CATEGORIES,
    ClipPrompt,
    make_clip_prompts,
    true_scenes,
)
from unmask.evaluation.clips.verdict import TAGS, judge_clip
from unmask.scenes.judge import Sight, load_judge
from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import MovingConfig
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig

NOUNS = SpriteBank.of_shapes().nouns
EACH = 6
_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
World = list[tuple[ClipPrompt, Tensor, list[Sight]]]


@cache
def _world() -> World:
    """Some prompts of every category with their true clips."""
    renderer = shapes_moving()
    prompts = make_clip_prompts(NOUNS, 4, 4, 0, EACH)
    return [(prompt, *true_clip(prompt, renderer)) for prompt in prompts]


def _bounces() -> World:
    renderer = shapes_moving()
    prompts = make_clip_prompts(NOUNS, 4, 4, 0, 12)
    return [(p, *true_clip(p, renderer)) for p in prompts if p.category == "bounces"]


def _moving() -> World:
    return [
        (prompt, frames, sights)
        for prompt, frames, sights in _world()
        # A ring or a square looks alike however it is turned: nothing is to be seen of it.
        if all(actor.motion != "spins" or actor.noun == "triangle" for actor in prompt.actors)
        and any(actor.motion != "still" for actor in prompt.actors)
    ]


def _ordered(frames: Tensor, sights: list[Sight], order: list[int]) -> tuple[list[Sight], Tensor]:
    return [sights[frame] for frame in order], frames[order]


@pytest.mark.parametrize("category", CATEGORIES)
def test_true_clips_are_right(category: str) -> None:
    mine = [clip for clip in _world() if clip[0].category == category]
    assert len(mine) == EACH
    wrong = {
        prompt.text: verdict.tags
        for prompt, frames, sights in mine
        if not (verdict := judge_clip(prompt, sights, frames)).right
    }
    assert wrong == {}


def test_frozen_clips_fail() -> None:
    for prompt, frames, sights in _moving():
        for frame in (0, 16):
            seen, shown = _ordered(frames, sights, [frame] * 17)
            verdict = judge_clip(prompt, seen, shown)
            assert not verdict.right, prompt.text
            assert {"frozen", "missing"} & set(verdict.tags), prompt.text


def test_shuffled_clips_fail() -> None:
    order = [(8 + 7 * place) % 17 for place in range(17)]
    right = [
        prompt.text
        for prompt, frames, sights in _moving()
        if judge_clip(prompt, *_ordered(frames, sights, order)).right
    ]
    assert right == []


def test_mirrored_clips_go_the_wrong_way() -> None:
    count = 0
    for prompt, frames, sights in _moving():
        if not any(actor.motion in ("moves left", "moves right") for actor in prompt.actors):
            continue
        verdict = judge_clip(prompt, [mirrored(sight) for sight in sights], frames.flip(-1))
        assert "wrong direction" in verdict.tags, prompt.text
        count += 1
    assert count >= EACH


def test_what_is_told_where_to_bounce_bounces_there_first() -> None:
    clips = [clip for clip in _bounces() if clip[0].actors[0].way is not None]
    assert len({clip[0].actors[0].way for clip in clips}) >= 3
    for prompt, frames, sights in clips:
        (actor,) = prompt.actors
        assert actor.way is not None
        assert f" {actor.way}" in prompt.text
        assert judge_clip(prompt, sights, frames).right, prompt.text
        other = replace(actor, way=_OPPOSITE[actor.way])
        verdict = judge_clip(replace(prompt, actors=(other,)), sights, frames)
        assert verdict.tags == ("wrong direction",), prompt.text


def test_reversed_clips_fail_where_it_matters() -> None:
    either_way = {"still", "bounces", "spins", "jumps"}
    count = 0
    for prompt, frames, sights in _moving():
        if all(actor.motion in either_way for actor in prompt.actors):
            continue
        seen, shown = _ordered(frames, sights, list(range(17))[::-1])
        verdict = judge_clip(prompt, seen, shown)
        assert {"wrong direction", "wrong end"} & set(verdict.tags), prompt.text
        count += 1
    assert count >= 4 * EACH


def test_clips_of_another_caption_fail() -> None:
    world = _world()
    for (prompt, *_), (other, frames, sights) in zip(world, world[EACH:], strict=False):
        if prompt.actors != other.actors:
            assert not judge_clip(prompt, sights, frames).right, (prompt.text, other.text)


def _clip_of(category: str) -> tuple[ClipPrompt, Tensor, list[Sight]]:
    return next(clip for clip in _world() if clip[0].category == category)


def test_a_colour_that_changes_is_another_identity() -> None:
    prompt, frames, sights = next(
        clip for clip in _world() if clip[0].category == "still" and clip[0].actors[0].colour
    )
    other = "blue" if prompt.actors[0].colour != "blue" else "red"

    def painted(sight: Sight) -> Sight:
        objects = tuple(replace(found, colours=(other,)) for found in sight.objects)
        return replace(sight, objects=objects)

    half = [*sights[:9], *map(painted, sights[9:])]
    assert judge_clip(prompt, half, frames).tags == ("identity change",)
    assert judge_clip(prompt, list(map(painted, sights)), frames).tags == ("wrong colour",)


def test_one_too_many_is_extra_and_one_that_leaps_has_jumped() -> None:
    prompt, frames, sights = _clip_of("still")
    (found,) = sights[0].objects
    away = replace(found, x=(found.x + 32) % 64)
    more = [replace(sight, objects=(*sight.objects, away)) for sight in sights]
    assert judge_clip(prompt, more, frames).tags == ("extra",)
    leaping = [*sights[:9], *(replace(sight, objects=(away,)) for sight in sights[9:])]
    assert "jump" in judge_clip(prompt, leaping, frames).tags


def test_one_that_is_gone_for_a_while_has_vanished() -> None:
    prompt, frames, sights = _clip_of("still")
    gone = [
        replace(sight, objects=()) if 4 <= frame < 10 else sight
        for frame, sight in enumerate(sights)
    ]
    assert judge_clip(prompt, gone, frames).tags == ("vanish",)
    assert judge_clip(prompt, [replace(sights[0], objects=())] * 17, frames).tags == ("missing",)


def test_the_background_is_told_but_does_not_count() -> None:
    prompt, frames, sights = next(clip for clip in _world() if clip[0].background == "pink")
    assert judge_clip(prompt, sights, frames).background is True
    verdict = judge_clip(prompt, [replace(sight, background="black") for sight in sights], frames)
    assert verdict.background is False
    assert verdict.right


def test_it_does_not_matter_which_of_two_is_named_first() -> None:
    for prompt, frames, sights in _world():
        if prompt.category != "pair":
            continue
        first = replace(prompt, position=None)
        second = replace(first, actors=first.actors[::-1])
        blank = Sight((), (), sights[0].background)
        # Of what comes or goes it is enough to be seen once.
        for seen in (sights, [blank] * 16 + sights[16:], sights[:1] + [blank] * 16):
            assert judge_clip(first, seen, frames) == judge_clip(second, seen, frames), prompt.text


def test_every_tag_is_listed_once() -> None:
    assert len(set(TAGS)) == len(TAGS)


@pytest.mark.skipif("SPRITES" not in os.environ, reason="needs SPRITES, the archive of training")
def test_the_bundled_judge_sees_what_its_sprites_do() -> None:
    judge = load_judge(BUNDLED / "storybook-clips" / "judge")
    archive = Path(os.environ["SPRITES"])
    sprites = SpriteBank.from_archive(archive, judge.config.nouns, ("fluent-flat",))
    renderer = MovingRenderer(sprites, MovingConfig(SceneConfig(64, snap=8)))
    prompts = make_clip_prompts(judge.config.nouns, 8, 4, 0, 2)
    clips = renderer.render(true_scenes(prompts, sprites, 0))

    def right(shown: Tensor) -> int:
        return sum(
            judge_clip(prompt, judge.look(frames), frames).right
            for prompt, frames in zip(prompts, shown, strict=True)
        )

    assert right(clips) >= 0.9 * len(prompts)
    assert right(clips[:, :1].expand_as(clips)) <= 2  # those that stand still

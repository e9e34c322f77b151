from dataclasses import replace

import torch

from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import MOTION_NAMES, MovingConfig
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig

RENDERER = MovingRenderer(SpriteBank.of_shapes(), MovingConfig(SceneConfig(64)))


def test_the_first_frame_is_the_picture_of_the_scene() -> None:
    scenes = RENDERER.composer.compose(60, 0)
    seen = scenes.alpha[:, :, 0] == 1
    rows = torch.where((seen | (scenes.motion < 0)).all(1))[0]
    chosen = scenes.rows(rows)
    stills = SceneRenderer(RENDERER.bank, RENDERER.config.scenes).render(chosen.still)
    assert torch.equal(RENDERER.render(chosen, [0])[:, 0], stills)


def test_frames_are_the_same_whichever_are_asked_for() -> None:
    scenes = RENDERER.composer.compose(8, 1)
    clips = RENDERER.render(scenes)
    assert clips.shape == (8, 17, 3, 64, 64)
    assert torch.equal(clips[:, ::4], RENDERER.key_frames(scenes))
    assert torch.equal(clips[:, 5:8], RENDERER.render(scenes, range(5, 8)))
    assert torch.equal(clips, RENDERER.draw(8, 1)[0])


def test_a_quarter_turn_turns_the_pixels() -> None:
    scenes = RENDERER.composer.compose(300, 0)
    rows = torch.where(
        (scenes.motion[:, 0] == MOTION_NAMES.index("spins")) & (scenes.motion[:, 1] < 0)
    )[0]
    assert len(rows)
    chosen = scenes.rows(rows)
    clips = RENDERER.key_frames(chosen)
    for clip, box in zip(clips, chosen.boxes[:, 0, 0], strict=True):
        left, top, right, bottom = (int(edge) for edge in box * 64)
        upright, turned = clip[:2, :, top:bottom, left:right]
        assert (upright.rot90(-1, (1, 2)) - turned).abs().mean() < 0.01
        assert torch.equal(clip[0], clip[4])


def test_alpha_lies_between_the_background_and_the_object() -> None:
    scenes = RENDERER.composer.compose(300, 0)
    rows = torch.where(
        (scenes.motion[:, 0] == MOTION_NAMES.index("fades in")) & (scenes.motion[:, 1] < 0)
    )[0]
    frames = RENDERER.render(scenes.rows(rows))
    assert (frames[:, 0].flatten(2).std(-1) == 0).all()
    changes = (frames - frames[:, :1]).abs().mean((2, 3, 4))
    assert (changes.diff(dim=1) > 0).all()


def test_joined_clips_are_those_of_their_parts() -> None:
    parts = [RENDERER.composer.compose(3, index) for index in (0, 1)]
    joined = type(parts[0]).joined(parts)
    both = torch.cat([RENDERER.key_frames(part) for part in parts])
    assert torch.equal(RENDERER.key_frames(joined), both)
    assert joined.frames == 17
    assert torch.equal(replace(joined, alpha=joined.alpha * 0).at(3)[1], torch.zeros(6, 3))

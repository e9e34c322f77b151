"""True clips of plain shapes, and what a judge with perfect sight makes of them."""

from dataclasses import replace

from torch import Tensor

from unmask.evaluation.clips.prompts import ClipPrompt, true_scenes
from unmask.scenes.judge import Found, Sight
from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import MovingConfig, MovingScenes
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.scenes.vocabulary import BACKGROUNDS

SIDE = 64
CLEAR = 0.6  # opacity from which an object is one in a picture


def shapes_moving() -> MovingRenderer:
    """A renderer of clips of 17 frames."""
    return MovingRenderer(SpriteBank.of_shapes(), MovingConfig(SceneConfig(SIDE, snap=8)))


def true_clip(prompt: ClipPrompt, renderer: MovingRenderer) -> tuple[Tensor, list[Sight]]:
    """The frames (frames, 3, 64, 64) of a prompt, and the sight of each."""
    scenes = true_scenes([prompt], renderer.bank, 0)
    sights = [_sight(prompt, scenes, frame) for frame in range(scenes.frames)]
    return renderer.render(scenes)[0], sights


def mirrored(sight: Sight) -> Sight:
    """What is seen of the mirror image."""
    objects, broken = (
        tuple(replace(found, x=SIDE - found.x) for found in things)
        for things in (sight.objects, sight.broken)
    )
    return Sight(objects, broken, sight.background)


def _sight(prompt: ClipPrompt, scenes: MovingScenes, frame: int) -> Sight:
    """Objects where they are, broken while they are faint or turned, and in their sight if those
    behind others have their centre covered."""
    boxes, alpha, turns = (state[0] for state in scenes.at(frame))
    objects: list[Found] = []
    broken: list[Found] = []
    for place, actor in reversed(list(enumerate(prompt.actors))):
        left, top, right, bottom = (boxes[place] * SIDE).tolist()
        found = Found(
            x=round((left + right) / 8 - 0.5) * 4 + 2,  # centres of cells of 4x4 pixels
            y=round((top + bottom) / 8 - 0.5) * 4 + 2,
            side=right - left,
            whole=float(alpha[place]),
            noun=actor.noun,
            nouns=(),
            colours=(actor.colour or "brown",),
        )
        hidden = any(
            max(abs(found.x - other.x), abs(found.y - other.y)) < other.side / 2
            for other in objects
        )
        if alpha[place] < 0.1 or hidden:
            continue
        clear = alpha[place] >= CLEAR and turns[place] % 4 == 0
        (objects if clear else broken).append(found if clear else replace(found, whole=0.1))
    background = list(BACKGROUNDS)[int(scenes.still.background[0])]
    return Sight(tuple(objects), tuple(broken), background)

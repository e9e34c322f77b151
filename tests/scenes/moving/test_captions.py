import random

import pytest

from unmask.scenes.moving.captions import PLURAL, THIRD, clip_captions, motion_words
from unmask.scenes.moving.composer import MovingComposer
from unmask.scenes.moving.truth import ARRANGEMENTS, MOTION_NAMES, MovingConfig
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig

BANK = SpriteBank.of_shapes()
SCENES = MovingComposer(BANK, MovingConfig(SceneConfig(64))).compose(600, 0)


def test_captions_say_which_way_and_how_quickly() -> None:
    for row, text in enumerate(clip_captions(SCENES, BANK.nouns, 1)):
        for motion, speed in zip(
            SCENES.motion[row].tolist(), SCENES.speed[row].tolist(), strict=True
        ):
            if motion < 0:
                continue
            name = MOTION_NAMES[motion]
            if name.startswith("moves "):
                assert name.removeprefix("moves ") in text
            passing = ARRANGEMENTS[int(SCENES.arrangement[row])] == "passing"
            if speed == 1 and not passing:
                assert "quickly" in text or "fast" in text
            elif speed == 0:
                assert "quickly" not in text


def test_the_wording_depends_on_the_seed_alone() -> None:
    assert clip_captions(SCENES, BANK.nouns, 1) == clip_captions(SCENES, BANK.nouns, 1)
    assert clip_captions(SCENES, BANK.nouns, 1) != clip_captions(SCENES, BANK.nouns, 2)


@pytest.mark.parametrize("motion", MOTION_NAMES)
def test_every_motion_has_words(motion: str) -> None:
    luck = random.Random(0)
    for form in range(THIRD, PLURAL + 1):
        assert motion_words(motion, "quickly", form, luck, always=True)
    said = {motion_words("still", None, THIRD, luck) for _ in range(50)}
    assert "" in said  # no word of motion means that nothing moves


def test_half_of_what_bounces_alone_is_told_where_it_goes_first() -> None:
    bounces = MOTION_NAMES.index("bounces")
    alone = SCENES.arrangement == ARRANGEMENTS.index("single")
    rows = (alone & (SCENES.motion[:, 0] == bounces)).nonzero().flatten().tolist()
    told = 0
    texts = clip_captions(SCENES, BANK.nouns, 1)
    for text, row in ((texts[row], row) for row in rows):
        ways = [way for way in ("left", "right", "up", "down") if f" {way}" in text]
        assert ways in ([], [SCENES.first_way(row, 0)]), text
        told += len(ways)
    assert 0.25 * len(rows) < told < 0.75 * len(rows)

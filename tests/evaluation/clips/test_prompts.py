import pytest

from tests.worlds.moving import shapes_moving
from unmask.errors import ConfigError, RequestError
from unmask.evaluation.clips import prompts as prompts_module
from unmask.evaluation.clips.prompts import CATEGORIES, make_clip_prompts, true_scenes
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.vocabulary import held_out

NOUNS = SpriteBank.of_shapes().nouns


def test_fewer_prompts_are_the_first_of_more() -> None:
    few, more = (make_clip_prompts(NOUNS, 8, 4, 1, count) for count in (2, 4))
    firsts = [prompt for prompt in more if int(prompt.key.split("/")[-1]) < 2]
    assert [(p.key, p.text, p.actors) for p in few] == [(p.key, p.text, p.actors) for p in firsts]
    assert [prompt.category for prompt in few] == [name for name in CATEGORIES for _ in range(2)]
    assert [p.text for p in make_clip_prompts(NOUNS, 8, 4, 2, 2)] != [p.text for p in few]


def test_seen_and_unseen_combinations_are_told_apart() -> None:
    for prompt in make_clip_prompts(NOUNS, 8, 4, 0, 3, 3):
        unseen = any(
            (actor.colour and held_out(8, actor.colour, actor.noun))
            or (actor.motion != "still" and held_out(8, actor.noun, actor.motion))
            for actor in prompt.actors
        )
        assert prompt.held_out == ("held-out" in prompt.key)
        if unseen:
            assert prompt.held_out
    with pytest.raises(RequestError, match="nothing is held out"):
        make_clip_prompts(NOUNS, 0, 4, 0, 1, 1)


def test_what_no_scene_shows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_module, "MOST_TRIES", 20)
    with pytest.raises(RequestError, match="no prompt of 'still' is held out with 6 nouns"):
        make_clip_prompts(NOUNS, 1, 4, 0, 1, 1)
    with pytest.raises(RequestError, match="nouns: 1; the categories"):
        make_clip_prompts(("circle",), 8, 4, 0, 1)


def test_the_text_tells_the_background_and_the_position_or_does_not() -> None:
    prompts = make_clip_prompts(NOUNS, 8, 4, 0, 20)
    told = [prompt for prompt in prompts if prompt.background]
    assert 0.7 < len(told) / len(prompts) < 1
    assert all("background" in prompt.text or " on " in prompt.text for prompt in told)
    pairs = [prompt for prompt in prompts if prompt.category == "pair"]
    assert {prompt.position for prompt in pairs} == {None, "left of", "above"}
    assert all(prompt.position is None for prompt in pairs if " and " in prompt.text)


def test_true_scenes_have_the_sprites_of_their_nouns() -> None:
    bank = shapes_moving().bank
    prompts = make_clip_prompts(NOUNS, 8, 4, 0, 1)
    scenes = true_scenes(prompts, bank, 0)
    for row, prompt in enumerate(prompts):
        sprites = scenes.still.sprites[row]
        shown = [bank.nouns[int(bank.noun_of[s])] for s in sprites if s >= 0]
        assert shown == [actor.noun for actor in prompt.actors]
    unknown = make_clip_prompts(("circle", "hedgehog"), 0, 4, 0, 2)
    with pytest.raises(ConfigError, match="no hedgehog"):
        true_scenes(unknown, bank, 0)

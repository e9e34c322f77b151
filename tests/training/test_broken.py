import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.training.broken import broken_scenes

SCENES = SceneConfig(32, snap=4, held_out_percent=0, natural=0.2)


@pytest.fixture(name="renderer", scope="module")
def _renderer() -> SceneRenderer:
    return SceneRenderer(SpriteBank.of_shapes(), SCENES)


@given(index=st.integers(0, 10**6))
def test_without_breaks_pictures_are_the_scenes_themselves(
    renderer: SceneRenderer, index: int
) -> None:
    images, truth = broken_scenes(renderer, 4, index, 0.0)
    drawn, scenes = renderer.draw(4, index)
    assert images.equal(drawn)
    assert truth.whole.equal(truth.present)
    assert truth.present.equal(scenes.nouns >= 0)
    shown = truth.nouns.argmax(-1)[truth.present]
    assert shown.equal(scenes.nouns[truth.present])
    assert truth.nouns.sum(-1).equal(truth.present.float())
    assert truth.coloured.equal(scenes.colours >= 0)


@given(index=st.integers(0, 10**6))
def test_breaks_change_their_boxes_and_nothing_else(renderer: SceneRenderer, index: int) -> None:
    images, truth = broken_scenes(renderer, 4, index, 1.0)
    again, _ = broken_scenes(renderer, 4, index, 1.0)
    assert images.equal(again)
    drawn, _ = renderer.draw(4, index)
    inside = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    for row, item in truth.present.nonzero().tolist():
        left, top, right, bottom = truth.boxes[row, item].long().tolist()
        inside[row, :, top:bottom, left:right] = True
        if not truth.whole[row, item]:
            region = (row, slice(None), slice(top, bottom), slice(left, right))
            assert not images[region].equal(drawn[region])
    assert images.masked_fill(inside, 0).equal(drawn.masked_fill(inside, 0))
    assert (images >= 0).all()
    assert (images <= 1).all()


def test_every_kind_of_truth_comes_up(renderer: SceneRenderer) -> None:
    _, truth = broken_scenes(renderer, 200, 0, 1.0)
    broken = truth.present & ~truth.whole
    two_nouns = truth.nouns.amax(-1) == 0.5
    two_colours = truth.colours.sum(-1) == 2
    assert (two_nouns <= broken).all()
    for kind in (broken & ~two_nouns, two_nouns, two_colours & truth.whole):
        assert kind.sum() > 10


def test_a_share_of_the_objects_is_broken(renderer: SceneRenderer) -> None:
    shares = []
    for share in (0.2, 0.8):
        _, truth = broken_scenes(renderer, 300, 1, share)
        shares.append(float((truth.present & ~truth.whole).sum() / truth.present.sum()))
    # Halves of the same noun in another colour stay whole, and some halves look alike.
    assert 0.1 < shares[0] < 0.2
    assert 3 < shares[1] / shares[0] < 5

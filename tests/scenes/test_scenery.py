"""Painted backgrounds."""

import torch

from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.scenery import scenery
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.scenes.vocabulary import BACKGROUNDS, SCENERY

CPU = torch.device("cpu")


def test_each_goes_on_where_it_ends() -> None:
    for picture in scenery(64, CPU):
        steps = (picture - picture.roll(1, -1)).abs().amax((0, 1))  # between neighbouring columns
        assert steps[0] <= steps[1:].max() + 1e-6
    assert len(scenery(16, CPU)) == len(SCENERY)


def test_it_is_the_same_at_every_size() -> None:
    large = torch.nn.functional.avg_pool2d(scenery(128, CPU), 2)
    assert torch.allclose(scenery(64, CPU), large, atol=0.2)
    assert (scenery(64, CPU) - large).abs().mean() < 0.005


def test_pictures_show_it_shifted_and_plain_ones_stay_plain() -> None:
    config = SceneConfig(32, scenery=0.5, kinds=(1.0,))
    renderer = SceneRenderer(SpriteBank.of_shapes(), config)
    scenes = renderer.composer.compose(200, 0)
    wild = scenes.background >= len(BACKGROUNDS)
    assert 60 < int(wild.sum()) < 140
    assert set(scenes.background[wild].tolist()) == {len(BACKGROUNDS) + i for i in range(4)}
    assert scenes.shift[~wild].eq(0).all()
    assert len(torch.unique(scenes.shift[wild])) == 8
    scenes.sprites[:] = -1
    painted = scenery(32, CPU)
    for row, picture in enumerate(renderer.render(scenes)):
        if wild[row]:
            whole = painted[int(scenes.background[row]) - len(BACKGROUNDS)]
            assert torch.equal(picture, whole.roll(int(scenes.shift[row]) * 4, -1))
        else:
            assert picture.flatten(1).std(1).max() < 1e-6

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig, Scenes
from unmask.scenes.vocabulary import (
    BACKGROUNDS,
    COLOURS,
)

BANK = SpriteBank.of_shapes()


def _make_renderer(size: int = 32, **changes: object) -> SceneRenderer:
    return SceneRenderer(BANK, SceneConfig(size, **changes))  # type: ignore[arg-type]


def _red_on_white(scenes: Scenes) -> Scenes:
    """The same scenes with one thing each, all red, on plain white."""
    alone = torch.full_like(scenes.sprites[:, 1:], -1)
    return replace(
        scenes,
        background=torch.zeros_like(scenes.background),
        painting=torch.zeros_like(scenes.painting),
        sprites=torch.cat([scenes.sprites[:, :1], alone], 1),
        colours=torch.zeros_like(scenes.colours),
    )


def _bounds(image: Tensor) -> Tensor:
    """Left, top, right and bottom of what differs from the corner colour."""
    painted = (image - torch.tensor(BACKGROUNDS["white"]).view(3, 1, 1) / 255).abs().amax(0) > 0.02
    rows, columns = painted.any(1).nonzero(), painted.any(0).nonzero()
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_the_same_seed_and_index_give_the_same_bytes() -> None:
    first, second = _make_renderer().draw(16, 3), _make_renderer().draw(16, 3)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, vars(second[1])[name]) for name, a in vars(first[1]).items())


@pytest.mark.parametrize(("seed", "index"), [(0, 4), (1, 3)])
def test_another_seed_or_index_gives_other_pictures(seed: int, index: int) -> None:
    images, _ = _make_renderer().draw(16, 3)
    others, _ = _make_renderer(seed=seed).draw(16, index)
    assert (images != others).flatten(1).any(1).all()


@pytest.mark.parametrize("size", [8, 16, 64, 200])
def test_pictures_have_their_size_and_range(size: int) -> None:
    images, _ = _make_renderer(size, painted=0.5).draw(8, 0)
    assert images.shape == (8, 3, size, size)
    assert images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize("size", [32, 64, 256])
def test_the_box_holds_all_of_the_object_and_nothing_lies_outside(size: int) -> None:
    renderer = _make_renderer(size)
    scenes = _red_on_white(renderer.composer.compose(24, 0))
    for image, box in zip(renderer.render(scenes), scenes.boxes[:, 0] * size, strict=True):
        # Edges are smooth, so they may be off by the one pixel they share with the background.
        assert (_bounds(image) - box).abs().max() <= 1.5


def test_objects_take_their_colour_and_the_background_its_own() -> None:
    renderer = _make_renderer(64)
    square = BANK.nouns.index("square")
    for number, colour in enumerate(COLOURS.values()):
        scenes = _red_on_white(renderer.composer.compose(4, 1))
        scenes = replace(scenes, colours=scenes.colours + number)
        scenes.sprites[:, 0] = (BANK.noun_of == square).nonzero()[0, 0]
        centres = ((scenes.boxes[:, 0, :2] + scenes.boxes[:, 0, 2:]) * 32).long()
        for image, (x, y) in zip(renderer.render(scenes), centres.tolist(), strict=True):
            assert (image[:, y, x] * 255 - torch.tensor(colour)).abs().max() < 4
            assert (image[:, 0, 0] * 255 - 250).abs().max() < 1


def test_a_natural_object_keeps_the_colours_of_its_sprite() -> None:
    renderer = _make_renderer(64)
    scenes = _red_on_white(renderer.composer.compose(1, 1))
    scenes = replace(scenes, colours=scenes.colours - 1)
    scenes.sprites[:, 0] = (BANK.noun_of == BANK.nouns.index("square")).nonzero()[0, 0]
    x, y = ((scenes.boxes[0, 0, :2] + scenes.boxes[0, 0, 2:]) * 32).long().tolist()
    drawn = renderer.render(scenes)[0, :, y, x] * 255
    assert (drawn - torch.tensor([210, 60, 60])).abs().max() < 3


def test_as_many_objects_are_drawn_as_the_truth_says() -> None:
    renderer = _make_renderer(64, kinds=(0, 1, 0), most=4)
    scenes = renderer.composer.compose(200, 0)
    present = (scenes.nouns >= 0).sum(1)
    assert set(present.tolist()) == {2, 3, 4}
    areas = []
    for number in (2, 3, 4):
        row = int((present == number).nonzero()[0])
        kept = replace(scenes, background=scenes.background * 0, colours=scenes.colours * 0)
        kept.sprites[row, :number] = (BANK.noun_of == BANK.nouns.index("square")).nonzero()[0, 0]
        image = renderer.render(kept)[row]
        painted = (image[1] < 0.6).float().mean()
        boxes = scenes.boxes[row, :number]
        areas.append(float(painted / (boxes[:, 2:] - boxes[:, :2]).prod(-1).sum()))
    assert areas == pytest.approx([1, 1, 1], abs=0.12)


def test_painted_backgrounds_vary_within_a_picture() -> None:
    renderer = _make_renderer(painted=1.0)
    scenes = renderer.composer.compose(8, 0)
    empty = replace(scenes, sprites=torch.full_like(scenes.sprites, -1))
    plain = replace(empty, painting=torch.zeros_like(empty.painting))
    assert (renderer.render(empty).flatten(2).std(-1) > 0.003).all()
    assert (renderer.render(plain).flatten(2).std(-1) < 1e-6).all()

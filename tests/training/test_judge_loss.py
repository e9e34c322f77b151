from dataclasses import replace

import torch

from unmask.scenes.judge import Maps
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.training.broken import Truth, broken_scenes
from unmask.training.judge_loss import judge_losses

SCENES = SceneConfig(32, snap=4, held_out_percent=0, natural=0.2)


def _perfect(truth: Truth, cells: int) -> Maps:
    """The maps of a judge that knows the truth."""
    count = len(truth.present)
    present = torch.full((count, cells, cells), -20.0)
    whole = torch.zeros(count, cells, cells)
    side = torch.zeros(count, cells, cells)
    nouns = torch.zeros(count, cells, cells, truth.nouns.shape[-1])
    colours = torch.zeros(count, cells, cells, truth.colours.shape[-1])
    for row, item in truth.present.nonzero().tolist():
        left, top, right, bottom = truth.boxes[row, item].tolist()
        y, x = int((top + bottom) / 8), int((left + right) / 8)
        near = (row, slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        present[row, y, x] = 20
        whole[near] = 20.0 if truth.whole[row, item] else -20.0
        side[near] = torch.tensor((right - left) / 32).log()
        nouns[near] = truth.nouns[row, item].clamp_min(1e-9).log()
        colours[near] = truth.colours[row, item] * 40 - 20
    background = torch.nn.functional.one_hot(truth.background, 10) * 40.0
    return Maps(present, whole, side, nouns, colours, background)


def test_the_loss_of_the_truth_is_nothing_and_any_mistake_costs() -> None:
    # Single objects: the cells around two centres may overlap, and then the truth is two things.
    alone = SceneRenderer(SpriteBank.of_shapes(), replace(SCENES, kinds=(1.0, 0.0, 0.0)))
    _, truth = broken_scenes(alone, 8, 3, 0.0)
    perfect = _perfect(truth, 8)
    assert all(float(term) < 1e-3 for term in judge_losses(perfect, truth).values())
    for term, mistake in {
        "present": {"present": -perfect.present},
        "whole": {"whole": -perfect.whole},
        "nouns": {"nouns": perfect.nouns.roll(1, -1)},
        "colours": {"colours": -perfect.colours},
        "side": {"side": perfect.side + 0.5},
        "background": {"background": perfect.background.roll(1, -1)},
    }.items():
        losses = judge_losses(perfect._replace(**mistake), truth)
        assert float(losses.pop(term)) > 0.3
        assert all(float(other) < 1e-3 for other in losses.values())


def test_natural_colours_cost_nothing_whatever_is_said() -> None:
    natural = SceneRenderer(SpriteBank.of_shapes(), replace(SCENES, natural=1.0))
    _, truth = broken_scenes(natural, 8, 0, 0.0)
    wrong = _perfect(truth, 8)._replace(colours=torch.full((8, 8, 8, 8), 9.0))
    assert judge_losses(wrong, truth)["colours"] == 0

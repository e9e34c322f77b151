import torch

from unmask.scenes.judge import Found, JudgeConfig, Sight
from unmask.scenes.vocabulary import BACKGROUNDS, COLOURS
from unmask.training.broken import Truth
from unmask.training.judge_figures import best_threshold, judge_figures


def test_the_best_threshold_parts_whole_from_broken() -> None:
    probabilities = torch.tensor([0.9, 0.8, 0.7, 0.2, 0.1])
    assert 0.3 < best_threshold(probabilities, probabilities > 0.5) < 0.7
    assert 0.71 <= best_threshold(probabilities, probabilities > 0.75) <= 0.8


def _found(noun: str, x: float, y: float, *colours: str) -> Found:
    return Found(x, y, 16, 1.0, noun, (1.0,), colours)


def test_the_figures_count_each_mistake_once() -> None:
    """Two pictures: a circle in red that is found, and a broken one; a square that is missed."""
    config = JudgeConfig(("circle", "square"), tuple(COLOURS), tuple(BACKGROUNDS))
    boxes = torch.tensor([[[0.0, 0, 16, 16], [16, 16, 32, 32]], [[0, 0, 16, 16], [0, 0, 0, 0]]])
    red = torch.zeros(2, 2, 8)
    red[..., 0] = 1
    truth = Truth(
        present=torch.tensor([[True, True], [True, False]]),
        whole=torch.tensor([[True, False], [True, False]]),
        boxes=boxes,
        nouns=torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]),
        colours=red,
        coloured=torch.tensor([[True, True], [True, False]]),
        background=torch.tensor([0, 1]),
    )
    first = Sight((_found("circle", 8, 8, "red"), _found("circle", 24, 24, "red")), (), "white")
    second = Sight((_found("square", 24, 8, "red"),), (), "white")
    assert judge_figures([first, second], truth, config) == {
        "found": 0.5,
        "noun": 1.0,
        "colour": 1.0,
        "passed": 1.0,
        "count": 0.5,
        "background": 0.5,
        "extra": 0.5,
    }

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.worlds.scenes import untrained_judge
from unmask.errors import ConfigError
from unmask.scenes.judge import (
    STRIDE,
    TYPICAL_SIDE,
    Judge,
    JudgeConfig,
    Maps,
    find,
    load_judge,
    save_judge,
)

CONFIG = JudgeConfig(("circle", "square"), ("red", "blue"), ("white",), (8, 8, 8), 0, 0.6)
SURE = 4.0


@pytest.fixture(name="judge", scope="module")
def _judge() -> Judge:
    return untrained_judge()


def _maps(*centres: tuple[int, int, float], side: float = 24.0) -> Maps:
    """Maps of one picture of 64 px with centres at (row, column), each with its logit."""
    shape = (1, 16, 16)
    present = torch.full(shape, -9.0)
    nouns, colours = torch.zeros(*shape, 2), torch.full((*shape, 2), -9.0)
    for row, column, logit in centres:
        present[0, row, column] = logit
        nouns[0, row, column, 1] = SURE
        colours[0, row, column, 0] = SURE
    log_side = torch.full(shape, side / TYPICAL_SIDE).log()
    return Maps(present, torch.full(shape, SURE), log_side, nouns, colours, torch.zeros(1, 1))


def test_a_centre_is_found_with_all_that_its_cell_says() -> None:
    ((thing,),) = find(_maps((3, 8, SURE)), CONFIG)
    assert (thing.x, thing.y) == (8.5 * STRIDE, 3.5 * STRIDE)
    assert thing.side == pytest.approx(24)
    assert (thing.noun, thing.colours) == ("square", ("red",))
    assert sum(thing.nouns) == pytest.approx(1)


def test_an_object_may_carry_two_colours() -> None:
    maps = _maps((3, 8, SURE))
    maps.colours[0, 3, 8, 1] = SURE
    ((thing,),) = find(maps, CONFIG)
    assert thing.colours == ("red", "blue")


def test_of_two_centres_within_half_a_side_the_surer_stays() -> None:
    assert [thing.y for thing in find(_maps((3, 8, 1.0), (5, 8, 2.0)), CONFIG)[0]] == [22.0]
    assert len(find(_maps((3, 8, 1.0), (7, 8, 2.0)), CONFIG)[0]) == 2


def test_nothing_is_found_where_no_centre_is_likely() -> None:
    assert find(_maps((3, 8, -3.0)), CONFIG) == [[]]


@pytest.mark.parametrize(("threshold", "whole"), [(0.0, True), (1.0, False)])
def test_the_threshold_parts_whole_objects_from_broken_ones(
    judge: Judge, threshold: float, whole: bool
) -> None:
    strict = Judge(replace(judge.config, threshold=threshold))
    strict.load_state_dict(judge.state_dict())
    strict.requires_grad_(False)
    images = torch.rand(3, 3, 32, 32)
    found = find(strict(images), strict.config)
    assert sum(map(len, found)) > 0
    for sight, things in zip(strict.look(images), found, strict=True):
        assert (sight.objects, sight.broken) == (
            (tuple(things), ()) if whole else ((), tuple(things))
        )


def test_a_picture_is_judged_alike_alone_and_among_many(judge: Judge) -> None:
    images = torch.rand(130, 3, 16, 16)
    sights = judge.look(images)
    assert len(sights) == 130
    for row in (0, 127, 128, 129):
        alone = judge.look(images[row : row + 1])[0]
        assert [thing.noun for thing in alone.objects] == [t.noun for t in sights[row].objects]
        assert alone.background == sights[row].background


def test_a_judge_is_read_back_as_it_was_written(judge: Judge, tmp_path: Path) -> None:
    save_judge(judge, tmp_path / "judge", threshold=0.7)
    again = load_judge(tmp_path / "judge")
    assert again.config == replace(judge.config, threshold=0.7)
    images = torch.rand(2, 3, 16, 16)
    assert torch.allclose(again(images).nouns, judge(images).nouns, atol=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nouns": ()}, "nouns"),
        ({"channels": (8, 12, 8)}, "multiples of 8"),
        ({"blocks": -1}, "blocks"),
        ({"threshold": 1.5}, "threshold"),
    ],
)
def test_a_judge_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_a_folder_without_weights_names_the_file(judge: Judge, tmp_path: Path) -> None:
    save_judge(judge, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model\.safetensors: no such file"):
        load_judge(tmp_path)

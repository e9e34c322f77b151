import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.training.clip_masks import MOST_CORRUPTED, MaskMix, clip_mask, corrupt

NONE = {"cells": 0, "levels": 0, "beginning": 0, "box": 0, "slots": 0, "tube": 0, "corrupted": 1}


def _only(kind: str, slots: int = 4, count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    masks, corrupted = clip_mask(count, (slots, 6, 6), MaskMix(**NONE | {kind: 1}))
    return masks.view(count, slots, 6, 6), corrupted


@given(slots=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_clip_hides_a_cell(slots: int, seed: int) -> None:
    torch.manual_seed(seed)
    masks, _ = clip_mask(16, (slots, 4, 4), MaskMix())
    assert masks.any(1).all()


def test_the_kinds_of_masks() -> None:
    beginnings, corrupted = _only("beginning")
    assert not beginnings[:, 0].any()
    assert corrupted.all()
    tubes, _ = _only("tube")
    whole = tubes.all(1) == tubes.any(1)
    # The last cell of a count that is no multiple of the slots may hide in some of them only.
    assert (whole.flatten(1).sum(1) >= 35).all()
    slots, corrupted = _only("slots")
    assert ((~slots).flatten(2).all(2).any(1)).all()
    assert not corrupted.any()
    boxes, _ = _only("box")
    assert ((~boxes).all(1).flatten(1).any(1)).all()


def test_pictures_hide_cells_anywhere() -> None:
    masks, _ = _only("beginning", slots=1)
    assert masks.any((0, 1)).all()


def test_a_skewed_mix_hides_nearly_all_more_often() -> None:
    shares = []
    for skew in (1, 2):
        torch.manual_seed(0)
        masks, _ = clip_mask(400, (4, 6, 6), MaskMix(**NONE | {"cells": 1}, skew=skew))
        shares.append(float(masks.float().mean(1).median()))
    assert shares == pytest.approx([0.71, 0.92], abs=0.04)


def test_corruption_touches_known_cells_of_its_rows_alone() -> None:
    torch.manual_seed(0)
    tokens = torch.zeros(64, 100, dtype=torch.int64)
    known = torch.rand(64, 100) < 0.5
    rows = torch.arange(64) < 32
    wrong = corrupt(tokens, known, rows, 1000) != tokens
    assert not wrong[~known].any()
    assert not wrong[32:].any()
    assert 0 < wrong[:32].float().mean() < MOST_CORRUPTED


def test_bounds_of_the_mix() -> None:
    with pytest.raises(ValueError, match="box: 2"):
        MaskMix(box=2)
    with pytest.raises(ValueError, match="give one of cells, levels"):
        MaskMix(**NONE)

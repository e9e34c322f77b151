"""What local passes take, and full ones give, where a test knows that it is there."""

from torch import Tensor

from unmask.sampling.backbone import Pass, Positions, RowTensors


def all_own(places: Tensor) -> Positions:
    """Places (rows, some) of which none only fills a row up."""
    return own_places(places, *[places.shape[1]] * len(places))


def own_places(places: Tensor, *counts: int) -> Positions:
    """Places (rows, some) of which so many of each row are its own."""
    return Positions(places, counts)


def memory_of(full: Pass) -> RowTensors:
    assert full.memory is not None
    return full.memory


def attention_of(full: Pass) -> Tensor:
    assert full.attention is not None
    return full.attention

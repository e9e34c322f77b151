"""Cells and the tokens that they hold, on a grid of four by four tokens."""

import torch

from unmask.models.compressed import CompressedGrid

GRID = CompressedGrid(side=4, by=2)


def test_each_cell_is_there_once_and_tells_who_is_in_it() -> None:
    places = torch.tensor([[15, 0, 10, 5], [0, 2, 13, 8]])
    cells, slots = GRID.cells_of(places)
    assert cells.tolist() == [[0, 3, 0], [0, 1, 2]]  # the first row's are fewer
    assert slots.tolist() == [[1, 0, 1, 0], [0, 1, 2, 2]]


def test_without_compression_places_are_cells() -> None:
    places = torch.tensor([[5, 3, 5], [1, 2, 0]])
    cells, slots = CompressedGrid(side=4, by=1).cells_of(places)
    assert torch.equal(cells, places)
    assert slots.tolist() == [[0, 1, 2]] * 2


def test_the_tokens_of_a_cell_lead_back_to_it() -> None:
    cells = torch.arange(4)[None]
    members = GRID.tokens_of(cells)
    assert members[0, 3].tolist() == [[10, 11], [14, 15]]
    places = members.flatten(1)
    assert places.sort().values.tolist() == [list(range(16))]
    found, slots = GRID.cells_of(places)
    assert torch.equal(found, cells)
    assert torch.equal(slots, cells.repeat_interleave(4, 1))
    assert GRID.place_within(places).tolist() == [[0, 1, 2, 3] * 4]


def test_tokens_of_a_cell_share_its_map() -> None:
    maps = torch.rand(2, 4, 3)
    spread = GRID.to_tokens(maps)
    assert spread.shape == (2, 16, 3)
    for cell, places in enumerate(GRID.tokens_of(torch.arange(4)[None]).flatten(2)[0]):
        for place in places.tolist():
            assert torch.equal(spread[:, place], maps[:, cell])

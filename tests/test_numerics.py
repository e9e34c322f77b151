import torch

from unmask.numerics import FEWEST_ROWS, by_rows, pad_rows, repeat_first, whole_blocks


def test_rows_are_seen_one_by_one_and_come_back_in_their_order() -> None:
    seen: list[int] = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows * 2

    x = torch.arange(24.0).view(3, 4, 2)
    assert torch.equal(by_rows(double, x), x * 2)
    assert torch.equal(by_rows(double, x[0]), x[0] * 2)  # has no rows to part
    assert seen == [1, 1, 1, 4]


def test_few_rows_are_padded_and_many_are_not() -> None:
    x = torch.ones(3, 5)
    padded = pad_rows(x)
    assert padded.shape == (FEWEST_ROWS, 5)
    assert torch.equal(padded[:3], x)
    assert not padded[3:].any()
    assert pad_rows(torch.ones(20, 5)).shape == (20, 5)


def test_places_are_filled_up_with_the_first_of_their_row() -> None:
    places = torch.tensor([[4, 1], [2, 3]])
    assert repeat_first(places, 4).tolist() == [[4, 1, 4, 4], [2, 3, 2, 2]]
    assert torch.equal(repeat_first(places, 1), places)


def test_queries_come_in_whole_blocks_with_those_beside_them() -> None:
    for queries in (1, 32, 33, 1000):
        count = whole_blocks(queries, beside=77)
        assert (count + 77) % FEWEST_ROWS == 0
        assert max(queries, 2 * FEWEST_ROWS) <= count < max(queries, 2 * FEWEST_ROWS) + FEWEST_ROWS

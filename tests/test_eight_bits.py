import pytest
import torch
from torch import Tensor

from tests.worlds.processors import vnni
from unmask.eight_bits import LEVELS, lay_out, product, round_rows


def _plainly(x: Tensor, matrix: Tensor) -> Tensor:
    """The product with sums of Python's whole numbers' width, in place of a kernel's."""
    numbers, scale = round_rows(matrix)
    steps = x.float().abs().amax(1, keepdim=True).clamp(min=1e-30) / LEVELS
    rounded = (x / steps).round().long()
    sums = rounded @ numbers.long().T
    return sums.float() * scale * steps


@vnni
@pytest.mark.parametrize("tokens", [1, 2, 15, 16, 77, 129, 300])
@pytest.mark.parametrize(("source", "width"), [(1, 1), (5, 3), (40, 24), (704, 256), (2816, 64)])
def test_a_product_is_that_of_whole_numbers_to_the_bit(
    tokens: int, source: int, width: int
) -> None:
    torch.manual_seed(tokens)
    x, matrix = torch.randn(tokens, source), torch.randn(width, source)
    x[0] = 3.0  # the largest sums there are
    matrix[0] = -2.0
    assert torch.equal(product(x, lay_out(round_rows(matrix))), _plainly(x, matrix))


@vnni
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_product_is_close_to_that_of_what_was_rounded(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, matrix = torch.randn(60, 256).to(dtype), torch.randn(96, 256)
    wanted = x.float() @ matrix.T
    error = product(x, lay_out(round_rows(matrix))) - wanted
    assert error.std() < 0.015 * wanted.std()


@vnni
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_token_does_not_depend_on_its_neighbours(count: int) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        torch.manual_seed(0)
        x, tiles = torch.randn(200, 704), lay_out(round_rows(torch.randn(256, 704)))
        together = product(x, tiles)
        for first, last in ((0, 1), (7, 9), (100, 133), (50, 200)):
            assert torch.equal(product(x[first:last], tiles), together[first:last])
    finally:
        torch.set_num_threads(threads)


@vnni
def test_zeros_stay_zeros_and_what_is_no_number_stays_none() -> None:
    x, matrix = torch.randn(3, 16), torch.randn(8, 16)
    x[1], x[2, 3], matrix[4] = 0, float("nan"), 0
    made = product(x, lay_out(round_rows(matrix)))
    assert (made[1] == 0).all()
    assert (made[:2, 4] == 0).all()
    assert made[2].isnan().all()
    assert made[0].isfinite().all()


def test_a_matrix_that_was_rounded_before_keeps_its_numbers() -> None:
    torch.manual_seed(0)
    once = round_rows(torch.randn(300, 64) * torch.rand(300, 1).exp())
    again = round_rows(once.numbers * once.scale.unsqueeze(1))
    assert torch.equal(again.numbers, once.numbers)
    assert torch.allclose(again.scale, once.scale, rtol=3e-7, atol=0)

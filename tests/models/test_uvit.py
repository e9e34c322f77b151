import math

import pytest
import torch
from torch import nn

from unmask.models.uvit import (
    CodeHead,
    Downsample,
    RMSNorm,
    TokenEmbedding,
    Upsample,
    sinusoids,
)
from unmask.numerics import channels_last


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_in_fp32_and_comes_back_in_its_type(dtype: torch.dtype) -> None:
    norm = RMSNorm(64).to(dtype)
    x = (torch.randn(3, 64) * 300).to(dtype)  # whose squares fp16 could not hold
    made = norm(x)
    assert made.dtype == dtype
    expected = x.double() / x.double().square().mean(-1, keepdim=True).sqrt()
    assert torch.allclose(made.double(), expected, rtol=1e-2 if dtype != torch.float32 else 1e-5)


def test_sinusoids_are_cosines_then_sines_of_falling_rates() -> None:
    made = sinusoids(torch.tensor([[0.0, 3.0]]), 8)
    rates = [math.exp(-math.log(10000) * i / 4) for i in range(4)]
    expected = [math.cos(3 * rate) for rate in rates] + [math.sin(3 * rate) for rate in rates]
    assert torch.allclose(made[0, 0], torch.tensor([1.0] * 4 + [0.0] * 4))
    assert torch.allclose(made[0, 1], torch.tensor(expected), atol=1e-6)


def test_a_compressed_grid_comes_back_in_its_size() -> None:
    """And each of its cells knows four neighbours, no others."""
    down, up = Downsample(4), Upsample(4)
    x = torch.randn(1, 4, 6, 8)
    small = down(x)
    assert small.shape == (1, 4, 3, 4)
    assert up(small).shape == x.shape
    x[0, :, 2, 5] += 1
    changed = (down(x) != small).any(1)[0].nonzero().tolist()
    assert changed == [[1, 2]]


@pytest.mark.parametrize("layer", [Downsample(32), Upsample(32)], ids=lambda layer: type(layer))
def test_a_row_does_not_depend_on_its_neighbours(layer: nn.Module) -> None:
    """To the last bit, however the rows lie in memory."""
    x = torch.randn(4, 32, 8, 8)
    laid_out = channels_last(x).permute(0, 3, 1, 2)
    for rows in (x, laid_out):
        made = layer(rows)
        for i in range(4):
            assert torch.equal(layer(rows[i : i + 1]), made[i : i + 1])


def test_the_head_reads_each_row_and_place_by_itself() -> None:
    head, x = CodeHead(32, 24, 64), torch.randn(4, 50, 32)
    made = head(x)
    assert made.shape == (4, 50, 64)
    assert torch.allclose(head(x[1:3, 7:40]), made[1:3, 7:40], atol=1e-5)
    for row in range(4):
        assert torch.equal(head(x[row : row + 1]), made[row : row + 1])


def test_tokens_are_embedded_place_by_place() -> None:
    embed = TokenEmbedding(9, 6, 5)
    ids = torch.randint(9, (2, 3, 4))
    made = embed(ids)
    assert made.shape == (2, 5, 3, 4)
    again = embed(ids.flip(2))
    assert torch.allclose(made.flip(3), again, atol=1e-6)

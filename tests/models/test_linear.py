import pytest
import torch
from torch import Tensor, nn

from unmask.models.linear import Linear, Pointwise, pack, packed_rows_per_pass
from unmask.numerics import PACKED_ROWS

amx = pytest.mark.skipif(
    not torch.cpu._is_amx_tile_supported(), reason="this CPU has no unit for tiles (AMX)"
)


def _layer(source: int, width: int, bias: bool, dtype: torch.dtype = torch.bfloat16) -> Linear:
    torch.manual_seed(0)
    layer = Linear(source, width, bias).requires_grad_(False)
    nn.init.normal_(layer.weight, std=source**-0.5)
    return layer.to(dtype)


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.bfloat16)


@amx
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("source", "width"), [(40, 24), (1024, 1024), (2816, 1024)])
def test_a_packed_layer_gives_what_the_plain_one_gives_row_by_row(
    source: int, width: int, bias: bool
) -> None:
    """To the bit, on one thread; several may share a sum out in another way."""
    layer, x = _layer(source, width, bias), _numbers(3, 256, source)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = torch.cat([layer(x[row : row + 1]) for row in range(3)])
        alone = layer(x[0])
        pack(layer)
        assert layer.packed
        assert torch.equal(layer(x), expected)
        assert torch.equal(layer(x[0]), alone)
    finally:
        torch.set_num_threads(threads)


@amx
def test_a_row_of_a_packed_layer_does_not_depend_on_its_neighbours() -> None:
    """On all threads, at a width where a product of all rows at once does."""
    layer, x = _layer(2816, 1024, bias=False), _numbers(8, 256, 2816)
    pack(layer)
    together = layer(x)
    for row in range(8):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


@amx
def test_another_bias_can_stand_in() -> None:
    layer, x = _layer(32, 16, bias=True), _numbers(2, 5, 32)
    plain = layer.product(x)
    pack(layer)
    assert torch.equal(layer.product(x), plain)
    assert torch.allclose(layer(x), plain + layer.bias, atol=0.05)
    assert not torch.allclose(layer(x), plain, atol=0.05)


def test_fp16_stays_as_it_is() -> None:
    layer = _layer(32, 16, bias=True, dtype=torch.float16)
    pack(layer)
    assert not layer.packed


@amx
@pytest.mark.parametrize("bias", [False, True])
def test_fp32_is_packed_to_the_last_digits(bias: bool) -> None:
    layer, x = _layer(2816, 1024, bias, torch.float32), torch.randn(3, 256, 2816)
    plain = layer(x)
    pack(layer)
    together = layer(x)
    assert layer.packed
    assert torch.allclose(together, plain, rtol=0, atol=2e-5)
    for row in range(3):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


@amx
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_only_packed_rows_run_together(dtype: torch.dtype) -> None:
    layer = _layer(32, 16, bias=True, dtype=dtype)
    assert packed_rows_per_pass(layer) == 1
    pack(layer)
    assert packed_rows_per_pass(layer) == PACKED_ROWS


@amx
def test_all_layers_are_packed_once() -> None:
    both = nn.Sequential(_layer(32, 16, bias=True), nn.ModuleList([_layer(16, 8, bias=False)]))
    pack(both)
    pack(both)
    assert [layer.packed for layer in both.modules() if isinstance(layer, Linear)] == [True, True]
    assert [parameter.numel() for parameter in both.parameters()] == [512, 16, 128]


def test_a_cpu_without_tiles_reads_plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    layer = _layer(32, 16, bias=True)
    pack(layer)
    assert not layer.packed


@amx
@pytest.mark.parametrize("tokens", [1, 2, 16, 77, 256])
@pytest.mark.parametrize(("source", "width"), [(1024, 1024), (1024, 5632), (2816, 1024)])
@pytest.mark.usefixtures("threads")
def test_a_row_of_packed_fp32_does_not_depend_on_its_neighbours(
    source: int, width: int, tokens: int
) -> None:
    layer, x = _layer(source, width, False, torch.float32), torch.randn(4, tokens, source)
    pack(layer)
    together = layer(x)
    for row in range(4):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


@amx
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_packed_convolution_of_places_is_a_linear_layer(dtype: torch.dtype) -> None:
    layer, x = Pointwise(96, 64).requires_grad_(False).to(dtype), torch.randn(3, 20, 96).to(dtype)
    assert set(layer.state_dict()) == {"weight"}
    assert layer.weight.shape == (64, 96, 1, 1)
    plain = layer(x)
    pack(layer)
    made = layer(x)
    assert made.shape == (3, 20, 64)
    assert made.is_contiguous()
    close = 1e-5 if dtype == torch.float32 else 0.03
    assert torch.allclose(made, plain, rtol=0, atol=close)
    assert torch.equal(layer(x[1:2])[0], made[1])

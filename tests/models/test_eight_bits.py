from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.worlds.clip_models import write_clip_model
from tests.worlds.halton import write_halton
from tests.worlds.native import write_native
from tests.worlds.processors import vnni
from tests.worlds.published import write_amused, write_meissonic
from unmask.models.adapter import Adapter, write_adapter
from unmask.models.eight_bits import EightBitLinear, use_eight_bits
from unmask.models.linear import Linear, Pointwise
from unmask.pipeline import Pipeline
from unmask.quantize import quantize
from unmask.sampling.backbone import RowTensors

pytestmark = vnni


def _halton(folder: Path) -> None:
    write_halton(folder.parent).rename(folder)


def _amused(folder: Path) -> None:
    write_amused(folder, down_up=True)


def _meissonic(folder: Path) -> None:
    write_meissonic(folder, compressed=False)


WRITERS: list[Callable[[Path], object]] = [
    write_native,
    write_clip_model,
    _halton,
    _amused,
    _meissonic,
]


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_of_eight_bits_stands_in_for_a_plain_one(bias: bool) -> None:
    torch.manual_seed(0)
    plain, x = Linear(64, 48, bias).requires_grad_(False), torch.randn(3, 20, 64)
    layer = EightBitLinear(plain.weight, plain.bias)
    assert layer.packed
    assert layer(x).shape == (3, 20, 48)
    for made, wanted in ((layer(x), plain(x)), (layer.product(x), plain.product(x))):
        assert (made - wanted).std() < 0.02 * wanted.std()
    assert torch.equal(layer(x[0, 0]), layer(x)[0, 0])
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_all_linear_layers_are_replaced_and_nothing_else() -> None:
    both = nn.Sequential(nn.Linear(32, 16), nn.ModuleList([Pointwise(16, 8), nn.Embedding(4, 8)]))
    places = torch.randn(2, 5, 16)
    pointwise = both[1][0]  # type: ignore[index]
    wanted = pointwise(places).detach()
    use_eight_bits(both.requires_grad_(False))
    assert [type(module) for module in both.modules()][1:] == [
        EightBitLinear,
        nn.ModuleList,
        EightBitLinear,
        nn.Embedding,
    ]
    assert [parameter.numel() for parameter in both.parameters()] == [512, 16, 128, 32]
    made = both[1][0](places)  # type: ignore[index]
    assert (made - wanted).std() < 0.02 * wanted.std()


def _states(pipeline: Pipeline) -> tuple[Tensor, RowTensors, Tensor]:
    """Tokens of three rows, half of them masked, their prefix and how many steps are left."""
    torch.manual_seed(0)
    backbone = pipeline.backbone
    tokens = torch.randint(backbone.codebook_size, (3, pipeline.cells))
    tokens[torch.rand(tokens.shape) < 0.5] = backbone.mask_id
    return tokens, pipeline.encode_prompts(["1", "0", "2"]), torch.tensor([5, 2, 0])


@pytest.mark.parametrize("write", WRITERS)
def test_every_family_draws_nearly_what_it_draws_in_fp32(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path / "model")
    plain = Pipeline.load(tmp_path / "model")
    eight = Pipeline.load(tmp_path / "model", precision="int8")
    assert eight.info.parameters == plain.info.parameters
    tokens, prefix, left = _states(plain)
    wanted = plain.backbone.full(tokens, prefix, steps_left=left).logits
    logits = eight.backbone.full(tokens, _states(eight)[1], steps_left=left).logits
    assert 0 < (logits - wanted).std() < 0.1 * wanted.std()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.usefixtures("threads")
def test_a_row_of_eight_bits_is_to_the_bit_what_it_is_alone(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path / "model")
    pipeline = Pipeline.load(tmp_path / "model", precision="int8")
    tokens, prefix, left = _states(pipeline)
    together = pipeline.backbone.full(tokens, prefix, steps_left=left).logits
    for row in range(3):
        one = torch.tensor([row])
        alone = pipeline.backbone.full(tokens[one], prefix.select(one), steps_left=left[one])
        assert torch.equal(alone.logits[0], together[row])


@pytest.mark.parametrize("write", WRITERS)
def test_what_lies_rounded_on_disk_is_used_as_it_is(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path / "model")
    straight = Pipeline.load(tmp_path / "model", precision="int8")
    stored = Pipeline.load(quantize(tmp_path / "model", tmp_path / "small"), precision="int8")
    assert _numbers(straight)
    for one, other in zip(_numbers(straight), _numbers(stored), strict=True):
        assert torch.equal(one, other)


def _numbers(pipeline: Pipeline) -> list[Tensor]:
    return [
        layer.weight.to_dense()
        for layer in pipeline.backbone.modules()
        if isinstance(layer, EightBitLinear)
    ]


def test_an_adapter_is_merged_before_the_weights_are_rounded(tmp_path: Path) -> None:
    folder = write_native(tmp_path / "model")
    width = 16
    change = (torch.ones(1, width), torch.ones(width, 1))
    write_adapter({"blocks.0.out": change}, 1.0, tmp_path / "loud.safetensors")
    merged = Pipeline.load(folder)
    Adapter(tmp_path / "loud.safetensors").merge(merged.backbone)
    merged.backbone.use_eight_bits()
    loaded = Pipeline.load(f"{folder}+{tmp_path / 'loud.safetensors'}", precision="int8")
    plain = Pipeline.load(folder, precision="int8")
    drawn = [
        pipeline.generate("0", seed=1, steps=2).images[0].tobytes()
        for pipeline in (merged, loaded, plain)
    ]
    assert drawn[0] == drawn[1] != drawn[2]

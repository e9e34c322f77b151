"""What the published network gives is in fixtures/: see tests/models/fixtures/make_halton.py."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.fixtures.make_halton import seeded_weights
from unmask.errors import ConfigError
from unmask.tokenizers.llamagen import LlamaGenConfig, LlamaGenVQ

CONFIG = LlamaGenConfig(
    channels=32, multipliers=(1, 2, 2), latent_channels=16, codebook_size=64, code_width=8
)
FIXTURE = Path(__file__).parent / "fixtures" / "llamagen.safetensors"


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer() -> LlamaGenVQ:
    tokenizer = LlamaGenVQ(CONFIG).eval().requires_grad_(False)
    shapes = {name: tensor.shape for name, tensor in tokenizer.state_dict().items()}
    tokenizer.load_state_dict(seeded_weights(shapes))
    return tokenizer


@pytest.fixture(name="published", scope="module")
def _published() -> dict[str, Tensor]:
    return load_file(FIXTURE)


def test_tokens_are_those_of_the_published_network(
    tokenizer: LlamaGenVQ, published: dict[str, Tensor]
) -> None:
    assert torch.unique(published["tokens"]).numel() > 10
    assert torch.equal(tokenizer.encode(published["images"]), published["tokens"])


def test_pixels_are_those_of_the_published_network(
    tokenizer: LlamaGenVQ, published: dict[str, Tensor]
) -> None:
    decoded = tokenizer.decode(published["drawn"])
    # Within 1e-6 on one thread; more of them sum in another order.
    assert torch.allclose(decoded, published["decoded"], rtol=0, atol=1e-5)
    assert ((decoded > 0) & (decoded < 1)).float().mean() > 0.5  # most are not clamped


@pytest.mark.parametrize(
    ("multipliers", "patch", "parameters", "tensors"),
    [((1, 1, 2, 2, 4), 16, 71_883_403, 343), ((1, 2, 2, 4), 8, 70_109_835, 299)],
)
def test_published_sizes(
    multipliers: tuple[int, ...], patch: int, parameters: int, tensors: int
) -> None:
    """The published files hold one tensor more, ``quantize.codebook_used``, that nothing reads."""
    with torch.device("meta"):
        tokenizer = LlamaGenVQ(LlamaGenConfig(multipliers=multipliers))
    assert tokenizer.patch == patch
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == parameters
    assert len(tokenizer.state_dict()) == tensors


def test_sides_come_and_go_by_the_patch(tokenizer: LlamaGenVQ) -> None:
    tokens = tokenizer.encode(torch.rand(1, 3, 8, 20))
    assert tokens.shape == (1, 2, 5)
    assert tokenizer.decode(tokens).shape == (1, 3, 8, 20)


def test_sides_that_the_patch_does_not_divide_are_refused(tokenizer: LlamaGenVQ) -> None:
    with pytest.raises(ConfigError, match="10x8: sides must be multiples of 4"):
        tokenizer.encode(torch.rand(1, 3, 8, 10))


def test_a_code_is_its_direction_alone(tokenizer: LlamaGenVQ) -> None:
    """Longer rows of the codebook mean the same codes."""
    longer = LlamaGenVQ(CONFIG).eval()
    state = tokenizer.state_dict()
    stretch = torch.rand(CONFIG.codebook_size, 1) * 3 + 0.5
    state["quantize.embedding.weight"] = state["quantize.embedding.weight"] * stretch
    longer.load_state_dict(state)
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(longer.encode(images), tokenizer.encode(images))
    tokens = torch.randint(CONFIG.codebook_size, (1, 4, 4))
    assert torch.allclose(longer.decode(tokens), tokenizer.decode(tokens), atol=1e-5)


def test_each_code_is_the_nearest_to_itself(tokenizer: LlamaGenVQ) -> None:
    codes = torch.arange(CONFIG.codebook_size)
    assert torch.equal(tokenizer.quantize(5 * tokenizer.quantize.lookup(codes)), codes)


def test_pixels_stay_between_black_and_white(tokenizer: LlamaGenVQ) -> None:
    loud = LlamaGenVQ(CONFIG).eval()
    state = tokenizer.state_dict()
    loud.load_state_dict(state | {"decoder.conv_out.weight": state["decoder.conv_out.weight"] * 9})
    pixels = loud.decode(torch.randint(CONFIG.codebook_size, (1, 4, 4)))
    assert (float(pixels.min()), float(pixels.max())) == (0, 1)


@pytest.mark.parametrize(
    ("field", "value"), [("channels", 48), ("multipliers", ()), ("blocks", 0), ("code_width", -1)]
)
def test_sizes_that_cannot_be_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        LlamaGenConfig(**{**vars(CONFIG), field: value})

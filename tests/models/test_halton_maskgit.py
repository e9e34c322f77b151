"""Numbers of the published network are in fixtures/, whose make_halton.py tells how they came."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.fixtures.make_halton import seeded_weights
from tests.models.passes import all_own, memory_of, own_places
from unmask.models.attention import BACKENDS
from unmask.models.base import Condition, narrow
from unmask.models.halton_maskgit import HaltonConfig, HaltonMaskGIT, Memory, Prefix
from unmask.models.linear import pack
from unmask.numerics import PACKED_ROWS
from unmask.sampling.backbone import Pass, RowTensors

# Three heads of ten channels: fewer than the width, as in the published "small".
CONFIG = HaltonConfig(width=32, layers=2, heads=3, hidden=256, grid=4, codebook_size=24, classes=5)
CELLS = CONFIG.grid**2
LEFT = torch.zeros(4, dtype=torch.long)
FIXTURE = Path(__file__).parent / "fixtures" / "halton_maskgit.safetensors"

# Width, layers, heads, feed-forward, and the parameters at 16 x 16 and at 24 x 24 tokens.
PUBLISHED = {
    "tiny": (384, 6, 6, 1024, 23_031_425, 23_154_305),
    "small": (512, 12, 6, 1536, 69_344_769, 69_508_609),
    "base": (768, 12, 12, 2048, 142_224_641, 142_470_401),
    "large": (1024, 24, 16, 2816, 479_656_961, 479_984_641),
    "xlarge": (1152, 28, 16, 3072, 692_118_401, 692_487_041),
}


@pytest.fixture(name="model")
def _model() -> HaltonMaskGIT:
    model = HaltonMaskGIT(CONFIG).eval().requires_grad_(False)
    model.load_state_dict(seeded_weights({k: v.shape for k, v in model.state_dict().items()}))
    return model


def _condition(*labels: int) -> Condition:
    ids = torch.tensor(labels).unsqueeze(-1)
    return Condition(ids, torch.ones_like(ids, dtype=torch.bool))


def _states(model: HaltonMaskGIT) -> tuple[Tensor, Prefix, Pass]:
    """Tokens of four rows under other classes, and a full pass over them that kept all."""
    tokens, prefix = torch.randint(25, (4, CELLS)), model.encode(_condition(3, 0, 5, 1))
    return tokens, prefix, model.full(tokens, prefix, steps_left=LEFT, remember=True)


def test_logits_are_those_of_the_published_network(model: HaltonMaskGIT) -> None:
    """But for the column of the mask id. On the machine that wrote the fixture they are equal to
    the bit, one by one and in a batch; another may have other kernels.
    """
    fixture = load_file(FIXTURE)
    labels = torch.where(fixture["dropped"], CONFIG.classes, fixture["labels"])
    tokens = fixture["tokens"].flatten(1)
    prefix = model.encode(_condition(*labels.tolist()))
    logits = model.full(tokens, prefix, steps_left=LEFT).logits
    assert torch.allclose(logits, fixture["logits"][..., :24], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_have_the_published_number_of_parameters(name: str) -> None:
    width, layers, heads, hidden, *counts = PUBLISHED[name]
    for grid, count in zip((16, 24), counts, strict=True):
        with torch.device("meta"):
            model = HaltonMaskGIT(HaltonConfig(width, layers, heads, hidden, grid))
        assert sum(parameter.numel() for parameter in model.parameters()) == count
        assert len(model.state_dict()) == 9 + 11 * layers


def test_a_row_does_not_depend_on_its_neighbours(model: HaltonMaskGIT) -> None:
    tokens, prefix, kept = _states(model)
    positions = torch.stack([torch.randperm(CELLS) for _ in range(4)])
    here = tokens.gather(1, positions)
    local = model.local(here, all_own(positions), prefix, memory_of(kept), steps_left=LEFT)
    for row in range(4):
        one = torch.tensor([row])
        alone = model.full(tokens[one], prefix.select(one), steps_left=LEFT[:1], remember=True)
        assert torch.equal(alone.logits[0], kept.logits[row])
        locally = model.local(
            here[one],
            all_own(positions[one]),
            prefix.select(one),
            memory_of(alone),
            steps_left=LEFT[:1],
        )
        assert torch.equal(locally[0], local[row])


@pytest.mark.skipif(
    not torch.cpu._is_amx_tile_supported(), reason="this CPU has no unit for tiles (AMX)"
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("name", "grid"), [("small", 16), ("large", 24)])
@pytest.mark.usefixtures("threads")
def test_packed_rows_that_run_together_do_not_depend_on_each_other(
    name: str, grid: int, dtype: torch.dtype
) -> None:
    """To the bit and at published widths, where products do."""
    width, _, heads, hidden, *_ = PUBLISHED[name]
    torch.manual_seed(0)
    model = HaltonMaskGIT(HaltonConfig(width, 2, heads, hidden, grid)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=parameter.shape[-1] ** -0.5)
    pack(model.to(dtype))
    assert model.rows_per_pass == PACKED_ROWS
    counts = [30, 100, 30, 16, 100, 30]
    rows = len(counts)
    tokens, left = torch.randint(16385, (rows, grid**2)), torch.zeros(rows, dtype=torch.long)
    prefix = model.encode(_condition(*range(rows)))
    positions = torch.stack([torch.randperm(grid**2)[:100] for _ in counts])
    for row, count in enumerate(counts):
        positions[row, count:] = positions[row, 0]
    here = tokens.gather(1, positions)
    made = model.full(tokens, prefix, steps_left=left, remember=True)
    local = model.local(
        here, own_places(positions, *counts), prefix, memory_of(made), steps_left=left
    )
    for row, count in enumerate(counts):
        own = torch.tensor([row])
        alone = model.full(tokens[own], prefix.select(own), steps_left=left[own], remember=True)
        assert torch.equal(alone.logits[0], made.logits[row])
        few = (here[own, :count], all_own(positions[own, :count]))
        locally = model.local(*few, prefix.select(own), memory_of(alone), steps_left=left[own])
        assert torch.equal(locally[0], local[row, :count])


def test_every_token_and_the_class_matter(model: HaltonMaskGIT) -> None:
    tokens, prefix, kept = _states(model)
    other = model.full(tokens, model.encode(_condition(3, 1, 5, 5)), steps_left=LEFT).logits
    differs = [not torch.allclose(other[i], kept.logits[i], atol=1e-2) for i in range(4)]
    assert differs == [False, True, False, True]
    for cell in range(CELLS):
        changed = tokens.clone()
        changed[:, cell] = (changed[:, cell] + 1) % 25
        moved = (model.full(changed, prefix, steps_left=LEFT).logits - kept.logits).abs().amax(-1)
        assert (moved > 1e-4).all()


def test_positions_on_the_grid_differ(model: HaltonMaskGIT) -> None:
    blank = torch.full((1, CELLS), model.mask_id)
    logits = model.full(blank, model.encode(_condition(3)), steps_left=LEFT[:1]).logits[0]
    distances = torch.cdist(logits, logits) + torch.eye(CELLS)
    assert distances.min() > 1e-2


def test_a_local_pass_over_all_positions_is_a_full_pass(model: HaltonMaskGIT) -> None:
    _, prefix, kept = _states(model)
    others = torch.randint(25, (4, CELLS))  # nothing of the memory is left
    positions = torch.stack([torch.randperm(CELLS) for _ in range(4)])
    local = model.local(
        others.gather(1, positions), all_own(positions), prefix, memory_of(kept), steps_left=LEFT
    )
    expected = model.full(others, prefix, steps_left=LEFT).logits
    assert torch.allclose(
        local, expected.gather(1, positions[..., None].expand_as(local)), atol=1e-5
    )


def test_a_local_pass_over_what_did_not_change_gives_the_same_logits(
    model: HaltonMaskGIT,
) -> None:
    """Only if positions, memory and condition of each row are its own."""
    tokens, prefix, kept = _states(model)
    positions = torch.stack([torch.randperm(CELLS)[:5] for _ in range(4)])
    here = tokens.gather(1, positions)
    local = model.local(here, all_own(positions), prefix, memory_of(kept), steps_left=LEFT)
    expected = kept.logits.gather(1, positions[..., None].expand_as(local))
    assert torch.allclose(local, expected, atol=1e-5)
    others = memory_of(kept).select(torch.tensor([1, 0, 3, 2]))
    swapped = model.local(here, all_own(positions), prefix, others, steps_left=LEFT)
    assert not torch.allclose(swapped, expected, atol=1e-2)


def test_a_repeated_position_changes_nothing(model: HaltonMaskGIT) -> None:
    tokens, prefix, kept = _states(model)
    positions = torch.tensor([[2, 7, 5]] * 4)
    padded = torch.tensor([[2, 7, 5, 2, 2]] * 4)
    plain = model.local(
        tokens.gather(1, positions), all_own(positions), prefix, memory_of(kept), steps_left=LEFT
    )
    filled = model.local(
        tokens.gather(1, padded),
        own_places(padded, 3, 3, 3, 3),
        prefix,
        memory_of(kept),
        steps_left=LEFT,
    )
    assert torch.allclose(filled[:, :3], plain, atol=1e-5)


def test_local_passes_see_what_changed_among_their_positions(model: HaltonMaskGIT) -> None:
    tokens, prefix, kept = _states(model)
    positions = torch.tensor([[2, 7]] * 4)
    here = tokens.gather(1, positions)
    before = model.local(here, all_own(positions), prefix, memory_of(kept), steps_left=LEFT)
    here[:, 1] = (here[:, 1] + 1) % CONFIG.codebook_size
    after = model.local(here, all_own(positions), prefix, memory_of(kept), steps_left=LEFT)
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-3)


def test_prefixes_and_memories_can_be_parted_and_joined(model: HaltonMaskGIT) -> None:
    _, prefix, kept = _states(model)
    whole: RowTensors
    for whole in (prefix, memory_of(kept)):
        parts = [whole.select(torch.tensor([row])) for row in range(4)]
        for ours, theirs in zip(type(whole).join(parts).tensors, whole.tensors, strict=True):
            assert torch.equal(ours, theirs)


def test_a_memory_is_left_only_if_asked(model: HaltonMaskGIT) -> None:
    tokens, prefix, kept = _states(model)
    plain = model.full(tokens, prefix, steps_left=LEFT)
    assert plain.memory is None
    assert torch.equal(plain.logits, kept.logits)
    memory = narrow(memory_of(kept), Memory)
    assert memory.keys.shape == memory.values.shape == (2, 4, 3, CELLS, 10)


def test_attention_backends_agree(model: HaltonMaskGIT) -> None:
    tokens, prefix, kept = _states(model)
    for name in BACKENDS.keys() - {"xformers"}:
        model.use_attention(name)
        found = model.full(tokens, prefix, steps_left=LEFT).logits
        assert torch.allclose(found, kept.logits, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(model: HaltonMaskGIT, dtype: torch.dtype) -> None:
    tokens, _, kept = _states(model)
    model.to(dtype)
    prefix = model.encode(_condition(3, 0, 5, 1))
    half = model.full(tokens, prefix, steps_left=LEFT, remember=True)
    assert half.logits.dtype == narrow(memory_of(half), Memory).keys.dtype == dtype
    positions = torch.arange(CELLS).expand(4, -1)
    local = model.local(tokens, all_own(positions), prefix, memory_of(half), steps_left=LEFT)
    spread = float(kept.logits.std())
    for logits in (half.logits, local):
        assert (logits.float() - kept.logits).abs().max() < spread * 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("field", sorted(vars(CONFIG)))
def test_sizes_below_one_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        HaltonConfig(**{**vars(CONFIG), field: 0})


def test_more_heads_than_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="heads: 33"):
        HaltonConfig(**{**vars(CONFIG), "heads": 33})

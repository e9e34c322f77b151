"""Against what the published network gave (``fixtures/make_meissonic.py``), and by itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.models.fixtures.make_meissonic import (
    CONFIG,
    GUIDANCE,
    KINDS,
    MASK,
    SEEDS,
    SIDE,
    STEPS,
    inputs,
    uniform_weights,
)
from tests.models.passes import all_own, attention_of, memory_of, own_places
from unmask.errors import ConfigError
from unmask.models import uvit
from unmask.models.attention import BACKENDS, sdpa
from unmask.models.base import narrow
from unmask.models.clip_backbone import ClipBackbone
from unmask.models.linear import Linear
from unmask.models.meissonic import MeissonicConfig, MeissonicTransformer, Memory, Prefix
from unmask.models.meissonic.blocks import Attention, SingleBlock, TimeTextEmbedding
from unmask.models.meissonic.rotary import rotate
from unmask.sampling.backbone import Pair, Pass
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.options import plan_options
from unmask.sampling.plan import make_plan

FIXTURE = Path(__file__).parent / "fixtures" / "meissonic.safetensors"
CELLS = SIDE**2
GIVEN = inputs()
# With a quarter of the positions, cells of four tokens are there in part and as a whole.
SOME = CELLS // 4


class World(NamedTuple):
    """A network with the weights of the fixtures, and what the published one gave."""

    model: ClipBackbone
    network: MeissonicTransformer
    prefix: Prefix
    published: dict[str, Tensor]


def _model(kind: str, dtype: torch.dtype = torch.float32) -> ClipBackbone:
    compressed = KINDS[kind]
    config = MeissonicConfig(**CONFIG, downsample=compressed, upsample=compressed, sample_size=SIDE)
    network = MeissonicTransformer(config)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict(uniform_weights(shapes))
    backbone = ClipBackbone(network, cast(Any, nn.Identity()), MASK, patch=16)
    return backbone.to(dtype).eval().requires_grad_(False)


def _network(model: ClipBackbone) -> MeissonicTransformer:
    assert isinstance(model.transformer, MeissonicTransformer)
    return model.transformer


@pytest.fixture(name="rates")
def _rates(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The rates of sinusoids as the writer of the fixture computed them. Two kinds of processors
    differ in the last bit of a few, which becomes 1e-3 of the logits at times of 63,000: much more
    than all that the rest of the network may differ in."""
    rates = load_file(FIXTURE)["rates"]
    monkeypatch.setattr(uvit, "sinusoid_rates", lambda count, device: rates)
    return rates


@pytest.fixture(name="world", params=sorted(KINDS))
def _world(request: pytest.FixtureRequest, rates: Tensor) -> World:
    published = {
        name.removeprefix(f"{request.param}."): tensor
        for name, tensor in load_file(FIXTURE).items()
        if name.startswith(request.param)
    }
    model = _model(request.param)
    network = _network(model)
    return World(model, network, network.encode(GIVEN.text, GIVEN.pooled, GIVEN.micro), published)


def _pick(rows: list[int]) -> Tensor:
    return torch.tensor(rows)


def _full(world: World, *, remember: bool = False, tokens: Tensor = GIVEN.tokens) -> Pass:
    return world.model.full(tokens, world.prefix, steps_left=GIVEN.left, remember=remember)


def _positions(count: int = SOME) -> Tensor:
    """Others in each of the 16 rows."""
    return torch.stack([torch.randperm(CELLS)[:count] for _ in GIVEN.tokens])


def _at(values: Tensor, positions: Tensor) -> Tensor:
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[-1]))


def test_logits_are_those_of_the_published_network(world: World) -> None:
    """Sixteen rows at as many steps: bit for bit, where both are multiplied by the same kernels."""
    logits = _full(world).logits
    assert torch.allclose(logits, world.published["logits"], atol=1e-5)
    assert torch.equal(logits.argmax(-1), world.published["logits"].argmax(-1))


def test_logits_are_those_of_the_published_network_called_as_its_pipeline_does(
    world: World,
) -> None:
    """One time for two rows, which then are fewer than we multiply at a time."""
    few = GIVEN.rows(2)
    prefix = world.network.encode(few.text, few.pooled, few.micro)
    logits = world.model.full(few.tokens, prefix, steps_left=GIVEN.left[:1].expand(2)).logits
    assert torch.allclose(logits, world.published["two"], atol=1e-5)
    assert torch.equal(logits.argmax(-1), world.published["two"].argmax(-1))


def test_the_rates_of_sinusoids_are_the_published_ones_to_the_last_bit_but_one() -> None:
    published = load_file(FIXTURE)["rates"]
    rates = uvit.sinusoid_rates(len(published), published.device)
    assert torch.allclose(rates, published, rtol=torch.finfo(torch.float32).eps, atol=0)


@pytest.mark.usefixtures("rates")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_half_precision_rounds_where_the_published_network_does(kind: str) -> None:
    """At these steps the time that is not rounded first is another by up to 128."""
    half, model = GIVEN.rows(16, torch.bfloat16), _model(kind, torch.bfloat16)
    prefix = model.transformer.encode(half.text, half.pooled, half.micro)
    logits = model.full(half.tokens, prefix, steps_left=half.left).logits[:4]
    expected = load_file(FIXTURE)[f"{kind}.half"]
    assert logits.dtype == torch.bfloat16
    assert torch.allclose(logits, expected, atol=0.06)


@pytest.mark.parametrize("steps", STEPS)
def test_tokens_are_those_that_the_published_pipeline_draws(world: World, steps: int) -> None:
    """Network, guidance, schedule and choice, from the first step to the last."""
    grid = (SIDE, SIDE)
    options = plan_options(
        scheduler="confidence",
        mask_schedule="cosine",
        steps=steps,
        temperature=1.0,
        choice_temperature=2.0,
        guidance_scale=GUIDANCE,
    )
    prefix = world.prefix.select(torch.arange(4))
    for seed, expected in zip(SEEDS, world.published[f"tokens.{steps}"], strict=True):
        plans = [make_plan(options, grid, own) for own in (seed, seed + 100)]
        blank = all_masked(2, CELLS, MASK, torch.device("cpu"))
        drawn = generate_tokens(world.model, Pair.of(prefix), plans, blank)
        assert torch.equal(drawn, expected.long())


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    """4.03 and 3.99 GB in fp32, as the hub lists them."""
    published: dict[str, Any] = {
        "num_layers": 14,
        "num_single_layers": 28,
        "attention_head_dim": 128,
        "num_attention_heads": 8,
        "joint_attention_dim": 1024,
        "pooled_projection_dim": 1024,
        "axes_dims_rope": (16, 56, 56),
        "vocab_size": 8256,
        "codebook_size": 8192,
    }
    for compressed, parameters, side in ((True, 1_006_946_304, 64), (False, 998_555_648, 32)):
        config = MeissonicConfig(**published, downsample=compressed, upsample=compressed)
        with torch.device("meta"):
            network = MeissonicTransformer(config)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        assert (network.compressed.side, network.compressed.cell_side) == (side, 32)


def test_a_row_does_not_depend_on_its_neighbours_and_their_steps(world: World) -> None:
    """To the byte: full passes, and local ones over other numbers of cells."""
    made, positions = _full(world, remember=True), _positions(16)
    tokens = GIVEN.tokens.gather(1, positions)
    local = world.model.local(
        tokens, all_own(positions), world.prefix, memory_of(made), steps_left=GIVEN.left
    )
    for rows in ([3], [15, 0], [7, 7, 2, 9, 1]):
        prefix, left = world.prefix.select(_pick(rows)), GIVEN.left[rows]
        alone = world.model.full(GIVEN.tokens[rows], prefix, steps_left=left, remember=True)
        assert torch.equal(alone.logits, made.logits[rows])
        own = world.model.local(
            tokens[rows], all_own(positions[rows]), prefix, memory_of(alone), steps_left=left
        )
        assert torch.equal(own, local[rows])


def test_at_the_published_width_too_a_row_does_not_depend_on_its_neighbours() -> None:
    """On one thread: several share the rows of a product out among them. That some kernels sum in
    another order for few rows, or the last few, only shows at this width."""
    side, rows = 16, 2
    sizes = {
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 128,
        "num_attention_heads": 8,
        "pooled_projection_dim": 1024,
        "axes_dims_rope": (16, 56, 56),
        "downsample": True,
        "upsample": True,
        "sample_size": side,
    }
    with torch.device("meta"):
        network = MeissonicTransformer(MeissonicConfig(**CONFIG | sizes)).requires_grad_(False)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        parameter.uniform_(-0.03, 0.03)
    prefix = Prefix(torch.randn(rows, 77, 1024), torch.randn(rows, 1024))
    tokens, left = torch.randint(CONFIG["codebook_size"], (rows, side**2)), torch.arange(rows)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = network.full(tokens, prefix, left, remember=True)
        first = torch.tensor([0])
        one = (prefix.select(first), memory_of(made).select(first), left[:1])
        assert torch.equal(network.full(tokens[:1], one[0], one[2]).logits, made.logits[:1])
        # The second row's positions lie in more cells than the first's.
        corners = torch.arange(side**2).view(side, side)[::2, ::2].flatten()
        spread = torch.cat([corners, corners + 1])
        for count in (16, 100):
            positions = torch.stack([torch.randperm(side**2)[:count] for _ in range(rows)])
            positions[1] = spread[:count]
            here = tokens.gather(1, positions)
            local = network.local(here, positions, prefix, memory_of(made), left)
            assert torch.equal(network.local(here[:1], positions[:1], *one), local[:1])
    finally:
        torch.set_num_threads(threads)


def test_each_row_reads_its_own_step(world: World) -> None:
    later = world.model.full(GIVEN.tokens, world.prefix, steps_left=GIVEN.left.roll(1)).logits
    assert (later - _full(world).logits).abs().amax((1, 2)).min() > 1e-2


def test_tokens_text_and_places_matter(world: World) -> None:
    logits = _full(world).logits
    other_text = replace(world.prefix, text=world.prefix.text.roll(1, 0))
    other_pooled = replace(world.prefix, pooled=world.prefix.pooled.roll(1, 0))
    for prefix in (other_text, other_pooled):
        changed = world.model.full(GIVEN.tokens, prefix, steps_left=GIVEN.left).logits
        assert (changed - logits).abs().amax((1, 2)).min() > 1e-2
    blank = torch.full_like(GIVEN.tokens, MASK)
    alike = _full(world, tokens=blank).logits[0]
    assert (torch.cdist(alike, alike) + torch.eye(CELLS)).min() > 1e-4


def test_a_local_pass_over_all_positions_is_a_full_pass(world: World) -> None:
    """At another step and over other tokens: nothing of the memory is left."""
    memory, positions = memory_of(_full(world, remember=True)), _positions(CELLS)
    tokens, left = GIVEN.tokens.roll(1, 0), GIVEN.left.roll(3)
    local = world.model.local(
        tokens.gather(1, positions), all_own(positions), world.prefix, memory, steps_left=left
    )
    expected = world.model.full(tokens, world.prefix, steps_left=left).logits
    assert torch.allclose(local, _at(expected, positions), atol=1e-5)


@pytest.mark.parametrize("count", [1, 5, SOME])
def test_a_local_pass_over_what_did_not_change_gives_the_same_logits(
    world: World, count: int
) -> None:
    made, positions = _full(world, remember=True), _positions(count)
    tokens = GIVEN.tokens.gather(1, positions)
    local = world.model.local(
        tokens, all_own(positions), world.prefix, memory_of(made), steps_left=GIVEN.left
    )
    assert torch.allclose(local, _at(made.logits, positions), atol=1e-5)
    others = memory_of(made).select(torch.arange(16).roll(1))
    swapped = world.model.local(
        tokens, all_own(positions), world.prefix, others, steps_left=GIVEN.left
    )
    assert (swapped - local).abs().amax((1, 2)).min() > 1e-3


def test_local_passes_keep_the_other_cells_as_they_were(world: World) -> None:
    """The definition: a full pass in which all cells but those of the positions have the keys and
    values of the memory, at every layer."""
    memory, positions = memory_of(_full(world, remember=True)), _positions()
    tokens, left = GIVEN.tokens.gather(1, positions).roll(1, 0), GIVEN.left.roll(1)
    local = world.model.local(tokens, all_own(positions), world.prefix, memory, steps_left=left)
    by, side = (
        SIDE // world.network.compressed.cell_side,
        world.network.compressed.cell_side,
    )
    fresh = torch.zeros(16, side**2, dtype=torch.bool)
    fresh.scatter_(1, positions // SIDE // by * side + positions % SIDE // by, True)
    remembered = narrow(memory, Memory)
    layers = iter(zip(remembered.keys, remembered.values, strict=True))

    def held(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        for new, old in zip((key, value), next(layers), strict=True):
            new[:, :, 77:] = torch.where(fresh[:, None, :, None], new[:, :, 77:], old)
        return sdpa(query, key, value, mask)

    for module in world.model.modules():
        if isinstance(module, Attention):
            module.backend = held
    state = GIVEN.tokens.scatter(1, positions, tokens)
    expected = world.model.full_pass(state, world.prefix, left, False, None).logits
    assert torch.allclose(local, _at(expected, positions), atol=1e-5)
    world.model.use_attention("sdpa")
    anew = world.model.full(state, world.prefix, steps_left=left).logits
    assert (anew - expected).abs().amax((1, 2)).min() > 1e-2


def test_local_passes_see_what_changed_among_their_positions(world: World) -> None:
    memory = memory_of(_full(world, remember=True))
    positions = torch.tensor([[2, 7]]).expand(16, -1)
    tokens = GIVEN.tokens.gather(1, positions)
    before = world.model.local(
        tokens, all_own(positions), world.prefix, memory, steps_left=GIVEN.left
    )
    tokens[:, 1] = (tokens[:, 1] + 1) % CONFIG["codebook_size"]
    after = world.model.local(
        tokens, all_own(positions), world.prefix, memory, steps_left=GIVEN.left
    )
    assert (after - before)[:, 0].abs().amax(-1).min() > 1e-4


def test_a_repeated_position_changes_nothing(world: World) -> None:
    """Rows with fewer targets than others are filled up with their first."""
    memory, padded = memory_of(_full(world, remember=True)), _positions(SOME)
    padded[:, 5:] = padded[:, :1]
    tokens = GIVEN.tokens.gather(1, padded)
    filled = world.model.local(
        tokens, own_places(padded, *[5] * 16), world.prefix, memory, steps_left=GIVEN.left
    )
    plain = world.model.local(
        tokens[:, :5], all_own(padded[:, :5]), world.prefix, memory, steps_left=GIVEN.left
    )
    assert torch.allclose(filled[:, :5], plain, atol=1e-5)
    assert torch.equal(filled[:, 5:], filled[:, :1].expand(-1, SOME - 5, -1))


def test_prefixes_and_memories_can_be_parted_and_joined(world: World) -> None:
    memory = memory_of(_full(world, remember=True))
    for whole in (world.prefix, memory):
        parts = [whole.select(_pick([row])) for row in range(16)]
        for ours, theirs in zip(type(whole).join(parts).tensors, whole.tensors, strict=True):
            assert torch.equal(ours, theirs)
    assert isinstance(memory, Memory)
    side = world.network.compressed.cell_side
    assert memory.keys.shape == memory.values.shape == (4, 16, 2, side * side, 16)


def test_attention_is_read_of_the_rows_that_ask_and_changes_nothing(world: World) -> None:
    rows = _pick([9, 0])
    read = world.model.full(GIVEN.tokens, world.prefix, steps_left=GIVEN.left, attention_rows=rows)
    assert torch.equal(read.logits, _full(world).logits)
    assert attention_of(read).shape == (2, CELLS, 77)
    assert ((attention_of(read).sum(-1) > 0) & (attention_of(read).sum(-1) < 1)).all()
    alone = world.model.full(
        GIVEN.tokens[9:10],
        world.prefix.select(rows[:1]),
        steps_left=GIVEN.left[9:10],
        attention_rows=_pick([0]),
    )
    assert torch.allclose(attention_of(alone)[0], attention_of(read)[0], atol=1e-6)


def test_attention_is_the_mean_of_the_single_stream_blocks(world: World) -> None:
    """As seen by an attention backend that writes down what it is given, last layers last."""
    seen: list[Tensor] = []

    def watched(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        seen.append(weights.mean(1))
        attended: Tensor = weights @ value
        return attended

    for block in world.network.single_transformer_blocks:
        assert isinstance(block, SingleBlock)
        block.attn.backend = watched
    every = torch.arange(16)
    made = world.model.full_pass(GIVEN.tokens, world.prefix, GIVEN.left, False, every)
    cells = torch.stack(seen).mean(0)[:, 77:, :77]
    side, by = world.network.compressed.cell_side, world.network.compressed.by
    for row in range(SIDE):
        for column in range(SIDE):
            expected = cells[:, row // by * side + column // by]
            found = attention_of(made)[:, row * SIDE + column]
            assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_attention_backends_agree(world: World, name: str) -> None:
    if name == "xformers":
        pytest.importorskip("xformers", reason="the optional backend is not installed")
        if not torch.cuda.is_available():
            pytest.skip("xformers' kernels want a GPU")
    device = "cuda" if name == "xformers" else "cpu"
    expected = _full(world).logits
    world.model.use_attention(name)
    world.model.to(device)
    prefix = Prefix(*(tensor.to(device) for tensor in world.prefix.tensors))
    found = world.model.full(
        GIVEN.tokens.to(device), prefix, steps_left=GIVEN.left.to(device)
    ).logits
    assert torch.allclose(found.cpu(), expected, atol=1e-4)
    with pytest.raises(ConfigError, match="plain, sdpa, xformers"):
        world.model.use_attention("flash9")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_half_precision_stays_near_and_finite(kind: str, dtype: torch.dtype) -> None:
    """Also with many steps left: 66 x 1000 is more than fp16 holds."""
    given, model = GIVEN.rows(16, dtype), _model(kind, dtype)
    prefix = model.transformer.encode(given.text, given.pooled, given.micro)
    left = torch.tensor([0, 1, 2, 3, 65, 66, 100, 255] * 2)
    made = model.full(
        given.tokens, prefix, steps_left=left, remember=True, attention_rows=torch.arange(16)
    )
    exact = _model(kind)
    full = exact.transformer.encode(GIVEN.text, GIVEN.pooled, GIVEN.micro)
    expected = exact.full(GIVEN.tokens, full, steps_left=left).logits
    positions = _positions()
    local = model.local(
        given.tokens.gather(1, positions),
        all_own(positions),
        prefix,
        memory_of(made),
        steps_left=left,
    )
    assert made.logits.dtype == local.dtype == dtype
    assert made.logits.isfinite().all()
    assert attention_of(made).isfinite().all()
    near = left <= 2 if dtype == torch.bfloat16 else left != 65  # those times are not rounded
    assert (made.logits.float() - expected)[near].abs().mean() < 0.03
    assert (local.float() - _at(made.logits.float(), positions)).abs().mean() < 0.03


def test_sums_that_overflow_half_precision_are_clipped() -> None:
    model = _model("monetico", torch.float16)
    network = _network(model)
    block = network.single_transformer_blocks[-1]
    assert isinstance(block, SingleBlock)
    assert isinstance(block.proj_out, Linear)
    block.proj_out.bias.fill_(60000.0)
    network.project_from_hidden_norm.weight.fill_(1e-3)
    half = GIVEN.rows(2, torch.float16)
    prefix = model.transformer.encode(half.text, half.pooled, half.micro)
    seen: list[Tensor] = []
    block.register_forward_hook(lambda module, given, made: seen.append(made))
    model.full(half.tokens, prefix, steps_left=half.left)
    assert seen[0].isfinite().all()
    assert seen[0].abs().max() == 65504


def test_times_are_rounded_as_published_but_never_to_infinity() -> None:
    embedding = TimeTextEmbedding(4)
    read: list[Tensor] = []
    embedding.timestep_embedder.register_forward_pre_hook(lambda module, given: read.append(*given))
    for dtype, expected in (
        (torch.float32, (63000.0, 66000.0)),
        (torch.bfloat16, (62976.0, 66048.0)),
        (torch.float16, (63008.0, 66000.0)),
    ):
        embedding.to(dtype)(torch.tensor([63, 66]), torch.zeros(2, 4, dtype=dtype))
        # The first channel turns by one radian a unit.
        found = read[-1][:2, 0].float()
        assert torch.allclose(found, torch.tensor(expected).cos(), atol=0.01)


def test_rotation_keeps_lengths_and_turns_pairs_of_neighbours() -> None:
    x = torch.tensor([[[[1.0, 0.0, 0.0, 2.0]]]])
    angles = torch.tensor([[torch.pi / 2, torch.pi / 2, torch.pi, torch.pi]])
    turned = rotate(x, (angles.cos(), angles.sin()))
    assert torch.allclose(turned, torch.tensor([[[[0.0, 1.0, 0.0, -2.0]]]]), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pooled_projection_dim": 33}, "pooled_projection_dim"),
        ({"axes_dims_rope": (4, 6, 8)}, "axes_dims_rope"),
        ({"axes_dims_rope": (5, 5, 6)}, "axes_dims_rope"),
        ({"upsample": False}, "downsample and upsample"),
        ({"sample_size": 7}, "sample_size"),
        ({"vocab_size": 16}, "vocab_size"),
        ({"num_layers": 0}, "num_layers"),
        ({"num_single_layers": 1001}, "num_single_layers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object], told: str) -> None:
    sizes = {**CONFIG, "downsample": True, "upsample": True, "sample_size": 8}
    with pytest.raises(ValueError, match=told):
        MeissonicConfig(**sizes | changes)

from dataclasses import fields
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.passes import attention_of, memory_of, own_places
from tests.worlds.published import TRANSFORMER, quiet, shaken
from unmask.models.amused import AmusedConfig, AmusedTransformer, Memory, Prefix
from unmask.models.base import narrow
from unmask.models.clip_backbone import ClipBackbone
from unmask.models.linear import pack
from unmask.numerics import PACKED_ROWS
from unmask.sampling.backbone import Pass, RowTensors

ROWS = 4
LEFT = torch.zeros(ROWS, dtype=torch.long)  # tells it nothing
TEXT = 77
# Several of everything, and no two widths alike, so that none can stand for another.
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "block_out_channels": 32,
    "block_num_heads": 2,
    "num_res_blocks": 2,
    "in_channels": 24,
    "encoder_hidden_size": 40,
    "cond_embed_dim": 28,
    "micro_cond_encode_dim": 16,
    "micro_cond_embed_dim": 80,
    "vocab_size": 320,
    "codebook_size": 256,
    "sample_size": 16,
}
PUBLISHED: dict[str, Any] = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_hidden_layers": 22,
    "intermediate_size": 2816,
    "block_out_channels": 768,
    "block_num_heads": 12,
    "num_res_blocks": 3,
    "in_channels": 768,
    "encoder_hidden_size": 768,
    "cond_embed_dim": 768,
    "micro_cond_encode_dim": 256,
    "micro_cond_embed_dim": 1280,
    "vocab_size": 8256,
    "codebook_size": 8192,
}
Inputs = tuple[Tensor, Tensor, Tensor]  # CLIP's states and pooled text, micro-conditions


def _settings(down_up: bool, sizes: dict[str, Any]) -> AmusedConfig:
    given = TRANSFORMER | sizes | {"downsample": down_up, "upsample": down_up}
    names = {field.name for field in fields(AmusedConfig)}
    return AmusedConfig(**{name: value for name, value in given.items() if name in names})


def _model(down_up: bool, sizes: dict[str, Any] = SMALL) -> AmusedTransformer:
    torch.manual_seed(0)
    model = shaken(AmusedTransformer(_settings(down_up, sizes)))
    assert isinstance(model, AmusedTransformer)
    return model


def _reference(model: AmusedTransformer) -> Any:
    """diffusers' network with the same weights."""
    with quiet():
        import diffusers

        network: Any = diffusers.UVit2DModel
        settings = TRANSFORMER | vars(model.config)
        reference = network(**settings).eval().requires_grad_(False)
        reference.load_state_dict(model.state_dict())
        return reference.to(model.encoder_proj.weight.dtype)


def _inputs(model: AmusedTransformer, rows: int = ROWS) -> Inputs:
    settings, dtype = model.config, model.encoder_proj.weight.dtype
    text = torch.randn(rows, TEXT, settings.encoder_hidden_size, dtype=dtype)
    pooled = torch.randn(rows, settings.cond_embed_dim, dtype=dtype)
    micro = torch.tensor([[256, 512, 0, 8, 6.0]], dtype=dtype).expand(rows, -1)
    return text, pooled, micro


def _tokens(model: AmusedTransformer, rows: int = ROWS) -> Tensor:
    return torch.randint(model.config.vocab_size, (rows, model.config.sample_size**2))


@pytest.fixture(name="model", params=[False, True], ids=["plain", "compressed"])
def _either(request: pytest.FixtureRequest) -> AmusedTransformer:
    return _model(request.param)


def _kept(model: AmusedTransformer) -> tuple[Tensor, Prefix, Pass]:
    """Tokens of rows under other conditions, and a full pass over them that kept all."""
    tokens, prefix = _tokens(model), model.encode(*_inputs(model))
    return tokens, prefix, model.full(tokens, prefix, LEFT, remember=True)


def _some(model: AmusedTransformer, count: int) -> Tensor:
    """Other positions in each row, (rows, count)."""
    cells = model.config.sample_size**2
    return torch.stack([torch.randperm(cells)[:count] for _ in range(ROWS)])


def _at(values: Tensor, positions: Tensor) -> Tensor:
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[-1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("down_up", [False, True])
@pytest.mark.parametrize("sizes", [{}, SMALL], ids=["tiny", "small"])
@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.usefixtures("threads")
def test_logits_are_those_of_diffusers(
    sizes: dict[str, Any], down_up: bool, dtype: torch.dtype
) -> None:
    """To the last bit where oneDNN convolves: not on one thread, and fp16 only on some CPUs.
    Elsewhere torch itself does, and sums the head's places in a square in another order than in a
    column, as we lay them out: there the published head is given a column too."""
    model = _model(down_up, sizes).to(dtype)
    tokens, (text, pooled, micro) = _tokens(model), _inputs(model)
    side, reference = model.config.sample_size, _reference(model)
    read: list[Tensor] = []
    for network in (reference, model):
        network.mlm_layer.register_forward_pre_hook(lambda module, given: read.append(*given))
    expected = reference(tokens.view(-1, side, side), text, pooled, micro)
    expected = expected.flatten(2).transpose(1, 2)
    logits = model.full(tokens, model.encode(text, pooled, micro), LEFT).logits
    assert logits.isfinite().all()
    assert logits.std() > 0.5
    assert torch.equal(read[1], read[0].flatten(2).transpose(1, 2))
    if dtype != torch.float16 or torch.ops.mkldnn._is_mkldnn_fp16_supported():
        assert torch.equal(logits, expected)
    else:
        column = reference.mlm_layer(read[1].transpose(1, 2).unsqueeze(-1))
        assert torch.equal(logits, column.flatten(2).transpose(1, 2))
        # The head's hidden values, up to eight, may be an epsilon of theirs away.
        assert torch.allclose(logits, expected, rtol=torch.finfo(dtype).eps, atol=4e-3)


@pytest.mark.parametrize(
    ("down_up", "side", "parameters", "tensors"),
    [(False, 16, 603_537_664, 474), (True, 32, 608_257_792, 478)],
)
def test_it_has_the_size_and_the_tensors_that_are_published(
    down_up: bool, side: int, parameters: int, tensors: int
) -> None:
    with torch.device("meta"):
        model = AmusedTransformer(_settings(down_up, PUBLISHED | {"sample_size": side}))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == tensors


def test_a_row_does_not_depend_on_its_neighbours(model: AmusedTransformer) -> None:
    """To the last bit, in full passes and in local ones however many positions others have. On some
    CPUs this needs rows that run one by one: their fused attention sums a last block of three
    queries or fewer in another order."""
    backbone = ClipBackbone(model, cast(Any, None), model.config.vocab_size - 1, 16)
    tokens, prefix = _tokens(model), model.encode(*_inputs(model))
    kept = backbone.full(tokens, prefix, steps_left=LEFT, remember=True)
    positions, counts = _some(model, 40), (16, 40, 35, 40)
    for row, count in enumerate(counts):
        positions[row, count:] = positions[row, 0]
    here = tokens.gather(1, positions)
    local = backbone.local(
        here, own_places(positions, *counts), prefix, memory_of(kept), steps_left=LEFT
    )
    for row, count in enumerate(counts):
        one = torch.tensor([row])
        alone = model.full(tokens[one], prefix.select(one), LEFT, remember=True)
        assert torch.equal(alone.logits[0], kept.logits[row])
        locally = model.local(
            here[one, :count], positions[one, :count], prefix.select(one), memory_of(alone), LEFT
        )
        assert torch.equal(locally[0], local[row, :count])


def _linear_head(model: AmusedTransformer, memory: Memory, prefix: Prefix, row: int) -> Tensor:
    """Logits of a row, its head's convolutions as plain linear layers."""
    own, head = torch.tensor([row]), model.mlm_layer
    upper = model._upper(memory.states[own], prefix.select(own))
    hidden = F.linear(upper, head.conv1.weight.flatten(1))
    return F.linear(head.layer_norm(hidden), head.conv2.weight.flatten(1))


@pytest.mark.skipif(
    not torch.cpu._is_amx_tile_supported(), reason="this CPU has no unit for tiles (AMX)"
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("down_up", [False, True], ids=["plain", "compressed"])
def test_packed_rows_that_run_together_do_not_depend_on_each_other(
    down_up: bool, dtype: torch.dtype, threads: int
) -> None:
    """To the last bit and at the published width, where products do; and packing changes nothing in
    bf16 but that the head's convolutions are linear layers (of which three threads part plain
    ones' sums)."""
    sizes = PUBLISHED | {"num_hidden_layers": 1, "num_res_blocks": 1}
    model = _model(down_up, sizes | {"sample_size": 32 if down_up else 16}).to(dtype)
    rows = 6
    backbone = ClipBackbone(model, cast(Any, None), model.config.vocab_size - 1, 16)
    tokens, prefix = _tokens(model, rows), model.encode(*_inputs(model, rows))
    left = torch.zeros(rows, dtype=torch.long)
    # As many of its own in two rows as in two others, though in fewer cells; the rest is filling.
    counts = [40, 25, 40, 25, 16, 60]
    positions = torch.stack([torch.randperm(tokens.shape[1])[:60] for _ in range(rows)])
    positions[2] = torch.arange(60)
    for row, count in enumerate(counts):
        positions[row, count:] = positions[row, 0]
    here = tokens.gather(1, positions)
    assert backbone.rows_per_pass == 1
    plain = backbone.full(tokens, prefix, steps_left=left, remember=True)
    linear = [
        _linear_head(model, narrow(memory_of(plain), Memory), prefix, row) for row in range(rows)
    ]
    pack(model)
    assert backbone.rows_per_pass == PACKED_ROWS
    made = backbone.full(
        tokens, prefix, steps_left=left, remember=True, attention_rows=torch.tensor([5, 1])
    )
    if dtype == torch.bfloat16:
        assert torch.equal(*(narrow(memory_of(full), Memory).states for full in (made, plain)))
        assert threads == 3 or torch.equal(made.logits, torch.cat(linear))
    close = 0.1 if dtype == torch.bfloat16 else 1e-3
    assert torch.allclose(made.logits.float(), plain.logits.float(), rtol=0, atol=close)
    local = backbone.local(
        here, own_places(positions, *counts), prefix, memory_of(made), steps_left=left
    )
    for row, count in enumerate(counts):
        own = torch.tensor([row])
        asked = torch.tensor([0]) if row in (5, 1) else None
        alone = model.full(
            tokens[own], prefix.select(own), LEFT, remember=True, attention_rows=asked
        )
        assert torch.equal(alone.logits[0], made.logits[row])
        if asked is not None:
            assert torch.equal(attention_of(alone)[0], attention_of(made)[[5, 1].index(row)])
        few = positions[own, :count]
        locally = model.local(here[own, :count], few, prefix.select(own), memory_of(alone), LEFT)
        assert torch.equal(locally[0], local[row, :count])


def test_a_local_pass_over_all_positions_is_a_full_pass(model: AmusedTransformer) -> None:
    _, prefix, kept = _kept(model)
    others = _tokens(model)  # nothing of the memory is left, so other tokens may come
    positions = _some(model, model.config.sample_size**2)
    local = model.local(others.gather(1, positions), positions, prefix, memory_of(kept), LEFT)
    assert torch.equal(local, _at(model.full(others, prefix, LEFT).logits, positions))


@pytest.mark.parametrize("count", [1, 20])
def test_a_local_pass_over_what_did_not_change_gives_the_same_logits(
    model: AmusedTransformer, count: int
) -> None:
    """Only if positions, memory and condition of each row are its own."""
    tokens, prefix, kept = _kept(model)
    positions = _some(model, count)
    here = tokens.gather(1, positions)
    local = model.local(here, positions, prefix, memory_of(kept), LEFT)
    expected = _at(kept.logits, positions)
    assert torch.allclose(local, expected, atol=1e-4)
    others = memory_of(kept).select(torch.tensor([1, 0, 3, 2]))
    assert not torch.allclose(
        model.local(here, positions, prefix, others, LEFT), expected, atol=1e-1
    )


def test_local_passes_see_what_changed_among_their_positions(model: AmusedTransformer) -> None:
    tokens, prefix, kept = _kept(model)
    positions = torch.tensor([[0, model.config.sample_size**2 - 1]] * ROWS)  # opposite corners
    here = tokens.gather(1, positions)
    before = model.local(here, positions, prefix, memory_of(kept), LEFT)
    here[:, 1] = (here[:, 1] + 1) % model.config.codebook_size
    after = model.local(here, positions, prefix, memory_of(kept), LEFT)
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-3)


def test_a_repeated_position_changes_nothing(model: AmusedTransformer) -> None:
    """Rows with fewer targets than others are filled up with their first."""
    tokens, prefix, kept = _kept(model)
    positions = _some(model, 20)
    filled = torch.cat([positions, positions[:, :1].expand(-1, 7)], 1)
    new = (tokens + 1) % model.config.codebook_size
    plain = model.local(new.gather(1, positions), positions, prefix, memory_of(kept), LEFT)
    twice = model.local(new.gather(1, filled), filled, prefix, memory_of(kept), LEFT)
    assert torch.equal(twice[:, :20], plain)


def test_tokens_of_one_cell_may_be_run_together_or_apart() -> None:
    """A compressed cell holds four tokens; which of them are asked for does not matter to it."""
    model = _model(True)
    tokens, prefix, kept = _kept(model)
    side = model.config.sample_size
    cell = torch.tensor([[0, 1, side, side + 1]] * ROWS)
    whole = model.local(tokens.gather(1, cell), cell, prefix, memory_of(kept), LEFT)
    part = model.local(tokens.gather(1, cell[:, 2:]), cell[:, 2:], prefix, memory_of(kept), LEFT)
    assert torch.equal(whole[:, 2:], part)


def test_prefixes_and_memories_can_be_parted_and_joined(model: AmusedTransformer) -> None:
    _, prefix, kept = _kept(model)
    whole: RowTensors
    for whole in (prefix, memory_of(kept)):
        parts = [whole.select(torch.tensor([row])) for row in range(ROWS)]
        for ours, theirs in zip(type(whole).join(parts).tensors, whole.tensors, strict=True):
            assert torch.equal(ours, theirs)


def test_attention_is_what_the_reference_weighs_text_with(model: AmusedTransformer) -> None:
    """The mean over layers and heads, for the rows that ask; reading changes nothing."""
    tokens, (text, pooled, micro) = _tokens(model), _inputs(model)
    reference, side = _reference(model), model.config.sample_size
    maps: list[Tensor] = []

    def watch(attention: Any) -> None:
        plain = attention.forward

        def forward(hidden: Tensor, encoder_hidden_states: Tensor, **rest: Any) -> Any:
            query, key = (
                projected.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
                for projected in (attention.to_q(hidden), attention.to_k(encoder_hidden_states))
            )
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            maps.append(scores.softmax(-1).mean(1))
            return plain(hidden, encoder_hidden_states=encoder_hidden_states, **rest)

        attention.forward = forward

    for layer in reference.transformer_layers:
        watch(layer.attn2)
    reference(tokens.view(-1, side, side), text, pooled, micro)
    expected = torch.stack(maps).mean(0)
    cells = model.compressed.cell_side
    prefix = model.encode(text, pooled, micro)
    read = model.full(tokens, prefix, LEFT, attention_rows=torch.tensor([2, 0]))
    assert attention_of(read).shape == (2, side * side, TEXT)
    by = model.compressed.by
    grid = attention_of(read).view(2, cells, by, cells, by, TEXT)
    for row in range(by):
        for column in range(by):
            found = grid[:, :, row, :, column].flatten(1, 2)
            assert torch.allclose(found, expected[[2, 0]], atol=1e-5)
    assert torch.equal(read.logits, model.full(tokens, prefix, LEFT).logits)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_attention_heads": 5}, "multiple of num_attention_heads"),
        ({"block_num_heads": 3}, "multiple of block_num_heads"),
        ({"vocab_size": 256}, "no mask token"),
        ({"micro_cond_embed_dim": 81}, "micro_cond_embed_dim"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_hidden_layers": 10**4}, "num_hidden_layers"),
        ({"sample_size": 15}, "sample_size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _settings(True, SMALL | changes)


def test_half_a_compression_is_refused() -> None:
    with pytest.raises(ValueError, match="both or neither"):
        AmusedConfig(**vars(_settings(True, SMALL)) | {"upsample": False})

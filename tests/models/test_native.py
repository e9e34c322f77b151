from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.passes import all_own, attention_of, memory_of, own_places
from tests.worlds.processors import vnni
from unmask.errors import ConfigError
from unmask.models.attention import (
    BACKENDS,
    attention_weights,
    axial_angles,
    plain,
    rotate,
    rotations_of,
    sdpa,
)
from unmask.models.base import Condition, narrow
from unmask.models.native import Memory, NativeConfig, NativeTransformer, Prefix
from unmask.numerics import FEWEST_ROWS
from unmask.sampling.backbone import Pass

CONFIG = NativeConfig(
    width=32,
    layers=3,
    heads=2,
    hidden=48,
    grid=(3, 4),
    codebook_size=11,
    condition="text",
    vocabulary=9,
    condition_length=6,
)

LEFT = torch.zeros(8, dtype=torch.long)  # tells it nothing


@pytest.fixture(name="model")
def _model() -> NativeTransformer:
    torch.manual_seed(0)
    model = NativeTransformer(CONFIG).eval().requires_grad_(False)
    for (
        parameter
    ) in model.parameters():  # far from the tiny initial values, so that differences show
        parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def _tokens(rows: int) -> Tensor:
    return torch.randint(CONFIG.codebook_size + 1, (rows, CONFIG.tokens))


def _condition(*lengths: int, padded: int = 6) -> Condition:
    ids = torch.randint(2, CONFIG.vocabulary, (len(lengths), padded))
    mask = torch.arange(padded) < torch.tensor(lengths)[:, None]
    return Condition(ids, mask)


def _joint(model: NativeTransformer, tokens: Tensor, condition: Condition) -> Tensor:
    """The definition: one sequence [text, image], text blind to the image, nothing computed
    ahead.
    """
    length = condition.ids.shape[1]
    text = model.condition_embedding(condition.ids) + model.condition_position.weight[:length]
    places = model.row_embedding.weight[:, None] + model.column_embedding.weight[None]
    x = torch.cat([text, model.token_embedding(tokens) + places.flatten(0, 1)], 1)
    angles = torch.cat([torch.zeros(length, model.angles.shape[1]), model.angles])
    rotations = rotations_of(angles)
    seen = torch.cat([condition.mask, condition.mask.new_ones(tokens.shape)], 1)
    allowed = seen[:, None, None, :].repeat(1, 1, x.shape[1], 1)
    allowed[:, :, :length, length:] = False
    for block in model._blocks():
        query, key, value = block.project(x, rotations)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        x = block.finish(x, scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ value)
    logits: Tensor = model.head(model.norm(x[:, length:]))
    return logits


def test_prefix_reuse_equals_full_recomputation(model: NativeTransformer) -> None:
    condition, prefix = _condition(3, 6), None
    for _ in range(3):  # one prefix serves every state of the tokens
        tokens = _tokens(2)
        prefix = prefix or model.encode(condition)
        assert torch.allclose(model(tokens, prefix), _joint(model, tokens, condition), atol=1e-5)


def test_padding_of_text_changes_nothing(model: NativeTransformer) -> None:
    long = _condition(3, 3)
    short = Condition(long.ids[:, :3], long.mask[:, :3])
    other = Condition(torch.where(long.mask, long.ids, 7), long.mask)
    tokens = _tokens(2)
    expected = model(tokens, model.encode(short))
    for padded in (long, other):
        assert torch.allclose(model(tokens, model.encode(padded)), expected, atol=1e-5)


def test_every_text_token_and_its_place_matter(model: NativeTransformer) -> None:
    ids = torch.tensor([[1, 2, 3], [1, 3, 2], [1, 2, 4]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    tokens = _tokens(1).expand(3, -1)
    logits = model(tokens, model.encode(Condition(ids, mask)))
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)


def test_positions_on_the_grid_differ(model: NativeTransformer) -> None:
    logits = model(torch.full((1, 12), model.mask_id), model.encode(_condition(3)))[0]
    distances = torch.cdist(logits, logits) + torch.eye(12)
    assert distances.min() > 1e-3


def test_selected_prefixes_are_those_rows(model: NativeTransformer) -> None:
    tokens = _tokens(3)
    prefix = model.encode(_condition(2, 4, 6))
    rows = torch.tensor([2, 0])
    assert torch.allclose(
        model(tokens[rows], prefix.select(rows)), model(tokens, prefix)[rows], atol=1e-5
    )


def _states(model: NativeTransformer) -> tuple[Tensor, Prefix, Pass]:
    """Tokens of four rows under other conditions, and a full pass over them that kept all."""
    tokens, prefix = _tokens(4), model.encode(_condition(3, 5, 1, 6))
    return tokens, prefix, model.full(tokens, prefix, remember=True, steps_left=LEFT)


def test_a_local_pass_over_all_positions_is_a_full_pass(model: NativeTransformer) -> None:
    _, prefix, kept = _states(model)
    others = _tokens(4)  # nothing of the memory is left, so other tokens may come
    positions = torch.stack([torch.randperm(CONFIG.tokens) for _ in range(4)])
    local = model.local(
        others.gather(1, positions), all_own(positions), prefix, memory_of(kept), steps_left=LEFT
    )
    expected = model(others, prefix).gather(1, positions[..., None].expand_as(local))
    assert torch.allclose(local, expected, atol=1e-5)


def test_a_local_pass_over_what_did_not_change_gives_the_same_logits(
    model: NativeTransformer,
) -> None:
    """Only if positions, memory and condition of each row are its own."""
    tokens, prefix, kept = _states(model)
    positions = torch.stack([torch.randperm(CONFIG.tokens)[:5] for _ in range(4)])
    here = tokens.gather(1, positions)
    local = model.local(here, all_own(positions), prefix, memory_of(kept), steps_left=LEFT)
    expected = kept.logits.gather(1, positions[..., None].expand_as(local))
    assert torch.allclose(local, expected, atol=1e-5)
    others = memory_of(kept).select(torch.tensor([1, 0, 3, 2]))
    swapped = model.local(here, all_own(positions), prefix, others, steps_left=LEFT)
    assert not torch.allclose(swapped, expected, atol=1e-2)


def test_a_repeated_position_changes_nothing(model: NativeTransformer) -> None:
    """Rows with fewer targets than others are filled up with their first."""
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


def test_local_passes_see_what_changed_among_their_positions(model: NativeTransformer) -> None:
    tokens, prefix, kept = _states(model)
    positions = torch.tensor([[2, 7]] * 4)
    here = tokens.gather(1, positions)
    before = model.local(here, all_own(positions), prefix, memory_of(kept), steps_left=LEFT)
    here[:, 1] = (here[:, 1] + 1) % CONFIG.codebook_size
    after = model.local(here, all_own(positions), prefix, memory_of(kept), steps_left=LEFT)
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-3)


def test_memories_can_be_parted_and_joined(model: NativeTransformer) -> None:
    _, _, kept = _states(model)
    whole = narrow(memory_of(kept), Memory)
    joined = Memory.join([whole.select(torch.tensor([row])) for row in range(4)])
    assert torch.equal(joined.keys, whole.keys)
    assert torch.equal(joined.values, whole.values)
    assert joined.nbytes == whole.nbytes == 2 * whole.keys.nbytes


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, pytest.param(torch.int8, marks=vnni)]
)
@pytest.mark.parametrize("hidden", [704, 1024])
@pytest.mark.usefixtures("threads")
def test_a_row_is_to_the_bit_what_it_is_alone(hidden: int, dtype: torch.dtype) -> None:
    """In full passes and in local ones, though some rows have fewer positions, of which fused
    attention's last block is short."""
    torch.manual_seed(1)
    config = replace(CONFIG, width=256, hidden=hidden, heads=4, layers=2, grid=(8, 8))
    model = NativeTransformer(config).eval().requires_grad_(False)
    if dtype == torch.int8:
        model.use_eight_bits()
    else:
        model.to(dtype)
    tokens, prefix = torch.randint(12, (9, 64)), model.encode(_condition(*range(1, 7), 4, 5, 6))
    left = torch.zeros(9, dtype=torch.long)
    together = model.full(tokens, prefix, steps_left=left, remember=True)
    counts = (33, 40, 16, 35, 40, 7, 34, 20, 33)
    places = torch.stack([torch.randperm(64)[:40] for _ in counts])
    for row, count in enumerate(counts):
        places[row, count:] = places[row, 0]
    here, memory = tokens.gather(1, places), memory_of(together)
    local = model.local(here, own_places(places, *counts), prefix, memory, steps_left=left)
    for row, count in enumerate(counts):
        one, run = torch.tensor([row]), max(count, FEWEST_ROWS)
        alone = model.full(tokens[one], prefix.select(one), steps_left=left[one])
        assert torch.equal(alone.logits[0], together.logits[row])
        locally = model.local(
            here[one, :run],
            own_places(places[one, :run], count),
            prefix.select(one),
            memory.select(one),
            steps_left=left[one],
        )
        assert torch.equal(locally[0, :count], local[row, :count])


def test_prefixes_can_be_parted_and_joined(model: NativeTransformer) -> None:
    prefix = model.encode(_condition(3, 5, 1))
    joined = Prefix.join([prefix.select(torch.tensor([row])) for row in range(3)])
    for ours, theirs in zip(joined.tensors, prefix.tensors, strict=True):
        assert torch.equal(ours, theirs)


def test_attention_is_read_of_the_rows_that_ask_and_changes_nothing(
    model: NativeTransformer,
) -> None:
    tokens, prefix, kept = _states(model)
    read = model.full(tokens, prefix, attention_rows=torch.tensor([2, 0]), steps_left=LEFT)
    assert torch.equal(read.logits, kept.logits)
    assert attention_of(read).shape == (2, CONFIG.tokens, 6)
    assert (attention_of(read)[0, :, 1:] == 0).all()  # row 2 has one text token
    assert ((attention_of(read).sum(-1) > 0) & (attention_of(read).sum(-1) < 1)).all()
    one = torch.tensor([0])
    alone = model.full(tokens[:1], prefix.select(one), attention_rows=one, steps_left=LEFT[:1])
    assert torch.allclose(attention_of(alone)[0], attention_of(read)[1], atol=1e-6)


def test_a_prefix_holds_one_entry_a_layer(model: NativeTransformer) -> None:
    prefix = model.encode(_condition(3, 5))
    assert isinstance(prefix, Prefix)
    assert prefix.keys.shape == prefix.values.shape == (3, 2, 2, 6, 16)


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_attention_backends_agree(model: NativeTransformer, name: str) -> None:
    if name == "xformers":
        pytest.importorskip("xformers", reason="the optional backend is not installed")
        if not torch.cuda.is_available():
            pytest.skip("xformers' kernels want a GPU")
    device = "cuda" if name == "xformers" else "cpu"
    tokens, condition = _tokens(2), _condition(2, 5)
    model.use_attention("plain")
    expected = model(tokens, model.encode(condition))
    model.use_attention(name)
    model.to(device)
    found = model(tokens.to(device), model.encode(Condition(*(t.to(device) for t in condition))))
    assert torch.allclose(found.cpu(), expected, atol=1e-4)


def test_fused_attention_agrees_with_plain_for_masks_of_every_length() -> None:
    query, key, value = torch.randn(3, 6, 2, 5, 8).unbind()
    mask = torch.arange(5) < torch.arange(1, 7)[:, None].clamp_max(5)
    assert torch.allclose(plain(query, key, value, mask), sdpa(query, key, value, mask), atol=1e-5)


def test_attention_weights_sum_to_one_over_what_may_be_seen() -> None:
    query, key = torch.randn(2, 1, 2, 4, 8).unbind()
    weights = attention_weights(query, key, torch.tensor([[True, True, False, True]]))
    assert torch.allclose(weights.sum(-1), torch.ones(1, 2, 4))
    assert (weights[..., 2] == 0).all()


def test_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    rotations = rotations_of(axial_angles((1, 9), 8, 100.0))
    query, key = torch.randn(2, 1, 1, 1, 8).expand(-1, -1, -1, 9, -1).unbind()
    turned_query, turned_key = rotate(query, rotations), rotate(key, rotations)
    assert torch.allclose(turned_query.norm(dim=-1), query.norm(dim=-1), atol=1e-5)
    products = (turned_query @ turned_key.transpose(-1, -2))[0, 0]
    assert torch.allclose(products[0, 3], products[5, 8], atol=1e-4)
    assert not torch.allclose(products[0, 3], products[0, 4], atol=1e-4)


def test_rows_and_columns_turn_different_channels() -> None:
    angles = axial_angles((2, 2), 16, 100.0).view(2, 2, 8)
    assert (angles[1, 0] - angles[0, 0])[4:].eq(0).all()
    assert (angles[0, 1] - angles[0, 0])[:4].eq(0).all()


def test_gradients_reach_every_parameter() -> None:
    model = NativeTransformer(replace(CONFIG, grid=(2, 3, 2)))
    model(_tokens(4), model.encode(_condition(6, 6, 6, 6))).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_an_unknown_backend_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="plain, sdpa, xformers"):
        NativeTransformer(CONFIG, attention="flash9")


@pytest.mark.parametrize("name", ["width", "layers", "heads", "hidden", "vocabulary"])
def test_a_size_of_nothing_is_refused_by_name(name: str) -> None:
    sizes: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        replace(CONFIG, **sizes)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        replace(CONFIG, heads=5)


@pytest.mark.parametrize("grid", [(), (4,), (2, 2, 2, 2)])
def test_a_grid_is_rows_and_columns_and_perhaps_frames(grid: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        replace(CONFIG, grid=grid)


def _clip_model(model: NativeTransformer, frames: int) -> NativeTransformer:
    """For so many frames, with the weights of a model of pictures."""
    clips = NativeTransformer(replace(CONFIG, grid=(frames, *CONFIG.grid)))
    missing = clips.load_state_dict(model.state_dict(), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["frame_embedding.weight"], [])
    return clips.eval().requires_grad_(False)


def test_a_clip_of_one_frame_is_a_picture(model: NativeTransformer) -> None:
    """To the bit, as long as the frame's embedding is what it starts as."""
    clips = _clip_model(model, 1)
    assert clips.grid == (1, 3, 4)
    tokens, condition = _tokens(3), _condition(2, 5, 6)
    prefix = model.encode(condition)
    found = clips.full(tokens, clips.encode(condition), steps_left=LEFT[:3], remember=True)
    expected = model.full(tokens, prefix, steps_left=LEFT[:3], remember=True)
    assert torch.equal(found.logits, expected.logits)
    places = torch.tensor([[3, 8, 1]] * 3)
    local = (tokens.gather(1, places), all_own(places), prefix)
    assert torch.equal(
        clips.local(*local, memory_of(found), steps_left=LEFT[:3]),
        model.local(*local, memory_of(expected), steps_left=LEFT[:3]),
    )


def test_every_place_of_a_clip_differs_once_its_frames_do(model: NativeTransformer) -> None:
    clips = _clip_model(model, 2)
    assert clips.config.tokens == 24
    blank, prefix = torch.full((1, 24), clips.mask_id), clips.encode(_condition(3))
    first, second = clips.full(blank, prefix, steps_left=LEFT[:1]).logits[0].chunk(2)
    assert torch.allclose(first, second, atol=1e-5)
    assert clips.frame_embedding is not None
    clips.frame_embedding.weight.normal_()
    logits = clips.full(blank, prefix, steps_left=LEFT[:1]).logits[0]
    assert logits.shape == (24, CONFIG.codebook_size)
    assert (torch.cdist(logits, logits) + torch.eye(24)).min() > 1e-3


def test_a_prefix_of_another_family_is_told(model: NativeTransformer) -> None:
    with pytest.raises(AssertionError, match="Memory of another family"):
        model.full(_tokens(1), Memory(torch.zeros(1), torch.zeros(1)), steps_left=LEFT[:1])

"""Hints of the native transformer: frames that are given between two key frames."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models.passes import all_own, memory_of
from unmask.models.base import Condition
from unmask.models.native import HintedPrefix, NativeConfig, NativeTransformer
from unmask.sampling.backbone import RowTensors

PLAIN = NativeConfig(
    width=32,
    layers=2,
    heads=2,
    hidden=32,
    grid=(3, 2, 2),
    codebook_size=11,
    condition="text",
    vocabulary=9,
    condition_length=4,
)
LEFT = torch.zeros(2, dtype=torch.long)


def _model(hints: int, seed: int = 0) -> NativeTransformer:
    torch.manual_seed(seed)
    return NativeTransformer(replace(PLAIN, hints=hints)).eval().requires_grad_(False)


@pytest.fixture(name="model")
def _taught() -> NativeTransformer:
    """A model whose hints are no longer what they start as."""
    model = _model(3)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def _condition() -> Condition:
    torch.manual_seed(1)
    return Condition(torch.randint(2, 9, (2, 4)), torch.ones(2, 4, dtype=torch.bool))


def _hints() -> Tensor:
    """Of the middle slot of the second row, two frames before its last."""
    hints = torch.zeros(2, 12, 2, dtype=torch.long)
    hints[1, 4:8] = torch.tensor([[7, 2], [3, 2], [5, 2], [1, 2]])
    return hints


def _tokens(model: NativeTransformer) -> Tensor:
    torch.manual_seed(2)
    tokens = torch.randint(11, (2, 12))
    tokens[:, 4:6] = tokens[:, 9] = model.mask_id
    return tokens


def test_a_model_that_has_learned_no_hints_is_what_it_was_to_the_bit() -> None:
    """Also if it is told some: old weights may go on into a model that takes hints."""
    plain, hinted = _model(0), _model(3)
    tokens, condition = _tokens(plain), _condition()
    expected = plain(tokens, plain.encode(condition))
    assert torch.equal(hinted(tokens, hinted.encode(condition)), expected)
    assert torch.equal(hinted(tokens, hinted.encode(condition), _hints()), expected)
    assert hinted.load_state_dict(plain.state_dict(), strict=False).unexpected_keys == []


def test_a_hint_is_seen_at_masked_tokens_of_its_row_alone(model: NativeTransformer) -> None:
    tokens, prefix = _tokens(model), model.encode(_condition())
    before, after = model(tokens, prefix), model(tokens, prefix, _hints())
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    known = _hints()
    known[1, 4:6] = 0  # what is left are hints of tokens that are there
    assert torch.equal(model(tokens, prefix, known), before)


@pytest.mark.parametrize("change", [(0, 1), (1, 1)], ids=["code", "offset"])
def test_code_and_offset_matter(model: NativeTransformer, change: tuple[int, int]) -> None:
    tokens, prefix = _tokens(model), model.encode(_condition())
    other = _hints()
    other[1, 4, change[0]] = change[1]
    assert not torch.allclose(
        model(tokens, prefix, other), model(tokens, prefix, _hints()), atol=1e-4
    )


def test_hints_are_rows_of_the_prefix(model: NativeTransformer) -> None:
    """So a row keeps its own in any batch, and rows with and without share one."""
    tokens, prefix = _tokens(model), model.encode(_condition())
    told = model.hinted(prefix, _hints())
    expected = model(tokens, prefix, _hints())
    one, two = torch.tensor([1]), torch.tensor([0])
    parts: list[RowTensors] = [told.select(one), prefix.select(two)]
    assert {part.row_shapes for part in parts} == {told.row_shapes}
    joined = HintedPrefix.join([part for part in parts if isinstance(part, HintedPrefix)])
    found = model.full(tokens.flip(0), joined, steps_left=LEFT).logits
    assert torch.equal(found, expected.flip(0))


def test_local_passes_see_hints(model: NativeTransformer) -> None:
    """ReCAP goes on as it does without."""
    tokens = _tokens(model)
    prefix = model.hinted(model.encode(_condition()), _hints())
    kept = model.full(tokens, prefix, steps_left=LEFT, remember=True)
    places = torch.tensor([[4, 9, 5]] * 2)
    local = model.local(
        tokens.gather(1, places), all_own(places), prefix, memory_of(kept), steps_left=LEFT
    )
    expected = kept.logits.gather(1, places[..., None].expand_as(local))
    assert torch.allclose(local, expected, atol=1e-5)


def test_a_shorter_clip_has_hints_too(model: NativeTransformer) -> None:
    tokens, prefix = _tokens(model)[:, :8], model.encode(_condition())
    cut = model(tokens, prefix, _hints()[:, :8])
    assert torch.equal(cut, model(tokens, prefix, _hints()))
    assert not torch.equal(cut, model(tokens, prefix))


def test_hints_learn() -> None:
    model = NativeTransformer(replace(PLAIN, hints=3))
    tokens = _tokens(model)
    model(tokens, model.encode(_condition()), _hints()).square().sum().backward()
    assert model.hint is not None
    for parameter in model.hint.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_a_model_without_hints_takes_none() -> None:
    model = _model(0)
    with pytest.raises(AssertionError, match=r"expected .*HintedPrefix"):
        model(_tokens(model), model.encode(_condition()), _hints())


def test_only_clips_have_hints_and_windows() -> None:
    with pytest.raises(ValueError, match="hints: they are for clips"):
        replace(PLAIN, grid=(2, 2), hints=3)
    with pytest.raises(ValueError, match="hints is -1"):
        replace(PLAIN, hints=-1)
    with pytest.raises(ValueError, match="windows: they are for clips"):
        replace(PLAIN, grid=(2, 2), windows=((1, 2, 2),))

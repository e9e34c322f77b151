from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unmask.models.base import Condition
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.models.window_attention import Window, windowed

GRID = (3, 4, 6)
FULL = NativeConfig(
    width=32,
    layers=1,
    heads=2,
    hidden=32,
    grid=GRID,
    codebook_size=11,
    condition="text",
    vocabulary=9,
    condition_length=4,
)


def _model(*windows: Window, layers: int = 1) -> NativeTransformer:
    torch.manual_seed(0)
    model = NativeTransformer(replace(FULL, windows=windows, layers=layers))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model.eval().requires_grad_(False)


def _condition() -> Condition:
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    return Condition(torch.tensor([[2, 3, 0, 0], [4, 5, 6, 7]]), mask)


def _tokens(slots: int = 3) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(12, (2, slots * 24))


@pytest.mark.parametrize("window", [(0, 0, 0), (0, 4, 6)])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_window_of_the_whole_grid_is_full_attention(window: Window, slots: int) -> None:
    full, whole = _model(layers=3), _model(window, layers=3)
    tokens, condition = _tokens(slots), _condition()
    expected = full(tokens, full.encode(condition))
    assert torch.equal(whole(tokens, whole.encode(condition)), expected)


def _reached(model: NativeTransformer, place: tuple[int, int, int]) -> Tensor:
    """Where (slots, rows, columns) another token at the place changes anything."""
    tokens, prefix = _tokens(), model.encode(_condition())
    other = tokens.clone().view(2, *GRID)
    other[:, *place] = (other[:, *place] + 1) % 12
    changed: Tensor = model(tokens, prefix) != model(other.flatten(1), prefix)
    return changed.any(-1).any(0).view(GRID)


def test_a_window_sees_its_own_tokens_alone() -> None:
    frame = torch.zeros(GRID, dtype=torch.bool)
    frame[1] = True
    assert torch.equal(_reached(_model((1, 4, 6)), (1, 2, 3)), frame)
    tube = torch.zeros(GRID, dtype=torch.bool)
    tube[:, 2:, 3:] = True
    assert torch.equal(_reached(_model((0, 2, 3)), (1, 2, 3)), tube)


def test_layers_take_windows_in_turn_and_reach_everything() -> None:
    both = _model((1, 0, 0), (0, 2, 3), layers=2)
    assert _reached(both, (1, 2, 3)).all()


def test_the_text_is_seen_in_every_window() -> None:
    model, tokens, condition = _model((1, 2, 3)), _tokens(), _condition()
    other = Condition(condition.ids.clone(), condition.mask)
    other.ids[:, 1] = 8
    changed = model(tokens, model.encode(condition)) != model(tokens, model.encode(other))
    assert changed.any(-1).all()
    hidden = Condition(torch.where(condition.mask, condition.ids, 8), condition.mask)
    assert torch.equal(model(tokens, model.encode(hidden)), model(tokens, model.encode(condition)))


def test_windows_come_back_in_their_places() -> None:
    """With attention that hands every query its own value."""
    own = tuple(torch.randn(2, 2, 72, 8) for _ in range(3))
    told = torch.zeros(2, 2, 4, 8), torch.zeros(2, 2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
    found = windowed(
        lambda q, k, v, m: v[:, :, 4:], (1, 2, 3), GRID, (own[0], own[1], own[2]), told
    )
    assert torch.equal(found, own[2])


def test_what_windows_cannot_do_is_told_by_the_model() -> None:
    """A pipeline refuses reuse and uncage by these (tests/test_clip_pipeline.py)."""
    model = _model((1, 4, 6))
    assert not model.has_memory
    assert not model.gives_attention
    assert NativeTransformer(FULL).has_memory


@pytest.mark.parametrize(
    ("window", "words"),
    [((2, 4, 6), "in slots give 1, or 0"), ((1, 3, 6), "divide"), ((1, 4, -6), "divide")],
)
def test_windows_fill_the_grid(window: Window, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(FULL, windows=(window,))

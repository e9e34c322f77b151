import pytest
import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.tokenizers.causal import CausalConfig, CausalTokenizer
from unmask.tokenizers.quantizers import QuantizerConfig

QUANTIZERS = [QuantizerConfig("fsq", levels=(4, 4)), QuantizerConfig("lfq", bits=4)]


@pytest.fixture(name="tokenizer", params=QUANTIZERS, ids=["fsq", "lfq"])
def _tokenizer(request: pytest.FixtureRequest) -> CausalTokenizer:
    torch.manual_seed(0)
    return CausalTokenizer(CausalConfig((8, 8, 16), 1, request.param)).eval()


def _clips(frames: int, seed: int = 0) -> Tensor:
    return torch.rand(2, frames, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_the_first_slots_do_not_change_with_what_follows(tokenizer: CausalTokenizer) -> None:
    clips = _clips(13)
    other = torch.cat([clips[:, :5], _clips(13, 1)[:, 5:]], 1)
    tokens, changed = tokenizer.encode_clips(clips), tokenizer.encode_clips(other)
    assert tokens.shape == (2, 4, 2, 2)
    assert torch.equal(tokens[:, :2], changed[:, :2])
    assert not torch.equal(tokens[:, 2:], changed[:, 2:])
    drawn, others = tokenizer.decode_clips(tokens), tokenizer.decode_clips(changed)
    assert drawn.shape == clips.shape
    assert torch.equal(drawn[:, :5], others[:, :5])
    assert not torch.equal(drawn[:, 5:], others[:, 5:])


def test_a_picture_is_the_first_slot(tokenizer: CausalTokenizer) -> None:
    clips = _clips(5)
    assert torch.equal(tokenizer.encode_clips(clips[:, :1]), tokenizer.encode_clips(clips)[:, :1])


def test_a_still_clip_does_not_know_how_long_it_is(tokenizer: CausalTokenizer) -> None:
    still = _clips(1).expand(-1, 17, -1, -1, -1)
    latents = tokenizer._latents(still)
    # Repeated frames before the beginning, not zeros: all slots alike.
    assert torch.allclose(latents, latents[:, :1].expand_as(latents), atol=1e-5)


def test_frames_that_fill_no_slot_are_refused(tokenizer: CausalTokenizer) -> None:
    with pytest.raises(ConfigError, match="4 frames of 16x16: give 1"):
        tokenizer.encode_clips(_clips(4))


def test_gradients_reach_every_weight(tokenizer: CausalTokenizer) -> None:
    tokenizer.train()
    frames, _, loss = tokenizer(_clips(5))
    torch.autograd.backward(frames.square().mean() + loss)
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())

from pathlib import Path

import pytest
import torch

from unmask.errors import ConfigError
from unmask.tokenizers.folder import load_slot_decoder, save_slot_decoder
from unmask.tokenizers.key_frames import KeyFrameTokenizer, SlotDecoderConfig, slot_decoder_for
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer() -> KeyFrameTokenizer:
    torch.manual_seed(0)
    quantizer = QuantizerConfig("fsq", levels=(4, 4))
    pictures = VQGAN(VQGANConfig((8, 8), (8, 8), 1, quantizer, local=True))
    decoder = slot_decoder_for(pictures, SlotDecoderConfig(channels=(8, 16), blocks=1))
    for parameter in decoder.parameters():  # beyond the zeros that it begins with
        torch.nn.init.normal_(parameter, std=0.2)
    return KeyFrameTokenizer(pictures.eval(), decoder.eval()).requires_grad_(False)


def test_slot_by_slot_is_all_at_once(tokenizer: KeyFrameTokenizer) -> None:
    tokens = torch.randint(16, (2, 4, 3, 5), generator=torch.Generator().manual_seed(1))
    clips = tokenizer.decode_clips(tokens)
    assert clips.shape == (2, 13, 3, 12, 20)
    first = tokenizer.decode(tokens[:, 0])
    slots = [tokenizer.decode_slot(tokens[:, i - 1], tokens[:, i]) for i in (1, 2, 3)]
    assert torch.equal(clips, torch.cat([first[:, None], *slots], 1))
    assert torch.equal(clips[:, :9], tokenizer.decode_clips(tokens[:, :3]))


def test_a_slot_does_not_change_with_those_beyond_the_one_before(
    tokenizer: KeyFrameTokenizer,
) -> None:
    tokens = torch.randint(16, (1, 4, 3, 3), generator=torch.Generator().manual_seed(2))
    other = tokens.clone()
    other[:, 0] = (other[:, 0] + 1) % 16
    one, changed = tokenizer.decode_clips(tokens), tokenizer.decode_clips(other)
    assert torch.equal(one[:, 5:], changed[:, 5:])
    assert not torch.equal(one[:, :5], changed[:, :5])


def test_a_picture_is_a_clip_of_one_frame(tokenizer: KeyFrameTokenizer) -> None:
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    tokens = tokenizer.encode_clips(images[:, None])
    assert torch.equal(tokens[:, 0], tokenizer.encode(images))
    assert torch.equal(tokenizer.decode_clips(tokens)[:, 0], tokenizer.round_trip(images))


def test_what_stands_still_is_the_picture_to_the_bit(tokenizer: KeyFrameTokenizer) -> None:
    tokens = torch.randint(16, (1, 1, 8, 8), generator=torch.Generator().manual_seed(4))
    still = tokenizer.decode_clips(tokens.repeat(1, 3, 1, 1))
    assert torch.equal(still, still[:, :1].expand_as(still))
    moved = tokens.repeat(1, 2, 1, 1)
    moved[0, 1, 0, 0] = (moved[0, 1, 0, 0] + 1) % 16
    clip = tokenizer.decode_clips(moved)
    far = clip[..., 12:, 12:]  # two cells away from the one that changes
    assert torch.equal(
        far[:, 1:], tokenizer.decode(moved[:, 1])[:, None, :, 12:, 12:].expand_as(far[:, 1:])
    )


def test_frames_that_fill_no_slot_are_refused(tokenizer: KeyFrameTokenizer) -> None:
    assert [tokenizer.slots(frames) for frames in (1, 5, 17)] == [1, 2, 5]
    assert [tokenizer.frames(slots) for slots in (1, 2, 5)] == [1, 5, 17]
    with pytest.raises(ConfigError, match="4 frames: give 1 and a multiple of 4 more"):
        tokenizer.encode_clips(torch.rand(1, 4, 3, 12, 12))


def test_a_folder_gives_back_what_was_saved(tokenizer: KeyFrameTokenizer, tmp_path: Path) -> None:
    save_slot_decoder(tokenizer.decoder, tmp_path, half=False)
    found = load_slot_decoder(tmp_path, tokenizer.pictures)
    tokens = torch.randint(16, (1, 2, 4, 4), generator=torch.Generator().manual_seed(5))
    again = KeyFrameTokenizer(tokenizer.pictures, found)
    assert torch.equal(again.decode_clips(tokens), tokenizer.decode_clips(tokens))


def test_bounds_of_the_configuration() -> None:
    for changes, said in (
        ({"slot": 0}, "slot: 0"),
        ({"channels": (9, 8)}, "9 channels"),
        ({"blocks": -1}, "blocks"),
    ):
        with pytest.raises(ValueError, match=said):
            SlotDecoderConfig(**changes)
    fine = VQGAN(VQGANConfig((8,), (8,), 0, QuantizerConfig("fsq", levels=(4,))))
    with pytest.raises(ConfigError, match="multiple of 4 pixels"):
        slot_decoder_for(fine, SlotDecoderConfig())

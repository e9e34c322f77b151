import torch

from tests.worlds.clip_models import SLOT, clip_tokenizer, noise_clip


def _frames(frames: int) -> torch.Tensor:
    return torch.from_numpy(noise_clip(frames).frames).permute(0, 3, 1, 2)[None].float() / 255


def test_slot_by_slot_the_frames_are_to_the_bit_what_they_are_at_once() -> None:
    tokenizer = clip_tokenizer()
    tokens = torch.randint(12, (1, 4, 2, 2))
    whole = tokenizer.decode_clips(tokens)
    assert whole.shape == (1, tokenizer.frames(4), 3, 8, 8)
    assert torch.equal(whole[:, 0], tokenizer.decode(tokens[:, 0]))
    for slot in range(1, 4):
        frames = tokenizer.decode_slot(tokens[:, slot - 1], tokens[:, slot])
        assert torch.equal(whole[:, 1 + SLOT * (slot - 1) : 1 + SLOT * slot], frames)


def test_frames_do_not_change_with_what_follows() -> None:
    tokenizer = clip_tokenizer()
    tokens = torch.randint(12, (1, 4, 2, 2))
    other = tokens.clone()
    other[:, 3] = (other[:, 3] + 1) % 12
    seen = tokenizer.frames(3)
    one, two = tokenizer.decode_clips(tokens), tokenizer.decode_clips(other)
    assert torch.equal(one[:, :seen], two[:, :seen])
    assert not torch.equal(one[:, seen:], two[:, seen:])


def test_the_tokens_of_a_clip_are_the_pictures_of_its_key_frames() -> None:
    tokenizer = clip_tokenizer()
    frames = _frames(9)
    tokens = tokenizer.encode_clips(frames)
    assert torch.equal(tokens[0], tokenizer.encode(frames[0, ::SLOT]))
    one = tokenizer.encode_clips(frames[:, :1])
    assert torch.equal(one[:, 0], tokenizer.encode(frames[:, 0]))

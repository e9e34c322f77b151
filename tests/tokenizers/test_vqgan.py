from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from unmask.errors import ConfigError
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, Reduced, VQGANConfig

FSQ = QuantizerConfig("fsq", levels=(4, 3))
CONFIG = VQGANConfig(encoder_channels=(8, 16), decoder_channels=(8, 24), blocks=1, quantizer=FSQ)


@pytest.mark.parametrize(
    "quantizer",
    [FSQ, QuantizerConfig("lfq", bits=5), QuantizerConfig("vq", codes=20, width=6)],
    ids=lambda config: config.kind,
)
def test_a_round_trip_keeps_the_shape_and_the_range(quantizer: QuantizerConfig) -> None:
    tokenizer = VQGAN(replace(CONFIG, quantizer=quantizer)).eval()
    tokens = tokenizer.encode(torch.rand(2, 3, 16, 24))
    assert tokens.shape == (2, 16 // tokenizer.patch, 24 // tokenizer.patch) == (2, 4, 6)
    assert 0 <= tokens.min() <= tokens.max() < tokenizer.codebook_size
    images = tokenizer.decode(tokens)
    assert images.shape == (2, 3, 16, 24)
    assert 0 <= images.min() <= images.max() <= 1


def test_the_differentiable_round_trip_agrees_with_encode_and_decode() -> None:
    tokenizer, images = VQGAN(CONFIG), torch.rand(2, 3, 16, 16)
    decoded = tokenizer(images)
    assert torch.equal(decoded.indices, tokenizer.encode(images))
    assert torch.allclose(decoded.images.clamp(0, 1), tokenizer.decode(decoded.indices), atol=1e-5)


def test_every_weight_receives_a_gradient() -> None:
    tokenizer = VQGAN(CONFIG)
    tokenizer(torch.rand(2, 3, 16, 16)).images.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tokenizer.parameters())


def test_a_local_token_depends_on_its_own_patch_alone() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 16, 16, generator=random).repeat(2, 1, 1, 1)
    images[1, :, :4, :4] = torch.rand(3, 4, 4, generator=random)  # another first patch
    images[:, :, 8:12, 12:] = images[0, :, 4:8, 4:8]  # the same patch at two places
    codes = QuantizerConfig("fsq", levels=(8, 8, 8, 8))
    changed = {}
    for local in (True, False):
        torch.manual_seed(0)
        tokenizer = VQGAN(replace(CONFIG, quantizer=codes, local=local)).eval()
        for parameter in tokenizer.encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        tokens = tokenizer.encode(images)
        changed[local] = int((tokens[0] != tokens[1]).sum())
        if local:
            assert torch.equal(tokens[:, 2, 3], tokens[:, 1, 1])
            tokenizer.train()
            tokenizer(images).images.square().sum().backward()
            assert all(p.grad is not None and p.grad.any() for p in tokenizer.parameters())
    assert changed[True] == 1 < changed[False]


def test_a_decoder_of_more_resolutions_enlarges() -> None:
    torch.manual_seed(0)
    plain = VQGAN(CONFIG).eval()
    large = VQGAN(replace(CONFIG, decoder_channels=(8, *CONFIG.decoder_channels))).eval()
    encoder = {n: t for n, t in plain.state_dict().items() if not n.startswith("decoder.")}
    large.load_state_dict(encoder, strict=False)
    images = torch.rand(2, 3, 16, 24)
    tokens = large.encode(images)
    assert torch.equal(tokens, plain.encode(F.avg_pool2d(images, 2)))
    assert (plain.patch, large.patch, large.config.enlargement) == (4, 8, 2)
    assert large.decode(tokens).shape == images.shape
    with pytest.raises(ConfigError, match="multiples of 8"):
        large.encode(torch.rand(1, 3, 16, 20))


def test_one_that_enlarges_can_be_seen_at_the_size_that_it_reads() -> None:
    torch.manual_seed(0)
    whole = VQGAN(replace(CONFIG, decoder_channels=(8, *CONFIG.decoder_channels))).eval()
    small = Reduced(whole)
    images = torch.rand(2, 3, 16, 24)
    tokens = small.encode(images)
    assert (small.patch, tokens.shape) == (4, (2, 4, 6))
    large = F.interpolate(images, scale_factor=2.0, mode="nearest")
    assert torch.equal(tokens, whole.encode(large))
    drawn = F.avg_pool2d(whole.decode(tokens), 2)
    assert torch.equal(small.decode(tokens), drawn)
    assert drawn.shape == images.shape
    with pytest.raises(ConfigError, match="multiples"):
        small.encode(images[..., :15])


def test_an_image_is_encoded_alike_alone_and_in_a_batch() -> None:
    tokenizer, images = VQGAN(CONFIG).eval(), torch.rand(3, 3, 16, 16)
    assert torch.equal(tokenizer.encode(images)[1:2], tokenizer.encode(images[1:2]))


@pytest.mark.parametrize("size", [(16, 18), (15, 16)])
def test_sides_that_are_no_multiple_of_the_patch_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"{size[1]}x{size[0]}: sides must be multiples of 4"):
        VQGAN(CONFIG).encode(torch.rand(1, 3, *size))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder_channels": (), "decoder_channels": ()}, "the resolutions of"),
        ({"decoder_channels": (8,)}, "the resolutions of"),
        ({"encoder_channels": (8, 12)}, "12 channels"),
        ({"decoder_channels": (0, 8)}, "0 channels"),
        ({"blocks": -1}, "blocks: -1"),
    ],
)
def test_sizes_that_make_no_network_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(CONFIG, **changes)  # type: ignore[arg-type]

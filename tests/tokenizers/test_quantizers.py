import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unmask.errors import ConfigError
from unmask.tokenizers.quantizers import QUANTIZERS, Quantizer, QuantizerConfig

LEVELS = [(2,), (3,), (8, 5, 5), (7, 2, 4), (8, 8, 6, 5)]
CONFIGS = [
    QuantizerConfig("fsq", levels=(8, 5, 5)),
    QuantizerConfig("lfq", bits=6),
    QuantizerConfig("vq", codes=40, width=4),
    QuantizerConfig("vq", codes=40, width=4, update="gradient"),
]


def _make(config: QuantizerConfig) -> Quantizer:
    return QUANTIZERS[config.kind](config)


def _fsq(*levels: int) -> Quantizer:
    return _make(QuantizerConfig("fsq", levels=levels))


@pytest.mark.parametrize("levels", LEVELS)
def test_every_fsq_code_is_its_own_nearest(levels: tuple[int, ...]) -> None:
    quantizer = _fsq(*levels)
    codes = torch.arange(quantizer.size)
    latents = quantizer.lookup(codes)
    assert latents.abs().max() <= 1
    assert len(torch.unique(latents, dim=0)) == quantizer.size
    # What the encoder must say for these latents: the bounding function turned round.
    count = torch.tensor(levels)
    half = (count - 1) * (1 + 1e-3) / 2
    offset = torch.where(count % 2 == 0, 0.5, 0.0)
    said = torch.atanh((latents * (count // 2) + offset) / half) - torch.atanh(offset / half)
    quantized = quantizer(said.view(1, 1, -1, len(levels)))
    assert torch.equal(quantized.indices.flatten(), codes)
    assert torch.allclose(quantized.latents.flatten(0, 2), latents, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS[:2], ids=lambda config: config.kind)
def test_digits_name_each_code(config: QuantizerConfig) -> None:
    quantizer = _make(config)
    digits = quantizer.digits(torch.arange(quantizer.size))
    assert digits.shape == (quantizer.size, quantizer.width)
    assert len(torch.unique(digits, dim=0)) == quantizer.size
    # All values of a channel are equally many.
    for channel in digits.T:
        assert len(torch.unique(channel.bincount())) == 1


def test_every_lfq_code_is_its_own_nearest() -> None:
    quantizer = _make(QuantizerConfig("lfq", bits=8))
    codes = torch.arange(256)
    latents = quantizer.lookup(codes)
    assert torch.equal(quantizer(latents.view(1, 16, 16, 8)).indices.flatten(), codes)


def test_every_vq_code_is_its_own_nearest() -> None:
    quantizer = _make(QuantizerConfig("vq", codes=64, width=8)).eval()
    codes = torch.arange(64)
    assert torch.equal(quantizer(quantizer.lookup(codes).view(1, 8, 8, 8)).indices.flatten(), codes)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}-{config.update}")
@given(data=st.data())
def test_any_latents_give_codes_in_range_and_the_latents_of_those_codes(
    config: QuantizerConfig, data: st.DataObject
) -> None:
    quantizer = _make(config).eval()
    shape = (2, 3, 1, quantizer.width)
    values = data.draw(arrays("float32", shape, elements=st.floats(-1e4, 1e4, width=32)))
    latents, indices, loss = quantizer(torch.from_numpy(values))
    assert indices.shape == shape[:-1]
    assert indices.dtype == torch.int64
    assert 0 <= indices.min() <= indices.max() < quantizer.size
    assert torch.allclose(latents, quantizer.lookup(indices), atol=2e-3)
    assert loss.isfinite()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}-{config.update}")
def test_the_gradient_passes_straight_through(config: QuantizerConfig) -> None:
    quantizer = _make(config)
    encoded = (torch.randn(2, 4, 4, quantizer.width) * 0.5).requires_grad_()
    wanted = torch.randn_like(encoded)
    (gradient,) = torch.autograd.grad((quantizer(encoded).latents * wanted).sum(), encoded)
    if config.kind == "fsq":  # the bounding function stands between, and is increasing
        assert torch.equal(gradient.sign(), wanted.sign())
    else:
        assert torch.equal(gradient, wanted)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}-{config.update}")
def test_autocast_changes_nothing(config: QuantizerConfig) -> None:
    quantizer = _make(config).eval()
    latents = torch.randn(4, 8, 8, quantizer.width)
    plain = quantizer(latents)
    with torch.autocast("cpu", torch.bfloat16):
        low = quantizer(latents)
    assert all(map(torch.equal, plain, low))


def test_the_entropy_term_prefers_certain_and_varied_bits() -> None:
    quantizer = _make(QuantizerConfig("lfq", bits=4, commitment=0.0, entropy=1.0))
    varied = quantizer.lookup(torch.arange(16)).view(1, 4, 4, 4)
    alike, unsure = torch.ones_like(varied), varied * 0.01
    losses = [float(quantizer(latents).loss) for latents in (varied, alike, unsure)]
    assert losses[0] < losses[1]
    assert losses[0] < losses[2]


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_vq_learns_clusters(update: str) -> None:
    centres = torch.randn(16, 4) * 3
    quantizer = _make(QuantizerConfig("vq", codes=32, width=4, update=update, decay=0.9))  # type: ignore[arg-type]
    weights = list(quantizer.parameters())
    optimizer = torch.optim.Adam(weights, lr=0.05) if weights else None
    for _ in range(300):
        points = centres[torch.randint(16, (256,))] + torch.randn(256, 4) * 0.05
        loss = quantizer(points.view(4, 8, 8, 4)).loss
        if optimizer:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    quantizer.eval()
    found = quantizer(centres.view(1, 4, 4, 4))
    assert len(torch.unique(found.indices)) == 16
    assert (found.latents.view(16, 4) - centres).norm(dim=-1).max() < 0.3


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_vq_codes_are_put_onto_latents(update: str) -> None:
    config = QuantizerConfig("vq", codes=64, width=4, update=update, decay=0.5)  # type: ignore[arg-type]
    quantizer = _make(config)
    far = torch.randn(1, 16, 16, 4) + 100
    before = torch.unique(quantizer(far).indices).numel()
    for _ in range(20):
        quantizer(far)
    assert before < 20
    assert torch.unique(quantizer(far).indices).numel() > 40
    assert (quantizer.lookup(torch.arange(64)).mean(-1) > 50).all()


def test_vq_stands_still_when_it_is_not_training() -> None:
    quantizer = _make(QuantizerConfig("vq", codes=8, width=2)).eval()
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer(torch.randn(1, 4, 4, 2))
    assert all(torch.equal(before[name], now) for name, now in quantizer.state_dict().items())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (QuantizerConfig("fsq"), r"quantizer.levels: \(\)"),
        (QuantizerConfig("fsq", levels=(8, 1)), "quantizer.levels"),
        (QuantizerConfig("lfq", bits=0), "quantizer.bits: 0"),
        (QuantizerConfig("lfq", bits=15), "quantizer.bits: 15"),
        (QuantizerConfig("vq", codes=1), "quantizer: 1 codes"),
        (QuantizerConfig("vq", width=0), "width 0"),
    ],
)
def test_sizes_that_make_no_codebook_are_refused(config: QuantizerConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _make(config)

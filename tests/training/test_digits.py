import torch

from unmask.tokenizers.quantizers import QUANTIZERS, QuantizerConfig
from unmask.training.digits import SharedDigits


def test_codes_share_what_their_digits_say() -> None:
    digits = QUANTIZERS["fsq"](QuantizerConfig("fsq", levels=(4, 3))).digits(torch.arange(12))
    sharing = SharedDigits(digits, 5)
    weights = torch.randn(13, 5)
    shared = sharing(weights) - weights
    assert torch.equal(shared[12], torch.zeros(5))
    # Codes a and b that differ in the first digit only do so alike, whatever the second one is.
    assert torch.allclose(shared[1] - shared[0], shared[5] - shared[4], atol=1e-6)
    assert len(shared[:12].unique(dim=0)) == 12

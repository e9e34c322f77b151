import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.scenes.seeds import BREAKS, DATA, HELD_OUT, LOOP, batch_seed

LONG_RUN = 9_000_000


@pytest.mark.parametrize(
    ("streams", "steps"), [((DATA, LOOP), LONG_RUN), ((DATA, LOOP, BREAKS), 3_000_000)]
)
def test_runs_of_other_seeds_and_streams_never_meet(streams: tuple[int, ...], steps: int) -> None:
    seeds = (*range(101), HELD_OUT)
    starts = sorted(batch_seed(seed, 0, stream) for seed in seeds for stream in streams)
    following = [*starts[1:], starts[0] + 2**32]
    assert min(b - a for a, b in zip(starts, following, strict=True)) > steps


@given(seed=st.integers(0, 2**31), index=st.integers(0, LONG_RUN))
def test_a_seed_lies_in_the_bits_that_torch_heeds(seed: int, index: int) -> None:
    assert 0 <= batch_seed(seed, index) < 2**32
    low = torch.Generator().manual_seed(batch_seed(seed, index))
    other = torch.Generator().manual_seed(batch_seed(seed + 1, index))
    assert not torch.equal(torch.rand(4, generator=low), torch.rand(4, generator=other))

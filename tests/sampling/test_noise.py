import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.sampling.noise import Purpose, gumbel, normal, request_noise, uniforms

GOLDEN = [0.8720734715461731, 0.2953653931617737, 0.4200976490974426, 0.40539222955703735]


@given(st.integers(0, 2**64 - 1), st.integers(0, 9))
def test_noise_is_fixed_by_seed_and_image(seed: int, image: int) -> None:
    first = request_noise(seed, image, 3, 5)
    assert torch.equal(first, request_noise(seed, image, 3, 5))
    assert not torch.equal(first, request_noise(seed, image + 1, 3, 5))


def test_noise_is_the_same_for_ever() -> None:
    # Golden values: whoever changes them changes every picture of every saved seed.
    noise = request_noise(7, 0, 1, 2).flatten()
    assert torch.allclose(noise, torch.tensor(GOLDEN), atol=0)


def test_more_steps_leave_the_first_as_they_were() -> None:
    assert torch.equal(request_noise(1, 2, 8, 6)[:3], request_noise(1, 2, 3, 6))


def test_uniforms_lie_strictly_between_zero_and_one() -> None:
    noise = request_noise(3, 0, 64, 4096)
    assert noise.min() > 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.01


def test_gumbel_is_finite_at_both_ends() -> None:
    ends = torch.tensor([2.0**-24, 1 - 2.0**-24])
    assert gumbel(ends).isfinite().all()


def test_streams_of_other_purposes_windows_and_steps_never_meet() -> None:
    streams = [
        uniforms(5, 1, 50, purpose, window, step)
        for purpose in Purpose
        for window in (0, 1)
        for step in (0, 1)
    ]
    assert len({tuple(stream.tolist()) for stream in streams}) == len(streams)


def test_normal_noise_has_the_moments_of_a_gaussian() -> None:
    drawn = normal(uniforms(0, 0, 100_000, Purpose.LOGITS))
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
    assert abs((drawn.abs() < 1).float().mean() - 0.6827) < 0.01

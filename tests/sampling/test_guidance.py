import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.sampling.guidance import GUIDANCES
from unmask.sampling.options import choose_options


def _scales(kind: str, steps: int, scale: float, **options: object) -> tuple[float, ...]:
    guidance = choose_options({}, {"guidance": kind, **options}).guidance
    return guidance.scales(steps, scale)


def test_constant_guidance_stays() -> None:
    assert _scales("constant", 3, 4.0) == (4, 4, 4)


def test_linear_guidance_rises_from_off() -> None:
    assert _scales("linear", 4, 5.0) == (1, 2, 3, 4)


def test_interval_guidance_is_off_outside() -> None:
    assert _scales("interval", 4, 3.0, guidance_interval=(0.25, 0.75)) == (1, 3, 3, 1)


def test_power_cosine_of_power_one_is_cosine() -> None:
    assert _scales("power-cosine", 9, 5.0, guidance_power=1.0) == _scales("cosine", 9, 5.0)
    assert _scales("cosine", 2, 5.0) == pytest.approx((1, 3))


@given(st.sampled_from(sorted(GUIDANCES)), st.integers(1, 50))
def test_a_scale_of_one_is_off_at_every_step(name: str, steps: int) -> None:
    assert set(_scales(name, steps, 1.0)) == {1}


@given(st.floats(0.2, 10))
def test_a_greater_power_guides_later(power: float) -> None:
    sooner, later = (
        _scales("power-cosine", 10, 5.0, guidance_power=exponent) for exponent in (power, power * 2)
    )
    assert all(b <= a + 1e-9 for a, b in zip(sooner, later, strict=True))

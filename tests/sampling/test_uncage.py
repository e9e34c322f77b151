import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds.sampling import FixedLogits, begin, plan_for, run, states
from unmask.sampling.schedulers.uncage import contrast, gaussian_blur

TWO = (((1,), (2, 3)), ((4,), (5,)))


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 6), st.integers(0, 99))
def test_blur_preserves_mass_and_softens(rows: int, columns: int, sigma: float, seed: int) -> None:
    image = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))
    blurred = gaussian_blur(image, sigma)
    assert torch.allclose(blurred.sum(), image.sum(), rtol=1e-4)
    assert blurred.max() <= image.max() + 1e-5
    assert blurred.min() >= image.min() - 1e-5


def test_no_blur_is_the_image() -> None:
    image = torch.rand(3, 4)
    assert torch.equal(gaussian_blur(image, 0.0), image)


@pytest.mark.parametrize("base", ["confidence", "halton", "margin", "p2"])
def test_weight_zero_is_the_base(base: str) -> None:
    backbone = FixedLogits(16, 9)
    plain = run(backbone, [plan_for(scheduler=base, subjects=TWO)])
    off = plan_for(scheduler="uncage", uncage_base=base, uncage_weight=0.0, subjects=TWO)
    assert torch.equal(run(backbone, [off]), plain)
    assert backbone.attended == 0


@pytest.mark.parametrize("subjects", [(), TWO[:1]])
def test_a_single_object_is_the_base(subjects: tuple[tuple[tuple[int, ...], ...], ...]) -> None:
    backbone = FixedLogits(16, 9)
    plain = run(backbone, [plan_for(scheduler="confidence")])
    assert torch.equal(run(backbone, [plan_for(scheduler="uncage", subjects=subjects)]), plain)
    assert backbone.attended == 0


def test_attention_is_read_in_the_guided_steps_alone_and_of_the_condition() -> None:
    backbone = FixedLogits(16, 9)
    run(backbone, [plan_for(scheduler="uncage", steps=8, guidance_scale=2.0, subjects=TWO)])
    assert backbone.attended == 2  # a quarter of eight steps, one row each
    run(backbone, [plan_for(scheduler="uncage", steps=8, uncage_share=1.0, subjects=TWO)])
    assert backbone.attended == 2 + 8


def test_the_contrast_reveals_where_one_object_is_meant_first() -> None:
    backbone = FixedLogits(16, 9)
    backbone.attention[0] = 0.5
    backbone.attention[0, :4, [1, 2, 3]] = 1.0  # the first object's corner
    backbone.attention[0, :4, [4, 5]] = 0.0
    plan = plan_for(
        scheduler="uncage", steps=4, uncage_weight=100.0, uncage_blur=0.0, subjects=TWO,
        mask_shares=(0.75, 0.5, 0.25, 0.0),
    )  # fmt: skip
    tokens = next(states(begin(backbone, plan)))
    assert (tokens != 9).nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_the_contrast_of_two_words_is_the_distance_of_their_maps() -> None:
    attention = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    found = contrast(attention, (((1,),), ((2,),)), (3, 4), 0.0)
    maps = attention / attention.amax(0)
    assert torch.allclose(found, (maps[:, 1] - maps[:, 2]).abs())


def test_an_attribute_and_its_noun_must_agree() -> None:
    attention = torch.zeros(2, 4)
    attention[0] = torch.tensor([0.0, 1.0, 1.0, 0.0])  # here both words of the first object
    attention[1] = torch.tensor([0.0, 1.0, 0.0, 1.0])  # here its attribute with the other noun
    found = contrast(attention, (((1,), (2,)), ((3,),)), (1, 2), 0.0)
    assert found.tolist() == [1.0, 0.0]


def test_without_others_there_is_nothing_to_subtract() -> None:
    attention = torch.rand(6, 2)
    found = contrast(attention, (((1,),),), (2, 3), 0.0)
    assert torch.allclose(found, attention[:, 1] / attention[:, 1].max())


def test_maps_are_scaled_frame_by_frame() -> None:
    attention = torch.rand(3 * 8, 3, generator=torch.Generator().manual_seed(0))
    attention[8:16] *= 0.01  # a frame that attends to nothing much
    subjects = (((1,),), ((2,),))
    clip = contrast(attention, subjects, (3, 2, 4), 0.7)
    frames = [contrast(frame, subjects, (2, 4), 0.7) for frame in attention.view(3, 8, 3)]
    assert torch.equal(clip, torch.cat(frames))

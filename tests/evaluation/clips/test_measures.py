import pytest
import torch
from torch import Tensor

from unmask.evaluation.clips.measures import flicker, frame_cosine, motion_features, motion_frechet
from unmask.scenes.judge import Found, Sight


def _walks(count: int, seed: int) -> Tensor:
    """Features (clips, 9, 6) of frames that go somewhere evenly."""
    random = torch.Generator().manual_seed(seed)
    start, way = torch.randn(2, count, 1, 6, generator=random)
    frames: Tensor = start + (way + 2) * torch.linspace(0, 1, 9)[:, None]
    return frames


WANTED = motion_features(_walks(200, 0))


def test_other_clips_of_a_kind_are_near_and_frozen_shuffled_or_reversed_ones_far() -> None:
    ours = _walks(200, 1)
    near = motion_frechet(motion_features(ours), WANTED)
    order = [4, 0, 8, 2, 6, 1, 7, 3, 5]
    for worse in (ours[:, :1].expand_as(ours), ours[:, order], ours.flip(1)):
        assert motion_frechet(motion_features(worse), WANTED) > 3 * near
    assert motion_frechet(WANTED, WANTED) == pytest.approx(0, abs=1e-6)


def test_frozen_frames_are_as_alike_as_can_be() -> None:
    ours = _walks(5, 2)
    assert frame_cosine(ours[:, :1].expand_as(ours)) == pytest.approx(1)
    assert frame_cosine(ours) < 0.999


def test_flicker_counts_what_changes_where_nothing_is() -> None:
    clips = torch.zeros(1, 3, 3, 64, 64)
    sight = Sight((Found(16, 16, 16, 1.0, "cat", (), ()),), (), "black")
    clips[0, 1, :, 10:22, 10:22] = 1  # within the object
    assert flicker(clips, [[sight] * 3]) == 0
    clips[0, 1, 0, 40:44, 40:44] = 0.5
    assert flicker(clips, [[sight] * 3]) == pytest.approx(16 / (64 * 64 - 25 * 25), rel=0.01)
    whole = Sight((Found(32, 32, 80, 1.0, "cat", (), ()),), (), "black")
    assert flicker(clips, [[whole] * 3]) is None

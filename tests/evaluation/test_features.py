import sys

import pytest
import torch

from unmask.errors import ConfigError
from unmask.evaluation.features import Features, diversity, frechet_distance
from unmask.scenes.renderer import SceneRenderer


def _normal(count: int, spread: float = 1.0, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, generator=random) * spread + shift


def test_a_set_is_at_no_distance_from_itself() -> None:
    assert frechet_distance(_normal(50), _normal(50)) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_normal_distributions_is_the_known_one() -> None:
    # Five channels: 5 (2 - 1)^2 for the spreads and 5 x 3^2 for the means.
    found = frechet_distance(_normal(200_000), _normal(200_000, 2.0, 3.0, seed=1))
    assert found == pytest.approx(50, rel=0.01)


def test_the_distance_is_the_same_from_either_side() -> None:
    ours, theirs = _normal(40), _normal(30, 0.5, 1.0, seed=1)
    assert frechet_distance(ours, theirs) == pytest.approx(frechet_distance(theirs, ours))


def test_fewer_pictures_make_the_distance_larger() -> None:
    small, large = (frechet_distance(_normal(n), _normal(n, seed=1)) for n in (20, 2000))
    assert small > 10 * large


def test_a_distance_needs_two_pictures_a_side() -> None:
    with pytest.raises(ValueError, match="two pictures"):
        frechet_distance(_normal(1), _normal(5))


def test_diversity_is_the_mean_distance_of_pairs_of_one_prompt() -> None:
    features = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], [[1.0, 1.0]] * 3])
    # The first prompt's pairs are at 5, 0 and 5, the second's all at 0.
    assert diversity(features) == pytest.approx((10 / 3 + 0) / 2)
    assert diversity(features[:, :1]) == 0


def test_alike_pictures_have_nearer_features(renderer: SceneRenderer) -> None:
    images = renderer.draw(3, 0)[0]
    features = Features()
    found = features(torch.cat([images, images * 0.98]))
    assert found.shape == (6, 112)
    assert (found[0] - found[3]).norm() < (found[0] - found[1]).norm() / 2


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match=r"efficientnet_lite_pytorch.*unmask\[eval\]"):
        Features()

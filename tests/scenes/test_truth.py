import pytest
import torch

from unmask.scenes.composer import SceneComposer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig, Scenes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kinds": (1, 1, 1, 1, 1)}, "kinds: give weights"),
        ({"kinds": (0, 0, 0)}, "kinds: give weights"),
        ({"kinds": (1, -1)}, "kinds: give weights"),
        ({"kinds": ()}, "kinds: give weights"),
        ({"more_colours": 0.6, "shades": 0.6}, "shades: 0.6"),
        ({"most": 5}, "most: 5"),
        ({"size": 4}, "size: 4"),
        ({"natural": 1.5}, "natural: 1.5"),
    ],
)
def test_scenes_that_cannot_be_drawn_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SceneConfig(**{"size": 32, **changes})  # type: ignore[arg-type]


def test_rows_are_copies_and_joined_in_their_order() -> None:
    scenes = SceneComposer(SpriteBank.of_shapes(), SceneConfig(32)).compose(6, 0)
    last, first = scenes.rows(torch.tensor([4, 5])), scenes.rows(torch.tensor([0]))
    joined = Scenes.joined([first, last])
    for name, tensor in vars(scenes).items():
        assert getattr(joined, name).equal(tensor[[0, 4, 5]])
    first.nouns.fill_(-1)
    assert scenes.nouns[0, 0] >= 0

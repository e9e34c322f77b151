from dataclasses import replace
from pathlib import Path

import pytest

from unmask import config
from unmask.evaluation.search import SearchConfig
from unmask.evaluation.settings import EvaluationConfig, Setting
from unmask.scenes.data import DataConfig
from unmask.scenes.truth import SceneConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "eval"

SETTINGS = EvaluationConfig(
    data=DataConfig("scenes", SceneConfig(16, held_out_percent=30)),
    schedulers=("halton", "random"),
    steps=(2,),
    prompts=2,
    held_out_prompts=1,
    images=2,
    batch=5,
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedulers": ()}, "give settings"),
        ({"prompts": 0}, "prompts: 0; the least is 1"),
        ({"images": 0}, "images: 0"),
        ({"baseline": "best"}, "no setting 'best'"),
        ({"settings": (Setting("halton-2", {}),)}, "halton-2 is a name that is taken"),
        ({"settings": (Setting("ceiling", {}),)}, "ceiling is a name that is taken"),
        ({"settings": (Setting("../x", {}),)}, "no file name"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SETTINGS, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_configuration_in_the_repository_is_valid(path: Path) -> None:
    config.load(SearchConfig if path.stem.startswith("search") else EvaluationConfig, path)


def test_a_setting_of_a_file_keeps_what_it_sets(tmp_path: Path) -> None:
    path = tmp_path / "eval.toml"
    path.write_text(
        '[data]\nkind = "scenes"\n[[settings]]\nname = "soft"\n'
        'options = { scheduler = "p2", eta = 1, guidance_interval = [0.2, 0.8], zigzag = false }\n'
    )
    (setting,) = config.load(EvaluationConfig, path).all_settings
    assert setting.options == {
        "scheduler": "p2",
        "eta": 1,
        "guidance_interval": [0.2, 0.8],
        "zigzag": False,
    }

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from unmask import config
from unmask.errors import ConfigError
from unmask.scenes.data import DataConfig
from unmask.scenes.judge import load_judge
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.tokenizers.folder import save_tokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig
from unmask.training import judge as trainer
from unmask.training.judge import JudgeLoss, JudgeTask, JudgeTraining
from unmask.training.loop import LoopConfig
from unmask.training.run import train

SCENES = SceneConfig(32, snap=4, held_out_percent=0, natural=0.2)

TOML = """
[data]
kind = "scenes"
scenes = { size = 32, snap = 4, held_out_percent = 0 }
[model]
channels = [16, 16, 16]
blocks = 1
[loop]
steps = 40
batch = 16
learning_rate = 5e-3
warmup = 4
ema = 0.9
precision = "fp32"
log_every = 10
checkpoint_every = 20
sheet_every = 40
"""


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    quantizer = QuantizerConfig("fsq", levels=(4, 4))
    save_tokenizer(VQGAN(VQGANConfig((8, 8, 8), (8, 8, 8), 0, quantizer)), folder)
    return folder


@pytest.fixture(name="trained", scope="module")
def _trained(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of forty steps on shapes."""
    out = tmp_path_factory.mktemp("runs") / "judge"
    (out.parent / "judge.toml").write_text(TOML)
    before, trainer.HELD_OUT_SCENES = trainer.HELD_OUT_SCENES, 128
    train("judge", out.parent / "judge.toml", out, tokenizer=tokenizer, device="cpu")
    trainer.HELD_OUT_SCENES = before
    return out


@pytest.mark.slow
def test_training_lowers_the_loss(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


@pytest.mark.slow
def test_the_run_holds_a_judge_its_figures_and_a_sheet(trained: Path) -> None:
    judge = load_judge(trained / "model")
    assert judge.config.nouns == SpriteBank.of_shapes().nouns
    figures = json.loads((trained / "figures.json").read_text())
    assert figures["threshold"] == judge.config.threshold
    for name in ("plain_rendered", "plain_decoded", "broken_rendered", "broken_decoded"):
        assert 0 <= figures[f"{name}_count"] <= 1
    assert "plain_decoded_passed" not in figures
    assert 0 <= figures["broken_decoded_passed"] <= 1
    with Image.open(trained / "sheet.png") as sheet:
        assert sheet.size == (2 * (12 * 34 - 2), 2 * (4 * 34 - 2))


def _task(tokenizer: Path, **changes: object) -> JudgeTask:
    loop = LoopConfig(steps=1, batch=8, learning_rate=1e-3, precision="fp32")
    settings = JudgeTraining(DataConfig("scenes", SCENES), loop)
    return JudgeTask(replace(settings, **changes), tokenizer, "cpu")  # type: ignore[arg-type]


def test_batches_alternate_between_the_rasters(tokenizer: Path) -> None:
    task = _task(tokenizer)
    assert [source.config.snap for source in task.sources] == [4, 8]
    assert {source.config.seed for source in task.sources} != {
        source.config.seed for source in task.held_out
    }


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_pictures_is_decoded(tokenizer: Path, share: float) -> None:
    task = _task(tokenizer, loss=JudgeLoss(decoded=share, corrupted=0.0))
    images = task.sources[0].draw(8, 0)[0]
    seen = task._some_decoded(images)
    changed = (seen != images).flatten(1).any(1)
    assert changed.tolist() == [i < 8 * share for i in range(8)]
    if share:
        whole = task.tokenizer.round_trip(images[: int(8 * share)])
        assert seen[: len(whole)].allclose(whole, atol=1e-5)


def test_data_that_does_not_fit_is_refused(tokenizer: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.kind: a judge learns from scenes"):
        _task(tokenizer, data=DataConfig("folder", SCENES))
    with pytest.raises(ConfigError, match=r"data\.scenes\.size: 36 is no multiple"):
        _task(tokenizer, data=DataConfig("scenes", SceneConfig(36)))
    with pytest.raises(ConfigError, match=r"data\.scenes\.more_colours: a judge knows"):
        _task(tokenizer, data=DataConfig("scenes", replace(SCENES, more_colours=0.1)))


def test_shares_out_of_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decoded: 1\.5"):
        JudgeLoss(decoded=1.5)


def test_the_configuration_of_the_bundled_judge_holds_nothing_out() -> None:
    path = Path(__file__).parents[2] / "configs" / "small" / "judge.toml"
    assert config.load(JudgeTraining, path).data.scenes.held_out_percent == 0

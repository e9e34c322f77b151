"""A model tuned on a folder: all of it, or an adapter that is added to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.worlds.native import PROMPT, write_native
from unmask.errors import ConfigError, NotFoundError
from unmask.pipeline import Pipeline
from unmask.scenes.data import DataConfig
from unmask.scenes.truth import SceneConfig
from unmask.training.loop import Loop, LoopConfig
from unmask.training.low_rank import LowRankConfig
from unmask.training.run import train
from unmask.training.transformer import MaskedLoss
from unmask.training.tuning import Tuning, TuningTask

LOOP = LoopConfig(
    steps=30,
    batch=8,
    learning_rate=1e-2,
    warmup=2,
    ema=0.5,
    precision="fp32",
    log_every=10,
    checkpoint_every=10,
    sheet_every=30,
)
CAPTION = "a sun"


@pytest.fixture(name="pictures", scope="module")
def _pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    luck = np.random.default_rng(0)
    for number in range(3):
        pixels = luck.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(CAPTION)
    return folder


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_native(tmp_path_factory.mktemp("model"))


def tuning(pictures: Path, adapter: LowRankConfig | None = None) -> Tuning:
    return Tuning(DataConfig("folder", SceneConfig(8), str(pictures)), LOOP, adapter=adapter)


def tuned(settings: Tuning, model: Path, out: Path) -> tuple[float, float]:
    """The cross entropy of the first ten steps, and of the last."""
    loop = Loop(TuningTask(settings, model, "cpu"), settings.loop, out, "cpu")
    loop.run()
    lines = (out / "log.jsonl").read_text().splitlines()
    first, *_, last = (float(line.split('"cross_entropy": ')[1].split(",")[0]) for line in lines)
    return first, last


def test_a_tuned_model_is_whole_and_knows_the_pictures_and_their_words(
    pictures: Path, model: Path, tmp_path: Path
) -> None:
    first, last = tuned(tuning(pictures), model, tmp_path / "mine")
    assert last < 0.8 * first
    found, plain = Pipeline.load(tmp_path / "mine" / "model"), Pipeline.load(model)
    assert found.info.name == "mine"
    assert set(found.info.words or ()) == {*(plain.info.words or ()), *CAPTION.split()}
    assert found.card.presets == plain.card.presets
    assert not torch.equal(weights(found), weights(plain))


def test_an_adapter_is_small_and_gives_what_it_was_trained_to(
    pictures: Path, model: Path, tmp_path: Path
) -> None:
    settings = tuning(pictures, LowRankConfig(rank=2, alpha=4))
    first, last = tuned(settings, model, tmp_path / "loud")
    assert last < first
    written = sorted(path.name for path in (tmp_path / "loud" / "model").iterdir())
    assert written == ["loud.safetensors"]
    task = TuningTask(settings, model, "cpu")
    again = Loop(task, replace(LOOP, steps=30), tmp_path / "loud", "cpu")
    again.run(resume=True)  # it has no step left, and its weights are those that were written
    assert isinstance(again.average, MaskedLoss)
    backbone = again.average.backbone.eval()
    changed = Pipeline.load(f"{model}+{tmp_path / 'loud' / 'model' / 'loud.safetensors'}")
    assert "sun" in (changed.info.words or ())
    tokens = torch.randint(12, (2, 16))
    with torch.no_grad():
        trained = backbone(tokens, backbone.encode(task.condition([PROMPT, CAPTION])))
        prefix = changed.encode_prompts([PROMPT, CAPTION])
        torch.testing.assert_close(changed.backbone(tokens, prefix), trained)


def weights(pipeline: Pipeline) -> torch.Tensor:
    return pipeline.backbone.get_parameter("blocks.0.qkv.weight")


def test_what_cannot_be_tuned_is_refused(pictures: Path, model: Path, tmp_path: Path) -> None:
    settings = tuning(pictures)
    with pytest.raises(ConfigError, match="draws clips"):
        TuningTask(settings, Path("storybook-clips"), "cpu")
    with pytest.raises(ConfigError, match="not of the native layout"):
        TuningTask(settings, tmp_path, "cpu")
    adapter = tmp_path / "loud.safetensors"
    adapter.touch()
    with pytest.raises(ConfigError, match="without its adapter"):
        TuningTask(settings, Path(f"{model}+{adapter}"), "cpu")
    with pytest.raises(NotFoundError, match="storybook"):
        TuningTask(settings, Path("storybok"), "cpu")
    larger = replace(settings, data=replace(settings.data, scenes=SceneConfig(16)))
    with pytest.raises(ConfigError, match=r"data.scenes.size: 16; tiny draws 8 px"):
        TuningTask(larger, model, "cpu")
    path = tmp_path / "tuning.toml"
    path.write_text("[data]\n[loop]\n")
    for what, more, message in (
        ("judge", {}, "not for a judge"),
        ("transformer", {"tokenizer": model}, "tuned with its own"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(what, path, tmp_path, start=model, **more)  # type: ignore[arg-type]

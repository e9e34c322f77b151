import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from unmask.errors import ConfigError
from unmask.scenes.data import DataConfig
from unmask.scenes.truth import SceneConfig
from unmask.tokenizers.folder import load_tokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGANConfig
from unmask.training.loop import Loop, LoopConfig
from unmask.training.losses import psnr
from unmask.training.tokenizer import TokenizerLoss, TokenizerTask, TokenizerTraining

CONFIG = TokenizerTraining(
    model=VQGANConfig((16, 32), (16, 32), 1, QuantizerConfig("fsq", levels=(5, 5, 5))),
    data=DataConfig("scenes", SceneConfig(16)),
    loop=LoopConfig(
        steps=60,
        batch=16,
        learning_rate=3e-3,
        warmup=5,
        ema=0.9,
        precision="fp32",
        log_every=10,
        checkpoint_every=30,
        sheet_every=30,
    ),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of sixty steps on shapes."""
    out = tmp_path_factory.mktemp("tokenizer")
    Loop(TokenizerTask(CONFIG, "cpu"), CONFIG.loop, out, "cpu").run()
    return out


@pytest.mark.slow
def test_training_lowers_the_loss(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1]["loss"] < 0.75 * rows[0]["loss"]
    assert rows[-1]["psnr"] > rows[0]["psnr"] + 2


@pytest.mark.slow
def test_training_leaves_pictures_and_figures(trained: Path) -> None:
    for name in ("sheet.png", "sheet-0000030.png", "loss.png"):
        with Image.open(trained / name) as image:
            assert min(image.size) > 100
    figures = json.loads((trained / "figures.json").read_text())
    assert figures.keys() == {"step", "psnr", "codebook_use"}
    assert figures["psnr"] > 10
    assert 0 < figures["codebook_use"] <= 1


@pytest.mark.slow
def test_the_model_folder_holds_what_the_figures_were_measured_on(trained: Path) -> None:
    tokenizer = load_tokenizer(trained / "model")
    assert tokenizer.config == CONFIG.model
    images = torch.cat([TokenizerTask(CONFIG, "cpu").held_out.batch(128, i)[0] for i in range(16)])
    measured = psnr(tokenizer.decode(tokenizer.encode(images)), images).mean()
    figures = json.loads((trained / "figures.json").read_text())
    assert float(measured) == pytest.approx(figures["psnr"], abs=0.05)  # the folder is fp16


def test_the_perceptual_term_is_added_with_its_weight() -> None:
    losses = []
    for weight in (0.0, 1.0, 2.0):
        task = TokenizerTask(replace(CONFIG, loss=TokenizerLoss(perceptual=weight)), "cpu")
        losses.append(float(task.loss(task.module, 0, task.prepare(0))[0].detach()))
    assert losses[1] > losses[0]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)


def test_no_perceptual_weight_leaves_the_classifier_out() -> None:
    assert TokenizerTask(CONFIG, "cpu").perceptual is None


def test_a_size_that_the_patch_does_not_divide_is_refused() -> None:
    config = replace(CONFIG, data=DataConfig("scenes", SceneConfig(18)))
    with pytest.raises(ConfigError, match=r"data.scenes.size: 18 is no multiple of the patch 4"):
        TokenizerTask(config, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsq", "vq"])
def test_a_decoder_is_trained_on_while_the_tokens_stay(
    tmp_path: Path, kind: Literal["fsq", "vq"]
) -> None:
    quantizer = QuantizerConfig(kind, levels=(5, 5, 5) if kind == "fsq" else (), codes=32)
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, quantizer=quantizer),
        loop=replace(CONFIG.loop, steps=4, log_every=2, checkpoint_every=4, sheet_every=4),
    )
    Loop(TokenizerTask(config, "cpu"), config.loop, tmp_path / "first", "cpu").run()
    start = tmp_path / "first" / "model"
    task = TokenizerTask(config, "cpu", start)
    Loop(task, config.loop, tmp_path / "second", "cpu").run()
    before, after = (load_tokenizer(tmp_path / name / "model") for name in ("first", "second"))
    images = task.held_out.batch(8, 0).images
    assert torch.equal(before.encode(images), after.encode(images))
    tokens = before.encode(images)
    assert not torch.equal(before.decode(tokens), after.decode(tokens))


@pytest.mark.slow
def test_a_decoder_learns_to_enlarge_while_the_tokens_stay(trained: Path, tmp_path: Path) -> None:
    start = trained / "model"
    model = replace(CONFIG.model, decoder_channels=(8, *CONFIG.model.decoder_channels))
    data = DataConfig("scenes", SceneConfig(32))
    config = replace(CONFIG, model=model, data=data)
    Loop(TokenizerTask(config, "cpu", start), config.loop, tmp_path, "cpu").run()
    figures = json.loads((tmp_path / "figures.json").read_text())
    edges = {"gradient_error", "gradient_error_bicubic"}
    assert figures.keys() == {"step", "psnr", "psnr_bicubic", "codebook_use", *edges}
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    large, plain = load_tokenizer(tmp_path / "model"), load_tokenizer(start)
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(large.encode(images), plain.encode(F.avg_pool2d(images, 2)))
    other = replace(model, decoder_channels=(8, 8, 32))
    with pytest.raises(ConfigError, match="another tokenizer"):
        TokenizerTask(replace(config, model=other), "cpu", start)


def test_a_decoder_of_another_tokenizer_is_refused(trained: Path) -> None:
    other = replace(CONFIG, model=replace(CONFIG.model, blocks=2))
    with pytest.raises(ConfigError, match=r"another tokenizer than \[model\] says"):
        TokenizerTask(other, "cpu", trained / "model")


def test_batches_take_the_rasters_in_turn() -> None:
    def losses(*rasters: int) -> list[float]:
        task = TokenizerTask(replace(CONFIG, rasters=rasters), "cpu")
        return [
            float(task.loss(task.module, index, task.prepare(index))[0].detach())
            for index in range(2)
        ]

    unaligned, aligned, in_turn = losses(), losses(8), losses(1, 8)
    assert unaligned != aligned
    assert in_turn == [unaligned[0], aligned[1]]

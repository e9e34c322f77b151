import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from unmask.errors import ConfigError
from unmask.models.base import Condition
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.pipeline import Pipeline
from unmask.scenes.data import DataConfig
from unmask.scenes.truth import SceneConfig
from unmask.tokenizers.folder import save_tokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig
from unmask.training.loop import Loop, LoopConfig
from unmask.training.transformer import (
    MaskedLoss,
    TransformerLoss,
    TransformerSize,
    TransformerTask,
    TransformerTraining,
    random_mask,
)

CPU = torch.device("cpu")

CONFIG = TransformerTraining(
    model=TransformerSize(width=32, layers=2, heads=2, hidden=48, condition_length=32),
    data=DataConfig("scenes", SceneConfig(16)),
    loop=LoopConfig(
        steps=40,
        batch=16,
        learning_rate=5e-3,
        warmup=4,
        ema=0.9,
        precision="fp32",
        log_every=10,
        checkpoint_every=20,
        sheet_every=40,
    ),
)


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    quantizer = QuantizerConfig("fsq", levels=(4, 4))
    save_tokenizer(VQGAN(VQGANConfig((8, 8), (8, 8), 1, quantizer)), folder)
    return folder


@pytest.fixture(name="trained", scope="module")
def _trained(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "shapes"
    Loop(TransformerTask.of_new(CONFIG, tokenizer, "cpu", out), CONFIG.loop, out, "cpu").run()
    return out


def _losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_training_lowers_the_loss(trained: Path) -> None:
    losses = _losses(trained)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_the_figures_tell_of_combinations_that_were_never_shown(trained: Path) -> None:
    figures = json.loads((trained / "figures.json").read_text())
    assert set(figures) == {"step", "cross_entropy", "unseen_cross_entropy"}
    assert 0 < figures["cross_entropy"] < figures["unseen_cross_entropy"]


@pytest.mark.slow
def test_the_run_holds_a_model_that_draws(trained: Path) -> None:
    pipeline = Pipeline.load(trained / "model")
    assert pipeline.info.name == "shapes"
    assert pipeline.generate("a red circle", seed=0).images[0].size == (16, 16)


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_follows_the_same_curve(
    trained: Path, tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shapes"

    def start() -> tuple[TransformerTask, Loop]:
        task = TransformerTask.of_new(CONFIG, tokenizer, "cpu", out)
        return task, Loop(task, CONFIG.loop, out, "cpu")

    task, loop = start()
    loss = task.loss

    def killed(*arguments: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if arguments[1] == 33:
            raise KeyboardInterrupt
        return loss(*arguments)  # type: ignore[arg-type]

    task.loss = killed  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    start()[1].run(resume=True)
    assert _losses(out) == _losses(trained)


def test_the_loss_counts_masked_tokens_alone() -> None:
    model = _model()
    tokens = torch.randint(5, (3, 4))
    masked = torch.tensor([[True, False, False, True]] * 3)
    condition = Condition(torch.zeros(3, 1, dtype=torch.long), torch.ones(3, 1, dtype=torch.bool))
    loss, plain = MaskedLoss(model, TransformerLoss())(tokens, masked, condition)
    logits = model(torch.where(masked, 5, tokens), model.encode(condition))
    expected = torch.nn.functional.cross_entropy(logits[masked], tokens[masked])
    assert torch.allclose(loss, expected)
    assert torch.allclose(plain, expected)


@pytest.mark.parametrize(("smoothing", "unmasked"), [(0.1, 0.0), (0.0, 1.0), (0.2, 0.3)])
def test_smoothing_and_unmasked_weight_agree_with_their_definition(
    smoothing: float, unmasked: float
) -> None:
    model = _model()
    tokens, masked = torch.randint(5, (6, 4)), random_mask(torch.Size([6, 4]), CPU)
    condition = Condition(torch.zeros(6, 1, dtype=torch.long), torch.ones(6, 1, dtype=torch.bool))
    weights = TransformerLoss(label_smoothing=smoothing, unmasked=unmasked)
    loss, _ = MaskedLoss(model, weights)(tokens, masked, condition)
    logits = model(torch.where(masked, 5, tokens), model.encode(condition)).flatten(0, 1)
    smoothed = torch.nn.functional.cross_entropy(
        logits, tokens.flatten(), reduction="none", label_smoothing=smoothing
    )
    weight = torch.where(masked.flatten(), 1.0, unmasked)
    assert torch.allclose(loss, (smoothed * weight).sum() / weight.sum(), atol=1e-6)


def test_masks_hide_a_cosine_share() -> None:
    masks = random_mask(torch.Size([20_000, 64]), CPU)
    shares = masks.float().mean(1)
    assert masks.any(1).all()
    assert abs(shares.mean() - 2 / torch.pi) < 0.03
    # No position is hidden more often than another.
    assert (masks.float().mean(0) - shares.mean()).abs().max() < 0.02


def test_a_caption_too_long_for_the_model_is_told_before_training(
    tokenizer: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, condition_length=4))
    with pytest.raises(ConfigError, match="condition_length: 4; the caption"):
        TransformerTask.of_new(config, tokenizer, "cpu", tmp_path)


def test_a_size_that_the_tokenizer_does_not_divide_is_refused(
    tokenizer: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, data=DataConfig("scenes", SceneConfig(18)))
    with pytest.raises(ConfigError, match="no multiple"):
        TransformerTask.of_new(config, tokenizer, "cpu", tmp_path)


def test_shared_digits_train_and_are_saved_as_plain_weights(
    tokenizer: Path, tmp_path: Path
) -> None:
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, digits=True),
        loop=replace(CONFIG.loop, steps=4, optimizer="muon"),
    )
    task = TransformerTask.of_new(config, tokenizer, "cpu", tmp_path)
    loop = Loop(task, config.loop, tmp_path, "cpu")
    first = [layer.weight.detach().clone() for layer in _ends(task.module)]
    loop.run()
    saved = Pipeline.load(tmp_path / "model").backbone
    assert isinstance(saved, NativeTransformer)
    assert set(saved.state_dict()) == set(NativeTransformer(saved.config).state_dict())
    for kept, averaged, before in zip(
        (saved.token_embedding, saved.head), _ends(loop.average), first, strict=True
    ):
        weight = kept.get_parameter("weight")
        assert torch.allclose(weight, torch.as_tensor(averaged.weight), atol=1e-3)
        assert not torch.allclose(weight, before, atol=1e-3)


def test_a_vq_has_no_digits_to_share(tmp_path: Path) -> None:
    quantizer = QuantizerConfig("vq", codes=16, width=4)
    save_tokenizer(VQGAN(VQGANConfig((8, 8), (8, 8), 1, quantizer)), tmp_path)
    config = replace(CONFIG, model=replace(CONFIG.model, digits=True))
    with pytest.raises(ConfigError, match="no digits: fsq and lfq have"):
        TransformerTask.of_new(config, tmp_path, "cpu", tmp_path)


def _ends(module: torch.nn.Module) -> tuple[torch.nn.Embedding, torch.nn.Linear]:
    assert isinstance(module, MaskedLoss)
    return module.backbone.token_embedding, module.backbone.head


@pytest.mark.parametrize("kind", ["label", "none"])
def test_other_conditions_train_too(
    kind: Literal["label", "none"], tokenizer: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    _write_pictures(folder)
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, condition=kind),
        data=DataConfig("folder", SceneConfig(16), path=str(folder)),
        loop=replace(CONFIG.loop, steps=2),
    )
    out = tmp_path / "run"
    Loop(TransformerTask.of_new(config, tokenizer, "cpu", out), config.loop, out, "cpu").run()
    assert Pipeline.load(out / "model").generate("cat", seed=1).images[0].size == (16, 16)


def _write_pictures(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    for name, colour in [("cat", "red"), ("dog", "blue")]:
        Image.new("RGB", (20, 16), colour).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(name)


def _model() -> NativeTransformer:
    return NativeTransformer(
        NativeConfig(
            width=16,
            layers=1,
            heads=2,
            hidden=16,
            grid=(2, 2),
            codebook_size=5,
            condition="none",
            vocabulary=1,
            condition_length=1,
        )
    )

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.worlds.training import few_steps, write_local_tokenizer
from unmask.scenes.data import DataConfig
from unmask.scenes.truth import SceneConfig
from unmask.tokenizers.causal import CausalConfig
from unmask.tokenizers.folder import load_slot_decoder, load_tokenizer
from unmask.tokenizers.key_frames import SlotDecoderConfig
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.training import moving
from unmask.training.clip_tokenizer import ClipTokenizerTask, ClipTokenizerTraining
from unmask.training.loop import Loop
from unmask.training.slot_decoder import SlotDecoderTask, SlotDecoderTraining
from unmask.training.tokenizer import TokenizerLoss

LOOP = few_steps(2)
CONFIG = SlotDecoderTraining(
    DataConfig("scenes", SceneConfig(64)), LOOP, SlotDecoderConfig(channels=(8, 8), blocks=0)
)


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_local_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = moving.psnr_by_motion
    for module in ("slot_decoder", "clip_tokenizer"):
        monkeypatch.setattr(
            f"unmask.training.{module}.psnr_by_motion",
            lambda source, draw: whole(source, draw, batches=1),
        )


def test_a_run_trains_the_decoder_and_leaves_the_pictures(tokenizer: Path, tmp_path: Path) -> None:
    Loop(SlotDecoderTask(CONFIG, tokenizer, "cpu"), LOOP, tmp_path, "cpu").run()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"psnr", "psnr_of_blend", "psnr_still", "psnr_moves_left"} <= set(figures)
    load_slot_decoder(tmp_path / "model", load_tokenizer(tokenizer))


def test_the_causal_peer_is_trained_by_the_same_loop(tmp_path: Path) -> None:
    model = CausalConfig((8, 8, 8), 0, QuantizerConfig("lfq", bits=4))
    training = ClipTokenizerTraining(model, CONFIG.data, LOOP)
    Loop(ClipTokenizerTask(training, "cpu"), LOOP, tmp_path, "cpu").run()
    assert "psnr_moves_left" in json.loads((tmp_path / "figures.json").read_text())


def test_bounds_of_the_configuration() -> None:
    with pytest.raises(ValueError, match=r"model\.slot: 2"):
        replace(CONFIG, model=SlotDecoderConfig(slot=2))
    with pytest.raises(ValueError, match=r"loss\.perceptual"):
        replace(CONFIG, loss=TokenizerLoss(perceptual=0.1))
    with pytest.raises(ValueError, match=r"data\.kind: 'folder'"):
        replace(CONFIG, data=DataConfig("folder"))
    model = CausalConfig((8, 8, 8), 0, QuantizerConfig("lfq", bits=4))
    with pytest.raises(ValueError, match="slots: 5; the bounds are 1 and 4"):
        ClipTokenizerTraining(model, CONFIG.data, LOOP, slots=5)

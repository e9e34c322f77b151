import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unmask import config
from unmask.errors import ConfigError
from unmask.evaluation.judge import Found, JudgeConfig, Maps, Sight, load_judge
from unmask.tokenizers.folder import save_tokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig
from unmask.training import judge as trainer
from unmask.training.data import DataConfig
from unmask.training.judge import (
    JudgeLoss,
    JudgeTask,
    JudgeTraining,
    Truth,
    best_threshold,
    broken_scenes,
    judge_figures,
    judge_losses,
)
from unmask.training.loop import LoopConfig
from unmask.training.run import train
from unmask.training.scenes import BACKGROUNDS, COLOURS, SceneConfig, SceneRenderer
from unmask.training.sprites import SpriteBank

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


@pytest.fixture(name="renderer", scope="module")
def _renderer() -> SceneRenderer:
    return SceneRenderer(SpriteBank.of_shapes(), SCENES)


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


@given(index=st.integers(0, 10**6))
def test_without_breaks_pictures_are_the_scenes_themselves(
    renderer: SceneRenderer, index: int
) -> None:
    images, truth = broken_scenes(renderer, 4, index, 0.0)
    drawn, scenes = renderer.draw(4, index)
    assert images.equal(drawn)
    assert truth.whole.equal(truth.present)
    assert truth.present.equal(scenes.nouns >= 0)
    shown = truth.nouns.argmax(-1)[truth.present]
    assert shown.equal(scenes.nouns[truth.present])
    assert truth.nouns.sum(-1).equal(truth.present.float())
    assert truth.coloured.equal(scenes.colours >= 0)


@given(index=st.integers(0, 10**6))
def test_breaks_change_their_boxes_and_nothing_else(renderer: SceneRenderer, index: int) -> None:
    images, truth = broken_scenes(renderer, 4, index, 1.0)
    again, _ = broken_scenes(renderer, 4, index, 1.0)
    assert images.equal(again)
    drawn, _ = renderer.draw(4, index)
    inside = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    for row, slot in truth.present.nonzero().tolist():
        left, top, right, bottom = truth.boxes[row, slot].long().tolist()
        inside[row, :, top:bottom, left:right] = True
        if not truth.whole[row, slot]:
            region = (row, slice(None), slice(top, bottom), slice(left, right))
            assert not images[region].equal(drawn[region])
    assert images.masked_fill(inside, 0).equal(drawn.masked_fill(inside, 0))
    assert (images >= 0).all()
    assert (images <= 1).all()


def test_every_kind_of_truth_comes_up(renderer: SceneRenderer) -> None:
    _, truth = broken_scenes(renderer, 200, 0, 1.0)
    broken = truth.present & ~truth.whole
    two_nouns = truth.nouns.amax(-1) == 0.5
    two_colours = truth.colours.sum(-1) == 2
    assert (two_nouns <= broken).all()
    for kind in (broken & ~two_nouns, two_nouns, two_colours & truth.whole):
        assert kind.sum() > 10


def test_a_share_of_the_objects_is_broken(renderer: SceneRenderer) -> None:
    shares = []
    for share in (0.2, 0.8):
        _, truth = broken_scenes(renderer, 300, 1, share)
        shares.append(float((truth.present & ~truth.whole).sum() / truth.present.sum()))
    # Halves of the same noun in another colour stay whole, and some halves look alike.
    assert 0.1 < shares[0] < 0.2
    assert 3 < shares[1] / shares[0] < 5


def _perfect(truth: Truth, cells: int) -> Maps:
    """The maps of a judge that knows the truth."""
    count = len(truth.present)
    present = torch.full((count, cells, cells), -20.0)
    whole = torch.zeros(count, cells, cells)
    side = torch.zeros(count, cells, cells)
    nouns = torch.zeros(count, cells, cells, truth.nouns.shape[-1])
    colours = torch.zeros(count, cells, cells, truth.colours.shape[-1])
    for row, slot in truth.present.nonzero().tolist():
        left, top, right, bottom = truth.boxes[row, slot].tolist()
        y, x = int((top + bottom) / 8), int((left + right) / 8)
        near = (row, slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        present[row, y, x] = 20
        whole[near] = 20.0 if truth.whole[row, slot] else -20.0
        side[near] = torch.tensor((right - left) / 32).log()
        nouns[near] = truth.nouns[row, slot].clamp_min(1e-9).log()
        colours[near] = truth.colours[row, slot] * 40 - 20
    background = torch.nn.functional.one_hot(truth.background, 10) * 40.0
    return Maps(present, whole, side, nouns, colours, background)


def test_the_loss_of_the_truth_is_nothing_and_any_mistake_costs() -> None:
    # Single objects: the cells around two centres may overlap, and then the truth is two things.
    alone = SceneRenderer(SpriteBank.of_shapes(), replace(SCENES, kinds=(1.0, 0.0, 0.0)))
    _, truth = broken_scenes(alone, 8, 3, 0.0)
    perfect = _perfect(truth, 8)
    assert all(float(term) < 1e-3 for term in judge_losses(perfect, truth).values())
    for term, mistake in {
        "present": {"present": -perfect.present},
        "whole": {"whole": -perfect.whole},
        "nouns": {"nouns": perfect.nouns.roll(1, -1)},
        "colours": {"colours": -perfect.colours},
        "side": {"side": perfect.side + 0.5},
        "background": {"background": perfect.background.roll(1, -1)},
    }.items():
        losses = judge_losses(perfect._replace(**mistake), truth)
        assert float(losses.pop(term)) > 0.3
        assert all(float(other) < 1e-3 for other in losses.values())


def test_natural_colours_cost_nothing_whatever_is_said() -> None:
    natural = SceneRenderer(SpriteBank.of_shapes(), replace(SCENES, natural=1.0))
    _, truth = broken_scenes(natural, 8, 0, 0.0)
    wrong = _perfect(truth, 8)._replace(colours=torch.full((8, 8, 8, 8), 9.0))
    assert judge_losses(wrong, truth)["colours"] == 0


def test_the_best_threshold_parts_whole_from_broken() -> None:
    probabilities = torch.tensor([0.9, 0.8, 0.7, 0.2, 0.1])
    assert 0.3 < best_threshold(probabilities, probabilities > 0.5) < 0.7
    assert 0.71 <= best_threshold(probabilities, probabilities > 0.75) <= 0.8


def _found(noun: str, x: float, y: float, *colours: str) -> Found:
    return Found(x, y, 16, 1.0, noun, (1.0,), colours)


def test_the_figures_count_each_mistake_once() -> None:
    """Two pictures: a circle in red that is found, and a broken one; a square that is missed."""
    config = JudgeConfig(("circle", "square"), tuple(COLOURS), tuple(BACKGROUNDS))
    boxes = torch.tensor([[[0.0, 0, 16, 16], [16, 16, 32, 32]], [[0, 0, 16, 16], [0, 0, 0, 0]]])
    red = torch.zeros(2, 2, 8)
    red[..., 0] = 1
    truth = Truth(
        present=torch.tensor([[True, True], [True, False]]),
        whole=torch.tensor([[True, False], [True, False]]),
        boxes=boxes,
        nouns=torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]),
        colours=red,
        coloured=torch.tensor([[True, True], [True, False]]),
        background=torch.tensor([0, 1]),
    )
    first = Sight((_found("circle", 8, 8, "red"), _found("circle", 24, 24, "red")), (), "white")
    second = Sight((_found("square", 24, 8, "red"),), (), "white")
    assert judge_figures([first, second], truth, config) == {
        "found": 0.5,
        "noun": 1.0,
        "colour": 1.0,
        "passed": 1.0,
        "count": 0.5,
        "background": 0.5,
        "extra": 0.5,
    }


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
        whole = trainer.round_trip(task.tokenizer, images[: int(8 * share)])
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

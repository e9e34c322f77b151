import json
import sys
from pathlib import Path

import pytest

from benchmarks import presets
from tests.worlds.native import save_pipeline
from unmask import config
from unmask.card import ModelCard
from unmask.errors import ConfigError
from unmask.evaluation.run import run_evaluation, run_search
from unmask.evaluation.settings import CEILING
from unmask.pipeline import Pipeline
from unmask.sampling.options import choose_options
from unmask.scenes.judge import Judge, save_judge
from unmask.scenes.sprites import SpriteBank

EVALUATION = """
schedulers = ["halton"]
steps = [2]
prompts = 1
held_out_prompts = 1
images = 2
[data]
kind = "scenes"
scenes = { size = 16, held_out_percent = 30 }
"""
SEARCH = """
schedulers = ["halton"]
steps = [3]
candidates = 2
prompts = [1]
held_out_percent = 30
precision = "fp32"
"""


@pytest.fixture(name="model")
def _model(pipeline: Pipeline, judge: Judge, tmp_path: Path) -> Path:
    folder = save_pipeline(pipeline, tmp_path / "model")
    save_judge(judge, folder / "judge")
    (tmp_path / "eval.toml").write_text(EVALUATION)
    (tmp_path / "search.toml").write_text(SEARCH)
    return folder


def test_an_evaluation_leaves_a_table_plots_and_an_animation(model: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank.npz"
    SpriteBank.of_shapes().save(bank)
    text = run_evaluation(str(model), tmp_path / "eval.toml", tmp_path / "out", data=bank)
    assert CEILING in text
    assert "halton-2" in text
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "table.md",
        "score.png",
        "distance.png",
        "reveal.gif",
        f"{CEILING}.json",
        f"{CEILING}.png",
        "halton-2.json",
        "halton-2.png",
    }


def test_without_sprites_there_is_no_ceiling(model: Path, tmp_path: Path) -> None:
    text = run_evaluation(str(model), tmp_path / "eval.toml", tmp_path / "out")
    assert f"| {CEILING} |" not in text
    assert json.loads((tmp_path / "out" / "halton-2.json").read_text())["frechet"] is None


def test_a_search_writes_presets_where_it_is_told(model: Path, tmp_path: Path) -> None:
    before = config.load(ModelCard, model / "model.json")
    (best,) = run_search(str(model), tmp_path / "search.toml", tmp_path / "out")
    assert config.load(ModelCard, model / "model.json") == before
    run_search(str(model), tmp_path / "search.toml", tmp_path / "out", write=model)
    card = config.load(ModelCard, model / "model.json")
    assert len(card.presets) == len(before.presets) + 1
    assert choose_options({}, card.preset("halton", 3)).flat() == best.options


def test_the_benchmark_prints_the_presets(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", model, "--config", tmp_path / "search.toml", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["presets", *map(str, arguments)])
    presets.main()
    assert capsys.readouterr().out.startswith("halton-3: ")


def test_a_model_without_a_judge_is_told_what_to_do(model: Path, tmp_path: Path) -> None:
    (model / "judge" / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"judge: holds no judge; train one"):
        run_evaluation(str(model), tmp_path / "eval.toml", tmp_path / "out")

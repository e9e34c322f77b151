import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from unmask.checkpoint import save_weights
from unmask.errors import ConfigError
from unmask.training.loop import Loop, LoopConfig, learning_rate

CONFIG = LoopConfig(
    steps=17,
    batch=8,
    learning_rate=0.01,
    warmup=3,
    precision="fp32",
    log_every=4,
    checkpoint_every=4,
    sheet_every=8,
)


class _Killed(Exception):
    pass


class _Task:
    """Guesses the sum of four numbers with a net that uses dropout, so the loop's seeding shows."""

    def __init__(self, at_step: Callable[[int], None] = lambda _: None, width: int = 8) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Linear(width, 1)]
        self.module: nn.Module = nn.Sequential(*layers)
        self.at_step = at_step

    def prepare(self, index: int) -> Tensor:
        return torch.randn(8, 4, generator=torch.Generator().manual_seed(index))

    def loss(
        self, module: nn.Module, index: int, prepared: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self.at_step(index)
        values = prepared.to(next(module.parameters()).device)
        loss = (module(values) - values.sum(1, True)).square().mean()
        return loss, {"index": torch.tensor(float(index))}

    def sheet(self, average: nn.Module) -> Image.Image:
        return Image.new("RGB", (2, 2))

    def measure(self, average: nn.Module) -> dict[str, float]:
        torch.manual_seed(0)
        values = torch.randn(64, 4).to(next(average.parameters()).device)
        return {"error": float((average(values) - values.sum(1, True)).abs().mean().detach())}

    def save(self, average: nn.Module, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        save_weights(average, folder / "model.safetensors", half=False)


def _run(out: Path, task: _Task | None = None, config: LoopConfig = CONFIG, **how: Any) -> Loop:
    loop = Loop(task or _Task(), config, out, "cpu")
    loop.run(**how)
    return loop


def _curve(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in rows]


def _kill_at(step: int) -> Callable[[int], None]:
    def at_step(index: int) -> None:
        if index == step:
            raise _Killed

    return at_step


def _assert_same(first: object, second: object) -> None:
    if isinstance(first, Tensor):
        assert torch.equal(first, second)  # type: ignore[arg-type]
    elif isinstance(first, dict):
        assert isinstance(second, dict)
        assert first.keys() == second.keys()
        for key, value in first.items():
            _assert_same(value, second[key])
    elif isinstance(first, list):
        assert isinstance(second, list)
        for one, other in zip(first, second, strict=True):
            _assert_same(one, other)
    else:
        assert first == second


def _assert_same_run(first: Path, second: Path) -> None:
    assert _curve(first) == _curve(second)
    states = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (first, second)]
    _assert_same(*states)
    for name in ("figures.json", "model/model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    _run(out)
    return out


def test_a_run_leaves_its_log_sheets_figures_and_model(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "checkpoint.pt",
        "figures.json",
        "log.jsonl",
        "loss.png",
        "model",
        "sheet-0000008.png",
        "sheet-0000016.png",
        "sheet.png",
    }
    assert [row["step"] for row in _curve(whole)] == [4, 8, 12, 16, 17]
    assert _curve(whole)[1]["index"] == 5.5  # the mean over the steps 4 to 7, counted from 0
    assert json.loads((whole / "figures.json").read_text())["step"] == 17


@pytest.mark.parametrize("step", range(17))
def test_a_killed_run_that_is_resumed_follows_the_whole_one(
    whole: Path, tmp_path: Path, step: int
) -> None:
    with pytest.raises(_Killed):
        _run(tmp_path, _Task(_kill_at(step)))
    _run(tmp_path, resume=step >= CONFIG.checkpoint_every)
    _assert_same_run(whole, tmp_path)


def test_muon_moves_matrices_and_resumes_as_it_was(tmp_path: Path) -> None:
    muon, whole, killed = replace(CONFIG, optimizer="muon"), tmp_path / "whole", tmp_path / "killed"
    loop = _run(whole, config=muon)
    # No other matrix is left, four gains and biases, and the two matrices of Muon.
    groups = [group for optimizer in loop.optimizers for group in optimizer.param_groups]
    assert [len(group["params"]) for group in groups] == [0, 4, 2]
    with pytest.raises(_Killed):
        _run(killed, _Task(_kill_at(10)), muon)
    _run(killed, config=muon, resume=True)
    _assert_same_run(whole, killed)
    _run(tmp_path / "adamw")
    assert _curve(whole) != _curve(tmp_path / "adamw")


@pytest.mark.parametrize("step", [1, 4, 6, 16])
def test_a_run_that_is_out_of_time_and_resumed_follows_the_whole_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    clock = [0.0]

    def tick(_: int) -> None:
        clock[0] += 60

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: clock[0])
        stopped = _run(tmp_path, _Task(tick), minutes=step)
    assert stopped.step == step
    assert json.loads((tmp_path / "figures.json").read_text())["step"] == step
    _run(tmp_path, resume=True)
    _assert_same_run(whole, tmp_path)


def test_a_run_killed_many_times_follows_the_whole_one(whole: Path, tmp_path: Path) -> None:
    for number, step in enumerate((5, 6, 9, 13, 15)):
        with pytest.raises(_Killed):
            _run(tmp_path, _Task(_kill_at(step)), resume=number > 0)
    _run(tmp_path, resume=True)
    _assert_same_run(whole, tmp_path)


def test_no_time_at_all_trains_no_step(tmp_path: Path) -> None:
    assert _run(tmp_path, minutes=0.0).step == 0
    assert json.loads((tmp_path / "figures.json").read_text())["step"] == 0


def test_a_finished_run_that_is_resumed_stays_as_it_is(whole: Path, tmp_path: Path) -> None:
    _run(tmp_path)
    _run(tmp_path, _Task(_kill_at(17)), resume=True)
    _assert_same_run(whole, tmp_path)


def test_log_lines_after_the_checkpoint_and_broken_ones_are_dropped(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(_Killed):
        _run(tmp_path, _Task(_kill_at(9)))
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 12, "loss": 99.0, "index": 0.0}\n{"step": 13, "lo')
    _run(tmp_path, resume=True)
    _assert_same_run(whole, tmp_path)


def test_another_seed_gives_another_run(whole: Path, tmp_path: Path) -> None:
    _run(tmp_path, config=replace(CONFIG, seed=1))
    assert _curve(tmp_path) != _curve(whole)


def test_a_run_is_not_overwritten(whole: Path) -> None:
    before = (whole / "checkpoint.pt").read_bytes()
    with pytest.raises(ConfigError, match="holds a run already; resume it"):
        _run(whole)
    assert (whole / "checkpoint.pt").read_bytes() == before


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint.pt: no checkpoint to resume from"):
        _run(tmp_path, resume=True)


def test_a_checkpoint_of_another_model_or_a_cut_one_is_named(tmp_path: Path) -> None:
    _run(tmp_path)
    with pytest.raises(ConfigError, match=r"checkpoint.pt: does not fit"):
        _run(tmp_path, _Task(width=16), resume=True)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"checkpoint.pt: does not fit"):
        _run(tmp_path, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_before_its_checkpoint(tmp_path: Path) -> None:
    task = _Task()

    def spoil(step: int) -> None:
        if step == 6:
            nn.init.constant_(task.module.get_parameter("0.weight"), torch.nan)

    task.at_step = spoil
    with pytest.raises(ConfigError, match="step 8: the loss is nan; lower the learning rate"):
        _run(tmp_path, task)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    _run(tmp_path, config=replace(CONFIG, steps=300, learning_rate=0.03))
    curve = _curve(tmp_path)
    assert curve[-1]["loss"] < 0.3 * curve[0]["loss"]


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = replace(CONFIG, steps=110, warmup=10, learning_rate=1.0, final_rate=0.1)
    rates = [learning_rate(config, step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 10), (10, 10), (20, 10), (0, 1)])
def test_the_learning_rate_stays_within_its_bounds(warmup: int, steps: int) -> None:
    config = replace(CONFIG, warmup=warmup, steps=steps)
    assert all(0 < learning_rate(config, step) <= 0.01 for step in range(steps))


def test_the_average_trails_the_weights_and_copies_the_buffers(tmp_path: Path) -> None:
    values: list[float] = []
    task = _Task()
    weight = task.module.get_parameter("3.bias")
    loop = Loop(task, replace(CONFIG, ema=0.9), tmp_path, "cpu")
    expected = float(weight.detach())
    task.at_step = lambda step: values.append(float(weight.detach()))
    loop.run()
    for step, value in enumerate([*values[1:], float(weight.detach())]):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(loop.average.get_parameter("3.bias")) == pytest.approx(expected, abs=1e-6)
    for name, buffer in loop.module.named_buffers():
        assert torch.equal(loop.average.get_buffer(name), buffer)
    assert not loop.average.training


def test_matrices_decay_and_gains_biases_and_embeddings_do_not(tmp_path: Path) -> None:
    task = _Task()
    task.module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    groups = (
        Loop(task, replace(CONFIG, weight_decay=0.5), tmp_path, "cpu").optimizers[0].param_groups
    )
    shapes = {g["weight_decay"]: [tuple(p.shape) for p in g["params"]] for g in groups}
    assert shapes == {0.5: [(3, 4)], 0.0: [(5, 4), (3,), (3,), (3,)]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps: 0"),
        ({"checkpoint_every": 0}, "checkpoint_every: 0"),
        ({"checkpoint_every": 6}, "multiples of log_every"),
        ({"sheet_every": 9}, "multiples of log_every"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0; the bounds are 1e-09 and 10"),
        ({"learning_rate": float("nan")}, "learning_rate: nan; the bounds"),
        ({"ema": 1.0}, "ema: 1.0; the bounds are 0 and 0.99999"),
        ({"warmup": -1}, "warmup: -1; the bounds"),
        ({"beta2": 1.0}, "beta2: 1.0; the bounds"),
        ({"weight_decay": -0.1}, "weight_decay: -0.1; the bounds"),
        ({"seed": -1}, "seed: -1; the bounds"),
    ],
)
def test_loops_that_cannot_run_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(CONFIG, **changes)


def test_bf16_trains_too(tmp_path: Path) -> None:
    _run(tmp_path, config=replace(CONFIG, precision="bf16"))
    assert _curve(tmp_path)[-1]["loss"] < 20


@pytest.mark.gpu
def test_a_run_on_a_gpu_that_is_killed_follows_the_whole_one(tmp_path: Path) -> None:
    Loop(_Task(), CONFIG, tmp_path / "whole", "cuda").run()
    with pytest.raises(_Killed):
        Loop(_Task(_kill_at(9)), CONFIG, tmp_path / "killed", "cuda").run()
    Loop(_Task(), CONFIG, tmp_path / "killed", "cuda").run(resume=True)
    _assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_workers_make_up_the_same_batches(tmp_path: Path) -> None:
    logs = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        Loop(_Task(), replace(CONFIG, steps=6, workers=workers), out, "cpu").run()
        lines = (out / "log.jsonl").read_text().splitlines()
        logs.append([json.loads(line)["loss"] for line in lines])
    assert logs[0] == logs[1]

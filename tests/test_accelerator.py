"""What can be shown of an accelerator without one: every family is stepped on fake tensors.

``meta`` stands for the device. Fake tensors have shapes, types and devices, and no numbers: an
operation over two devices raises, and so does one whose result is only known on the device. So a
step that runs mixes no devices, and waits for none but where it is allowed to.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.worlds.clip_models import clip_pipeline
from tests.worlds.halton import write_halton
from tests.worlds.native import native_pipeline
from tests.worlds.published import write_amused, write_meissonic
from unmask.checkpoint import DTYPES
from unmask.devices import Precision
from unmask.models.base import ImageBackbone
from unmask.pipeline import Pipeline
from unmask.sampling.backbone import Pair, RowTensors
from unmask.sampling.options import choose_options
from unmask.sampling.padding import Padded
from unmask.sampling.plan import make_plan
from unmask.sampling.row import Batch, Row
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.step import step

ACCELERATOR = torch.device("meta")
PRODUCTS = {"mm", "addmm", "convolution"}  # with weights: attention that is read is fp32


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often the host waits for the device, and what types products have there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits = self.copies = 0
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        given = [value for value in args if isinstance(value, Tensor)]
        there = any(tensor.device == ACCELERATOR for tensor in given)
        if name == "_local_scalar_dense" and there:
            self.waits += 1
            return True  # to whoever asks whether anything is masked still
        found = func(*args, **(kwargs or {}))
        if there and isinstance(found, Tensor) and found.device != ACCELERATOR:
            self.copies += 1
        if there and name in PRODUCTS:
            self.types |= {tensor.dtype for tensor in given}
        if there and isinstance(found, Tensor):
            assert found.dtype != torch.float64, f"{name} widens to float64"
        return found


_REAL_TENSOR = torch.tensor


def _tensor(data: Any, *, device: Any = None, **more: Any) -> Tensor:
    """``torch.tensor``, which makes a fake of numbers on the host alone."""
    made = _REAL_TENSOR(data, **more)
    return made if device is None else made.to(device)


@pytest.fixture(name="fakes")
def _fakes(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    # What stands for the device has no autocast; backbones ask whether it is on.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *kind: False)
    monkeypatch.setattr(torch, "tensor", _tensor)
    # Noise is drawn by numpy on the host: tensors of it are real until an operation takes them.
    return FakeTensorMode(allow_non_fake_inputs=True)


def _native(folder: Path, precision: Precision) -> Pipeline:
    del folder
    pipeline = native_pipeline()
    pipeline.backbone.to(DTYPES[precision])
    return pipeline


def _clips(folder: Path, precision: Precision) -> Pipeline:
    del folder
    pipeline = clip_pipeline(hints=2)
    pipeline.backbone.to(DTYPES[precision])
    return pipeline


def _published(write: Callable[[Path], object]) -> Callable[[Path, Precision], Pipeline]:
    def load(folder: Path, precision: Precision) -> Pipeline:
        written = write(folder)
        folder = written if isinstance(written, Path) else folder
        return Pipeline.load(folder, precision=precision, packed=False)

    return load


WORLDS: dict[str, Callable[[Path, Precision], Pipeline]] = {
    "native": _native,
    "clips": _clips,
    "amused": _published(lambda folder: write_amused(folder, False)),
    "amused-compressed": _published(lambda folder: write_amused(folder, True)),
    "meissonic": _published(lambda folder: write_meissonic(folder, True)),
    "monetico": _published(lambda folder: write_meissonic(folder, False)),
    "halton": _published(write_halton),
}
SCALE = {"guidance_scale": 2.0}
# What asks a backbone for everything that it can do, and what only the native one is asked for: the
# rest of a step is the same for all.
PLANS: list[dict[str, Any]] = [
    {"scheduler": "p2", "steps": 3, "reuse": 1, "reuse_after": 0.0, **SCALE},
    {"scheduler": "uncage", "steps": 2, "uncage_share": 1.0},
    {"steps": 3, "reuse_policy": "carried-null", **SCALE},
]
MORE: list[dict[str, Any]] = [
    *({"scheduler": name, "steps": 3, **SCALE} for name in SCHEDULERS),
    {"steps": 4, "guidance": "interval", "guidance_interval": (0.0, 0.5), **SCALE},
    {"steps": 5, "reuse": 1, "reuse_after": 0.3},
    {"steps": 3, "differential": 0.5, "noise_regularisation": 1.0, "top_k": 3},
    {"steps": 3, "zigzag": True, **SCALE},
    {"steps": 3, "temperature": 0.0},
]


def _on_device(pipeline: Pipeline, fakes: FakeTensorMode) -> tuple[ImageBackbone, RowTensors]:
    """The backbone, and the prefixes of a condition and its null, as fakes on the device."""
    prompt = "3" if pipeline.info.condition == "label" else "a red circle"
    both = pipeline.encode([pipeline.request(prompt)]).both
    backbone = pipeline.backbone.to(ACCELERATOR)

    def fake(tensor: Tensor) -> Tensor:
        return fakes.from_tensor(tensor.to(ACCELERATOR))

    for module in backbone.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(fake(parameter.data), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, fake(buffer))
    return backbone, type(both)(*(fake(tensor) for tensor in both.tensors))


def _rows(pipeline: Pipeline, plans: list[dict[str, Any]]) -> list[Row]:
    cells, grid = pipeline.cells, pipeline.picture_grid
    blank = torch.full((cells,), pipeline.backbone.mask_id, device=ACCELERATOR)
    unknown = torch.ones(cells, dtype=torch.bool, device=ACCELERATOR)
    return [
        Row.begin(make_plan(choose_options({}, options), grid, seed), blank, unknown)
        for seed, options in enumerate(plans)
    ]


def _possible(pipeline: Pipeline, plans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        plan
        for plan in plans
        if (pipeline.backbone.gives_attention or plan.get("scheduler") != "uncage")
        and (pipeline.backbone.has_memory or "reuse" not in plan)
    ]


def _run(backbone: ImageBackbone, both: RowTensors, rows: list[Row], watch: Watch) -> None:
    """Step the rows together to their ends, as the engine does, batches filled up as with pad."""
    padded = Padded(backbone)
    while running := [row for row in rows if not row.done]:
        pair = Pair.join([Pair.of(both)] * len(running))
        batch = Batch(padded, running, pair)
        with watch:
            step(batch)
        assert all(row.tokens.device == ACCELERATOR for row in running)
        assert all(row.tokens.dtype == torch.int64 for row in running)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("world", WORLDS)
def test_a_step_stays_on_its_device_and_waits_for_nothing(
    world: str, precision: Precision, fakes: FakeTensorMode, tmp_path: Path
) -> None:
    pipeline, watch = WORLDS[world](tmp_path, precision), Watch()
    plans = PLANS + MORE if (world, precision) == ("native", "fp32") else PLANS
    with torch.no_grad():
        backbone, both = _on_device(pipeline, fakes)
        rows = _rows(pipeline, _possible(pipeline, plans))
        with fakes:
            _run(backbone, both, rows, watch)
    assert (watch.waits, watch.copies) == (0, 0)
    assert watch.types == {DTYPES[precision]}


@pytest.mark.parametrize("rule", ["entropy", "stable"])
def test_only_a_row_that_may_end_early_is_waited_for_once_a_step(
    rule: str, fakes: FakeTensorMode, tmp_path: Path
) -> None:
    pipeline, watch = _native(tmp_path, "fp32"), Watch()
    with torch.no_grad():
        backbone, both = _on_device(pipeline, fakes)
        rows = _rows(pipeline, [{"count_rule": rule, "steps": 5}, {}])
        with fakes:
            _run(backbone, both, rows, watch)
    assert (watch.waits, watch.copies) == (5, 0)


def test_the_watch_sees_what_waits_and_what_mixes_devices(fakes: FakeTensorMode) -> None:
    watch = Watch()
    with fakes, watch:
        there = torch.ones(3, device=ACCELERATOR)
        assert bool(there.sum() > 0)
        there.cpu()
        with pytest.raises(RuntimeError, match="device"):
            there + torch.ones(3)
        with pytest.raises(AssertionError, match="float64"):
            there.double()
    assert (watch.waits, watch.copies) == (1, 1)

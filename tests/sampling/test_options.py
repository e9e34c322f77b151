"""What methods declare is what Python, command, HTTP and docs offer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import unmask
from unmask.errors import RequestError
from unmask.sampling.methods import declared_options
from unmask.sampling.options import KINDS, choose_options, flat_options, plan_options
from unmask.sampling.reuse import REUSE_POLICIES

PACKAGE = Path(unmask.__file__).parent

# A scheduler of somebody's own: one file ...
SPIRAL = '''
"""Positions in a spiral, as an example."""

from dataclasses import dataclass

from torch import Tensor

from unmask.sampling.methods import option
from unmask.sampling.scheduler import Scheduler, ScoreContext


@dataclass(frozen=True)
class Spiral(Scheduler, name="spiral"):
    """The noise, bent."""

    spiral_turns: float = option(2.0, "how often the spiral turns", 0.5, 9)
    spiral_out: bool = option(False, "from the middle outwards")

    def score(self, context: ScoreContext) -> Tensor:
        bent = (context.uniforms * self.spiral_turns).sin()
        return bent if self.spiral_out else -bent
'''
# ... and one line.
LINE = "from unmask.sampling.schedulers.spiral import Spiral as Spiral\n"

LOOK = """
import json
from typer.testing import CliRunner

import unmask
from unmask.commands import commands
from unmask.server.http.app import create_app
from unmask.pipeline import Pipeline

pipeline = Pipeline.load("storybook")
drawn = pipeline.generate("a red star", seed=1, scheduler="spiral", steps=3, spiral_turns=3)
runner = CliRunner()
listed = runner.invoke(commands, ["options", "--markdown"]).output
arguments = ["generate", "a red star", "--scheduler", "spiral", "--seed", "1", "--steps", "3"]
arguments += ["--set", "spiral_turns=3", "--set", "spiral_out=false", "-o", "spiral.png"]
run = runner.invoke(commands, arguments)
schema = create_app().openapi()
print(json.dumps({
    "file": unmask.__file__,
    "drawn": drawn.request.options.flat(),
    "listed": listed,
    "command": run.exit_code,
    "schema": json.dumps(schema),
    "schedulers": pipeline.info.schedulers,
}))
"""


def test_a_scheduler_in_one_file_and_one_line_is_found_everywhere(tmp_path: Path) -> None:
    package = tmp_path / "unmask"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("bundled", "__pycache__"))
    (package / "bundled").symlink_to(PACKAGE / "bundled")
    schedulers = package / "sampling" / "schedulers"
    (schedulers / "spiral.py").write_text(SPIRAL)
    registry = schedulers / "__init__.py"
    registry.write_text(registry.read_text() + LINE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", LOOK],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["file"] == str(package / "__init__.py")
    assert found["drawn"]["spiral_turns"] == 3.0
    assert found["drawn"]["spiral_out"] is False
    assert found["command"] == 0
    assert "spiral" in found["schedulers"]
    row = "| `spiral_turns` | 2.0 | 0.5 to 9 | how often the spiral turns | scheduler spiral |"
    assert row in found["listed"].splitlines()
    for told in ("spiral_turns", "spiral_out", "how often the spiral turns", '"spiral"'):
        assert told in json.loads(json.dumps(found["schema"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.0}, "eta does nothing with scheduler 'halton'; it belongs to scheduler p2"),
        ({"choice_temperature": 2.0}, "choice_temperature does nothing with scheduler 'halton'"),
        ({"scheduler": "p2", "halton_shift": False}, "it belongs to scheduler halton"),
        ({"uncage_weight": 2.0}, "it belongs to scheduler uncage"),
        ({"entropy_bound": 1.0}, "with count_rule 'planned'; it belongs to count_rule entropy"),
        ({"guidance_scale": 2.0, "guidance_power": 2.0}, "guidance power-cosine"),
        ({"guidance": "linear"}, "guidance does nothing: guidance_scale is 1"),
        ({"guidance": "interval", "guidance_interval": (0.1, 0.2)}, "guidance_scale is 1"),
        ({"reuse_after": 0.2}, "reuse_after does nothing"),
        ({"reuse_policy": "none", "reuse": 2}, "it belongs to reuse_policy recap"),
        ({"null_every": 3}, "it belongs to reuse_policy carried-null"),
        ({"reuse_policy": "carried-null"}, "guidance_scale is 1, which has none"),
        ({"mask_shares": (0.5, 0.0), "mask_schedule": "cosine"}, "beside mask_shares"),
        ({"mask_shares": (0.5, 0.0), "steps": 3}, "steps is 3, but mask_shares lists 2"),
        (
            {"scheduler": "uncage", "uncage_weight": 0.0, "uncage_blur": 1.0},
            "uncage_blur does nothing",
        ),
    ],
)
def test_an_option_that_does_nothing_is_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        plan_options(**options)
    assert caught.value.param in options


@given(st.data())
def test_what_acts_gives_the_same_again(data: st.DataObject) -> None:
    """The flat view of any choice is a choice in which everything acts."""
    chosen: dict[str, object] = {
        kind.param: data.draw(st.sampled_from(sorted(kind.methods))) for kind in KINDS.values()
    }
    chosen["guidance_scale"] = data.draw(st.sampled_from([1.0, 3.0]))
    if plan_options(scheduler=chosen["scheduler"]).scheduler.remasks:
        chosen["count_rule"] = "planned"
    if REUSE_POLICIES[str(chosen["reuse_policy"])].needs_guidance:
        chosen["guidance_scale"] = 3.0
    flat = choose_options({}, chosen).flat()
    assert plan_options(**flat).flat() == flat


def test_steps_that_agree_with_listed_shares_may_be_said() -> None:
    options = plan_options(mask_shares=(0.5, 0.0), steps=2)
    assert options.steps == 2
    assert plan_options(**options.flat()) == options


@pytest.mark.parametrize(
    ("name", "value"), [("steps", "7"), ("steps", 1.5), ("temperature", "hot"), ("zigzag", 1)]
)
def test_a_value_of_another_type_names_its_option(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"{name}: expected") as caught:
        plan_options(**{name: value})
    assert caught.value.param == name


@pytest.mark.parametrize("kind", [*KINDS, "uncage_base"])
def test_a_method_is_chosen_by_its_name_alone(kind: str) -> None:
    chosen: dict[str, object] = {"scheduler": "uncage"} if kind == "uncage_base" else {}
    with pytest.raises(RequestError, match=f"{kind}: expected a name, got '3'") as caught:
        plan_options(**chosen | {kind: 3})
    assert caught.value.param == kind


def test_an_option_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'temperature'"):
        plan_options(temperatur=1.0)


def test_every_option_says_what_it_means_and_numbers_have_bounds() -> None:
    for option in flat_options().values():
        assert len(option.meaning) > 10
        number = option.type in (int, float)
        assert (option.low is not None) >= number
    for kind in KINDS.values():
        assert kind.default in kind.methods
        owners: list[type] = list(kind.methods.values())
        for owner in owners:
            assert all(declared.about.meaning for declared in declared_options(owner))


def test_a_base_brings_its_own_options() -> None:
    options = plan_options(scheduler="uncage", uncage_base="p2", eta=2.0, uncage_blur=1.0)
    assert options["eta"] == 2.0
    assert options["uncage_base"] == "p2"
    with pytest.raises(RequestError, match="'uncage' cannot be its own base"):
        plan_options(scheduler="uncage", uncage_base="uncage")

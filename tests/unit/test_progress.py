"""The line that says where a run of measurements stands, and the one that says what a cell measured."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from deepgap.cells.cell_file import UNSUPPORTED, failure_row
from deepgap.measure.progress import (
    BUILD_S,
    CELL_START_S,
    PLAN_VARIABLE,
    Progress,
    Step,
    begin_step,
    describe_cell,
    time_left_s,
    write_plan,
)
from tests.conftest import ROOT
from tests.unit.cells import Cells

CAPPED = {"runs": 2, "throughput_s": 1.5, "stop": {"maximum_s": 0.5}}
COUNTED = {"runs": 1, "throughput_s": 1, "stop": None}


@dataclass(frozen=True)
class Planned:
    """What the plan takes of a cell."""

    path: str
    protocol: str = "capped"
    gpu: str = "CPU"
    model: str = "resnet18"
    mode: str = "eager-fp32"
    batch_size: int = 1
    threads: int = 0
    sweep: int = 1

    @property
    def settings(self) -> str:
        return json.dumps({"protocol": CAPPED if self.protocol == "capped" else COUNTED})


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Ten cells of a run, none of them measured."""
    monkeypatch.setenv(PLAN_VARIABLE, "")
    files = [tmp_path / f"{number}.parquet" for number in range(10)]
    write_plan(tmp_path / "plan.json", [Planned(str(file)) for file in files])
    return files


def begin(file: Path, ago_s: float) -> None:
    """A step that began so long ago."""
    assert begin_step([str(file)]) is not None
    log = Path(os.environ[PLAN_VARIABLE]).with_suffix(".begun")
    *before, last = log.read_text(encoding="utf-8").splitlines()
    log.write_text("\n".join([*before, re.sub(r"^\S+", str(time.time() - ago_s), last), ""]), encoding="utf-8")


def done(file: Path, ago_s: float) -> None:
    """Its file was written so long ago."""
    file.touch()
    os.utime(file, (time.time() - ago_s,) * 2)


def test_no_plan_says_nothing(monkeypatch, tmp_path):
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)
    assert begin_step(["x"]) is None
    monkeypatch.setenv(PLAN_VARIABLE, str(tmp_path / "gone.json"))
    assert begin_step(["x"]) is None


def test_a_file_that_is_not_of_the_plan_says_nothing(cells):
    assert begin_step(["other.parquet"]) is None
    assert begin_step(["its telemetry", str(cells[0])]).place == 1


def test_the_time_left_counts_from_the_first_step_and_not_from_when_the_plan_was_written(cells, tmp_path):
    long_ago = time.time() - 3600
    os.utime(tmp_path / "plan.json", (long_ago, long_ago))
    assert str(begin_step([str(cells[0])])) == "[cell 1 of 10] CPU resnet18 eager-fp32 batch 1 sweep 1"
    (tmp_path / "plan.begun").unlink()
    for file, ago_s in zip(cells, (20, 10), strict=False):
        begin(file, ago_s)
        done(file, ago_s - 10)
    assert str(begin_step([str(cells[2])])).startswith("[cell 3 of 10, about 80 s left] CPU resnet18")


def test_a_cell_that_failed_counts_as_begun_and_not_as_to_come(cells):
    begin(cells[0], 30)
    done(cells[0], 20)
    begin(cells[1], 20)
    begin(cells[2], 20)
    progress = begin_step([str(cells[3])])
    # Ten seconds of thirty were of a cell that is done: seven more take 30 s each, as it stands.
    assert (progress.place, progress.steps) == (4, 10)
    assert progress.left_s == pytest.approx(210, rel=0.05)


def test_builds_and_results_are_counted_apart_and_tell_the_time_left_before_any_cell(tmp_path, monkeypatch):
    """The first build took twice its typical time, so all else is taken to do so."""
    monkeypatch.setenv(PLAN_VARIABLE, "")
    weights, graph, table, cell = (tmp_path / name for name in ("w.pt", "g.onnx", "t.tex", "c.parquet"))
    others = {str(weights): "build_weights", str(graph): "export_onnx", str(table): "render_table"}
    write_plan(tmp_path / "plan.json", [Planned(str(cell))], others)
    took_s = 2 * BUILD_S["build_weights"]
    begin(weights, took_s)
    done(weights, 0)
    progress = begin_step([str(graph)])
    typical_s = BUILD_S["export_onnx"] + CELL_START_S + 2 * (1.5 + 0.5) + 1.0
    assert progress.left_s == pytest.approx(2 * typical_s, rel=0.05)
    assert str(progress).startswith("[build 2 of 2, about ")
    assert str(progress).endswith(f"left] export_onnx {graph}")
    assert str(begin_step([str(table)])).startswith("[result 1 of 1, about ")


def test_the_plans_rules_are_there():
    rules = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "workflow/rules").glob("*.smk"))
    assert set(BUILD_S) <= set(re.findall(r"^ *rule (\w+):", rules, re.MULTILINE))


ALIKE = {
    "a1": ["eager 1", "eager"],
    "a2": ["eager 1", "eager"],
    "b1": ["compile 8", "compile"],
    "b2": ["compile 8", "compile"],
    "b3": ["compile 16", "compile"],
    "c1": ["graph 1", "graph"],
}
PLAN = {file: Step("cell", file, alike, 4.0) for file, alike in ALIKE.items()}


@pytest.mark.parametrize(
    ("to_come", "left_s"),
    [
        (["a2"], 2),
        (["b2"], 18),
        # Of its mode only; of nothing that is like it: its typical time, as much longer as the others took.
        (["b3"], 18),
        (["c1"], 10),
        (["a2", "b2", "c1"], 30),
        ([], 0),
    ],
)
def test_a_cell_takes_as_long_as_those_like_it(to_come, left_s):
    assert time_left_s(PLAN, {"a1": 2, "b1": 18}, to_come, elapsed_s=20) == pytest.approx(left_s)


def test_what_lies_between_cells_counts_and_so_do_devices_beside_each_other():
    assert time_left_s(PLAN, {"a1": 2, "b1": 18}, ["a2"], elapsed_s=40) == pytest.approx(4)
    assert time_left_s(PLAN, {"a1": 2, "b1": 18}, ["a2"], elapsed_s=10) == pytest.approx(1)


def test_nothing_done_no_time_taken_or_nothing_that_tells_it_is_no_estimate(tmp_path, monkeypatch):
    assert time_left_s(PLAN, {}, ["a1"], 20) is None
    assert time_left_s(PLAN, {"a1": 0.0}, ["a2"], 20) is None
    # Calls that are counted take what they take.
    monkeypatch.setenv(PLAN_VARIABLE, "")
    first, second, weights = (str(tmp_path / name) for name in ("a", "b", "w"))
    planned = [Planned(first, "counted"), Planned(second, "counted", mode="graph-fp16")]
    write_plan(tmp_path / "plan.json", planned, {weights: "build_weights"})
    begin(Path(weights), 20)
    done(Path(weights), 10)
    assert begin_step([first]).left_s is None
    begin(Path(first), 10)
    done(Path(first), 0)
    assert begin_step([second]).left_s == pytest.approx(10, rel=0.05)


def test_results_have_a_time_behind_cells_that_have_none():
    plan = {"a": Step("cell", "a", ["cell"], None), "b": Step("result", "b", ["render_table"], 1.5)}
    assert time_left_s(plan, {"a": 10}, ["b"], 10) == pytest.approx(1.5)


@pytest.mark.parametrize(("left_s", "told"), [(80, "80 s"), (240, "4 min"), (7200, "2.0 h")])
def test_the_unit_fits_the_time(left_s, told):
    assert str(Progress("cell", 3, 10, left_s)) == f"[cell 3 of 10, about {told} left]"


def test_a_cell_that_ends_tells_its_numbers(tmp_path):
    cells = Cells(tmp_path)
    timed = cells.add("eager-fp16", 8, call_ms=2.0)
    assert describe_cell(timed) == "resnet18 eager-fp16 batch 8: 2 ms, 4000 img/s"
    failed = cells.add("graph-fp16", 8, rows=failure_row(UNSUPPORTED, "There is no such kernel."))
    assert describe_cell(failed) == "resnet18 graph-fp16 batch 8: unsupported, There is no such kernel."

"""The line that says where a run of measurements stands."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from deepgap.measure.progress import PLAN_VARIABLE, Progress, begin_cell, time_left_s, write_plan


@dataclass(frozen=True)
class Planned:
    """What the plan takes of a cell."""

    path: str
    model: str = "resnet18"
    mode: str = "eager-fp32"
    batch_size: int = 1
    threads: int = 0


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Ten cells of a run, none of them measured."""
    monkeypatch.setenv(PLAN_VARIABLE, "")
    files = [tmp_path / f"{number}.parquet" for number in range(10)]
    write_plan(tmp_path / "plan.json", [Planned(str(file)) for file in files])
    return files


def begin(file: Path, ago_s: float) -> None:
    """A cell that began so long ago."""
    assert begin_cell(str(file)) is not None
    log = Path(os.environ[PLAN_VARIABLE]).with_suffix(".begun")
    *before, last = log.read_text(encoding="utf-8").splitlines()
    log.write_text("\n".join([*before, re.sub(r"^\S+", str(time.time() - ago_s), last), ""]), encoding="utf-8")


def test_no_plan_says_nothing(monkeypatch, tmp_path):
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)
    assert begin_cell("x") is None
    monkeypatch.setenv(PLAN_VARIABLE, str(tmp_path / "gone.json"))
    assert begin_cell("x") is None


def test_the_time_left_counts_from_the_first_cell_and_not_from_what_was_built_before(cells, tmp_path):
    long_ago = time.time() - 3600
    os.utime(tmp_path / "plan.json", (long_ago, long_ago))
    assert str(begin_cell(str(cells[0]))) == "[cell 1 of 10]"
    (tmp_path / "plan.begun").unlink()
    for file, ago_s in zip(cells, (20, 10), strict=False):
        begin(file, ago_s)
        file.touch()
        os.utime(file, (time.time() - ago_s + 10,) * 2)
    assert str(begin_cell(str(cells[2]))) == "[cell 3 of 10, about 80 s left]"


def test_a_cell_that_failed_counts_as_begun_and_not_as_to_come(cells):
    begin(cells[0], 30)
    cells[0].touch()
    os.utime(cells[0], (time.time() - 20,) * 2)
    begin(cells[1], 20)
    begin(cells[2], 20)
    progress = begin_cell(str(cells[3]))
    # Ten seconds of thirty were of a cell that is done: seven more take 30 s each, as it stands.
    assert (progress.place, progress.cells) == (4, 10)
    assert progress.left_s == pytest.approx(210, rel=0.05)


ALIKE = {
    "a1": ["eager 1", "eager"],
    "a2": ["eager 1", "eager"],
    "b1": ["compile 8", "compile"],
    "b2": ["compile 8", "compile"],
    "b3": ["compile 16", "compile"],
    "c1": ["graph 1", "graph"],
}


@pytest.mark.parametrize(
    ("to_come", "left_s"),
    [
        (["a2"], 2),
        (["b2"], 18),
        # Of its mode only; of nothing that is like it.
        (["b3"], 18),
        (["c1"], 10),
        (["a2", "b2", "c1"], 30),
        ([], 0),
    ],
)
def test_a_cell_takes_as_long_as_those_like_it(to_come, left_s):
    assert time_left_s(ALIKE, {"a1": 2, "b1": 18}, to_come, elapsed_s=20) == pytest.approx(left_s)


def test_what_lies_between_cells_counts_and_so_do_devices_beside_each_other():
    assert time_left_s(ALIKE, {"a1": 2, "b1": 18}, ["a2"], elapsed_s=40) == pytest.approx(4)
    assert time_left_s(ALIKE, {"a1": 2, "b1": 18}, ["a2"], elapsed_s=10) == pytest.approx(1)


def test_nothing_done_or_no_time_taken_is_no_estimate():
    assert time_left_s(ALIKE, {}, ["a1"], 20) is None
    assert time_left_s(ALIKE, {"a1": 0.0}, ["a2"], 20) is None


@pytest.mark.parametrize(("left_s", "told"), [(80, "80 s"), (240, "4 min"), (7200, "2.0 h")])
def test_the_unit_fits_the_time(left_s, told):
    assert str(Progress(3, 10, left_s)) == f"[cell 3 of 10, about {told} left]"

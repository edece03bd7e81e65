"""The line that says where a run of measurements stands."""

from __future__ import annotations

import os
import time

import pytest

from deepgap.measure.progress import PLAN_VARIABLE, describe_progress, write_plan


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Ten cells of a run, none of them measured."""
    monkeypatch.setenv(PLAN_VARIABLE, "")
    files = [tmp_path / f"{number}.parquet" for number in range(10)]
    write_plan(tmp_path / "plan.json", [str(file) for file in files])
    return files


def test_no_plan_says_nothing(monkeypatch, tmp_path):
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)
    assert describe_progress() == ""
    monkeypatch.setenv(PLAN_VARIABLE, str(tmp_path / "gone.json"))
    assert describe_progress() == ""


@pytest.mark.parametrize(("ago_s", "left"), [(20.0, "80 s"), (60.0, "4 min")])
def test_the_time_left_counts_from_the_first_cell_and_not_from_what_was_built_before(cells, tmp_path, ago_s, left):
    long_ago = time.time() - 3600
    os.utime(tmp_path / "plan.json", (long_ago, long_ago))
    assert describe_progress() == "[cell 1 of 10]"
    started = time.time() - ago_s
    os.utime(tmp_path / "plan.started", (started, started))
    for file in cells[:2]:
        file.touch()
    assert describe_progress() == f"[cell 3 of 10, about {left} left]"

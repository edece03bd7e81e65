"""Engines for GPUs that are not here, cells that cannot be, and runtimes that are not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.workflow.conftest import CALIBRATION, TINY, Project, copy_study

RTX = TINY | {"modes": ["eager-fp32", "rtx-int8"], "batch_sizes": [1], "calibration": CALIBRATION}


@pytest.fixture
def project(weighted, tmp_path) -> Iterator[Project]:
    project = copy_study(weighted, tmp_path / "project")
    project.change(**RTX)
    yield project
    shutil.rmtree(tmp_path / "project")


def test_engines_of_an_absent_gpu_are_planned_for_those_that_can_be(project):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (envs/rtx.txt)")
    jobs = project.plan("engines", "--config", "gpu=L4")
    assert jobs["build_engine"] == 1
    assert "measure_cell" not in jobs
    project.change(batch_sizes=[1, 2])
    assert project.plan("engines", "--config", "gpu=L4")["build_engine"] == 2


def test_a_cell_that_cannot_be_needs_no_engine(project):
    jobs = project.plan("cells", "--config", "gpu=H100")
    assert jobs["measure_cell"] == 4
    assert "build_engine" not in jobs
    assert "calibrate" not in jobs
    assert "quantize" not in jobs


def test_cells_without_their_library_stay_missing(project):
    project.change(modes=["eager-fp32", "tensorrt-fp16"])
    jobs = project.plan("cells", "--config", "gpu=T4")
    assert jobs["measure_cell"] == 2
    assert "build_engine" not in jobs


def test_a_run_says_once_which_library_is_missing_and_how_to_get_it(project):
    project.change(modes=["tensorrt-fp16"])
    run = project.run("cells", "--config", "gpu=T4")
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("The tensorrt modes need TensorRT, which is not installed; run '") == 1
    assert "Its cells are left out." in run.stdout

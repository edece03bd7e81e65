"""`snakemake recommend` on cells that are there, without a device. About 12 s on two cores."""

from __future__ import annotations

import polars as pl
import pytest

from deepgap.analyse.recommend import RECOMMENDATION
from tests.unit.cells import write_study_cells
from tests.workflow.conftest import TINY, copy_project


def test_recommend_answers_from_the_cells_present_and_says_so_again(tmp_path):
    project = copy_project(tmp_path / "project")
    project.change(**TINY, gpu=None)
    files = write_study_cells(project.study(), "H200", project.root)
    assert len(files) == 4
    assert "recommend" not in project.plan()

    run = project.run("recommend", "--config", "slo_ms=10")
    assert run.returncode == 0, run.stdout
    assert "Within 10 ms, by throughput" in run.stdout
    assert "resnet18" in run.stdout and "H200" in run.stdout
    rows = pl.read_csv(project.root / "results/recommendation.csv")
    assert rows.columns == RECOMMENDATION.names()
    families = pl.read_parquet(project.root / "results/summary/families")
    held = pl.coalesce("p99_ms", "median_ms")
    assert rows["value"][0] == pytest.approx(families.filter(held <= 10)["throughput_img_s"].max())
    assert not (project.root / "paper/tables").exists()

    again = project.run("recommend", "--config", "slo_ms=10")
    assert "Within 10 ms, by throughput" in again.stdout

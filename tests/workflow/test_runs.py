"""Whole runs: measuring, refusing and waiting."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest

from deepgap.cells.cell_file import read_cell
from deepgap.paper.figures import read_caption
from tests.workflow.conftest import FIGURE, FIRST_RUN

WEIGHTS_BYTES = 4 * 11_689_512
"""ResNet-18's parameters in FP32."""


def test_a_run_measures_and_aggregates_every_cell(measured):
    cells = measured.cells()
    assert len(cells) == 4
    assert {path.name for path in cells} == {Path(cell.path).name for cell in measured.study().cells("CPU")}
    for path in cells:
        rows, footer = read_cell(path)
        assert set(rows["status"]) == {"ok"}
        assert rows.filter(pl.col("arm") == "latency").height == 2
        assert len(footer.weights_sha256) == 64
        assert footer.provenance["versions"]["torch"]
        assert footer.observed["memory"]["host_peak_bytes"] > WEIGHTS_BYTES
        assert str(measured.root) not in json.dumps(asdict(footer))
    families = pl.read_parquet(measured.root / "results/summary/families")
    assert families.select("gpu", "batch_size", "runs", "samples").rows() == [("CPU", 1, 2, 4), ("CPU", 2, 2, 4)]
    sweeps = [read_cell(path)[0].filter(pl.col("arm") == "latency") for path in cells if "_b1_" in path.name]
    medians = pl.Series([sweep["device_ms"].median() for sweep in sweeps])
    assert len(medians) == 2 and families["median_ms"][0] == pytest.approx(medians.median())
    assert families["median_low_ms"][0] is None
    assert families["tail_note"][0] == "2 of 2 processes have under 100 calls"


def test_a_run_tells_where_it_stands_and_what_it_measures(measured, measured_int8):
    log = (measured.root / FIRST_RUN).read_text(encoding="utf-8")
    assert "[cell 1 of 4] CPU resnet18 eager-fp32 batch" in log
    assert "[cell 4 of 4, about " in log
    assert "[result 1 of " in log
    with_builds = (measured_int8.root / FIRST_RUN).read_text(encoding="utf-8")
    assert "[build 1 of 2] calibrate build/int8/resnet18." in with_builds
    assert with_builds.index("] quantize ") < with_builds.index("[cell 1 of 6")
    assert len(re.findall(r"^resnet18 eager-fp32 batch [12]: [\d.]+ ms, [\d.]+ img/s$", log, re.MULTILINE)) == 4
    assert "CPU: 4 of 4 cells" in log
    assert "T4: 0 of 4 cells; measure the rest with 'snakemake --cores 1 --config gpu=T4'" in log


def test_the_figure_is_rendered_and_reported_with_its_caption(project):
    assert (project.root / FIGURE).read_bytes().startswith(b"\x89PNG")
    run = project.run(FIGURE, "--report", "report.html")
    assert run.returncode == 0, run.stdout
    assert read_caption("throughput") in (project.root / "report.html").read_text(encoding="utf-8")


def test_published_and_measured_are_never_mixed(measured):
    summary = measured.root / "results/summary"
    published = pl.read_parquet(summary / "published.parquet")
    assert set(published["source"]) == {"published"}
    assert set(pl.read_parquet(summary / "families")["gpu"]) == {"CPU"}


@pytest.mark.parametrize("arguments", [("gpu=T5",), ("gpu=4090",), ("gpu=CPU", "models=[resnet19]")])
def test_a_bad_config_stops_with_one_sentence(weighted, arguments):
    run = weighted.run("--config", *arguments)
    assert run.returncode != 0
    assert "deep-gap: config.yaml: " in run.stdout
    assert "Traceback" not in run.stdout
    assert "Job stats" not in run.stdout


def test_an_edited_cell_stops_the_aggregation_by_name(project):
    cell = project.cells()[0]
    cell.write_bytes(cell.read_bytes()[:-200])
    run = project.run("summary")
    assert run.returncode != 0
    assert f"deep-gap: results/CPU/cells/{cell.name} is damaged or not a cell" in run.stdout

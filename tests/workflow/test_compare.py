"""`snakemake compare` on cells that are there, without a device. About 12 s on two cores."""

from __future__ import annotations

import shutil

import polars as pl

from deepgap.analyse.compare import COMPARISON
from tests.unit.cells import write_study_cells
from tests.workflow.conftest import TINY, copy_project


def test_two_states_are_compared_with_a_table_and_an_exit_status(tmp_path):
    project = copy_project(tmp_path / "project")
    six = TINY["protocols"] | {"tiny": TINY["protocols"]["tiny"] | {"sweeps": 6}}
    project.change(**(TINY | {"protocols": six}), gpu=None)
    study, results = project.study(), project.root / "results"
    write_study_cells(study, "H200", project.root, call_ms=2.0)
    shutil.move(results / "H200", results / "H200@before")
    write_study_cells(study, "H200", project.root, call_ms=2.5)
    assert "compare" not in project.plan()

    slower = project.run("compare", "--config", "base=H200@before", "other=H200")
    assert slower.returncode == 1 and "Traceback" not in slower.stdout
    assert "median_ms: 0 faster, 2 slower, 0 same, 0 unclear; 2 paired by sweep and card" in slower.stdout
    assert "deep-gap: 4 of 4 verdicts on H200 over H200@before are slower" in slower.stdout
    rows = pl.read_csv(results / "comparison.csv")
    assert rows.columns == COMPARISON.names() and rows["verdict"].to_list() == ["slower"] * 4

    faster = project.run("compare", "--config", "base=H200", "other=results/H200@before", "margin=0.1")
    assert faster.returncode == 0, faster.stdout
    assert "median_ms: 2 faster, 0 slower" in faster.stdout

    for config, sentence in (
        (["base=H200"], "A comparison needs two states"),
        (["base=H200", "other=H100"], "There are no cells in results/H100/cells"),
    ):
        refused = project.run("compare", "--config", *config)
        assert refused.returncode == 1 and f"deep-gap: {sentence}" in refused.stdout
        assert "Traceback" not in refused.stdout

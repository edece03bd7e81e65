"""What `snakemake fidelity` would do, in dry runs."""

from __future__ import annotations

from tests.workflow.conftest import copy_study

CPU = ("--config", "gpu=CPU")
COMMON = {"export_onnx": 1, "draw_held_out": 1, "compute_reference": 1, "compare_layers": 1, "compare_methods": 1}


def test_a_study_without_int8_is_reported_from_its_weights_and_measures_nothing(weighted):
    assert weighted.plan("fidelity", *CPU) == {**COMMON, "fidelity": 1}


def test_the_graphs_of_the_studys_modes_are_made(weighted, tmp_path):
    project = copy_study(weighted, tmp_path / "project")
    project.change(modes=["eager-fp32", "ort-fp32", "ort-int8"])
    assert project.plan("fidelity", *CPU) == {**COMMON, "calibrate": 1, "quantize": 1, "fidelity": 1}


def test_reader_mode_has_no_report(weighted):
    run = weighted.run("--dry-run", "fidelity")
    assert run.returncode != 0
    assert "fidelity" in run.stdout

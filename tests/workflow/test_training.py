"""The second study from its config to its cells, on this machine's processor."""

from __future__ import annotations

import json
from dataclasses import asdict

import polars as pl
import pytest
import yaml

from deepgap.cells.cell_file import read_cell
from deepgap.training.cell import training_cell_id
from tests.workflow.conftest import Project, copy_project

pytestmark = pytest.mark.xdist_group("training")

TINY = {
    "study": "training",
    "gpu": None,
    "models": ["conv6"],
    "image_sizes": [32],
    "modes": ["eager-fp32"],
    "phases": ["train", "inference"],
    "batch_sizes": [2],
    "protocol": "tiny",
    "protocols": {
        "tiny": {
            "warmup_iterations": 1,
            "timed_iterations": 3,
            "runs": 1,
            "sweeps": 1,
            "throughput_s": 0.05,
            "arms": ["forward", "gradients"],
        }
    },
}
CPU = ("--config", "study=training", "gpu=CPU")


def configure(project: Project, **changes: object) -> None:
    (project.root / "config/training.yaml").write_text(yaml.safe_dump(TINY | changes), encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Project:
    """The tiny study measured."""
    project = copy_project(tmp_path_factory.mktemp("training") / "project")
    configure(project)
    run = project.run("cells", *CPU)
    assert run.returncode == 0, run.stdout
    (project.root / "first_run.log").write_text(run.stdout, encoding="utf-8")
    return project


def test_a_run_measures_every_phase(trained):
    files = sorted((trained.root / "results/training/CPU/cells").glob("*"))
    found = {}
    for file in files:
        rows, footer = read_cell(file)
        assert file.stem.rpartition(".")[0] == training_cell_id(footer.recipe)
        found[footer.recipe["phase"]] = rows, footer
        assert str(trained.root) not in json.dumps(asdict(footer))
        assert footer.provenance["libraries"]["torch"]
        assert len(footer.weights_sha256) == 64
    assert set(found) == {"train", "inference"}
    rows, footer = found["train"]
    counts = dict(rows.group_by("arm").len().iter_rows())
    assert counts == {"latency": 3, "throughput": 1, "forward": 3, "gradients": 3}
    about = footer.observed["training"]
    assert about["parameters"] == 2_262_602
    assert about["steps"] >= 1 + 3 + rows.filter(pl.col("arm") == "throughput")["calls"][0]
    assert about["loss_last"] < about["loss_first"]
    assert (
        footer.observed["facts"]["multiply_adds"] == about["step_multiply_adds"] > 2 * about["forward_multiply_adds"]
    )
    # The step's weights, gradients and moments, at least.
    assert footer.observed["memory"]["host_peak_bytes"] > 4 * 4 * about["parameters"]
    rows, footer = found["inference"]
    assert set(rows["arm"]) == {"latency", "throughput"}
    assert footer.observed["training"]["loss_last"] is None
    assert footer.observed["training"]["steps"] == 0


def test_a_run_says_where_it_stands_and_what_it_left_out(trained):
    log = (trained.root / "first_run.log").read_text(encoding="utf-8")
    assert "[cell 1 of 2] CPU conv6 32 px eager-fp32" in log
    assert "Conv-6: batch 64 of 224 px is left out; measured: 2 of 32 px." in log
    assert "VGG-16: batch 64 of 224 px is left out; measured: nothing." in log


def test_what_is_measured_is_not_measured_again(trained):
    assert trained.plan("cells", *CPU) == {}
    assert trained.plan("cells", *CPU, "batch_sizes=[2, 3]") == {"cells": 1, "train_cell": 2}


def test_check_reads_the_cells(trained):
    run = trained.run("check", "--config", "study=training")
    assert run.returncode == 0, run.stdout
    assert "CPU: 2 cells in order" in run.stdout


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["models=[vgg61]"], "training.yaml: models[0] is 'vgg61' (did you mean 'vgg16'?); allowed: conv6, "),
        (["modes=[eager-mixed_bf16]"], "but CPU has no mixed_bf16; its precisions are fp32, int8."),
        (["modes=[compilegraph-fp32]"], "the runtime compilegraph does not run on CPU."),
        (["study=trainign"], "study is 'trainign' (did you mean 'training'?); allowed: inference, training."),
    ],
)
def test_a_bad_config_stops_with_one_sentence(trained, changes, sentence):
    run = trained.run(*CPU, *changes)
    assert run.returncode != 0
    assert sentence in run.stdout
    assert "Traceback" not in run.stdout


def test_measured_steps_stand_in_the_table_of_the_second_paper(trained):
    run = trained.run("paper/training/tables/steps.tex", *CPU)
    assert run.returncode == 0, run.stdout
    table = (trained.root / "paper/training/tables/steps.tex").read_text(encoding="utf-8")
    assert "Conv-6, 32" in table and "PyTorch & eager-fp32 & 1 &" in table


def test_a_framework_that_is_not_installed_leaves_its_cells_out(trained):
    asked = ("modes=[eager-fp32, tensorflow-fp32]", "interpreters={tensorflow: nowhere/python}")
    run = trained.run("cells", *CPU, *asked)
    assert run.returncode == 0, run.stdout
    assert "nowhere/python, of the runtime tensorflow, does not run" in run.stdout
    assert "Its cells are left out." in run.stdout

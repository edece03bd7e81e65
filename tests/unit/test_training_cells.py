"""The contract of the second study's cells: their names, their recipe, their file."""

from __future__ import annotations

import polars as pl
import pytest

from deepgap.analyse.check import check_results
from deepgap.cells.bounds import broken_bound, highest_share
from deepgap.cells.cell_file import LATENCY, OUT_OF_MEMORY, failure_row, read_cell
from deepgap.errors import CellError
from deepgap.training.cell import training_cell_id
from tests.unit.training_cells import synthetic_training_cell, write_training_cell


def test_a_cell_is_named_by_what_it_measures():
    cell = synthetic_training_cell("cyclegan", "jax-mixed_bf16", 1, sweep=3, image_size=256, phase="inference")
    assert training_cell_id(cell.recipe) == "cyclegan_256px_jax-mixed_bf16_inference_b1_s3"
    assert cell.path == f"results/training/H100/cells/{cell.stem}.parquet"
    assert cell.recipe["framework"] == "keras-jax"
    assert "optimizer" not in cell.recipe


def test_all_that_gives_a_cell_its_meaning_is_in_its_name():
    cells = [
        synthetic_training_cell(),
        synthetic_training_cell(image_size=32),
        synthetic_training_cell(phase="inference"),
        synthetic_training_cell(workload_version=2),
        synthetic_training_cell(arms=["forward"]),
    ]
    assert len({cell.stem for cell in cells}) == len(cells)


def test_a_cell_is_written_and_read(tmp_path):
    cell = synthetic_training_cell(arms=["forward", "gradients"])
    rows, footer = read_cell(write_training_cell(tmp_path, cell))
    assert footer.recipe == cell.recipe
    assert footer.observed["training"]["parameters"] == 2_262_602
    medians = dict(rows.group_by("arm").agg(pl.col("device_ms").median()).iter_rows())
    assert medians["forward"] < medians["gradients"] < medians[LATENCY]


def test_parts_that_the_protocol_asks_for_must_be_there(tmp_path):
    cell = synthetic_training_cell(arms=["forward"])
    whole, _ = read_cell(write_training_cell(tmp_path, cell))
    with pytest.raises(CellError, match="0 runs of the arm forward"):
        write_training_cell(tmp_path, cell, rows=whole.filter(pl.col("arm") != "forward"))


def test_a_batch_that_does_not_fit_is_a_row(tmp_path):
    cell = synthetic_training_cell("vgg16", batch_size=4096)
    rows, _ = read_cell(write_training_cell(tmp_path, cell, rows=failure_row(OUT_OF_MEMORY, "CUDA out of memory")))
    assert rows["status"].to_list() == [OUT_OF_MEMORY]


def test_the_share_of_the_peak_is_of_the_whole_step(tmp_path, gpus):
    cell = synthetic_training_cell("resnet18", "eager-mixed_bf16", 512, arms=["forward", "gradients"])
    rows, footer = read_cell(write_training_cell(tmp_path, cell))
    share, arm = highest_share(rows, footer.recipe, footer.observed["facts"], gpus["H100"])
    assert arm == "the latency arm of run 1"
    assert share == pytest.approx(2 * 5.4e9 * 512 / 20e-3 / 989.5e12)
    assert broken_bound(rows, footer.recipe, footer.observed["facts"], gpus["H100"]) is None


def test_check_reads_the_cells_of_the_second_study(tmp_path, gpus):
    for sweep in (1, 2):
        write_training_cell(tmp_path, synthetic_training_cell("resnet18", sweep=sweep))
    report = check_results(tmp_path / "results/training", gpus)
    assert report.refused == []
    assert report.cells.height == 2

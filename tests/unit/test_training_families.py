"""The second study's cells as families and ratios; on synthetic cells."""

from __future__ import annotations

from pathlib import Path

import pytest
import vl_convert

from deepgap.analyse.training.cells import TRAINING_CELLS, read_training_cells, training_families
from deepgap.analyse.training.ratios import over_base_mode, over_processor
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.cells.cell_file import OUT_OF_MEMORY, failure_row
from deepgap.paper.latex import render
from deepgap.paper.training import load_figure, load_table
from deepgap.published.democratizing import DEMOCRATIZING
from deepgap.published.gpu_memory import GPU_MEMORY
from tests.unit.synthetic import GPUS, ROOT
from tests.unit.training_cells import FORWARD_MULTIPLY_ADDS, synthetic_training_cell, write_training_cell

STEPS = [20.0, 21.0, 19.0, 20.5, 19.5, 22.0]


def files(root: Path) -> list[Path]:
    return list((root / "results/training").rglob("cells/*.parquet"))


def write(root: Path, mode: str = "eager-fp32", factor: float = 1.0, gpu: str = "H100") -> None:
    for sweep, step in enumerate(STEPS, 1):
        cell = synthetic_training_cell("resnet18", mode, 64, sweep, gpu=gpu, arms=["forward", "gradients"])
        write_training_cell(root, cell, step * factor)


def test_a_family_is_the_median_of_its_sweeps_with_the_exact_interval(tmp_path: Path) -> None:
    write(tmp_path)
    cells, unreadable = read_training_cells(files(tmp_path))
    assert cells.schema == TRAINING_CELLS and cells.height == 6 and not unreadable
    (family,) = training_families(cells, GPUS).to_dicts()
    assert (family["step_ms"], family["step_ms_low"], family["step_ms_high"]) == (20.25, 19, 22)
    assert family["sweeps"] == 6 and family["forward_ms"] == pytest.approx(0.3 * 20.25)
    assert family["gradients_ms"] == pytest.approx(0.9 * 20.25)
    assert family["tflops"] == pytest.approx(6 * FORWARD_MULTIPLY_ADDS["resnet18"] * family["samples_s"] / 1e12)
    assert family["share"] == pytest.approx(family["tflops"] / 67)


def test_fewer_than_six_sweeps_have_no_interval(tmp_path: Path) -> None:
    write_training_cell(tmp_path, synthetic_training_cell("resnet18"))
    (family,) = training_families(read_training_cells(files(tmp_path))[0], GPUS).to_dicts()
    assert family["sweeps"] == 1 and family["step_ms_low"] is None and family["step_ms"] == 20


def test_ratios_are_of_cells_of_one_block(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "compile-mixed_bf16", 0.5)
    (row,) = over_base_mode(read_training_cells(files(tmp_path))[0]).to_dicts()
    assert row["paired"] and row["values"] == 6
    # Each pair has the same ratio, however much the sweeps differ.
    assert (row["ratio"], row["low"], row["high"]) == pytest.approx((2, 2, 2), rel=1e-3)


def test_a_speedup_over_a_processor_is_of_the_same_mode_and_work(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "compile-mixed_bf16", 0.5)
    write(tmp_path, factor=50, gpu="CPU")
    (row,) = over_processor(read_training_cells(files(tmp_path))[0], {"CPU"}).to_dicts()
    assert (row["gpu"], row["base_gpu"], row["mode"], row["paired"]) == ("H100", "CPU", "eager-fp32", False)
    assert row["low"] < 50 < row["high"] and row["ratio"] == pytest.approx(50, rel=1e-3)


def test_the_table_and_the_figures_show_what_is_there(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "jax-mixed_bf16", 0.5)
    write(tmp_path, factor=50, gpu="CPU")
    lost = synthetic_training_cell("resnet18", batch_size=4096)
    write_training_cell(tmp_path, lost, rows=failure_row(OUT_OF_MEMORY, "CUDA out of memory"))
    cells, _ = read_training_cells(files(tmp_path))
    summary = TrainingSummary(cells, DEMOCRATIZING.to_frame(), GPU_MEMORY.to_frame(), GPUS)
    assert summary.devices == ["H100", "CPU"]
    rows = load_table("steps")(summary)["rows"]
    assert [row["mode"] for row in rows] == ["eager-fp32", "jax-mixed_bf16", "eager-fp32"]
    assert r"\num{50.0} [" in rows[0]["processor"] and rows[0]["whose"] == "CPU"
    assert r"\num{2.00} [" in rows[1]["over"] and rows[1]["framework"] == "Keras, JAX"
    text = render(ROOT / "paper/templates/training/steps.tex.j2", {"rows": rows, "base": "eager-fp32"})
    assert "None" not in text and "threads of" in text
    for name in ("throughput", "peak_share", "memory", "anatomy"):
        spec = load_figure(name)(summary).to_dict()
        assert "jax-mixed_bf16" in str(spec) and "H100" in str(spec)
        assert name == "anatomy" or "out of memory" in str(spec)
        vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    bars = [row for rows in load_figure("anatomy")(summary).to_dict()["datasets"].values() for row in rows]
    parts = {row["part"]: row["share"] for row in bars if row.get("gpu") == "CPU"}
    assert parts == pytest.approx({"forward": 30, "backward": 60, "optimiser": 10})
    assert "CPU: " not in str(load_figure("peak_share")(summary).to_dict())


def test_a_batch_that_does_not_fit_is_a_family_without_numbers_and_a_damaged_cell_is_told(tmp_path: Path) -> None:
    cell = synthetic_training_cell("vgg16", batch_size=4096)
    path = write_training_cell(tmp_path, cell, rows=failure_row(OUT_OF_MEMORY, "CUDA out of memory"))
    (family,) = training_families(read_training_cells([path])[0], GPUS).to_dicts()
    assert family["status"] == OUT_OF_MEMORY and family["step_ms"] is None and family["sweeps"] == 0
    path.write_bytes(path.read_bytes()[:-100])
    cells, unreadable = read_training_cells([path])
    assert cells.is_empty() and path.name in unreadable[0]
    assert training_families(cells, GPUS).is_empty() and over_base_mode(cells).is_empty()

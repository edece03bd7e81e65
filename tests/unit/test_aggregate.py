"""From cell files and footers to the tidy tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from deepgap.analyse import summary
from deepgap.analyse.aggregate import (
    aggregate,
    overhead,
    summarise_families,
    summarise_fidelity,
    summarise_ratios,
    summarise_runs,
)
from deepgap.analyse.design import describe_study
from deepgap.analyse.flags import FLAGS
from deepgap.analyse.measurements import (
    CELL_FIDELITY,
    CELL_SECONDS,
    Rows,
    fidelity_row,
    host_row,
    read_measurements,
    seconds_row,
)
from deepgap.analyse.summary import (
    CELL_TABLES,
    FAMILIES,
    FIDELITY,
    HOSTS,
    OVERHEAD,
    RATIOS,
    RUNS,
    load_summary,
    merge_hosts,
    write_tables,
)
from deepgap.cells.cell_file import Footer, failure_row
from deepgap.errors import CellError
from deepgap.measure.fidelity import Fidelity, compare_logits
from deepgap.stats import ratio_interval
from deepgap.study import study
from deepgap.study.words import mode_order
from tests.unit.synthetic import (
    GPUS,
    REPORTING,
    ROOT,
    synthetic_footer,
    synthetic_recipe,
    synthetic_rows,
    write_synthetic_cell,
)

CALIBRATION = {"method": "entropy", "images": "procedural", "count": 128}
RNG = np.random.default_rng(0)
REFERENCE = RNG.standard_normal((8, 4)).astype(np.float32)
LABELS = REFERENCE.argmax(axis=1)


def footer(mode: str, fidelity: Fidelity | None, **recipe: Any) -> Footer:
    runtime, precision = mode.split("-")
    key = {"gpu": "H200", "model": "resnet18", "runtime": runtime, "precision": precision}
    return Footer(key | recipe, "0" * 64, {}, {} if fidelity is None else {"fidelity": asdict(fidelity)})


def noisy(scale: float, labels: np.ndarray | None = LABELS) -> Fidelity:
    noise = np.random.default_rng(1).standard_normal(REFERENCE.shape).astype(np.float32)
    return compare_logits(REFERENCE + scale * noise, REFERENCE, labels)


def fidelity_of(footers: Iterable[Footer]) -> pl.DataFrame:
    return summarise_fidelity(Rows(CELL_FIDELITY, map(fidelity_row, footers)).frame())


def row(*footers: Footer) -> dict[str, Any]:
    frame = fidelity_of(footers)
    assert frame.schema == FIDELITY and frame.height == 1
    return frame.row(0, named=True)


def test_a_mode_is_as_good_as_its_worst_cell():
    good, bad = noisy(0.01), noisy(1.0)
    found = row(*(footer("cudnn-int8", cell, calibration=CALIBRATION) for cell in (good, bad, good)))
    assert (found["cells"], found["images"]) == (3, 8)
    assert (found["sqnr_db"], found["cosine"]) == (bad.centred_sqnr_db, bad.centred_cosine)
    assert found["top1_agreement"] == bad.top1_agreement < good.top1_agreement
    assert (found["top1_accuracy_low"], found["top1_accuracy_high"]) == (bad.top1_accuracy, good.top1_accuracy)
    assert found["reference_top1_accuracy"] == 1.0
    assert (found["identical"], found["all_finite"]) == (False, True)
    assert [found[f"calibration_{name}"] for name in CALIBRATION] == list(CALIBRATION.values())


def test_a_row_rests_on_the_cells_with_the_most_images():
    whole, part = noisy(0.5), compare_logits(-REFERENCE[:4], REFERENCE[:4], LABELS[:4])
    found = row(*(footer("eager-fp16", cell) for cell in (part, whole, part, whole)))
    assert part.top1_agreement < whole.top1_agreement
    assert (found["compared_cells"], found["cells"], found["images"]) == (4, 2, 8)
    assert (found["sqnr_db"], found["top1_agreement"]) == (whole.centred_sqnr_db, whole.top1_agreement)
    assert found["top1_accuracy_low"] == found["top1_accuracy_high"] == whole.top1_accuracy
    assert found["reference_top1_accuracy"] == whole.reference_top1_accuracy
    exact = compare_logits(REFERENCE, REFERENCE, LABELS)
    assert row(footer("eager-fp32", exact), footer("eager-fp32", part))["identical"] is True


def test_an_answer_that_is_not_finite_is_told_whatever_its_images():
    lost = compare_logits(np.full((4, 4), np.nan, np.float32), REFERENCE[:4])
    found = row(footer("eager-fp16", noisy(0.01)), footer("eager-fp16", lost))
    assert (found["all_finite"], found["sqnr_db"], found["cells"]) == (False, None, 1)


def test_identical_needs_every_cell():
    same = noisy(0.0)
    found = row(footer("eager-fp32", same), footer("eager-fp32", same))
    assert (found["identical"], found["sqnr_db"], found["cosine"]) == (True, None, 1.0)
    assert found["calibration_method"] is None
    found = row(footer("eager-fp32", same), footer("eager-fp32", noisy(0.01)))
    assert (found["identical"], found["sqnr_db"]) == (False, noisy(0.01).centred_sqnr_db)


def test_one_answer_that_is_not_finite_leaves_no_decibels():
    logits = REFERENCE.copy()
    logits[0, 0] = np.inf
    found = row(footer("eager-fp16", noisy(0.01)), footer("eager-fp16", compare_logits(logits, REFERENCE)))
    assert (found["all_finite"], found["identical"]) == (False, False)
    assert found["sqnr_db"] is found["cosine"] is None


def test_unlabelled_images_have_no_accuracy():
    found = row(footer("eager-fp16", noisy(0.01, None)))
    assert found["top1_accuracy_low"] is found["top1_accuracy_high"] is found["reference_top1_accuracy"] is None


def test_a_row_a_gpu_model_and_mode_and_none_for_a_failed_cell():
    cells = [
        footer("eager-fp16", noisy(0.1)),
        footer("graph-fp16", noisy(0.1)),
        footer("eager-fp16", noisy(0.1), model="resnet50"),
        footer("eager-fp16", noisy(0.1), gpu="T4"),
        footer("eager-fp32", None),
    ]
    frame = fidelity_of(cells)
    assert frame.select("gpu", "model", "runtime").rows() == [
        ("H200", "resnet18", "eager"),
        ("H200", "resnet18", "graph"),
        ("H200", "resnet50", "eager"),
        ("T4", "resnet18", "eager"),
    ]
    assert set(frame["cells"]) == {1}


def test_no_cells_give_an_empty_table():
    assert fidelity_of([]).equals(pl.DataFrame(schema=FIDELITY))


FLOORS = {"top1_agreement": 0.95}
MIB = 2**20


class Cells:
    """Synthetic cells in a folder, and the tables that are made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.footers: list[Footer] = []

    def add(
        self,
        mode: str = "eager-fp16",
        batch_size: int = 8,
        sweep: int = 1,
        *,
        gpu: str = "H200",
        model: str = "resnet18",
        rows: pl.DataFrame | None = None,
        call_ms: float = 2.0,
        weights: str = "0" * 64,
        driver: str = "000.00",
        recipe: dict[str, Any] | None = None,
        **observed: Any,
    ) -> Path:
        named = synthetic_recipe(gpu, model, mode, batch_size, sweep=sweep, **(recipe or {}))
        footer = replace(synthetic_footer(named, **observed), weights_sha256=weights)
        footer.provenance["device"]["driver"] = driver
        if rows is None:
            rows = synthetic_rows([[call_ms, call_ms]] * 2, [call_ms] * 2, enqueue=None if gpu == "CPU" else 0.1)
        self.files.append(write_synthetic_cell(self.folder, rows, footer))
        self.footers.append(footer)
        return self.files[-1]

    def runs(self) -> pl.DataFrame:
        return summarise_runs(read_measurements(self.files, GPUS, FLOORS))

    def families(self) -> pl.DataFrame:
        measurements = read_measurements(self.files, GPUS, FLOORS)
        frame = summarise_families(measurements, GPUS)
        assert frame.schema == FAMILIES
        assert all(set(flags) <= set(FLAGS) and flags == sorted(flags) for flags in frame["flags"].to_list())
        return frame

    def family(self) -> dict[str, Any]:
        frame = self.families()
        assert frame.height == 1
        return frame.row(0, named=True)


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    return Cells(tmp_path)


def test_a_family_pools_unequal_repeats_of_all_its_sweeps(cells):
    first, second = [[1.0, 2.0, 3.0], [4.0, 5.0]], [[6.0, 7.0, 8.0, 9.0], [10.0, 30.0]]
    cells.add(sweep=1, rows=synthetic_rows(first, [4.0, 4.0], enqueue=0.5), prepare_ms=10.0, first_call_ms=1.0)
    cells.add(sweep=2, rows=synthetic_rows(second, [6.0, 8.0], enqueue=0.5), prepare_ms=20.0, first_call_ms=5.0)
    row = cells.family()
    samples = np.concatenate([*first, *second])
    assert (row["status"], row["sweeps"], row["runs"], row["samples"]) == ("ok", 2, 4, 11)
    assert row["median_ms"] == 6.0 and row["enqueue_median_ms"] == 3.0
    assert 2.0 <= row["median_low_ms"] < 6.0 < row["median_high_ms"] <= 20.0
    assert row["variation"] == pytest.approx(samples.std(ddof=1) / samples.mean())
    assert row["first_call_ms"] == 18.0
    # Host times have a hundredth of a millisecond a run of ten calls more than the device's.
    assert row["throughput_img_s"] == pytest.approx(np.median([8000 * 10 / (10 * t + 0.01) for t in (4, 4, 6, 8)]))
    assert row["share_of_peak"] == pytest.approx(row["throughput_img_s"] * 2 * 1.81e9 / 989.5e12)
    assert [row[name] for name in ("p90_ms", "p99_ms", "p99_bound_ms", "cold_median_ms")] == [None] * 4
    assert row["percentile_note"] == "11 samples: p90 needs 64, p95 needs 130, p99 needs 662"


def test_runs_have_the_facts_of_their_cell(cells):
    file = cells.add(rows=synthetic_rows([[1.0, 2.0, 9.0], [4.0, 5.0]], [2.0, 3.0], enqueue=0.5))
    runs = cells.runs()
    assert runs.schema == RUNS
    first, second = runs.iter_rows(named=True)
    assert (first["samples"], first["median_ms"], first["enqueue_median_ms"]) == (3, 2.0, 1.0)
    assert (second["samples"], second["median_ms"], second["threads"]) == (2, 4.5, 0)
    for run in (first, second):
        assert (run["cell_file"], run["first_call_ms"], run["memory_bytes"]) == (file.as_posix(), 42.0, 600 * MIB)
        assert (run["sm_clock_median_mhz"], run["temperature_max_c"], run["power_mean_w"]) == (1900, 50, 400)
        assert (run["device_sha256"], run["flags"]) == ("a" * 12, ["arms_disagree", "variable"])


def test_the_cold_arm_has_a_median_of_its_own(cells):
    protocol = synthetic_recipe("H200", "resnet18", "eager-fp16", 8)["protocol"] | {"cold_iterations": 3}
    rows = synthetic_rows([[2.0, 2.0]] * 2, [2.0] * 2, cold_ms=[[2.5, 2.6, 2.9], [2.7, 2.8, 2.9]])
    cells.add(rows=rows, recipe={"protocol": protocol})
    row = cells.family()
    assert (row["median_ms"], row["cold_median_ms"]) == (2.0, pytest.approx(2.75))


def test_energy_is_that_of_the_cells_that_have_a_window(cells):
    window = {"window_s": 5.0, "images": 1000, "joules": 2000.0, "idle_power_w": 100.0}
    window |= {"joules_per_image": 2.0, "joules_per_image_above_idle": 1.5}
    cells.add(sweep=1, energy=window)
    cells.add(sweep=2, energy={"absent": "no window"})
    row = cells.family()
    assert (row["energy_j_per_image"], row["energy_above_idle_j_per_image"]) == (2.0, 1.5)
    assert (row["images_per_joule"], row["power_w"], row["energy_note"]) == (0.5, 400.0, None)


def test_energy_that_is_not_known_is_null_with_its_reason(cells):
    half = {"window_s": 5.0, "images": 1000, "joules": 2000.0, "idle_power_w": None}
    half |= {"joules_per_image": 2.0, "joules_per_image_above_idle": None}
    cells.add(batch_size=1, energy={"absent": "no counter"})
    cells.add(batch_size=2, energy=half)
    cells.add(batch_size=4, energy=None)
    none, without_idle, silent = cells.families().iter_rows(named=True)
    names = ("energy_j_per_image", "energy_above_idle_j_per_image", "images_per_joule", "power_w")
    assert [none[name] for name in names] == [silent[name] for name in names] == [None] * 4
    assert (none["energy_note"], silent["energy_note"]) == ("no counter", "not recorded")
    assert [without_idle[name] for name in names] == [2.0, None, 0.5, 400.0]
    assert without_idle["energy_note"] == "the power of the idle device is not known"


def test_memory_is_the_most_of_any_cell(cells):
    cells.add(sweep=1, memory_device_bytes=500 * MIB, memory_allocated_peak_bytes=90)
    cells.add(sweep=2, memory_device_bytes=400 * MIB, memory_allocated_peak_bytes=100)
    row = cells.family()
    assert (row["memory_bytes"], row["memory_allocated_bytes"]) == (500 * MIB, 100)


def test_flags_are_the_union_over_cells_and_drop_nothing(cells):
    cells.add(sweep=1, steady=False)
    cells.add(sweep=2, steady=False, fidelity={"top1_agreement": 0.5})
    cells.add(sweep=3)
    row = cells.family()
    assert (row["flags"], row["flagged_cells"], row["sweeps"]) == (["low_fidelity", "unsteady"], 2, 3)


def test_a_family_that_failed_in_part_keeps_its_numbers_and_says_so(cells):
    lost = failure_row("out_of_memory", "synthetic")
    cells.add(sweep=1)
    cells.add(sweep=2, rows=lost)
    cells.add(batch_size=16, rows=lost)
    timed, failed = cells.families().iter_rows(named=True)
    assert (timed["status"], timed["sweeps"], timed["runs"], timed["flags"]) == ("ok", 1, 2, ["partly_failed"])
    assert (failed["status"], failed["reason"], failed["sweeps"], failed["flags"]) == (
        "out_of_memory",
        "synthetic",
        0,
        [],
    )
    assert failed["median_ms"] is failed["throughput_img_s"] is failed["memory_bytes"] is None


def test_memory_that_falls_is_flagged_within_one_sweep_of_batch_sizes(cells):
    for batch_size, memory in ((1, 500), (8, 700), (16, 660), (32, 690)):
        cells.add(batch_size=batch_size, memory_device_bytes=memory * MIB)
    cells.add("graph-fp16", 32, memory_device_bytes=300 * MIB)
    flagged = {(row["runtime"], row["batch_size"]): row["flags"] for row in cells.families().iter_rows(named=True)}
    assert flagged.pop(("eager", 16)) == ["memory_falls"]
    assert set(map(tuple, flagged.values())) == {()}


def test_other_weights_or_another_stack_are_flagged(cells):
    cells.add("eager-fp16", sweep=1)
    cells.add("eager-fp16", sweep=2, driver="111.11")
    cells.add("graph-fp16", weights="1" * 64)
    cells.add("eager-fp16", model="resnet50")
    flagged = {(row["model"], row["runtime"]): row["flags"] for row in cells.families().iter_rows(named=True)}
    assert flagged == {
        ("resnet18", "eager"): ["mixed_stack", "weights_differ"],
        ("resnet18", "graph"): ["weights_differ"],
        ("resnet50", "eager"): [],
    }


def test_a_cell_that_cannot_be_is_refused_with_its_file(cells):
    file = cells.add(batch_size=512, call_ms=0.1)
    with pytest.raises(CellError, match=rf"{file.name} must go .*: H200 resnet18 eager-fp16 batch 512: .* fp16 peak"):
        cells.families()


def test_families_of_other_numbers_of_threads_stand_apart(cells, tmp_path):
    for threads, call_ms in ((0, 10.0), (1, 60.0), (4, 20.0)):
        for mode, gain in (("eager-fp32", 1), ("ort-int8", 2)):
            rows = synthetic_rows([[call_ms / gain] * 2] * 2, [call_ms / gain] * 2, enqueue=None, wait_ms=0)
            cells.add(mode, gpu="CPU", rows=rows, recipe={"threads": threads})
    cells.add("ort-fp32", gpu="CPU")
    whole = load_tables(cells, tmp_path)
    assert set(whole.measured["threads"]) == {0} and whole.measured.height == 3
    scaling = whole.thread_scaling
    assert scaling.select("mode", "threads").rows() == [(m, t) for m in ("eager-fp32", "ort-int8") for t in (1, 4, 0)]
    assert scaling["throughput_img_s"].round().to_list() == [133, 400, 800, 267, 800, 1600]
    assert scaling["intraop_threads"].to_list() == [1, 4, 8] * 2
    assert scaling["speedup_fp32"].to_list() == pytest.approx([1, 1, 1, 2, 2, 2])
    assert whole.hosts.select("cells", "intraop_threads", "device_sha256").rows() == [(7, [1, 4, 8], [])]
    ratios = whole.ratios.filter(pl.col("numerator") == "ort-int8", pl.col("denominator") == "eager-fp32")
    assert ratios.select("threads", "ratio").rows() == [(t, pytest.approx(2)) for t in (0, 1, 4)]


def test_the_number_that_stands_for_all_threads_is_the_studys():
    assert summary.ALL_THREADS == study.ALL_THREADS


def write_files(tables: dict[str, pl.DataFrame], folder: Path) -> dict[str, list[Path]]:
    files = {name: folder / f"{name}.parquet" for name in tables}
    write_tables(tables, files)
    return {name: [file] for name, file in files.items()}


def load_tables(cells: Cells, folder: Path) -> summary.Summary:
    tables = aggregate(cells.files, [], GPUS, FLOORS)
    tables |= describe_study(ROOT / "data/published/deep_gap.csv", [], {}, {})
    return load_summary(write_files(tables, folder), GPUS, REPORTING)


def test_no_cells_give_tables_without_rows(cells, tmp_path):
    whole = load_tables(cells, tmp_path)
    assert all(getattr(whole, name).is_empty() for name in (*(CELL_TABLES.keys() - {"found"}), "coverage", "design"))


def test_a_ratio_names_what_it_was_computed_from(cells):
    times = {"eager-fp32": 8.0, "eager-fp16": 4.0, "compile-fp16": 2.0, "cudnn-int8": 1.0}
    for mode, call_ms in times.items():
        for sweep in (1, 2):
            cells.add(mode, sweep=sweep, call_ms=call_ms * (1 + sweep / 100))
    runs = cells.runs()
    ratios = summarise_ratios(runs)
    assert ratios.schema == RATIOS
    order = list(times)
    pairs = {(later, earlier) for i, later in enumerate(order) for earlier in order[:i]}
    assert set(ratios.select("numerator", "denominator").rows()) == pairs
    for row in ratios.iter_rows(named=True):
        operands = {}
        for operand in ("numerator", "denominator"):
            mode = pl.format("{}-{}", "runtime", "precision") == row[operand]
            used = runs.filter(mode, pl.col("cell_file").str.contains_any(row[f"{operand}_cells"]))
            assert used.height == row[f"{operand}_runs"] == 4 and len(row[f"{operand}_cells"]) == 2
            operands[operand] = used["throughput_img_s"].to_numpy()
        assert row["ratio"] == np.median(operands["numerator"]) / np.median(operands["denominator"])
        assert (row["low"], row["high"]) == ratio_interval(**operands)
        assert row["low"] <= row["ratio"] <= row["high"]


def test_a_ratio_is_of_one_gpu_model_batch_size_and_number_of_threads(cells):
    cells.add("eager-fp32", call_ms=3.0)
    cells.add("eager-fp16", batch_size=16)
    cells.add("eager-fp16", model="resnet50")
    cells.add("eager-fp16", gpu="T4")
    assert summarise_ratios(cells.runs()).is_empty()


def test_modes_are_ordered_by_precision_and_then_by_runtime():
    chain = ["eager-fp32", "eager-tf32", "eager-fp16", "graph-fp16", "compile-fp16", "tensorrt-fp16", "ort-int8"]
    chain += ["tensorrt-int8", "cudnn-int8", "other-int8"]
    assert sorted(sorted(chain), key=lambda mode: mode_order(*mode.split("-"))) == chain


def test_hosts_count_devices_and_cells(cells):
    for sweep, device in ((1, "a"), (2, "b"), (3, "a")):
        cells.add(sweep=sweep)
        cells.footers[-1].provenance["device"]["uuid_sha256"] = device
    cells.add(sweep=4, driver="111.11", intraop_threads=None)
    hosts = merge_hosts(Rows(HOSTS, map(host_row, cells.footers)).frame())
    assert hosts.schema == HOSTS
    assert sorted(hosts.select("driver", "cells", pl.col("device_sha256").list.len()).rows()) == [
        ("000.00", 3, 2),
        ("111.11", 1, 1),
    ]
    assert sorted(hosts["intraop_threads"].to_list()) == [[], [8]]


def test_hosts_tell_the_modes_the_weights_and_the_versions_of_a_stack(cells):
    for sweep, (mode, weights, triton) in enumerate(
        (("eager-fp16", "0", "3.6"), ("compile-fp16", "1", "3.6"), ("eager-fp16", "0", "3.7")), 1
    ):
        cells.add(mode, sweep=sweep, weights=weights * 64)
        cells.footers[-1].provenance["versions"]["triton"] = triton
        cells.footers[-1].provenance["device"]["l2_cache_bytes"] = 60 << 20
    hosts = merge_hosts(Rows(HOSTS, map(host_row, cells.footers)).frame()).sort("triton")
    assert hosts["modes"].to_list() == [["compile-fp16", "eager-fp16"], ["eager-fp16"]]
    first, second = f"resnet18 {'0' * 64}", f"resnet18 {'1' * 64}"
    assert hosts["weights"].to_list() == [[first, second], [first]]
    assert hosts["triton"].to_list() == ["3.6", "3.7"] and set(hosts["l2_cache_bytes"]) == {60 << 20}
    assert hosts["onnx"].is_null().all()


def test_overhead_is_what_is_neither_waiting_nor_work(cells):
    phases = {"wait": 2.0, "load": 1.0, "context": 0.5, "fidelity": 0.25}
    phases |= dict.fromkeys(
        ("idle", "prepare", "first_call", "warm_up", "latency", "throughput", "cold", "energy"), 0.5
    )
    cells.add(sweep=1, cell_s=10.0, phases_s=phases)
    cells.add(sweep=2, cell_s=8.0, phases_s={"wait": 1.0, "latency": 4.0})
    cells.add(sweep=3, cell_s=None, phases_s=None)
    cells.add(gpu="CPU", cell_s=1.0, phases_s={})
    frame = overhead(Rows(CELL_SECONDS, map(seconds_row, cells.footers)).frame())
    assert frame.schema == OVERHEAD
    assert frame.rows() == [
        ("CPU", "resnet18", 1, 1.0, 0.0, 0.0, 1.0),
        ("H200", "resnet18", 2, 18.0, 3.0, 8.0, 3.5),
    ]

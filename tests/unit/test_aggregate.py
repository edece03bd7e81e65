"""From cell files and footers to the tidy tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from deepgap.analyse.flags import FLAGS
from deepgap.analyse.schemas import CELL_TABLES
from deepgap.analyse.store import cover, forget_future_times
from deepgap.cells.cell_file import failure_row
from deepgap.errors import CellError
from deepgap.study.words import mode_order, mode_parts
from tests.unit.cells import Cells
from tests.unit.synthetic import synthetic_recipe, synthetic_rows

MIB = 2**20
TIMES = [2.0, 2.2, 2.1, 1.9, 2.3, 2.05]


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    return Cells(tmp_path)


def test_the_process_is_the_unit_of_a_family(cells: Cells) -> None:
    """Two runs of one process that agree are one value, however many calls they have."""
    for sweep, call_ms in enumerate(TIMES, 1):
        cells.add(sweep=sweep, rows=synthetic_rows([[call_ms] * 3, [call_ms + 0.2] * 9], [call_ms, call_ms + 0.2]))
    row = cells.family()
    values = np.array(TIMES) + 0.1
    assert (row["status"], row["sweeps"], row["runs"], row["samples"]) == ("ok", 6, 12, 72)
    assert row["median_ms"] == pytest.approx(np.median(values))
    assert (row["median_low_ms"], row["median_high_ms"]) == (pytest.approx(2.0), pytest.approx(2.4))
    assert row["coverage"] == 0.96875
    rates = [np.median([80_000 / (10 * t + 0.01) for t in (call_ms, call_ms + 0.2)]) for call_ms in TIMES]
    assert row["throughput_img_s"] == pytest.approx(np.median(rates))
    assert (row["throughput_low_img_s"], row["throughput_high_img_s"]) == pytest.approx((min(rates), max(rates)))
    assert row["share_of_peak"] == pytest.approx(row["throughput_img_s"] * 2 * 1.81e9 / 989.5e12)


def test_below_six_sweeps_the_range_is_told_and_no_interval(cells: Cells) -> None:
    cells.add_sweeps("eager-fp32", TIMES[:5])
    cells.add_sweeps("eager-fp16", TIMES[:5])
    row = cells.families()[0]
    assert row["coverage"] is row["median_low_ms"] is row["throughput_high_img_s"] is row["speedup_fp32_low"] is None
    assert (row["median_least_ms"], row["median_most_ms"]) == (1.9, 2.3)
    assert row["speedup_fp32"] == pytest.approx(1.0)


def test_runs_have_the_facts_of_their_cell(cells: Cells) -> None:
    file = cells.add(rows=synthetic_rows([[1.0, 2.0, 9.0], [4.0, 5.0]], [2.0, 3.0], enqueue=0.5))
    first, second = cells.tables()["runs"].to_dicts()
    assert (first["samples"], first["median_ms"], first["enqueue_median_ms"]) == (3, 2.0, 1.0)
    assert (second["samples"], second["median_ms"], second["threads"]) == (2, 4.5, 0)
    for run in (first, second):
        assert (run["mode"], run["runtime"], run["precision"], run["layout"]) == (
            "eager-fp16",
            "eager",
            "fp16",
            "nhwc",
        )
        assert (run["cell_file"], run["first_call_ms"], run["memory_bytes"]) == (file.as_posix(), 42.0, 600 * MIB)
        assert (run["sm_clock_median_mhz"], run["sm_clock_share"], run["temperature_max_c"]) == (1900, 0.96, 50)
        assert (run["host"], run["card"], run["session"], run["place"]) == ("b" * 12, "a" * 12, "c" * 12, 1)
        assert run["flags"] == ["arms_disagree", "variable"]


def test_the_layout_is_part_of_the_mode(cells: Cells) -> None:
    cells.add("eager-fp16")
    cells.add("eager-fp16-nchw", call_ms=3.0)
    tables = cells.tables()
    assert tables["families"].select("mode", "layout").rows() == [("eager-fp16", "nhwc"), ("eager-fp16-nchw", "nchw")]
    assert tables["ratios"].select("numerator", "denominator").rows() == [("eager-fp16", "eager-fp16-nchw")]


def test_the_optional_arms_have_medians_of_their_own(cells: Cells) -> None:
    protocol = synthetic_recipe("H200", "resnet18", "eager-fp16", 8)["protocol"] | {"arms": ["cold"]}
    rows = synthetic_rows([[2.0, 2.0]] * 2, [2.0] * 2, cold_ms=[[2.5, 2.6, 2.9], [2.7, 2.8, 2.9]])
    cells.add(rows=rows, recipe={"protocol": protocol})
    row = cells.family()
    assert (row["median_ms"], row["cold_median_ms"]) == (2.0, pytest.approx(2.7))
    assert row["end_to_end_median_ms"] is row["burst_img_s"] is None


def tailed(cells: Cells, tails: list[float], calls: int = 60) -> dict[str, Any]:
    """A family whose processes have two runs of so many calls, a twentieth of them slower by a factor."""
    protocol = synthetic_recipe("H200", "resnet18", "eager-fp16", 8)["protocol"] | {"timed_iterations": 200}
    for sweep, tail in enumerate(tails, 1):
        times = [2.0] * (calls - calls // 20) + [2.0 * tail] * (calls // 20)
        cells.add(sweep=sweep, rows=synthetic_rows([times] * 2, [2.0] * 2), recipe={"protocol": protocol})
    return cells.family()


def test_a_p99_is_told_where_the_processes_agree(cells: Cells) -> None:
    row = tailed(cells, [1.2, 1.21, 1.2])
    assert row["p99_ms"] == pytest.approx(2.42, abs=0.01) and row["tail_note"] is None
    assert (row["tail_least"], row["tail_most"]) == (pytest.approx(1.2), pytest.approx(1.21))
    assert row["tail_processes"] == 3


def test_a_p99_is_absent_with_its_reason(cells: Cells, tmp_path: Path) -> None:
    row = tailed(cells, [1.2, 1.5, 1.2])
    assert row["p99_ms"] is None and "over 1.05 times the lowest" in row["tail_note"]
    assert (row["tail_least"], row["tail_most"]) == (pytest.approx(1.2), pytest.approx(1.5))
    few = tailed(Cells(tmp_path / "few"), [1.2, 1.2], calls=40)
    assert few["p99_ms"] is few["tail_least"] is None
    assert few["tail_note"] == "2 of 2 processes have under 100 calls"
    assert tailed(Cells(tmp_path / "one"), [1.2])["tail_note"] == "one process has no other to agree with"


def window(joules_per_image: float, throughput: float, above: float | None = None) -> dict[str, Any]:
    """Energy of two seconds at a throughput."""
    joules = joules_per_image * throughput * 2
    return {"window_s": 2.0, "images": throughput * 2, "joules": joules, "joules_per_image": joules_per_image} | {
        "joules_per_image_above_idle": above,
        "integral_over_counter": 0.99,
        "source": "nvml",
    }


def test_energy_has_an_interval_and_holds_with_the_throughput(cells: Cells) -> None:
    for sweep, call_ms in enumerate(TIMES, 1):
        rate = 80_000 / (10 * call_ms + 0.01)
        cells.add(sweep=sweep, call_ms=call_ms, energy=window(0.1 + 0.01 * sweep, rate, above=0.05))
    row = cells.family()
    assert row["energy_j_per_image"] == pytest.approx(0.135)
    assert (row["energy_low_j_per_image"], row["energy_high_j_per_image"]) == pytest.approx((0.11, 0.16))
    assert (row["images_per_joule_low"], row["images_per_joule_high"]) == pytest.approx((1 / 0.16, 1 / 0.11))
    assert row["throughput_img_s"] / row["power_w"] == pytest.approx(row["images_per_joule"], rel=1e-12)
    assert (row["energy_sweeps"], row["energy_note"], row["integral_over_counter"]) == (6, None, 0.99)
    assert row["energy_above_idle_j_per_image"] == 0.05
    for run in cells.tables()["runs"].iter_rows(named=True):
        assert run["throughput_img_s"] / run["power_w"] == pytest.approx(1 / run["energy_j_per_image"], rel=1e-9)


def test_energy_that_is_not_known_is_null_with_its_reason(cells: Cells) -> None:
    cells.add(batch_size=1, energy={"absent": "no counter"})
    cells.add(batch_size=2, energy=window(2.0, 400.0))
    cells.add(batch_size=4, energy=None)
    none, without_idle, silent = cells.families()
    names = ("energy_j_per_image", "energy_above_idle_j_per_image", "images_per_joule", "power_w")
    assert [none[name] for name in names] == [silent[name] for name in names] == [None] * 4
    assert (none["energy_note"], silent["energy_note"]) == ("no counter", "not recorded")
    assert (without_idle["images_per_joule"], without_idle["energy_above_idle_j_per_image"]) == (0.5, None)


def test_memory_is_the_most_of_any_cell(cells: Cells) -> None:
    cells.add(sweep=1, memory={"device_peak_bytes": 500 * MIB, "allocated_peak_bytes": 90, "context_bytes": 300})
    cells.add(sweep=2, memory={"device_peak_bytes": 400 * MIB, "allocated_peak_bytes": 100, "context_bytes": 302})
    row = cells.family()
    names = ("memory_bytes", "memory_allocated_bytes", "memory_context_bytes")
    assert tuple(row[name] for name in names) == (500 * MIB, 100, 301)


def test_flags_are_the_union_over_cells_and_drop_nothing(cells: Cells) -> None:
    cells.add(sweep=1, steady=False)
    cells.add(sweep=2, steady=False, fidelity={"top1_agreement": 0.5})
    cells.add(sweep=3)
    cells.add("graph-fp16")
    row, clean = cells.families()
    assert (row["flags"], row["flagged_cells"], row["sweeps"]) == (["low_fidelity", "unsteady"], 2, 3)
    assert (row["primary"], clean["primary"]) == (False, True)
    assert set(row["flags"]) <= set(FLAGS)


def test_a_family_that_failed_in_part_keeps_its_numbers_and_says_so(cells: Cells) -> None:
    cells.add(sweep=1)
    cells.add(sweep=2, rows=failure_row("out_of_memory", "synthetic"))
    cells.add(batch_size=16, rows=failure_row("refused", "an answer is not finite"))
    timed, failed = cells.families()
    assert (timed["status"], timed["sweeps"], timed["runs"], timed["flags"]) == ("ok", 1, 2, ["partly_failed"])
    assert (failed["status"], failed["reason"], failed["sweeps"]) == ("refused", "an answer is not finite", 0)
    assert failed["median_ms"] is failed["throughput_img_s"] is failed["memory_bytes"] is None
    assert not failed["primary"] and failed["flags"] == []
    assert cells.tables()["found"].row(0) == ("H200", "resnet18", "eager-fp16", 3, 2, 1)


def test_memory_that_falls_is_flagged_within_one_curve(cells: Cells) -> None:
    for batch_size, memory in ((1, 500), (8, 700), (16, 660), (32, 690)):
        cells.add(batch_size=batch_size, memory={"device_peak_bytes": memory * MIB})
    cells.add("graph-fp16", 32, memory={"device_peak_bytes": 300 * MIB})
    flagged = {(row["mode"], row["batch_size"]): row["flags"] for row in cells.families()}
    assert flagged.pop(("eager-fp16", 16)) == ["memory_falls"]
    assert set(map(tuple, flagged.values())) == {()}


def test_what_differs_within_a_family_is_flagged(cells: Cells) -> None:
    cells.add("eager-fp16", sweep=1)
    cells.add("eager-fp16", sweep=2, device={"driver": "111.11"})
    cells.add("graph-fp16", sweep=1, footer={"weights_sha256": "1" * 64})
    cells.add("cudnn-int8", sweep=1, engine={"identity": "a", "build_s": 1.0})
    cells.add("cudnn-int8", sweep=2, engine={"identity": "a", "build_s": 2.0})
    cells.add("cudnn-int8", 16, engine={"identity": "b", "build_s": 3.0})
    cells.add("compile-fp16", sweep=1, device={"power_limit_w": 700.0})
    cells.add("compile-fp16", sweep=2, device={"power_limit_w": 350.0})
    flagged = {(row["mode"], row["batch_size"]): set(row["flags"]) for row in cells.families()}
    assert flagged == {
        ("eager-fp16", 8): {"mixed_stack", "weights_differ"},
        ("graph-fp16", 8): {"weights_differ"},
        ("cudnn-int8", 8): {"mixed_engine", "weights_differ"},
        ("cudnn-int8", 16): {"weights_differ"},
        ("compile-fp16", 8): {"mixed_devices", "weights_differ"},
    }


def test_cells_of_another_device_are_never_pooled(cells: Cells) -> None:
    cells.add("eager-fp32", sweep=1, gpu="CPU")
    other = cells.add("eager-fp32", sweep=2, gpu="CPU", host={"cpu": "Another", "logical_cores": 24})
    with pytest.raises(CellError, match=rf"{other.name} is of another device than .*cpu Another, logical_cores 24"):
        cells.tables()


def test_a_card_with_another_memory_is_another_device(cells: Cells) -> None:
    cells.add(sweep=1, device={"memory_bytes": 141 << 30})
    cells.add(sweep=2, device={"memory_bytes": (141 << 30) - (1 << 20)})
    assert cells.family()["sweeps"] == 2
    cells.add(sweep=3, device={"memory_bytes": 80 << 30})
    with pytest.raises(CellError, match=r"move those of one to a site, results/H200@name/"):
        cells.tables()


def test_launch_bound_families_are_told_by_host_and_never_pooled(cells: Cells) -> None:
    for sweep in range(1, 10):
        slow, host = (1.0, "d" * 12) if sweep > 6 else (0.0, "b" * 12)
        rows = synthetic_rows([[2.0 + slow + sweep / 100] * 2] * 2, [2.0 + slow] * 2, enqueue=0.9)
        cells.add(sweep=sweep, rows=rows, host={"host_sha256": host})
        cells.add("graph-fp16", sweep=sweep, call_ms=1.0, host={"host_sha256": host})
    eager, graph = cells.families()
    assert (eager["hosts"], eager["host"], eager["sweeps"], eager["median_most_ms"]) == (2, "b" * 12, 6, 2.06)
    assert {"launch_bound", "mixed_hosts"} <= set(eager["flags"]) and not eager["primary"]
    assert (graph["hosts"], graph["host"], graph["sweeps"], graph["flags"]) == (2, None, 9, [])
    tables = cells.tables()
    hosts = tables["by_host"].filter(mode="eager-fp16").select("host", "sweeps", "median_ms").rows()
    assert hosts == [("b" * 12, 6, pytest.approx(2.035)), ("d" * 12, 3, pytest.approx(3.08))]
    (ratio,) = tables["ratios"].to_dicts()
    assert (ratio["values"], ratio["launch_bound"], ratio["ratio"]) == (6, True, pytest.approx(2.0, rel=0.01))


def test_a_cell_that_cannot_be_is_refused_with_its_file(cells: Cells) -> None:
    file = cells.add(batch_size=512, call_ms=0.1)
    with pytest.raises(CellError, match=rf"{file.name} must go .*: H200 resnet18 eager-fp16 batch 512: .* fp16 peak"):
        cells.tables()


def test_families_of_other_numbers_of_threads_stand_apart(cells: Cells, tmp_path: Path) -> None:
    for threads, call_ms in ((0, 10.0), (1, 60.0), (4, 20.0)):
        for mode, gain in (("eager-fp32", 1), ("ort-int8", 2)):
            rows = synthetic_rows([[call_ms / gain] * 2] * 2, [call_ms / gain] * 2, enqueue=None, wait_ms=0)
            cells.add(mode, gpu="CPU", rows=rows, recipe={"threads": threads})
    cells.add("ort-fp32", gpu="CPU")
    whole = cells.summary(tmp_path)
    assert set(whole.measured["threads"]) == {0} and whole.measured.height == 3
    scaling = whole.thread_scaling
    assert scaling.select("mode", "threads").rows() == [(m, t) for m in ("eager-fp32", "ort-int8") for t in (1, 4, 0)]
    assert scaling["throughput_img_s"].round().to_list() == [133, 400, 800, 267, 800, 1600]
    assert scaling["intraop_threads"].to_list() == [1, 4, 8] * 2
    assert scaling["speedup_fp32"].to_list() == pytest.approx([1, 1, 1, 2, 2, 2])
    assert whole.sessions.select("cells", "intraop_threads", "cards").rows() == [(7, [1, 4, 8], [])]


def test_no_cells_give_tables_without_rows(cells: Cells, tmp_path: Path) -> None:
    whole = cells.summary(tmp_path)
    assert all(getattr(whole, name).is_empty() for name in (*(CELL_TABLES.keys() - {"found"}), "coverage", "design"))


def test_a_ratio_is_paired_by_block(cells: Cells) -> None:
    """What a sweep's moment does to both modes is not in their ratio."""
    moments = [1.0, 1.5, 0.8, 1.2, 0.9, 1.1]
    cells.add_sweeps("eager-fp32", [8.0 * moment for moment in moments])
    cells.add_sweeps("eager-fp16", [2.0 * moment for moment in moments])
    (ratio,) = cells.tables()["ratios"].to_dicts()
    assert (ratio["numerator"], ratio["denominator"]) == ("eager-fp16", "eager-fp32")
    assert (ratio["ratio"], ratio["low"], ratio["high"]) == pytest.approx((4.0, 4.0, 4.0), rel=0.005)
    assert (ratio["values"], ratio["paired"], ratio["primary"]) == (6, True, True)
    for operand in ("numerator", "denominator"):
        assert [name.split("_")[3].split(".")[0] for name in ratio[f"{operand}_cells"]] == [
            f"s{n}" for n in range(1, 7)
        ]
    fp16, fp32 = cells.families()
    assert (fp16["speedup_fp32"], fp32["speedup_fp32"]) == (pytest.approx(4.0, rel=0.005), 1.0)


def test_modes_of_other_sessions_are_no_pairs(cells: Cells) -> None:
    cells.add_sweeps("eager-fp32", [8.0 * (1 + n / 100) for n in range(6)])
    cells.add_sweeps("eager-fp16", [2.0] * 6, session="d" * 12)
    (ratio,) = cells.tables()["ratios"].to_dicts()
    assert (ratio["paired"], ratio["values"]) == (False, 6)
    assert (ratio["low"], ratio["high"]) == pytest.approx((4.0, 4.2), rel=0.005)


def test_a_ratio_is_of_one_gpu_model_batch_size_and_number_of_threads(cells: Cells) -> None:
    cells.add("eager-fp32", call_ms=3.0)
    cells.add("eager-fp16", batch_size=16)
    cells.add("eager-fp16", model="resnet50")
    cells.add("eager-fp16", gpu="T4")
    assert cells.tables()["ratios"].is_empty()


def test_batch_sizes_tie_by_paired_comparison(cells: Cells) -> None:
    moments = [1.0, 1.3, 0.8, 1.2, 0.9, 1.1]
    slower = [1.001, 0.999, 1.002, 1.0, 1.001, 1.003]
    for batch_size, factors in ((8, [1.5] * 6), (16, slower), (32, [1.0] * 6), (64, [1.01] * 6)):
        calls = [batch_size * moment * factor / 8 for moment, factor in zip(moments, factors, strict=True)]
        cells.add_sweeps("eager-fp16", calls, batch_size)
    rows = {row["batch_size"]: row for row in cells.families()}
    assert {size: (row["best"], row["tied"]) for size, row in rows.items()} == {
        8: (False, False),
        16: (False, True),
        32: (True, True),
        64: (False, False),
    }
    assert rows[64]["of_best"] == pytest.approx(1 / 1.01, rel=1e-3)
    assert rows[64]["of_best_high"] < 1 < rows[16]["of_best_high"]


def test_modes_are_ordered_by_precision_runtime_and_layout() -> None:
    chain = ["eager-fp32", "eager-tf32", "eager-fp16-nchw", "graph-fp16", "compile-fp16", "tensorrt-fp16", "ort-int8"]
    chain += ["tensorrt-int8", "cudnn-int8", "other-int8"]
    assert sorted(sorted(chain), key=lambda mode: mode_order(*mode_parts(mode))) == chain


def test_sessions_are_told_with_their_cards_and_load(cells: Cells) -> None:
    for sweep, card in ((1, "a"), (2, "b"), (3, "a")):
        launch = {"enqueue_ns": 1000.0 + sweep, "device_ns": 2000.0}
        cells.add(sweep=sweep, device={"uuid_sha256": card}, host_load=float(sweep), launch=launch)
    cells.add("graph-fp16", session="d" * 12, host={"host_sha256": "e" * 12}, host_load=9.0)
    first, second = cells.tables()["sessions"].to_dicts()
    assert (first["session"], first["cells"], first["cards"], first["sweeps"]) == ("c" * 12, 3, ["a", "b"], [1, 2, 3])
    assert (first["load_least"], first["load_most"]) == (1.0, 3.0)
    assert (first["launch_enqueue_least_ns"], first["launch_enqueue_most_ns"]) == (1001.0, 1003.0)
    assert (second["host"], second["modes"], second["models"]) == ("e" * 12, ["graph-fp16"], ["resnet18"])
    assert "torch 0.0" in first["versions"] and first["weights"] == [f"resnet18 {'0' * 64}"]


def test_sessions_hold_the_libraries_of_their_modes(cells: Cells) -> None:
    file = cells.add("cudnn-int8", host={"limits": {"usable_cores": 4.0, "cpu_quota_cores": None}})
    assert file.exists()
    (row,) = cells.tables()["sessions"].to_dicts()
    assert row["usable_cores"] == 4.0 and row["cpu_quota_cores"] is None


def test_cost_is_told_phase_by_phase(cells: Cells) -> None:
    cells.add(sweep=1, cell_s=10.0, phases_s={"wait": 2.0, "load": 1.0, "latency": 4.0})
    cells.add(sweep=2, cell_s=8.0, phases_s={"wait": 1.0, "latency": 4.0})
    cells.add(sweep=3, cell_s=None, phases_s=None)
    table = cells.tables()["cost"]
    assert {row["phase"]: row["seconds"] for row in table.iter_rows(named=True)} == {
        "cell": 18.0,
        "wait": 3.0,
        "load": 1.0,
        "latency": 8.0,
        "other": 6.0,
    }
    assert set(table["cells"]) == {2}


def test_a_merge_depends_neither_on_the_order_nor_on_the_times_of_files(cells: Cells) -> None:
    cells.add_sweeps("eager-fp32", TIMES)
    cells.add_sweeps("eager-fp16", TIMES[::-1])
    before = cells.tables()
    for place, file in enumerate(cells.files):
        os.utime(file, (4e9 - place, 4e9 - place))
    cells.files.reverse()
    after = cells.tables()
    assert all(before[name].equals(after[name]) for name in before)


def test_coverage_counts_what_is_not_there_as_nothing() -> None:
    expected = pl.DataFrame(
        [{"gpu": "T4", "model": "resnet18", "mode": "eager-fp32", "expected": 3, "unlisted": 0}],
        schema={"gpu": pl.String, "model": pl.String, "mode": pl.String}
        | dict.fromkeys(("runtime", "precision", "layout"), pl.String)
        | {"expected": pl.Int64, "unlisted": pl.Int64},
    )
    (row,) = cover(expected, CELL_TABLES["found"].to_frame()).to_dicts()
    assert (row["expected"], row["found"], row["failed"], row["refused"]) == (3, 0, 0, 0)


def test_times_in_the_future_are_forgotten(tmp_path: Path) -> None:
    """A merge from a host whose clock is ahead ended with a clock skew until that time had passed."""
    ahead, behind = tmp_path / "ahead", tmp_path / "behind"
    for file, at in ((ahead, 4e9), (behind, 1e9)):
        file.write_bytes(b"")
        os.utime(file, (at, at))
    forget_future_times([ahead, behind, tmp_path / "gone"], now_s=2e9)
    assert (ahead.stat().st_mtime, behind.stat().st_mtime) == (2e9, 1e9)

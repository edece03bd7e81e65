"""From telemetry files and the study's axes to the tidy tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deepgap.analyse.aggregate import aggregate, read_measurements
from deepgap.analyse.design import describe_design, describe_study
from deepgap.analyse.schemas import DESIGN, TELEMETRY
from deepgap.analyse.store import load_summary, write_tables
from deepgap.analyse.telemetry import summarise_telemetry, throttle_reasons
from deepgap.cells.cell_file import failure_row
from deepgap.cells.telemetry_file import CLOCK_EVENT_REASONS, SAMPLES, write_telemetry
from deepgap.errors import TelemetryError
from deepgap.runtimes import load_runtimes
from deepgap.study.checks import load_study
from tests.unit.synthetic import (
    GPUS,
    REPORTING,
    ROOT,
    synthetic_footer,
    synthetic_recipe,
    synthetic_rows,
    write_synthetic_cell,
)

CAP, IDLE, THERMAL = (CLOCK_EVENT_REASONS[name] for name in ("sw_power_cap", "gpu_idle", "sw_thermal_slowdown"))


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Write a cell of `synthetic_rows`, timed from 0 to 6 s, and return the file of its samples."""
    for name in ("cells", "telemetry"):
        (tmp_path / name).mkdir()

    def write(samples: list[dict[str, Any]] | None, sweep: int = 1, rows: pl.DataFrame | None = None) -> Path:
        recipe = synthetic_recipe("H200", "resnet18", "eager-fp16", 8, sweep=sweep)
        timed = synthetic_rows([[2.0, 2.0]] * 2, [2.0] * 2).with_columns(pl.col("start_ms") * 1000)
        cell = write_synthetic_cell(tmp_path / "cells", timed if rows is None else rows, synthetic_footer(recipe))
        file = tmp_path / "telemetry" / cell.name
        if samples is not None:
            about = {"recipe": recipe, "clock_zero_unix_s": 1000.0 * sweep}
            write_telemetry(file, pl.DataFrame(samples, schema=SAMPLES), about)
        return file

    return write


def cells(folder: Path) -> pl.DataFrame:
    return read_measurements(sorted((folder / "cells").glob("*")), GPUS, {}).cells.frame()


def every(step_ms: float, end_ms: float, **values: Any) -> list[dict[str, Any]]:
    """Samples at equal times from half a step on."""
    return [{"time_ms": step_ms * (n + 0.5), **values} for n in range(round(end_ms / step_ms))]


def test_samples_become_seconds_with_medians_extremes_and_all_reasons(add, tmp_path):
    samples = every(100.0, 2000.0, power_instant_w=400.0, power_w=1.0, temperature_c=50, utilisation_percent=90)
    clocks = [1900] * 20
    clocks[3], clocks[12] = 1200, 1980
    masks = [IDLE] * 20
    masks[4], masks[5] = CAP, THERMAL | IDLE
    for sample, clock, mask in zip(samples, clocks, masks, strict=True):
        sample |= {"sm_clock_mhz": clock, "clock_event_reasons": mask}
    frame = summarise_telemetry([add(samples)], cells(tmp_path))
    assert frame.schema == TELEMETRY
    first, second = frame.iter_rows(named=True)
    assert (first["gpu"], first["model"], first["mode"], first["batch_size"]) == ("H200", "resnet18", "eager-fp16", 8)
    assert (first["session"], first["card"], first["sm_clock_share"]) == ("c" * 12, "a" * 12, 1900 / 1980)
    assert (first["sm_clock_mhz"], first["sm_clock_min_mhz"], first["sm_clock_max_mhz"]) == (1900.0, 1200, 1900)
    assert (second["sm_clock_min_mhz"], second["sm_clock_max_mhz"]) == (1900, 1980)
    assert (first["throttle_reasons"], second["throttle_reasons"]) == (["sw_power_cap", "sw_thermal_slowdown"], [])
    assert (first["power_w"], first["power_semantics"]) == (400.0, "NVML_FI_DEV_POWER_INSTANT")
    assert (first["time_s"], second["time_s"], first["samples"]) == (0.05, 1.05, 10)
    assert [row["duration_s"] for row in (first, second)] == [pytest.approx(1.0)] * 2
    assert first["started_unix_s"] == 1000.0


def test_the_power_is_what_the_device_tells(add, tmp_path):
    (row,) = summarise_telemetry([add(every(100.0, 500.0, power_w=70.0))], cells(tmp_path)).to_dicts()
    assert (row["power_w"], row["power_semantics"]) == (70.0, "nvmlDeviceGetPowerUsage")
    assert row["temperature_c"] is row["sm_clock_mhz"] is row["sm_clock_min_mhz"] is None
    assert row["throttle_reasons"] == []


def test_a_second_that_the_timed_part_ends_in_is_two_rows(add, tmp_path):
    frame = summarise_telemetry([add(every(100.0, 7000.0, temperature_c=40))], cells(tmp_path))
    timed, idle = frame.filter("timed"), frame.filter(~pl.col("timed"))
    # The last call starts at 5 s and takes 20 ms.
    assert timed["duration_s"].sum() == pytest.approx(5.0)
    assert idle["time_s"].to_list() == [5.05, 6.05] and idle["duration_s"].sum() == pytest.approx(2.0)


def test_a_cell_that_failed_has_no_timed_second(add, tmp_path):
    file = add(every(100.0, 1000.0), rows=failure_row("out_of_memory", "synthetic"))
    assert summarise_telemetry([file], cells(tmp_path))["timed"].to_list() == [False]


def test_samples_of_absent_cells_are_left_out_and_cells_without_samples_are_no_error(add, tmp_path):
    kept, lost = add(every(100.0, 1000.0), sweep=1), add(every(100.0, 1000.0), sweep=2)
    add(None, sweep=3)
    (tmp_path / "cells" / lost.name).unlink()
    assert summarise_telemetry([kept, lost], cells(tmp_path))["sweep"].to_list() == [1]
    assert summarise_telemetry([], cells(tmp_path)).equals(TELEMETRY.to_frame())


def test_samples_of_another_cell_are_refused(add, tmp_path):
    one, other = add(every(100.0, 1000.0), sweep=1), add(every(100.0, 1000.0), sweep=2)
    one.write_bytes(other.read_bytes())
    with pytest.raises(TelemetryError, match=rf"{one.name} does not hold the samples of the cell in its name"):
        summarise_telemetry([one], cells(tmp_path))


def test_only_reasons_that_hold_the_clocks_down_count():
    everything = sum(CLOCK_EVENT_REASONS.values())
    found = throttle_reasons(everything)
    assert found == sorted(set(CLOCK_EVENT_REASONS) - {"gpu_idle", "applications_clocks_setting"})
    assert throttle_reasons(None) == throttle_reasons(IDLE) == []


def axes_of(config: dict[str, Any], schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """As the rule `describe_study` gives them."""
    study = load_study(config, schema, GPUS, load_runtimes())
    return {
        gpu: {
            "models": [model.key for model in study.models_of(gpu)],
            "modes": [mode.name for mode in study.modes_of(gpu)],
            "batch_sizes": study.batch_sizes_of(gpu),
            "protocol": study.protocol(gpu).name,
            "thread_counts": study.axes(gpu)["thread_counts"],
            "counts": asdict(study.protocol(gpu)),
        }
        for gpu in study.platforms
    }


def test_the_design_is_the_studys_and_its_cells_add_up(config, config_schema):
    stop = {"half_width": 0.01, "minimum_iterations": 70, "minimum_ms": 100, "maximum_s": 2.0}
    counts = {"warmup_iterations": 3, "timed_iterations": 90, "runs": 2, "fidelity_images": 8, "throughput_s": 2.0}
    grids = [{"models": ["resnet18"], "modes": ["eager-fp16"], "batch_sizes": [1, 2, 4]}]
    threads = {"modes": ["eager-fp32", "ort-int8"], "thread_counts": {"ort-int8": [1, "all"]}, "protocol": "plain"}
    changed = config | {
        "protocol": "stopped",
        "protocols": {"stopped": counts | {"sweeps": 4, "stop": stop}, "plain": counts | {"sweeps": 1}},
        "overrides": {"CPU": threads, "H200": {"grids": grids}},
    }
    study = load_study(changed, config_schema, GPUS, load_runtimes())
    design = describe_design(axes_of(changed, config_schema))
    assert design.schema == DESIGN and design["gpu"].to_list() == study.platforms
    expected = pl.DataFrame(study.expected_counts()).group_by("gpu").agg(pl.col("expected").sum())
    for row in design.iter_rows(named=True):
        settings = sum(len(threads.split(", ")) for threads in row["threads"])
        cells = len(row["models"]) * settings * len(row["batch_sizes"]) * row["sweeps"]
        assert cells == expected.filter(pl.col("gpu") == row["gpu"])["expected"].item()
    h200, cpu = (design.row(by_predicate=pl.col("gpu") == gpu, named=True) for gpu in ("H200", "CPU"))
    assert (h200["minimum_iterations"], h200["timed_iterations"], h200["half_width"]) == (70, 90, 0.01)
    assert (h200["sweeps"], h200["maximum_s"], h200["throughput_s"], h200["batch_sizes"]) == (4, 2.0, 2.0, [1, 2, 4])
    assert (cpu["modes"], cpu["threads"]) == (threads["modes"], ["all", "1, all"])
    assert (cpu["sweeps"], cpu["maximum_s"], cpu["minimum_iterations"]) == (1, None, None)


def test_both_tables_are_written_and_read_back(add, tmp_path, config, config_schema):
    file = add(every(100.0, 1000.0, temperature_c=40))
    files = {"cells": sorted((tmp_path / "cells").glob("*")), "samples": [file]}
    tables = aggregate(**files, gpus=GPUS, floors={})
    tables |= describe_study(
        ROOT / "data/published/deep_gap.csv",
        ROOT / "data/published/mlperf_resnet50.csv",
        [],
        {},
        axes_of(config, config_schema),
    )
    places = {name: tmp_path / f"{name}.parquet" for name in tables}
    write_tables(tables, places)
    whole = load_summary({name: [place] for name, place in places.items()}, GPUS, REPORTING)
    assert whole.telemetry["temperature_c"].to_list() == [40.0]
    assert whole.design.height == len(axes_of(config, config_schema)) > 1

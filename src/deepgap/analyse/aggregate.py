"""From the cells of a GPU and model to the tidy tables of `deepgap.analyse.summary`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.analyse.flags import falling_memory
from deepgap.analyse.measurements import (
    CELL_FACTS,
    FIDELITY_KEY,
    RUN_KEY,
    FamilyKey,
    Measurements,
    family_key,
    read_measurements,
)
from deepgap.analyse.summary import (
    COVERAGE_KEY,
    FAMILIES,
    FIDELITY,
    FOUND,
    KEY,
    OVERHEAD,
    RATIOS,
    RUNS,
    merge_hosts,
)
from deepgap.analyse.telemetry import summarise_telemetry
from deepgap.cells.bounds import peak_share
from deepgap.cells.cell_file import OK
from deepgap.stats import Floats, ratio_interval, run_interval
from deepgap.study.gpus import Gpu
from deepgap.study.words import mode_order

BASELINE = {"runtime": "eager", "precision": "fp32"}


def summarise_runs(measurements: Measurements) -> pl.DataFrame:
    """One row a run of every timed cell; see `summary.RUNS`."""
    facts = measurements.cells.select(*KEY, "sweep", *CELL_FACTS)
    return measurements.runs.join(facts, on=[*KEY, "sweep"]).select(RUNS.names()).sort(RUN_KEY)


def summarise_families(measurements: Measurements, gpus: Mapping[str, Gpu]) -> pl.DataFrame:
    """One row a cell family; see `summary.FAMILIES`."""
    throughputs = {
        key: group["throughput_img_s"].to_numpy()
        for key, group in measurements.runs.partition_by(list(KEY), maintain_order=True, as_dict=True).items()
    }
    rows = []
    for found in measurements.families.iter_rows(named=True):
        row = found | {"flags": set(found["flags"])}
        if row["status"] == OK:
            baseline = throughputs.get(family_key(row | BASELINE))
            row |= _throughput_columns(throughputs[family_key(row)], baseline)
            row["share_of_peak"] = peak_share(
                row["model"], row["precision"], row["throughput_img_s"], gpus[row["gpu"]]
            )
        rows.append(row)
    families = {family_key(row): row for row in rows}
    for key, flag in _flags_between([row for row in rows if row["status"] == OK], gpus):
        families[key]["flags"].add(flag)
    tidy = [{name: row.get(name) for name in FAMILIES} | {"flags": sorted(row["flags"])} for row in rows]
    return pl.DataFrame(tidy, schema=FAMILIES).sort(list(KEY))


def _flags_between(rows: Sequence[Mapping[str, Any]], gpus: Mapping[str, Gpu]) -> Iterator[tuple[FamilyKey, str]]:
    """The flags that only several timed families together show, each with the family that has it."""
    sweeps: dict[FamilyKey, dict[int, int | None]] = {}
    for row in rows:
        if gpus[row["gpu"]].device == "cuda":
            sweeps.setdefault(_sweep_key(row), {})[row["batch_size"]] = row["memory_bytes"]
    falling = {key: falling_memory(memory_bytes) for key, memory_bytes in sweeps.items()}
    weights: dict[FamilyKey, set[str]] = {}
    for row in rows:
        weights.setdefault((row["gpu"], row["model"]), set()).update(row["weights"])
    for row in rows:
        key = family_key(row)
        if row["batch_size"] in falling.get(_sweep_key(row), ()):
            yield key, "memory_falls"
        if len(weights[row["gpu"], row["model"]]) > 1:
            yield key, "weights_differ"


def _sweep_key(row: Mapping[str, Any]) -> FamilyKey:
    return tuple(row[name] for name in KEY if name != "batch_size")


def _throughput_columns(values: Floats, baseline: Floats | None) -> dict[str, Any]:
    low, high = run_interval(values) or (None, None)
    columns: dict[str, Any] = {
        "throughput_img_s": float(np.median(values)),
        "throughput_low_img_s": low,
        "throughput_high_img_s": high,
    }
    if baseline is not None:
        low, high = ratio_interval(values, baseline) or (None, None)
        columns["speedup_fp32"] = float(np.median(values) / np.median(baseline))
        columns["speedup_fp32_low"], columns["speedup_fp32_high"] = low, high
    return columns


def summarise_ratios(runs: pl.DataFrame) -> pl.DataFrame:
    """One row a pair of modes, the later one of `mode_order` over the earlier; see `summary.RATIOS`."""
    place = ["gpu", "model", "batch_size", "threads"]
    rows = []
    for key, here in runs.group_by(place, maintain_order=True):
        modes = here.partition_by("runtime", "precision", maintain_order=True, as_dict=True)
        for earlier, later in combinations(sorted(modes, key=lambda mode: mode_order(*mode)), 2):
            top, bottom = modes[later]["throughput_img_s"].to_numpy(), modes[earlier]["throughput_img_s"].to_numpy()
            low, high = ratio_interval(top, bottom) or (None, None)
            row = dict(zip(place, key, strict=True))
            row |= {"ratio": float(np.median(top) / np.median(bottom)), "low": low, "high": high}
            for operand, mode in (("numerator", later), ("denominator", earlier)):
                row[operand] = "-".join(mode)
                row[f"{operand}_runs"] = modes[mode].height
                row[f"{operand}_cells"] = [Path(file).stem for file in sorted(set(modes[mode]["cell_file"]))]
            rows.append(row)
    return pl.DataFrame(rows, schema=RATIOS).sort(*place, "numerator", "denominator")


def summarise_fidelity(cells: pl.DataFrame) -> pl.DataFrame:
    """One row a gpu, model and mode of the cells that were compared with FP32; see `summary.FIDELITY`.

    Small batches are checked on fewer images than others. A share of one set of images cannot be held against one of
    another, so a row rests on the cells with the most.

    Args:
        cells: in `CELL_FIDELITY`.
    """
    finite = pl.col("all_finite").all()
    chosen = pl.col("images").eq_missing(pl.col("images").max())
    same = (pl.col("centred_cosine") == 1) & pl.col("centred_sqnr_db").is_null()

    def of_chosen(name: str) -> pl.Expr:
        return pl.col(name).filter(chosen)

    return (
        cells.group_by(FIDELITY_KEY)
        .agg(
            pl.len().cast(pl.Int64).alias("compared_cells"),
            chosen.sum().cast(pl.Int64).alias("cells"),
            pl.col("images").max(),
            pl.when(finite).then(of_chosen("centred_sqnr_db").min()).alias("sqnr_db"),
            pl.when(finite).then(of_chosen("centred_cosine").min()).alias("cosine"),
            of_chosen("top1_agreement").min(),
            of_chosen("top1_accuracy").min().alias("top1_accuracy_low"),
            of_chosen("top1_accuracy").max().alias("top1_accuracy_high"),
            of_chosen("reference_top1_accuracy").min(),
            same.fill_null(False).filter(chosen).all().alias("identical"),
            finite,
        )
        .select(FIDELITY.names())
        .sort(FIDELITY_KEY)
    )


def count_cells(cells: pl.DataFrame) -> pl.DataFrame:
    """How many of these cells there are a mode; see `summary.FOUND`.

    Args:
        cells: in `measurements.CELLS`.
    """
    key = list(COVERAGE_KEY)
    return cells.group_by(key).agg(pl.len().cast(pl.Int64).alias("found")).select(FOUND.names()).sort(key)


def overhead(cells: pl.DataFrame) -> pl.DataFrame:
    """What a cell's process does beside waiting, preparing and timing, by gpu and model; see `summary.OVERHEAD`.

    Args:
        cells: in `CELL_SECONDS`.
    """
    rest = pl.col("cell_s") - pl.col("wait_s") - pl.col("work_s")
    return (
        cells.group_by("gpu", "model")
        .agg(
            pl.len().cast(pl.Int64).alias("cells"),
            pl.col("cell_s", "wait_s", "work_s").sum(),
            rest.mean().alias("overhead_s_per_cell"),
        )
        .select(OVERHEAD.names())
        .sort("gpu", "model")
    )


def aggregate(
    cells: Sequence[Path], samples: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float]
) -> dict[str, pl.DataFrame]:
    """The tables of `summary.CELL_TABLES` of these cells, by name.

    Args:
        cells: all of a GPU and model that the study lists: `results/<gpu>/cells/<cell-id>.<recipe>.parquet`.
        samples: see `summarise_telemetry`.
        gpus: the hardware facts, by key, sites included.
        floors: see `flags.cell_flags`.

    Raises:
        CellError: a cell is not what its name and footer say, or holds what cannot be.
        TelemetryError: samples are not of the cell in their file's name.
    """
    measurements = read_measurements(cells, gpus, floors)
    runs = summarise_runs(measurements)
    return {
        "runs": runs,
        "families": summarise_families(measurements, gpus),
        "ratios": summarise_ratios(runs),
        "fidelity": summarise_fidelity(measurements.fidelity),
        "telemetry": summarise_telemetry(samples, measurements.cells),
        "hosts": merge_hosts(measurements.hosts),
        "found": count_cells(measurements.cells),
        "overhead": overhead(measurements.seconds),
    }

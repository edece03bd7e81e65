"""From what was read of all cells to the tidy tables of `deepgap.summary`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.bounds import peak_share
from deepgap.cells import OK
from deepgap.files import put_in_place, write_parquet
from deepgap.flags import falling_memory
from deepgap.hardware import Gpu, in_config, with_sites
from deepgap.measurements import (
    CELL_FACTS,
    FIDELITY_KEY,
    RUN_KEY,
    STACK_KEY,
    FamilyKey,
    Measurements,
    family_key,
)
from deepgap.published import read_published
from deepgap.stats import Floats, ratio_interval, run_interval
from deepgap.summary import COVERAGE, DESIGN, FAMILIES, FIDELITY, HOSTS, KEY, OVERHEAD, RATIOS, RUNS, mode_order

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


def summarise_hosts(cells: pl.DataFrame) -> pl.DataFrame:
    """One row a distinct stack and device; see `summary.HOSTS`.

    Args:
        cells: in `HOST_CELLS`.
    """
    devices = pl.col("device_sha256").drop_nulls().n_unique().cast(pl.Int64)
    return (
        cells.group_by(STACK_KEY)
        .agg(
            pl.len().cast(pl.Int64).alias("cells"),
            pl.col("measured_at").min().alias("first_measured_at"),
            pl.col("measured_at").max().alias("last_measured_at"),
            pl.when(devices > 0).then(devices).alias("devices"),
            pl.col("intraop_threads").drop_nulls().unique().sort(),
            pl.col("mode").unique().sort().alias("modes"),
            pl.col("weights").unique().sort(),
        )
        .select(HOSTS.names())
        .sort("gpu", "first_measured_at")
    )


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


def summarise_coverage(
    expected: Sequence[dict[str, Any]], found: pl.DataFrame, unlisted: dict[str, int]
) -> pl.DataFrame:
    """Expected and found cells a mode; see `summary.COVERAGE`.

    Args:
        expected: a row (gpu, model, runtime, precision, expected) a mode of the study.
        found: the cells that were read, in `CELLS`.
        unlisted: the number of cell files that the study does not name, by gpu.
    """
    key = ["gpu", "model", "runtime", "precision"]
    schema = dict.fromkeys(key, pl.String)
    counts = found.group_by(key).agg(pl.len().cast(pl.Int64).alias("found"))
    listed = pl.DataFrame(list(expected), schema={**schema, "expected": pl.Int64}).join(counts, on=key, how="left")
    others = pl.DataFrame(
        [{"gpu": gpu, "unlisted": count} for gpu, count in unlisted.items() if count], schema=COVERAGE
    )
    return (
        pl.concat([listed.with_columns(pl.col("found").fill_null(0)), others], how="diagonal")
        .with_columns(pl.col("expected", "found", "unlisted").fill_null(0))
        .select(COVERAGE.names())
        .sort(key, nulls_last=True)
    )


def overhead(cells: pl.DataFrame) -> pl.DataFrame:
    """What a cell's process does beside waiting, preparing and timing, by gpu; see `summary.OVERHEAD`.

    Args:
        cells: in `CELL_SECONDS`.
    """
    rest = pl.col("cell_s") - pl.col("wait_s") - pl.col("work_s")
    return (
        cells.group_by("gpu")
        .agg(
            pl.len().cast(pl.Int64).alias("cells"),
            pl.col("cell_s", "wait_s", "work_s").sum(),
            rest.mean().alias("overhead_s_per_cell"),
        )
        .select(OVERHEAD.names())
        .sort("gpu")
    )


def describe_design(axes: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """What the study asks for; see `summary.DESIGN`.

    Args:
        axes: by gpu, `Study.axes` with `counts`, the fields of its `study.Protocol`, and `sampled`, whether the
            device can have energy windows.
    """
    rows = []
    for gpu, asked in axes.items():
        counts, energy = asked["counts"], asked["energy"] if asked["sampled"] else {}
        stop = counts["stop"] or {}
        threads = [", ".join(map(str, asked["thread_counts"].get(mode, ["all"]))) for mode in asked["modes"]]
        rows.append(
            {
                "gpu": gpu,
                **{name: list(asked[name]) for name in ("models", "modes", "batch_sizes")},
                "threads": threads,
                "protocol": asked["protocol"],
                **{name: counts[name] for name in DESIGN if name in counts},
                **{name: stop.get(name) for name in ("minimum_iterations", "minimum_ms", "half_width")},
                "energy_s": energy.get("seconds"),
                "energy_sweeps": energy.get("sweeps"),
                "energy_batch_sizes": energy.get("batch_sizes"),
            }
        )
    return pl.DataFrame(rows, schema=DESIGN)


def write_summary(
    measurements: Measurements,
    published: Path,
    gpus: Mapping[str, Gpu],
    expected: Sequence[dict[str, Any]],
    unlisted: dict[str, int],
    folder: Path,
    axes: Mapping[str, Mapping[str, Any]] | None = None,
) -> pl.DataFrame:
    """Write the tidy tables of `deepgap.summary` into `folder` and return the coverage.

    Args:
        measurements: of all cells.
        published: the transcribed numbers of the published study.
        gpus: the hardware facts, by key.
        expected, unlisted: see `summarise_coverage`.
        folder: of the tables.
        axes: see `describe_design`.

    Raises:
        DeepGapError: the published numbers cannot be read.
    """
    gpus = with_sites(gpus, measurements.cells["gpu"].unique())
    runs = summarise_runs(measurements)
    tables = {
        "runs": runs,
        "families": summarise_families(measurements, gpus),
        "published": read_published(published),
        "coverage": summarise_coverage(expected, measurements.cells, unlisted),
        "hosts": summarise_hosts(measurements.hosts),
        "fidelity": summarise_fidelity(measurements.fidelity),
        "ratios": summarise_ratios(runs),
        "overhead": overhead(measurements.seconds),
        "telemetry": measurements.telemetry,
        "design": describe_design(axes or {}),
    }
    for name, table in tables.items():
        with put_in_place(folder / f"{name}.parquet") as partial:
            write_parquet(partial, table)
    return tables["coverage"]


def describe_coverage(coverage: pl.DataFrame) -> str:
    """One line a GPU: cells found of those expected, and how to get the rest."""
    lines = []
    totals = coverage.group_by("gpu", maintain_order=True).agg(pl.col("expected", "found", "unlisted").sum())
    for gpu, expected, found, unlisted in totals.iter_rows():
        line = f"{gpu}: {found} of {expected} cells"
        if found < expected:
            line += f"; measure the rest with 'snakemake --cores 1 --config {in_config(gpu)}'"
        if unlisted:
            line += f"; {unlisted} files of other settings are left out"
        lines.append(line)
    return "\n".join(lines)

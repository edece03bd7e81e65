"""From cell files to the tidy tables of `deepgap.summary`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.cells import LATENCY, OK, THROUGHPUT, Footer, read_cell
from deepgap.published import read_published
from deepgap.stats import Floats, median_interval, percentile, percentile_note, ratio_interval, run_interval
from deepgap.summary import COVERAGE, FAMILIES, FIDELITY, HOSTS, KEY, RUNS

QUANTILES = {"p90_ms": 0.90, "p95_ms": 0.95, "p99_ms": 0.99}
RUN_KEY = [*KEY, "sweep", "repeat"]
BASELINE = {"runtime": "eager", "precision": "fp32"}

CALLS = pl.Schema(
    {
        **KEY,
        "sweep": pl.Int64,
        "status": pl.String,
        "reason": pl.String,
        "arm": pl.String,
        "repeat": pl.Int64,
        "calls": pl.Int64,
        "device_ms": pl.Float64,
        "host_ms": pl.Float64,
        "memory_bytes": pl.Int64,
        "first_call_ms": pl.Float64,
        "weights_sha256": pl.String,
        "cell_file": pl.String,
    }
)

FIDELITY_KEY = FIDELITY.names()[:7]
CELL_FIDELITY = pl.Schema(
    {
        **dict.fromkeys(FIDELITY_KEY, pl.String),
        "calibration_count": pl.Int64,
        "images": pl.Int64,
        "all_finite": pl.Boolean,
        "centred_cosine": pl.Float64,
        "centred_sqnr_db": pl.Float64,
        "top1_agreement": pl.Float64,
        "top1_accuracy": pl.Float64,
        "reference_top1_accuracy": pl.Float64,
    }
)


def read_calls(files: Iterable[Path]) -> tuple[pl.LazyFrame, list[Footer]]:
    """Read and check cells: all their rows with the cell's key beside each, and all footers.

    Raises:
        CellError: a file is not what its name and footer say.
    """
    frames, footers = [], []
    for file in files:
        rows, footer = read_cell(file)
        recipe, observed = footer.recipe, footer.observed
        memory = observed.get("memory_device_bytes", observed.get("memory_host_bytes"))
        frames.append(
            rows.with_columns(
                *(pl.lit(recipe[name], dtype).alias(name) for name, dtype in KEY.items()),
                pl.lit(recipe["sweep"], pl.Int64).alias("sweep"),
                pl.lit(memory, pl.Int64).alias("memory_bytes"),
                pl.lit(observed.get("first_call_ms"), pl.Float64).alias("first_call_ms"),
                pl.lit(footer.weights_sha256).alias("weights_sha256"),
                pl.lit(file.as_posix()).alias("cell_file"),
            )
            .select(CALLS.names())
            .cast(CALLS)
        )
        footers.append(footer)
    return pl.concat(frames or [CALLS.to_frame()]).lazy(), footers


def summarise_runs(calls: pl.LazyFrame) -> pl.DataFrame:
    """One row a run of every timed cell; see `summary.RUNS`."""
    ok = calls.filter(pl.col("status") == OK)
    latency = (
        ok.filter(pl.col("arm") == LATENCY)
        .group_by(RUN_KEY)
        .agg(
            pl.len().cast(pl.Int64).alias("samples"),
            pl.col("device_ms").median().alias("median_ms"),
            pl.col("device_ms").mean().alias("mean_ms"),
            pl.col("device_ms").std().alias("std_ms"),
            pl.col("device_ms").min().alias("min_ms"),
            pl.col("device_ms").max().alias("max_ms"),
            pl.col("host_ms").median().alias("host_median_ms"),
            pl.col("memory_bytes", "first_call_ms", "weights_sha256", "cell_file").first(),
        )
    )
    images = pl.col("calls") * pl.col("batch_size")
    throughput = ok.filter(pl.col("arm") == THROUGHPUT).select(
        *RUN_KEY, (images / pl.col("host_ms") * 1000).alias("throughput_img_s")
    )
    return latency.join(throughput, on=RUN_KEY).select(RUNS.names()).sort(RUN_KEY).collect().cast(RUNS)


def summarise_families(calls: pl.LazyFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """One row a cell family; see `summary.FAMILIES`."""
    failed = (
        calls.filter(pl.col("status") != OK)
        .group_by(list(KEY))
        .agg(pl.col("status", "reason").sort().first())
        .collect()
    )
    samples = (
        calls.filter((pl.col("status") == OK) & (pl.col("arm") == LATENCY))
        .group_by(RUN_KEY)
        .agg(pl.col("device_ms"))
        .sort(RUN_KEY)
        .collect()
    )
    pooled = {
        key: [values.to_numpy() for values in group["device_ms"]]
        for key, group in samples.group_by(list(KEY), maintain_order=True)
    }
    throughputs = {
        key: group["throughput_img_s"].to_numpy() for key, group in runs.group_by(list(KEY), maintain_order=True)
    }
    memory = {key: group["memory_bytes"].max() for key, group in runs.group_by(list(KEY))}

    rows = []
    for key, family in pooled.items():
        named = dict(zip(KEY, key, strict=True))
        baseline = throughputs.get(tuple((named | BASELINE).values()))
        rows.append(
            named
            | {"status": OK, "memory_bytes": memory[key]}
            | _latency_columns(family)
            | _throughput_columns(throughputs[key], baseline)
        )
    timed = pl.DataFrame(rows, schema=FAMILIES)
    lost = failed.join(timed, on=list(KEY), how="anti")
    return pl.concat([timed, lost], how="diagonal").select(FAMILIES.names()).sort(list(KEY))


def _latency_columns(runs: Sequence[Floats]) -> dict[str, Any]:
    samples = np.concatenate(runs)
    low, high = median_interval(runs) or (None, None)
    return {
        "runs": len(runs),
        "samples": len(samples),
        "median_ms": float(np.median(samples)),
        "median_low_ms": low,
        "median_high_ms": high,
        **{name: percentile(samples, quantile) for name, quantile in QUANTILES.items()},
        "percentile_note": percentile_note(len(samples), list(QUANTILES.values())),
        "variation": float(np.std(samples, ddof=1) / np.mean(samples)) if len(samples) > 1 else None,
    }


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


def summarise_hosts(footers: Iterable[Footer]) -> pl.DataFrame:
    """One row a distinct stack and device; see `summary.HOSTS`."""
    columns = HOSTS.names()[4:]
    frame = pl.DataFrame(
        list(_host_rows(footers)),
        schema={"gpu": pl.String, "measured_at": pl.String, **{name: HOSTS[name] for name in columns}},
    )
    return (
        frame.group_by("gpu", *columns)
        .agg(
            pl.len().cast(pl.Int64).alias("cells"),
            pl.col("measured_at").min().alias("first_measured_at"),
            pl.col("measured_at").max().alias("last_measured_at"),
        )
        .select(HOSTS.names())
        .sort("gpu", "first_measured_at")
    )


def _host_rows(footers: Iterable[Footer]) -> Iterator[dict[str, Any]]:
    for footer in footers:
        host, device = footer.provenance["host"], footer.provenance["device"]
        versions = footer.provenance["versions"]
        yield {
            "gpu": footer.recipe["gpu"],
            "measured_at": footer.provenance["measured_at"],
            "device": device["name"],
            "intraop_threads": footer.observed["intraop_threads"],
            **{name: device.get(name) for name in ("driver", "max_sm_clock_mhz", "power_limit_w", "ecc")},
            **{name: host[name] for name in ("cpu", "logical_cores", "memory_gib", "os", "kernel")},
            **{name: versions[name] for name in ("python", "torch", "torchvision", "cuda_runtime", "cudnn")},
        }


def summarise_fidelity(footers: Iterable[Footer]) -> pl.DataFrame:
    """One row a gpu, model and mode of the cells that were compared with FP32; see `summary.FIDELITY`."""
    cells = pl.DataFrame(list(_fidelity_rows(footers)), schema=CELL_FIDELITY)
    finite = pl.col("all_finite").all()
    same = (pl.col("centred_cosine") == 1) & pl.col("centred_sqnr_db").is_null()
    return (
        cells.group_by(FIDELITY_KEY)
        .agg(
            pl.len().cast(pl.Int64).alias("cells"),
            pl.col("images").min(),
            pl.when(finite).then(pl.col("centred_sqnr_db").min()).alias("sqnr_db"),
            pl.when(finite).then(pl.col("centred_cosine").min()).alias("cosine"),
            pl.col("top1_agreement").min(),
            pl.col("top1_accuracy").min().alias("top1_accuracy_low"),
            pl.col("top1_accuracy").max().alias("top1_accuracy_high"),
            pl.col("reference_top1_accuracy").min(),
            same.fill_null(False).all().alias("identical"),
            finite,
        )
        .select(FIDELITY.names())
        .sort(FIDELITY_KEY)
    )


def _fidelity_rows(footers: Iterable[Footer]) -> Iterator[dict[str, Any]]:
    for footer in footers:
        # A cell that could not be timed gave no answers.
        if "fidelity" in footer.observed:
            recipe = footer.recipe
            calibration = recipe.get("calibration", {})
            yield {
                **{name: recipe[name] for name in ("gpu", "model", "runtime", "precision")},
                **{f"calibration_{name}": calibration.get(name) for name in ("method", "images", "count")},
                **footer.observed["fidelity"],
            }


def summarise_coverage(
    expected: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], unlisted: dict[str, int]
) -> pl.DataFrame:
    """Expected and found cells a mode; see `summary.COVERAGE`.

    Args:
        expected: a row (gpu, model, runtime, precision, expected) a mode of the study.
        found: the recipes of the cells that were read.
        unlisted: the number of cell files that the study does not name, by gpu.
    """
    key = ["gpu", "model", "runtime", "precision"]
    schema = dict.fromkeys(key, pl.String)
    counts = pl.DataFrame([{name: recipe[name] for name in key} for recipe in found], schema=schema)
    counts = counts.group_by(key).agg(pl.len().cast(pl.Int64).alias("found"))
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


def write_summary(
    cells: Sequence[Path],
    published: Path,
    expected: Sequence[dict[str, Any]],
    unlisted: dict[str, int],
    folder: Path,
) -> pl.DataFrame:
    """Write the tidy tables of `deepgap.summary` into `folder` and return the coverage.

    Raises:
        CellError: a cell is not what its name and footer say.
        DeepGapError: the published numbers cannot be read.
    """
    calls, footers = read_calls(cells)
    runs = summarise_runs(calls)
    tables = {
        "runs": runs,
        "families": summarise_families(calls, runs),
        "published": read_published(published),
        "coverage": summarise_coverage(expected, [footer.recipe for footer in footers], unlisted),
        "hosts": summarise_hosts(footers),
        "fidelity": summarise_fidelity(footers),
    }
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    return tables["coverage"]


def describe_coverage(coverage: pl.DataFrame) -> str:
    """One line a GPU: cells found of those expected, and how to get the rest."""
    lines = []
    totals = coverage.group_by("gpu", maintain_order=True).agg(pl.col("expected", "found", "unlisted").sum())
    for gpu, expected, found, unlisted in totals.iter_rows():
        line = f"{gpu}: {found} of {expected} cells"
        if found < expected:
            line += f"; measure the rest with 'snakemake --cores 1 --config gpu={gpu}'"
        if unlisted:
            line += f"; {unlisted} files of other settings are left out"
        lines.append(line)
    return "\n".join(lines)

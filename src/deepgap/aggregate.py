"""From cell files to the tidy tables of `deepgap.summary`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from deepgap.bounds import check_bounds, peak_share
from deepgap.cells import COLD, LATENCY, OK, THROUGHPUT, Footer, read_cell
from deepgap.errors import CellError, ConfigError, TelemetryError
from deepgap.files import write_parquet
from deepgap.flags import NO_THROTTLING, cell_flags, falling_memory
from deepgap.hardware import Gpu
from deepgap.published import read_published
from deepgap.schema import check_schema
from deepgap.stats import (
    Floats,
    median_interval,
    percentile,
    percentile_bound,
    percentile_note,
    ratio_interval,
    run_interval,
)
from deepgap.study import recipe_digest
from deepgap.summary import (
    COVERAGE,
    DESIGN,
    FAMILIES,
    FIDELITY,
    HOSTS,
    KEY,
    OVERHEAD,
    RATIOS,
    RUNS,
    STRINGS,
    TELEMETRY,
)
from deepgap.telemetry import CLOCK_EVENT_REASONS, INTERVAL_S, read_telemetry

QUANTILES = {"p90_ms": 0.90, "p95_ms": 0.95, "p99_ms": 0.99}
BOUNDED = "p99_ms"
RUN_KEY = [*KEY, "sweep", "repeat"]
BASELINE = {"runtime": "eager", "precision": "fp32"}
PRECISION_ORDER = ("fp32", "tf32", "fp16", "int8")
RUNTIME_ORDER = ("eager", "graph", "compile", "ort", "tensorrt", "cudnn")
STACK = ("torch", "cuda_runtime", "cudnn", "nvidia-cudnn-frontend", "onnxruntime", "tensorrt", "triton")
"""The software that computes a model's answers; with the driver it must be the same in all cells of a family."""
WORK_PHASES = ("prepare", "first_call", "warm_up", "latency", "throughput", "cold", "energy", "idle")

FamilyKey: TypeAlias = tuple[Any, ...]
"""The values of `KEY`."""

CALLS = pl.Schema(
    {
        **KEY,
        "sweep": pl.Int64,
        "arm": pl.String,
        "repeat": pl.Int64,
        "calls": pl.Int64,
        "device_ms": pl.Float64,
        "host_ms": pl.Float64,
        "enqueue_ms": pl.Float64,
    }
)
"""All timed spans, with the key of their cell."""

CELL_FACTS = (
    "memory_bytes",
    "first_call_ms",
    "sm_clock_median_mhz",
    "temperature_max_c",
    "power_mean_w",
    "flags",
    "measured_at",
    "device_sha256",
    "weights_sha256",
    "cell_file",
)
"""The columns of `summary.RUNS` that are the same in all runs of a cell."""

CELL_FACT_TYPES: dict[str, Any] = {name: RUNS[name] for name in CELL_FACTS}

CELLS = pl.Schema(
    {
        **KEY,
        "sweep": pl.Int64,
        "status": pl.String,
        "reason": pl.String,
        **CELL_FACT_TYPES,
        "memory_allocated_bytes": pl.Int64,
        "intraop_threads": pl.Int64,
        "energy_j_per_image": pl.Float64,
        "energy_above_idle_j_per_image": pl.Float64,
        "power_w": pl.Float64,
        "energy_note": pl.String,
        "stack": pl.String,
        "timed_start_ms": pl.Float64,
        "timed_end_ms": pl.Float64,
    }
)
"""One row a cell: what its footer says."""


def _object(required: Iterable[str] = (), **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


NAME, TEXT = {"type": "string"}, {"type": ["string", "null"]}
NUMBER, COUNT, FLAG = ({"type": [name, "null"]} for name in ("number", "integer", "boolean"))
POSITIVE = NUMBER | {"exclusiveMinimum": 0}

FOOTER_SCHEMA = _object(
    recipe=_object(
        (*KEY, "sweep"),
        gpu=NAME,
        model=NAME,
        runtime=NAME,
        precision=NAME,
        batch_size={"type": "integer", "minimum": 1},
        threads={"type": "integer", "minimum": 0},
        sweep={"type": "integer", "minimum": 1},
        calibration=_object(method=TEXT, images=TEXT, count=COUNT),
    ),
    weights_sha256=NAME,
    provenance=_object(
        ("measured_at", "versions", "host", "device"),
        measured_at=NAME,
        versions=_object(("python", "torch", "torchvision", "cuda_runtime", "cudnn"))
        | {"additionalProperties": TEXT},
        host=_object(
            ("cpu", "logical_cores", "memory_gib", "os", "kernel"),
            cpu=TEXT,
            logical_cores=COUNT,
            memory_gib=NUMBER,
            os=TEXT,
            kernel=TEXT,
        ),
        device=_object(
            ("name",),
            name=TEXT,
            driver=TEXT,
            uuid_sha256=TEXT,
            ecc=FLAG,
            max_sm_clock_mhz=COUNT,
            default_sm_clock_mhz=COUNT,
            power_limit_w=NUMBER,
        ),
    ),
    observed=_object(
        cell_s=NUMBER,
        phases_s={"type": "object", "additionalProperties": {"type": "number"}},
        prepare_ms=NUMBER,
        first_call_ms=NUMBER,
        intraop_threads=COUNT,
        memory_device_bytes=COUNT,
        memory_host_bytes=COUNT,
        memory_allocated_peak_bytes=COUNT,
        telemetry=_object(
            samples=COUNT,
            other_processes=COUNT,
            sm_clock_median_mhz=NUMBER,
            temperature_max_c=NUMBER,
            power_mean_w=NUMBER,
            throttle_reasons={"type": ["array", "null"], "items": NAME},
        ),
        energy=_object(
            absent=TEXT,
            window_s=POSITIVE,
            joules=NUMBER,
            joules_per_image=POSITIVE,
            joules_per_image_above_idle=NUMBER,
        ),
        fidelity=_object(
            images=COUNT,
            all_finite=FLAG,
            centred_cosine=NUMBER,
            centred_sqnr_db=NUMBER,
            top1_agreement=NUMBER,
            top1_accuracy=NUMBER,
            reference_top1_accuracy=NUMBER,
        ),
    ),
)
"""What of a cell's footer the tables are made of."""

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


@dataclass(frozen=True)
class Measurements:
    """All cells that were read.

    calls: in `CALLS`. cells: in `CELLS`, failed ones included. footers: of all cells.
    """

    calls: pl.LazyFrame
    cells: pl.DataFrame
    footers: list[Footer]


def read_measurements(files: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float]) -> Measurements:
    """Read cells, check that they can be true, and flag what is odd.

    Args:
        files: `<cell-id>.<recipe>.parquet`.
        gpus: the hardware facts, by key.
        floors: see `flags.cell_flags`.

    Raises:
        CellError: a file is not what its name and footer say, or holds what cannot be.
    """
    frames, cells, footers = [], [], []
    seen: dict[FamilyKey, Path] = {}
    for file in files:
        rows, footer = read_cell(file)
        _check_footer(file, footer, gpus)
        place = tuple(footer.recipe[name] for name in (*KEY, "sweep"))
        if place in seen:
            raise CellError(f"{file} and {seen[place]} are of the same sweep of one cell; remove one of them.")
        seen[place] = file
        gpu = gpus[footer.recipe["gpu"]]
        try:
            check_bounds(rows, footer.recipe, gpu)
        except CellError as error:
            raise CellError(f"{file} must go unless a fact in config/gpus.yaml is wrong: {error}") from None
        key = {name: footer.recipe[name] for name in (*KEY, "sweep")}
        flags = cell_flags(rows, footer.recipe, footer.observed, footer.provenance, gpu, floors)
        cells.append(key | _cell_facts(rows, footer) | {"flags": flags, "cell_file": file.as_posix()})
        named = rows.filter(pl.col("status") == OK).with_columns(
            pl.lit(value).alias(name) for name, value in key.items()
        )
        frames.append(named.select(CALLS.names()).cast(CALLS))
        footers.append(footer)
    return Measurements(
        pl.concat(frames or [CALLS.to_frame()]).lazy(),
        pl.DataFrame(cells, schema=CELLS).sort(*KEY, "sweep"),
        footers,
    )


def _check_footer(file: Path, footer: Footer, gpus: Mapping[str, Gpu]) -> None:
    """Raise CellError where a footer lacks what the tables need, or a value is of another type."""
    try:
        check_schema(asdict(footer), FOOTER_SCHEMA, "its footer")
    except ConfigError as error:
        raise CellError(f"{file} was not written by deepgap or was edited ({error}); remove it.") from None
    if footer.recipe["gpu"] not in gpus:
        raise CellError(
            f"{file} is of the GPU {footer.recipe['gpu']}, which has no entry in config/gpus.yaml; add one, "
            "or remove the file."
        )


def _cell_facts(rows: pl.DataFrame, footer: Footer) -> dict[str, Any]:
    observed, device = footer.observed, footer.provenance["device"]
    telemetry, energy = observed.get("telemetry", {}), observed.get("energy", {})
    versions = {name: footer.provenance["versions"].get(name) for name in STACK}
    first = [observed.get(name) for name in ("prepare_ms", "first_call_ms")]
    joules, window_s = energy.get("joules"), energy.get("window_s")
    note = energy.get("absent")
    if note is None and energy.get("joules_per_image_above_idle") is None:
        note = "the power of the idle device is not known" if energy else "not recorded"
    return {
        "status": rows["status"][0],
        "reason": rows["reason"][0],
        "weights_sha256": footer.weights_sha256,
        "measured_at": footer.provenance["measured_at"],
        "device_sha256": device.get("uuid_sha256"),
        "stack": json.dumps(versions | {"driver": device.get("driver")}),
        "memory_bytes": observed.get("memory_device_bytes", observed.get("memory_host_bytes")),
        "memory_allocated_bytes": observed.get("memory_allocated_peak_bytes"),
        "first_call_ms": None if None in first else sum(first),
        "intraop_threads": observed.get("intraop_threads"),
        **{name: telemetry.get(name) for name in ("sm_clock_median_mhz", "temperature_max_c", "power_mean_w")},
        "energy_j_per_image": energy.get("joules_per_image"),
        "energy_above_idle_j_per_image": energy.get("joules_per_image_above_idle"),
        "power_w": None if joules is None or window_s is None else joules / window_s,
        "energy_note": note,
        "timed_start_ms": rows["start_ms"].min(),
        "timed_end_ms": rows.select((pl.col("start_ms") + pl.col("host_ms")).max()).item(),
    }


def summarise_runs(measurements: Measurements) -> pl.DataFrame:
    """One row a run of every timed cell; see `summary.RUNS`."""
    calls = measurements.calls
    latency = (
        calls.filter(pl.col("arm") == LATENCY)
        .group_by(RUN_KEY)
        .agg(
            pl.len().cast(pl.Int64).alias("samples"),
            pl.col("device_ms").median().alias("median_ms"),
            pl.col("device_ms").mean().alias("mean_ms"),
            pl.col("device_ms").std().alias("std_ms"),
            pl.col("device_ms").min().alias("min_ms"),
            pl.col("device_ms").max().alias("max_ms"),
            pl.col("host_ms").median().alias("host_median_ms"),
            pl.col("enqueue_ms").median().alias("enqueue_median_ms"),
        )
    )
    images = pl.col("calls") * pl.col("batch_size")
    throughput = calls.filter(pl.col("arm") == THROUGHPUT).select(
        *RUN_KEY, (images / pl.col("host_ms") * 1000).alias("throughput_img_s")
    )
    return (
        latency.join(throughput, on=RUN_KEY)
        .join(measurements.cells.lazy().select(*KEY, "sweep", *CELL_FACTS), on=[*KEY, "sweep"])
        .select(RUNS.names())
        .sort(RUN_KEY)
        .collect()
        .cast(RUNS)
    )


def summarise_families(measurements: Measurements, runs: pl.DataFrame, gpus: Mapping[str, Gpu]) -> pl.DataFrame:
    """One row a cell family; see `summary.FAMILIES`."""
    calls = measurements.calls
    latency = calls.filter(pl.col("arm") == LATENCY).group_by(RUN_KEY).agg("device_ms", "enqueue_ms")
    latencies = _grouped(latency.sort(RUN_KEY).collect())
    cold = calls.filter(pl.col("arm") == COLD).group_by(list(KEY)).agg(pl.col("device_ms").median()).collect()
    cold_medians = {row[:-1]: row[-1] for row in cold.iter_rows()}
    throughputs = {key: group["throughput_img_s"].to_numpy() for key, group in _grouped(runs).items()}

    rows: list[dict[str, Any]] = []
    for key, cells in _grouped(measurements.cells).items():
        named = dict(zip(KEY, key, strict=True))
        timed, lost = cells.filter(pl.col("status") == OK), cells.filter(pl.col("status") != OK)
        row = named | _cell_columns(cells)
        if timed.is_empty():
            failure = lost.sort("status", "reason").row(0, named=True)
            rows.append(row | {"status": failure["status"], "reason": failure["reason"]})
            continue
        baseline = throughputs.get(tuple((named | BASELINE).values()))
        row |= {"status": OK, "cold_median_ms": cold_medians.get(key)}
        row |= _latency_columns(latencies[key]) | _energy_columns(timed)
        row |= _throughput_columns(throughputs[key], baseline)
        row["share_of_peak"] = peak_share(
            named["model"], named["precision"], row["throughput_img_s"], gpus[named["gpu"]]
        )
        if lost.height:
            row["flags"].add("partly_failed")
        rows.append(row)
    families = {tuple(row[name] for name in KEY): row for row in rows}
    for key, flag in _flags_between([row for row in rows if row["status"] == OK], gpus):
        families[key]["flags"].add(flag)
    tidy = [{name: row.get(name) for name in FAMILIES} | {"flags": sorted(row["flags"])} for row in rows]
    return pl.DataFrame(tidy, schema=FAMILIES).sort(list(KEY))


def _grouped(frame: pl.DataFrame) -> dict[FamilyKey, pl.DataFrame]:
    """The rows of each cell family."""
    return frame.partition_by(list(KEY), maintain_order=True, as_dict=True)


def _cell_columns(cells: pl.DataFrame) -> dict[str, Any]:
    """What the footers of a family's cells, failed ones included, say together; flags and weights are sets."""
    timed = cells.filter(pl.col("status") == OK)
    flags_of_cells = cells["flags"].to_list()
    flags = set().union(*flags_of_cells)
    if timed["stack"].n_unique() > 1:
        flags.add("mixed_stack")
    return {
        "sweeps": timed.height,
        "first_call_ms": timed["first_call_ms"].median(),
        "intraop_threads": cells["intraop_threads"].max(),
        "memory_bytes": timed["memory_bytes"].max(),
        "memory_allocated_bytes": timed["memory_allocated_bytes"].max(),
        "weights": set(timed["weights_sha256"]),
        "flags": flags,
        "flagged_cells": sum(map(bool, flags_of_cells)),
    }


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
        key = tuple(row[name] for name in KEY)
        if row["batch_size"] in falling.get(_sweep_key(row), ()):
            yield key, "memory_falls"
        if len(weights[row["gpu"], row["model"]]) > 1:
            yield key, "weights_differ"


def _sweep_key(row: Mapping[str, Any]) -> FamilyKey:
    return tuple(row[name] for name in KEY if name != "batch_size")


def _latency_columns(runs: pl.DataFrame) -> dict[str, Any]:
    """Statistics of a family's latency calls; a row a run with lists of device and enqueue times."""
    of_runs = [values.to_numpy() for values in runs["device_ms"]]
    samples = np.concatenate(of_runs)
    low, high = median_interval(of_runs) or (None, None)
    return {
        "runs": len(of_runs),
        "samples": len(samples),
        "median_ms": float(np.median(samples)),
        "median_low_ms": low,
        "median_high_ms": high,
        "enqueue_median_ms": runs["enqueue_ms"].explode().median(),
        **{name: percentile(samples, quantile) for name, quantile in QUANTILES.items()},
        "percentile_note": percentile_note(len(samples), list(QUANTILES.values())),
        "p99_bound_ms": percentile_bound(samples, QUANTILES[BOUNDED]),
        "variation": float(np.std(samples, ddof=1) / np.mean(samples)) if len(samples) > 1 else None,
    }


def _energy_columns(timed: pl.DataFrame) -> dict[str, Any]:
    """Energy of a family's timed cells. Where some have it the others' reasons do not matter."""
    counted = timed.filter(pl.col("energy_j_per_image").is_not_null())
    joules, above_idle = counted["energy_j_per_image"].median(), counted["energy_above_idle_j_per_image"].median()
    notes = (timed if joules is None else counted)["energy_note"].drop_nulls().unique().sort()
    return {
        "energy_j_per_image": joules,
        "energy_above_idle_j_per_image": above_idle,
        "images_per_joule": None if joules is None else 1 / joules,  # type: ignore[operator]
        "power_w": counted["power_w"].median(),
        "energy_windows": counted.height,
        "energy_note": "; ".join(notes) if above_idle is None else None,
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


def mode_order(runtime: str, precision: str) -> tuple[Any, ...]:
    """Sorts modes from the plainest to the most specialised: by precision, then by runtime, others last by name."""

    def place(name: str, order: Sequence[str]) -> tuple[int, str]:
        return (order.index(name) if name in order else len(order)), name

    return place(precision, PRECISION_ORDER), place(runtime, RUNTIME_ORDER)


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


def summarise_hosts(footers: Iterable[Footer]) -> pl.DataFrame:
    """One row a distinct stack and device; see `summary.HOSTS`."""
    columns = HOSTS.names()[4:-1]
    frame = pl.DataFrame(
        list(_host_rows(footers)),
        schema={
            "gpu": pl.String,
            "measured_at": pl.String,
            "device_sha256": pl.String,
            **{name: HOSTS[name] for name in columns},
        },
    )
    # Cells of fewer threads are of the same stack as those of all.
    threads = pl.col("intraop_threads")
    others = ["gpu", *(name for name in columns if name != "intraop_threads")]
    devices = pl.col("device_sha256").drop_nulls().n_unique().cast(pl.Int64)
    return (
        frame.with_columns(threads.fill_null(threads.max().over(others)))
        .group_by("gpu", *columns)
        .agg(
            pl.len().cast(pl.Int64).alias("cells"),
            pl.col("measured_at").min().alias("first_measured_at"),
            pl.col("measured_at").max().alias("last_measured_at"),
            pl.when(devices > 0).then(devices).alias("devices"),
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
            "device_sha256": device.get("uuid_sha256"),
            "intraop_threads": None if footer.recipe["threads"] else footer.observed.get("intraop_threads"),
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


def overhead(footers: Iterable[Footer]) -> pl.DataFrame:
    """What a cell's process does beside waiting, preparing and timing, by gpu; see `summary.OVERHEAD`."""
    rows = []
    for footer in footers:
        seconds = footer.observed.get("phases_s", {})
        rows.append(
            {
                "gpu": footer.recipe["gpu"],
                "cell_s": footer.observed.get("cell_s"),
                "wait_s": seconds.get("wait", 0.0),
                "work_s": sum(seconds.get(name, 0.0) for name in WORK_PHASES),
            }
        )
    rest = pl.col("cell_s") - pl.col("wait_s") - pl.col("work_s")
    return (
        pl.DataFrame(rows, schema={name: OVERHEAD[name] for name in ("gpu", "cell_s", "wait_s", "work_s")})
        .filter(pl.col("cell_s").is_not_null())
        .group_by("gpu")
        .agg(
            pl.len().cast(pl.Int64).alias("cells"),
            pl.col("cell_s", "wait_s", "work_s").sum(),
            rest.mean().alias("overhead_s_per_cell"),
        )
        .select(OVERHEAD.names())
        .sort("gpu")
    )


def summarise_telemetry(files: Iterable[Path], measurements: Measurements) -> pl.DataFrame:
    """One row a second of each measured cell that has samples; see `summary.TELEMETRY`.

    Args:
        files: `<cell-id>.<recipe>.parquet` of `deepgap.telemetry`; those of other cells are left out.

    Raises:
        TelemetryError: a file is damaged, or belongs to another cell than the one in its name.
    """
    cells = {(row["gpu"], Path(row["cell_file"]).name): row for row in measurements.cells.iter_rows(named=True)}
    frames = []
    for file in files:
        samples, about = read_telemetry(file)
        recipe, started = about.get("recipe"), about.get("clock_zero_unix_s")
        if (
            not isinstance(recipe, dict)
            or recipe_digest(recipe) != file.stem.rpartition(".")[-1]
            or not isinstance(started, float)
        ):
            raise TelemetryError(f"{file} does not hold the samples of the cell in its name; remove it.")
        if not samples["time_ms"].is_finite().all() or samples["time_ms"].null_count():
            raise TelemetryError(f"{file} has a sample without a time; remove it.")
        cell = cells.get((recipe.get("gpu"), file.name))
        if cell is not None:
            frames.append(_label_samples(samples, cell, started))
    if not frames:
        return TELEMETRY.to_frame()
    key = [name for name in (*KEY, "sweep", "started_unix_s", "power_semantics", "timed") if name != "threads"]
    first, last = pl.col("time_ms").min(), pl.col("time_ms").max()
    seconds = (
        pl.concat(frames)
        .group_by(*key, pl.col("time_ms") // 1000)
        .agg(
            pl.len().cast(pl.Int64).alias("samples"),
            (first / 1000).alias("time_s"),
            (last / 1000).alias("last_s"),
            pl.col("interval_s").first(),
            *(pl.col(name).median() for name in ("temperature_c", "power_w", "utilisation_percent", "sm_clock_mhz")),
            pl.col("sm_clock_mhz").min().alias("sm_clock_min_mhz"),
            pl.col("sm_clock_mhz").max().alias("sm_clock_max_mhz"),
            pl.col("clock_event_reasons").bitwise_or(),
        )
    )
    masks = seconds["clock_event_reasons"].to_list()
    return (
        seconds.with_columns(
            (pl.col("last_s") - pl.col("time_s") + pl.col("interval_s")).alias("duration_s"),
            pl.Series("throttle_reasons", [throttle_reasons(mask) for mask in masks], dtype=STRINGS),
        )
        .select(TELEMETRY.names())
        .cast(TELEMETRY)
        .sort("gpu", "started_unix_s", "model", "runtime", "precision", "batch_size", "sweep", "time_s")
    )


def _label_samples(samples: pl.DataFrame, cell: Mapping[str, Any], started: float) -> pl.DataFrame:
    """The samples of one cell with its key, and which are of its timed part."""
    # As in `telemetry.summarise_samples`: the power of the moment where the device tells it.
    instant = samples["power_instant_w"].null_count() == 0
    power, semantics = (
        ("power_instant_w", "NVML_FI_DEV_POWER_INSTANT") if instant else ("power_w", "nvmlDeviceGetPowerUsage")
    )
    timed = pl.col("time_ms").is_between(cell["timed_start_ms"], cell["timed_end_ms"])
    return samples.select(
        *(pl.lit(cell[name], CELLS[name]).alias(name) for name in (*KEY, "sweep") if name != "threads"),
        pl.lit(started, pl.Float64).alias("started_unix_s"),
        pl.lit(semantics).alias("power_semantics"),
        (pl.lit(False) if cell["timed_start_ms"] is None else timed).alias("timed"),
        (pl.col("time_ms").diff().median() / 1000).fill_null(INTERVAL_S).alias("interval_s"),
        "time_ms",
        pl.col(power).alias("power_w"),
        *("temperature_c", "utilisation_percent", "sm_clock_mhz", "clock_event_reasons"),
    )


def throttle_reasons(mask: int | None) -> list[str]:
    """The names in NVML's bit mask of clock event reasons that hold the clocks down, sorted."""
    held = {name for name, bit in CLOCK_EVENT_REASONS.items() if (mask or 0) & bit} - NO_THROTTLING
    return sorted(held)


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
                **{name: stop.get(name) for name in ("minimum_iterations", "half_width")},
                "energy_s": energy.get("seconds"),
                "energy_sweeps": energy.get("sweeps"),
                "energy_batch_sizes": energy.get("batch_sizes"),
            }
        )
    return pl.DataFrame(rows, schema=DESIGN)


def write_summary(
    cells: Sequence[Path],
    published: Path,
    gpus: Mapping[str, Gpu],
    floors: Mapping[str, float],
    expected: Sequence[dict[str, Any]],
    unlisted: dict[str, int],
    folder: Path,
    telemetry: Sequence[Path] = (),
    axes: Mapping[str, Mapping[str, Any]] | None = None,
) -> pl.DataFrame:
    """Write the tidy tables of `deepgap.summary` into `folder` and return the coverage.

    Args:
        cells: their files.
        published: the transcribed numbers of the published study.
        gpus: the hardware facts, by key.
        floors: see `flags.cell_flags`.
        expected, unlisted: see `summarise_coverage`.
        folder: of the tables.
        telemetry: see `summarise_telemetry`.
        axes: see `describe_design`.

    Raises:
        CellError: a cell is not what its name and footer say, or holds what cannot be.
        TelemetryError: samples are not of the cell in their file's name.
        DeepGapError: the published numbers cannot be read.
    """
    measurements = read_measurements(cells, gpus, floors)
    footers, runs = measurements.footers, summarise_runs(measurements)
    tables = {
        "runs": runs,
        "families": summarise_families(measurements, runs, gpus),
        "published": read_published(published),
        "coverage": summarise_coverage(expected, [footer.recipe for footer in footers], unlisted),
        "hosts": summarise_hosts(footers),
        "fidelity": summarise_fidelity(footers),
        "ratios": summarise_ratios(runs),
        "overhead": overhead(footers),
        "telemetry": summarise_telemetry(telemetry, measurements),
        "design": describe_design(axes or {}),
    }
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table, {})
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

"""Synthetic summaries and cells: invented numbers with the shape of real ones. Nothing here was measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.summary import (
    ALL_THREADS,
    COVERAGE,
    DESIGN,
    FAMILIES,
    FIDELITY,
    HOSTS,
    OVERHEAD,
    PUBLISHED_VALUES,
    RATIOS,
    RUNS,
    TELEMETRY,
    Summary,
)
from deepgap.cells.cell_file import SCHEMA, Footer, write_cell
from deepgap.published.values import read_published
from deepgap.study.gpus import load_gpus
from deepgap.study.study import cell_id, recipe_digest
from deepgap.study.words import mode_order

ROOT = Path(__file__).parents[2]
GPUS = load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")
REPORTING = {
    "paper_gpus": ["H200", "EPYCGenoa"],
    "matched_batch_size": 8,
    "matched_latency_ms": 10,
    "latency_batch_sizes": [1, 512],
}

RATE = {"resnet18": 1.0, "resnet50": 0.42, "resnet101": 0.24}
FLOOR_MS = {"resnet18": 0.8, "resnet50": 1.9, "resnet101": 3.6}
SPEED = {"eager-fp32": 9e3, "eager-tf32": 18e3, "eager-fp16": 36e3, "graph-fp16": 37e3, "compile-fp16": 62e3}
H200_MODES = tuple(SPEED)
FEW, MANY = (1, 8, 32, 128, 512), (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 384, 512)


def synthetic_family(gpu: str, model: str, mode: str, batch_size: int, **changes: Any) -> dict[str, Any]:
    """One row of families by a simple law: a fixed time a call plus a time an image."""
    runtime, precision = mode.split("-")
    rng = random.Random(f"{gpu} {model} {mode} {batch_size}")
    speed = SPEED[mode] * RATE[model] if gpu != "CPU" else 60 * RATE[model]
    floor = FLOOR_MS[model] * (0.25 if runtime in ("graph", "compile") else 1.0) * (1 if gpu != "CPU" else 4)
    median = floor + 1000 * batch_size / speed * rng.uniform(0.97, 1.03)
    throughput = 1000 * batch_size / median
    row: dict[str, Any] = dict.fromkeys(FAMILIES.names())
    row |= {
        "gpu": gpu,
        "model": model,
        "runtime": runtime,
        "precision": precision,
        "batch_size": batch_size,
        "threads": ALL_THREADS,
        "status": "ok",
        "sweeps": 2,
        "flags": [],
        "flagged_cells": 0,
        "runs": 4 if gpu != "CPU" else 3,
        "samples": 200,
        "median_ms": median,
        "median_low_ms": median * 0.98,
        "median_high_ms": median * 1.03,
        "variation": 0.01,
        "throughput_img_s": throughput,
        "throughput_low_img_s": throughput * 0.97,
        "throughput_high_img_s": throughput * 1.02,
        "memory_bytes": int(6e8 + batch_size * 2.4e7 * (1 if precision == "fp16" else 2)),
        "percentile_note": "200 samples: p99 needs 662",
    }
    if runtime == "compile":
        tail = {"samples": 900, "p99_ms": median * 1.04, "p99_bound_ms": median * 1.2, "percentile_note": None}
        row |= tail
    return row | _energy(gpu, batch_size, throughput) | changes


def _energy(gpu: str, batch_size: int, throughput: float) -> dict[str, Any]:
    """Energy of a family at batch sizes that have a window, at 200 W and more, of which 120 W flow when idle."""
    if gpu == "CPU":
        return {"energy_windows": 0, "energy_note": "NVML samples NVIDIA GPUs alone"}
    if batch_size not in FEW:
        return {"energy_windows": 0, "energy_note": "the study asks for no energy window in this cell"}
    power = 200.0 + batch_size
    return {
        "energy_windows": 1,
        "power_w": power,
        "energy_j_per_image": power / throughput,
        "energy_above_idle_j_per_image": (power - 120) / throughput,
        "images_per_joule": throughput / power,
    }


def synthetic_failure(
    gpu: str, model: str, mode: str, batch_size: int, status: str = "out_of_memory"
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(FAMILIES.names())
    runtime, precision = mode.split("-")
    row |= {"gpu": gpu, "model": model, "runtime": runtime, "precision": precision, "batch_size": batch_size}
    row |= {"threads": ALL_THREADS, "flags": [], "flagged_cells": 0, "sweeps": 0, "runs": 0, "samples": 0}
    return row | {"status": status, "reason": "synthetic"}


def synthetic_summary(rows: Sequence[dict[str, Any]], published: bool = True) -> Summary:
    """A summary with these families, and the frames that follow from them."""
    families = _with_speedups(pl.DataFrame(rows, schema=FAMILIES))
    values = read_published(ROOT / "data/published/deep_gap.csv")
    present = sorted(set(families["gpu"]))
    coverage = (
        families.group_by("gpu", "model", "runtime", "precision", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("expected"), pl.len().cast(pl.Int64).alias("found"))
        .with_columns(unlisted=pl.lit(0, pl.Int64))
        .select(COVERAGE.names())
    )
    return Summary(
        runs=pl.DataFrame(schema=RUNS),
        families=families,
        published=values if published else pl.DataFrame(schema=PUBLISHED_VALUES),
        coverage=coverage,
        hosts=pl.DataFrame([_host(gpu) for gpu in present], schema=HOSTS),
        fidelity=_fidelities(families),
        ratios=_ratios(families),
        overhead=pl.DataFrame(schema=OVERHEAD),
        telemetry=_telemetry(families),
        design=pl.DataFrame([_design(families, gpu) for gpu in present], schema=DESIGN),
        gpus=GPUS,
        reporting=REPORTING,
    )


def h200_rows(batch_sizes: Sequence[int] = FEW) -> list[dict[str, Any]]:
    return [synthetic_family("H200", model, mode, b) for model in RATE for mode in H200_MODES for b in batch_sizes]


def cpu_rows() -> list[dict[str, Any]]:
    return [synthetic_family("CPU", model, "eager-fp32", b) for model in RATE for b in (1, 2, 4, 8)]


def full_summary(batch_sizes: Sequence[int] = FEW) -> Summary:
    """H200 with one family out of memory and one mode unsupported, and the CPU."""
    lost = [("resnet101", "eager-fp32", batch_sizes[-1])]
    rows = [r for r in h200_rows(batch_sizes) if (r["model"], _mode(r), r["batch_size"]) not in lost]
    rows += [synthetic_failure("H200", *key) for key in lost]
    return synthetic_summary(rows + cpu_rows())


def cpu_summary() -> Summary:
    return synthetic_summary(cpu_rows())


def empty_summary() -> Summary:
    """Neither cells nor published values."""
    return synthetic_summary([], published=False)


def _mode(row: dict[str, Any]) -> str:
    return f"{row['runtime']}-{row['precision']}"


def _with_speedups(families: pl.DataFrame) -> pl.DataFrame:
    key = ["gpu", "model", "batch_size", "threads"]
    base = families.filter(pl.col("runtime") == "eager", pl.col("precision") == "fp32").select(
        *key, pl.col("throughput_img_s").alias("base")
    )
    ratio = pl.col("throughput_img_s") / pl.col("base")
    return (
        families.join(base, on=key, how="left", maintain_order="left")
        .with_columns(speedup_fp32=ratio, speedup_fp32_low=ratio * 0.96, speedup_fp32_high=ratio * 1.05)
        .select(FAMILIES.names())
    )


def _ratios(families: pl.DataFrame) -> pl.DataFrame:
    """The ratios of all pairs of modes at one place, with intervals of a few percent."""
    rows = []
    timed = families.filter(pl.col("status") == "ok", pl.col("throughput_img_s").is_not_null())
    for (gpu, model, batch_size, threads), here in timed.group_by("gpu", "model", "batch_size", "threads"):
        modes = sorted(here.to_dicts(), key=lambda row: mode_order(row["runtime"], row["precision"]))
        for earlier, later in combinations(modes, 2):
            ratio = later["throughput_img_s"] / earlier["throughput_img_s"]
            row = {"gpu": gpu, "model": model, "batch_size": batch_size, "threads": threads, "ratio": ratio}
            row |= {
                "numerator": _mode(later),
                "denominator": _mode(earlier),
                "low": ratio * 0.97,
                "high": ratio * 1.04,
            }
            row |= {"numerator_runs": later["runs"], "denominator_runs": earlier["runs"]}
            row |= {f"{o}_cells": [f"{row[o]}_b{batch_size}_s1"] for o in ("numerator", "denominator")}
            rows.append(row)
    keys = ("gpu", "model", "batch_size", "threads", "numerator", "denominator")
    return pl.DataFrame(rows, schema=RATIOS).sort(keys)


def synthetic_fidelity(gpu: str, model: str, mode: str, **changes: Any) -> dict[str, Any]:
    """One row of fidelity: exact in fp32, and worse the shorter the numbers."""
    runtime, precision = mode.split("-")
    row: dict[str, Any] = dict.fromkeys(FIDELITY.names())
    row |= {"gpu": gpu, "model": model, "runtime": runtime, "precision": precision}
    row |= {"compared_cells": 10, "cells": 10, "images": 256}
    if precision == "int8":
        row |= {"calibration_method": "entropy", "calibration_images": "procedural", "calibration_count": 128}
    row |= {
        "sqnr_db": {"fp32": None, "tf32": 61.04, "fp16": 54.96, "int8": 21.55}.get(precision, 30.0),
        "cosine": {"fp32": 1.0, "tf32": 0.9999996, "fp16": 0.9999984, "int8": 0.99652}.get(precision, 0.9),
        "top1_agreement": {"int8": 254 / 256}.get(precision, 1.0),
        "top1_accuracy_low": {"int8": 230 / 256}.get(precision, 232 / 256),
        "top1_accuracy_high": 232 / 256,
        "reference_top1_accuracy": 232 / 256,
        "identical": precision == "fp32",
        "all_finite": True,
    }
    return row | changes


def _fidelities(families: pl.DataFrame) -> pl.DataFrame:
    timed = families.filter(pl.col("status") == "ok").select("gpu", "model", "runtime", "precision").unique()
    rows = [
        synthetic_fidelity(gpu, model, f"{runtime}-{precision}") for gpu, model, runtime, precision in timed.rows()
    ]
    return pl.DataFrame(rows, schema=FIDELITY)


def _host(gpu: str) -> dict[str, Any]:
    row: dict[str, Any] = {name: [] if kind.is_nested() else None for name, kind in HOSTS.items()}
    row |= {
        "gpu": gpu,
        "cells": 30,
        "first_measured_at": "2000-01-01T00:00:00+00:00",
        "last_measured_at": "2000-01-01T01:00:00+00:00",
        "device": f"Synthetic {gpu} & co_1",
        "cpu": "Synthetic processor 100%",
        "logical_cores": 16,
        "memory_gib": 128.0,
        "os": "Synthetic OS",
        "python": "3.11.0",
        "torch": "0.0",
    }
    if gpu != "CPU":
        row |= {"driver": "000.00", "max_sm_clock_mhz": 1980, "power_limit_w": 700.0, "ecc": True}
    return row


def synthetic_second(gpu: str, model: str, mode: str, batch_size: int, **changes: Any) -> dict[str, Any]:
    """One row of telemetry: a timed second at full load."""
    runtime, precision = mode.split("-")
    row = {"gpu": gpu, "model": model, "runtime": runtime, "precision": precision, "batch_size": batch_size}
    row |= {"sweep": 1, "time_s": 2.0, "duration_s": 1.0, "timed": True, "started_unix_s": 1e9, "samples": 20}
    row |= {"temperature_c": 50.0, "power_w": 500.0, "power_semantics": "NVML_FI_DEV_POWER_INSTANT"}
    row |= {"utilisation_percent": 99.0, "sm_clock_mhz": 1900.0, "sm_clock_min_mhz": 1800, "sm_clock_max_mhz": 1980}
    return row | {"throttle_reasons": []} | changes


def _telemetry(families: pl.DataFrame) -> pl.DataFrame:
    """Three timed seconds and an idle one of each family that was timed on a GPU; the largest are held down."""
    rows = []
    timed = families.filter(pl.col("status") == "ok", pl.col("gpu") != "CPU")
    for place, family in enumerate(timed.iter_rows(named=True)):
        key, size = (family["gpu"], family["model"], _mode(family), family["batch_size"]), family["batch_size"]
        held = ["sw_power_cap"] if size == 512 else []
        for second in range(4):
            rows.append(
                synthetic_second(
                    *key,
                    time_s=float(second),
                    timed=second > 0,
                    started_unix_s=1e9 + 10 * place,
                    temperature_c=40.0 + min(size, 100) / 10 + second,
                    power_w=150.0 + size,
                    throttle_reasons=held,
                )
            )
    return pl.DataFrame(rows, schema=TELEMETRY)


def _design(families: pl.DataFrame, gpu: str) -> dict[str, Any]:
    """The axes that these families span."""
    rows = [row for row in families.iter_rows(named=True) if row["gpu"] == gpu]
    modes = list(dict.fromkeys(map(_mode, rows)))
    row = dict.fromkeys(DESIGN.names()) | {"gpu": gpu, "models": list(dict.fromkeys(row["model"] for row in rows))}
    row |= {"modes": modes, "threads": ["all"] * len(modes)}
    row |= {"batch_sizes": sorted({row["batch_size"] for row in rows}), "protocol": "synthetic", "sweeps": 1}
    row |= {"repeats": 3, "warmup_iterations": 10, "timed_iterations": 100, "cold_iterations": 0}
    if gpu != "CPU":
        row |= {"energy_s": 5.0, "energy_sweeps": 1, "energy_batch_sizes": [1, 8, 32, 128, 512]}
    return row | {"fidelity_images": 256}


def synthetic_recipe(gpu: str, model: str, mode: str, batch_size: int, **changes: Any) -> dict[str, Any]:
    """The parts of a recipe on which reading and aggregating depend."""
    runtime, precision = mode.split("-")
    protocol = {"timed_iterations": 20, "repeats": 2, "cold_iterations": 0}
    recipe = {
        "gpu": gpu,
        "model": model,
        "runtime": runtime,
        "precision": precision,
        "batch_size": batch_size,
        "threads": ALL_THREADS,
        "sweep": 1,
        "energy_s": 0,
        "protocol": protocol | {"stop": {"minimum_iterations": 2, "minimum_ms": 0, "half_width": 0.1}},
    }
    return recipe | changes


def synthetic_rows(
    latencies_ms: Sequence[Sequence[float]],
    calls_ms: Sequence[float],
    enqueue: float | None = 0.1,
    wait_ms: float = 0.01,
    cold_ms: Sequence[Sequence[float]] = (),
) -> pl.DataFrame:
    """The rows of a timed cell.

    Args:
        latencies_ms, cold_ms: device times of each repeat's calls; calls_ms: of a call in each throughput run.
        enqueue: enqueue time over device time; null as on a CPU.
        wait_ms: host time beside the device's.
    """
    rows = []
    spans = [("latency", r, 1, t) for r, times in enumerate(latencies_ms, 1) for t in times]
    spans += [("throughput", r, 10, 10 * t) for r, t in enumerate(calls_ms, 1)]
    spans += [("cold", r, 1, t) for r, times in enumerate(cold_ms, 1) for t in times]
    for i, (arm, repeat, calls, device) in enumerate(spans):
        late = None if enqueue is None else enqueue * device
        rows.append(("ok", None, arm, repeat, i + 1, calls, float(i), device, device + wait_ms, late))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.with_columns(iteration=pl.int_range(1, pl.len() + 1).over("arm", "repeat").cast(pl.Int32))


def synthetic_footer(recipe: dict[str, Any], **observed: Any) -> Footer:
    """A footer of a healthy cell with these observations changed; a null one is left out."""
    on_gpu = recipe["gpu"] != "CPU"
    found: dict[str, Any] = {
        "cell_s": 10.0,
        "phases_s": {"wait": 1.0, "load": 0.5, "warm_up": 1.5, "latency": 2.0, "throughput": 2.5, "fidelity": 0.5},
        "intraop_threads": recipe["threads"] or 8,
        "prepare_ms": 30.0,
        "first_call_ms": 12.0,
        "steady": True,
        "fidelity": {"top1_agreement": 1.0},
        "telemetry": {
            "samples": 100,
            "sm_clock_median_mhz": 1900,
            "temperature_max_c": 50,
            "power_mean_w": 400.0,
            "throttle_reasons": ["gpu_idle"],
            "other_processes": 0,
        },
        "energy": {"absent": "no window"},
        "memory_device_bytes": 600 << 20,
        "memory_allocated_peak_bytes": 300 << 20,
    }
    if not on_gpu:
        found |= {"telemetry": {"absent": "no GPU"}, "memory_host_bytes": 200 << 20}
        del found["memory_device_bytes"], found["memory_allocated_peak_bytes"]
    found |= observed
    device = {"name": f"Synthetic {recipe['gpu']}", "uuid_sha256": "a" * 12 if on_gpu else None}
    if on_gpu:
        device |= {"driver": "000.00", "default_sm_clock_mhz": 1900, "max_sm_clock_mhz": 1980}
    host = {"cpu": "Synthetic", "logical_cores": 8, "memory_gib": 16.0, "os": "Synthetic", "kernel": "0"}
    versions = {"python": "3.11.0", "torch": "0.0", "torchvision": "0.0", "cuda_runtime": None, "cudnn": None}
    provenance = {"measured_at": "2000-01-01T00:00:00+00:00", "versions": versions, "host": host, "device": device}
    return Footer(recipe, "0" * 64, provenance, {name: value for name, value in found.items() if value is not None})


def write_synthetic_cell(folder: Path, rows: pl.DataFrame, footer: Footer) -> Path:
    """Write a cell under the name that its recipe gives it."""
    recipe = footer.recipe
    path = folder / f"{cell_id(recipe)}.{recipe_digest(recipe)}.parquet"
    write_cell(path, rows, footer)
    return path

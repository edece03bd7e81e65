"""Synthetic summaries and cells: invented numbers with the shape of real ones. Nothing here was measured."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.ratios import best_batches, family_key, speedups, summarise_ratios
from deepgap.analyse.schemas import (
    ABOUT_MODE,
    ANCHORS,
    BY_HOST,
    COST,
    COVERAGE,
    DESIGN,
    FACTS,
    FAMILIES,
    FIDELITY,
    KEY,
    PUBLISHED_VALUES,
    RUNS,
    SESSIONS,
    TELEMETRY,
    VARIANCE,
)
from deepgap.analyse.summary import Summary
from deepgap.analyse.sweeps import sweep_values
from deepgap.cells.cell_file import SCHEMA, write_cell
from deepgap.cells.footer import Footer
from deepgap.published.anchors import read_anchors
from deepgap.published.networks import GMAC_PER_IMAGE
from deepgap.published.values import read_published
from deepgap.stats import wilson
from deepgap.study.cell import ALL_THREADS, cell_id, recipe_digest
from deepgap.study.gpus import load_gpus
from deepgap.study.method import METHOD_VERSION
from deepgap.study.words import by_mode, mode_parts

ROOT = Path(__file__).parents[2]
GPUS = load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")
REPORTING = {"matched_batch_size": 8, "matched_latency_ms": 10, "latency_batch_sizes": [1, 512]}
REPORTING |= {"bandwidth_gpus": ["H100", "H200"], "paper_gpus": ["H200", "EPYCGenoa"]}

RATE = {"resnet18": 1.0, "resnet50": 0.42, "resnet101": 0.24}
FLOOR_MS = {"resnet18": 0.8, "resnet50": 1.9, "resnet101": 3.6, "vit_b_16": 4.2}
SPEED = {"eager-fp32": 9e3, "eager-tf32": 18e3, "eager-fp16": 36e3, "graph-fp16": 37e3, "compile-fp16": 62e3}
EXTRA = {"eager-fp16-nchw": 24e3, "compilegraph-fp16": 63e3, "cudnn-fp16": 80e3, "cudnn-int8": 120e3}
TRANSFORMER = "vit_b_16"
PACE = {**RATE, TRANSFORMER: 0.15}
SLOWER = {"H100": {"fp32": 0.99, "tf32": 0.9, "fp16": 0.8, "int8": 0.85}}
"""Of the H200's images a second, by precision."""
H200_MODES = tuple(SPEED)
FACTS_OF = {
    model: {"multiply_adds": int(1e9 * gmac), "largest_activation_elements": 802_816, "classes": 1000}
    for model, gmac in GMAC_PER_IMAGE.items()
}
FACTS_OF[TRANSFORMER] = {"multiply_adds": int(17.6e9), "largest_activation_elements": 605_184, "classes": 1000} | {
    "activation_elements": 24_000_000,
    "weight_elements": 86_000_000,
}
"""Of 224 x 224 images: the largest activation of a ResNet is its first, 64 x 112 x 112."""
FEW, MANY = (1, 8, 32, 128, 512), (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 384, 512)


SPREAD = (-0.02, -0.01, -0.002, 0.002, 0.01, 0.02)
"""What the six sweeps of a family are off its median."""
HOST, CARD, SESSION = "b" * 12, "a" * 12, "c" * 12


def about_mode(mode: str) -> dict[str, str]:
    """The runtime, precision and layout of a mode's name."""
    parts = mode_parts(mode)
    usual = "nhwc" if parts.precision in ("fp16", "bf16") and parts.runtime in PYTORCH else "nchw"
    return {"runtime": parts.runtime, "precision": parts.precision, "layout": parts.layout or usual}


PYTORCH = ("eager", "graph", "compile", "compilegraph")


def synthetic_family(gpu: str, model: str, mode: str, batch_size: int, **changes: Any) -> dict[str, Any]:
    """One row of families by a simple law: a fixed time a call plus a time an image."""
    about = about_mode(mode)
    rng = random.Random(f"{gpu} {model} {mode} {batch_size}")
    speed = (SPEED | EXTRA)[mode] * PACE[model] if gpu != "CPU" else 60 * PACE[model]
    speed *= SLOWER.get(gpu, {}).get(about["precision"], 1.0)
    quick = about["runtime"] != "eager"
    floor = FLOOR_MS[model] * (0.25 if quick else 1.0) * (1 if gpu != "CPU" else 4)
    median = floor + 1000 * batch_size / speed * rng.uniform(0.97, 1.03)
    throughput = 1000 * batch_size / median
    row = _place(gpu, model, mode, batch_size) | {"status": "ok", "sweeps": 6, "runs": 6, "samples": 1200}
    row |= {"hosts": 1, "cards": 1 if gpu != "CPU" else 0, "host": HOST, "coverage": 0.96875, "primary": True}
    row |= _spread("median", "ms", median) | _spread("throughput", "img_s", throughput)
    row |= {
        "first_call_ms": 900.0,
        "intraop_threads": 8,
        "tail_least": 1.01,
        "tail_most": 1.2,
        "tail_processes": 6,
        "tail_note": "the highest of the processes' p99 is over 1.05 times the lowest",
        "memory_bytes": int(6e8 + batch_size * 2.4e7 * (1 if about["precision"] == "fp16" else 2)),
    }
    if about["runtime"] == "compile":
        row |= {"p99_ms": median * 1.04, "tail_least": 1.03, "tail_most": 1.05, "tail_note": None}
    return row | _energy(gpu, batch_size, throughput) | changes


def _place(gpu: str, model: str, mode: str, batch_size: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(FAMILIES.names())
    row |= {"gpu": gpu, "model": model, "mode": mode, "batch_size": batch_size, "threads": ALL_THREADS}
    row |= {"sweeps": 0, "runs": 0, "samples": 0, "hosts": 0, "cards": 0, "flags": [], "flagged_cells": 0}
    return row | about_mode(mode) | {"launch_bound": False, "primary": False, "energy_sweeps": 0}


def _spread(name: str, unit: str, value: float) -> dict[str, float]:
    """A median with the interval and the range of `SPREAD`."""
    low, high = value * (1 + SPREAD[0]), value * (1 + SPREAD[-1])
    key = f"{name}_{unit}"
    return {key: value, f"{name}_low_{unit}": low, f"{name}_high_{unit}": high} | {
        f"{name}_least_{unit}": low,
        f"{name}_most_{unit}": high,
    }


def _energy(gpu: str, batch_size: int, throughput: float) -> dict[str, Any]:
    """Energy of a family at 200 W and more, of which 120 W flow when idle."""
    if gpu == "CPU":
        return {"energy_note": "no counter of this processor can be read"}
    power = 200.0 + batch_size
    joules = power / throughput
    return {
        "energy_sweeps": 6,
        "power_w": power,
        "energy_j_per_image": joules,
        "energy_low_j_per_image": 0.98 * joules,
        "energy_high_j_per_image": 1.02 * joules,
        "energy_above_idle_j_per_image": (power - 120) / throughput,
        "images_per_joule": 1 / joules,
        "images_per_joule_low": 1 / (1.02 * joules),
        "images_per_joule_high": 1 / (0.98 * joules),
        "integral_over_counter": 0.995,
    }


def synthetic_failure(
    gpu: str, model: str, mode: str, batch_size: int, status: str = "out_of_memory"
) -> dict[str, Any]:
    return _place(gpu, model, mode, batch_size) | {"status": status, "reason": "synthetic"}


def synthetic_summary(rows: Sequence[dict[str, Any]], published: bool = True) -> Summary:
    """A summary with these families, and the frames that follow from them."""
    families = pl.DataFrame(rows, schema=FAMILIES)
    runs = synthetic_runs(families)
    values = sweep_values(runs, families)
    families = _with_ratios(families, values)
    present = sorted(set(families["gpu"]))
    coverage = (
        families.group_by("gpu", "model", "mode", *ABOUT_MODE, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("expected"),
            pl.len().cast(pl.Int64).alias("found"),
            (pl.col("status") != "ok").sum().cast(pl.Int64).alias("failed"),
        )
        .with_columns(refused=pl.lit(0, pl.Int64), unlisted=pl.lit(0, pl.Int64))
        .select(COVERAGE.names())
    )
    values_printed = read_published(ROOT / "data/published/deep_gap.csv")
    return Summary(
        runs=runs,
        families=families,
        by_host=pl.DataFrame(_by_host(families), schema=BY_HOST),
        ratios=summarise_ratios(values, set(families.filter("primary").select(list(KEY)).iter_rows())),
        variance=pl.DataFrame(schema=VARIANCE),
        facts=pl.DataFrame(_facts(families), schema=FACTS),
        fidelity=_fidelities(families),
        telemetry=_telemetry(families),
        sessions=pl.DataFrame([_session(gpu) for gpu in present], schema=SESSIONS),
        cost=pl.DataFrame(schema=COST),
        published=values_printed if published else pl.DataFrame(schema=PUBLISHED_VALUES),
        anchors=read_anchors(ROOT / "data/published/mlperf_resnet50.csv")
        if published
        else pl.DataFrame(schema=ANCHORS),
        coverage=coverage,
        design=pl.DataFrame([_design(families, gpu) for gpu in present], schema=DESIGN),
        gpus=GPUS,
        reporting=REPORTING,
    )


def synthetic_runs(families: pl.DataFrame) -> pl.DataFrame:
    """As many runs of each timed family as it has sweeps, one a sweep, `SPREAD` about its medians in some order."""
    rows = []
    for family in families.filter(pl.col("throughput_img_s").is_not_null(), status="ok").iter_rows(named=True):
        key = {name: family[name] for name in (*KEY, *ABOUT_MODE)}
        offsets = list(SPREAD[: family["sweeps"]])
        random.Random(repr(key)).shuffle(offsets)
        for sweep, offset in enumerate(offsets, 1):
            row: dict[str, Any] = dict.fromkeys(RUNS.names()) | key | {"sweep": sweep, "run": 1, "samples": 200}
            row |= {"median_ms": family["median_ms"] and family["median_ms"] * (1 + offset)}
            row |= {"p99_ms": row["median_ms"] and row["median_ms"] * (1.1 + offset)}
            row |= {"throughput_img_s": family["throughput_img_s"] * (1 + offset)}
            per_joule = family["images_per_joule"]
            row |= {"energy_j_per_image": per_joule and 1 / (per_joule * (1 + offset)), "flags": family["flags"]}
            row |= {"host": family["host"] or HOST, "card": None if key["gpu"] == "CPU" else CARD, "session": SESSION}
            name = f"{key['model']}_{key['mode']}_b{key['batch_size']}_s{sweep}"
            rows.append(
                row | {"cell_file": f"results/{key['gpu']}/cells/{name}.parquet", "measured_at": "2000-01-01"}
            )
    return pl.DataFrame(rows, schema=RUNS)


def _with_ratios(families: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """The families with what compares them with each other, unless a row says it itself."""
    rows = {family_key(row): row for row in families.iter_rows(named=True)}
    found = {key: dict(columns) for key, columns in best_batches(values)}
    for key, ratio in speedups(values).items():
        found[key] |= {"speedup_fp32": ratio.ratio, "speedup_fp32_low": ratio.low, "speedup_fp32_high": ratio.high}
    for key, columns in found.items():
        rows[key] |= {name: value for name, value in columns.items() if rows[key][name] is None}
    return pl.DataFrame(list(rows.values()), schema=FAMILIES)


def _by_host(families: pl.DataFrame) -> list[dict[str, Any]]:
    timed = families.filter(status="ok").iter_rows(named=True)
    return [{name: row[name] for name in BY_HOST} for row in timed]


def _facts(families: pl.DataFrame) -> list[dict[str, Any]]:
    known = families.select("gpu", "model").unique(maintain_order=True).iter_rows()
    return [
        {"gpu": gpu, "model": model, "image_size": 224} | FACTS_OF[model] for gpu, model in known if model in FACTS_OF
    ]


def h200_rows(batch_sizes: Sequence[int] = FEW) -> list[dict[str, Any]]:
    return [synthetic_family("H200", model, mode, b) for model in RATE for mode in H200_MODES for b in batch_sizes]


def cpu_rows() -> list[dict[str, Any]]:
    return [synthetic_family("CPU", model, "eager-fp32", b) for model in RATE for b in (1, 2, 4, 8)]


def full_summary(batch_sizes: Sequence[int] = FEW) -> Summary:
    """H200 with one family out of memory and one mode unsupported, and the CPU."""
    lost = [("resnet101", "eager-fp32", batch_sizes[-1])]
    rows = [r for r in h200_rows(batch_sizes) if (r["model"], r["mode"], r["batch_size"]) not in lost]
    rows += [synthetic_failure("H200", *key) for key in lost]
    return synthetic_summary(rows + cpu_rows())


@cache
def two_kinds_summary(batch_sizes: Sequence[int] = (1, 8, 16, 24, 32, 48, 64, 96, 128, 512)) -> Summary:
    """Two kinds of GPU with four models and nine modes: eager calls of few images are bound by launching them, and
    compiled ones of many are held by the power limit."""
    modes = sorted((*SPEED, *EXTRA), key=by_mode)
    rows = [synthetic_family(*key) for key in product(("H100", "H200"), PACE, modes, batch_sizes)]
    for row in rows:
        if row["runtime"] == "eager" and row["batch_size"] <= 24:
            row |= {"launch_bound": True, "primary": False, "flags": ["launch_bound"]}
        elif "compile" in row["runtime"] and row["batch_size"] >= 96:
            row |= {"flags": ["power_held"], "sm_clock_share": 0.86}
    return synthetic_summary(rows)


def cpu_summary() -> Summary:
    return synthetic_summary(cpu_rows())


def empty_summary() -> Summary:
    """Neither cells nor published values."""
    return synthetic_summary([], published=False)


def synthetic_fidelity(gpu: str, model: str, mode: str, **changes: Any) -> dict[str, Any]:
    """One row of fidelity: exact in fp32, and worse the shorter the numbers."""
    precision = about_mode(mode)["precision"]
    row: dict[str, Any] = dict.fromkeys(FIDELITY.names())
    row |= {"gpu": gpu, "model": model, "mode": mode} | about_mode(mode)
    row |= {"compared_cells": 10, "cells": 10, "images": 256}
    if precision == "int8":
        row |= {"calibration_method": "entropy", "calibration_images": "procedural", "calibration_count": 128}
    agreeing, right = {"int8": (254, 230)}.get(precision, (256, 232))
    for name, count in (("top1_agreement", agreeing), ("top1_accuracy", right)):
        low, high = wilson(count, 256)
        row |= {name: count / 256, f"{name}_low": low, f"{name}_high": high}
    row |= {
        "sqnr_db": {"fp32": None, "tf32": 61.04, "fp16": 54.96}.get(precision, 21.55),
        "cosine": {"fp32": 1.0, "tf32": 0.9999996, "fp16": 0.9999984}.get(precision, 0.99652),
        "reference_top1_accuracy": 232 / 256,
        "identical": precision == "fp32",
        "all_finite": True,
    }
    return row | changes


def _fidelities(families: pl.DataFrame) -> pl.DataFrame:
    timed = families.filter(pl.col("status") == "ok").select("gpu", "model", "mode").unique(maintain_order=True)
    return pl.DataFrame([synthetic_fidelity(*key) for key in timed.iter_rows()], schema=FIDELITY)


def _session(gpu: str) -> dict[str, Any]:
    row: dict[str, Any] = {name: [] if kind.is_nested() else None for name, kind in SESSIONS.items()}
    row |= {
        "gpu": gpu,
        "session": SESSION,
        "host": HOST,
        "cells": 30,
        "load_least": 0.5,
        "load_most": 1.5,
        "first_measured_at": "2000-01-01T00:00:00+00:00",
        "last_measured_at": "2000-01-01T01:00:00+00:00",
        "device": f"Synthetic {gpu} & co_1",
        "cpu": "Synthetic processor 100%",
        "logical_cores": 16,
        "usable_cores": 16.0,
        "memory_gib": 128.0,
        "os": "Synthetic OS",
        "python": "3.11.0",
        "torch": "0.0",
        "sweeps": list(range(1, 7)),
        "versions": ["python 3.11.0", "torch 0.0"],
    }
    if gpu != "CPU":
        row |= {"driver": "000.00", "max_sm_clock_mhz": 1980, "power_limit_w": 700.0, "ecc": True, "cards": [CARD]}
    return row


def synthetic_second(gpu: str, model: str, mode: str, batch_size: int, **changes: Any) -> dict[str, Any]:
    """One row of telemetry: a timed second at full load."""
    row = {"gpu": gpu, "model": model, "mode": mode, "batch_size": batch_size, "session": SESSION, "card": CARD}
    row |= {"sweep": 1, "time_s": 2.0, "duration_s": 1.0, "timed": True, "started_unix_s": 1e9, "samples": 20}
    row |= {"temperature_c": 50.0, "power_w": 500.0, "power_semantics": "NVML_FI_DEV_POWER_INSTANT"}
    row |= {"utilisation_percent": 99.0, "sm_clock_mhz": 1900.0, "sm_clock_min_mhz": 1800, "sm_clock_max_mhz": 1980}
    row |= {"sm_clock_share": 1900 / 1980}
    return row | {"throttle_reasons": []} | changes


def _telemetry(families: pl.DataFrame) -> pl.DataFrame:
    """Three timed seconds and an idle one of each family that was timed on a GPU; the largest are held down."""
    rows = []
    timed = families.filter(pl.col("status") == "ok", pl.col("gpu") != "CPU")
    for place, family in enumerate(timed.iter_rows(named=True)):
        key, size = tuple(family[name] for name in ("gpu", "model", "mode", "batch_size")), family["batch_size"]
        held = ["sw_power_cap"] if size == 512 else []
        share = 0.86 if "power_held" in family["flags"] else 0.96
        for second in range(4):
            rows.append(
                synthetic_second(
                    *key,
                    time_s=float(second),
                    timed=second > 0,
                    started_unix_s=1e9 + 10 * place,
                    temperature_c=40.0 + min(size, 100) / 10 + second,
                    power_w=150.0 + size,
                    sm_clock_share=share,
                    throttle_reasons=held,
                )
            )
    return pl.DataFrame(rows, schema=TELEMETRY)


def _design(families: pl.DataFrame, gpu: str) -> dict[str, Any]:
    """The axes that these families span."""
    rows = [row for row in families.iter_rows(named=True) if row["gpu"] == gpu]
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    row = dict.fromkeys(DESIGN.names()) | {"gpu": gpu, "models": list(dict.fromkeys(row["model"] for row in rows))}
    row |= {"modes": modes, "threads": ["all"] * len(modes)}
    row |= {"batch_sizes": sorted({row["batch_size"] for row in rows}), "protocol": "synthetic", "sweeps": 6}
    row |= {"runs": 1, "warmup_iterations": 10, "timed_iterations": 100, "throughput_s": 2.0, "arms": []}
    return row | {"fidelity_images": 256}


def synthetic_recipe(gpu: str, model: str, mode: str, batch_size: int, **changes: Any) -> dict[str, Any]:
    """The parts of a recipe on which reading and aggregating depend."""
    protocol = {"warmup_iterations": 10, "timed_iterations": 20, "runs": 2, "fidelity_images": 8}
    protocol |= {"throughput_s": 2.0, "arms": []}
    stop = {"minimum_iterations": 2, "minimum_ms": 0, "half_width": 0.1, "maximum_s": 2.0}
    recipe = {
        "gpu": gpu,
        "model": model,
        "mode": mode,
        **about_mode(mode),
        "batch_size": batch_size,
        "threads": ALL_THREADS,
        "sweep": 1,
        "image_size": 224,
        "method_version": METHOD_VERSION,
        "protocol": protocol | {"stop": stop},
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
        latencies_ms, cold_ms: device times of each run's calls; calls_ms: of a call in each throughput run.
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
    return frame.with_columns(iteration=pl.int_range(1, pl.len() + 1).over("arm", "run").cast(pl.Int32))


def card_name(gpu: str) -> str:
    """A name that the entry of a GPU knows."""
    known = GPUS.get(gpu)
    return re.sub(r"\(.*?\)[*?]", "", known.name_pattern or "") if known else f"Synthetic {gpu}"


def synthetic_footer(recipe: dict[str, Any], **observed: Any) -> Footer:
    """A footer of a healthy cell with these observations changed; a null one is left out."""
    on_gpu = recipe["gpu"] != "CPU"
    held = {"samples": 40, "sm_clock_median_mhz": 1900, "sm_clock_mean_share": 0.96, "temperature_max_c": 50}
    held |= {"power_mean_w": 400.0, "throttle_shares": {"gpu_idle": 0.1}}
    found: dict[str, Any] = {
        "clock_zero_unix_s": 1e9,
        "facts": FACTS_OF.get(recipe["model"], {}),
        "cell_s": 10.0,
        "phases_s": {"wait": 1.0, "load": 0.5, "warm_up": 1.5, "latency": 2.0, "throughput": 2.5, "fidelity": 0.5},
        "intraop_threads": recipe["threads"] or 8,
        "prepare_ms": 30.0,
        "first_call_ms": 12.0,
        "steady": True,
        "converged": True,
        "host_load": 1.0,
        "fidelity": {"top1_agreement": 1.0},
        "telemetry": {
            "samples": 100,
            "interval_ms": 50.0,
            "other_processes": 0,
            "arms": {arm: dict(held) for arm in ("latency", "throughput")},
        },
        "energy": {"absent": "no window"},
        "memory": {"device_peak_bytes": 600 << 20, "allocated_peak_bytes": 300 << 20},
    }
    if not on_gpu:
        found |= {"telemetry": {"absent": "no GPU"}, "memory": {"host_peak_bytes": 200 << 20}}
    found |= observed
    device = {"name": card_name(recipe["gpu"]), "uuid_sha256": CARD if on_gpu else None}
    if on_gpu:
        device |= {"driver": "000.00", "default_sm_clock_mhz": 1900, "max_sm_clock_mhz": 1980}
    host = {"cpu": "Synthetic", "logical_cores": 8, "memory_gib": 16.0, "os": "Synthetic", "kernel": "0"}
    host |= {"host_sha256": HOST}
    versions = {"python": "3.11.0", "torch": "0.0", "torchvision": "0.0", "cuda_runtime": None, "cudnn": None}
    provenance = {"measured_at": "2000-01-01T00:00:00+00:00", "versions": versions, "host": host, "device": device}
    provenance |= {"session": {"id": SESSION, "place": 1, "cells": 1}, "libraries": {}}
    return Footer(recipe, "0" * 64, provenance, {name: value for name, value in found.items() if value is not None})


def write_synthetic_cell(folder: Path, rows: pl.DataFrame, footer: Footer) -> Path:
    """Write a cell under the name that its recipe gives it."""
    recipe = footer.recipe
    path = folder / f"{cell_id(recipe)}.{recipe_digest(recipe)}.parquet"
    write_cell(path, rows, footer)
    return path

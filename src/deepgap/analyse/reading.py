"""Reading cells: what one cell's file says, checked, as rows of the tables to come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.analyse.flags import cell_flags
from deepgap.analyse.schemas import ABOUT_MODE, KEY, OF_CELL, RUNS
from deepgap.cells.bounds import check_bounds
from deepgap.cells.cell_file import BURST, COLD, END_TO_END, LATENCY, OK, THROUGHPUT, read_cell
from deepgap.cells.footer import Footer
from deepgap.errors import CellError
from deepgap.stats import Floats, tail_quantile
from deepgap.study.gpus import Gpu, split_site

STACK = ("torch", "cuda_runtime", "cudnn", "nvidia-cudnn-frontend", "onnxruntime", "tensorrt", "triton")
"""The software that computes a model's answers; with the driver it must be the same in all cells of a family."""

CELL_KEY = [*KEY, "sweep"]
CELLS = pl.Schema(
    {
        **KEY,
        **ABOUT_MODE,
        "sweep": pl.Int64,
        "status": pl.String,
        "reason": pl.String,
        **OF_CELL,
        "memory_allocated_bytes": pl.Int64,
        "memory_context_bytes": pl.Int64,
        "intraop_threads": pl.Int64,
        "energy_note": pl.String,
        "stack": pl.String,
        "engine": pl.String,
        "limits": pl.String,
        "max_sm_clock_mhz": pl.Int64,
        "timed_start_ms": pl.Float64,
        "timed_end_ms": pl.Float64,
    }
)
"""One row a cell: what its footer says. stack, engine, limits: JSON of what should be the same in a family: the
software; the build of its engine or graph; what holds the device or the host's processor back."""


@dataclass(frozen=True)
class ReadCell:
    """One cell. facts: a row of `CELLS`. runs: rows of `schemas.RUNS` but for its facts, none where it was not timed.
    device_ms: the latency calls of each run."""

    file: Path
    footer: Footer
    facts: dict[str, Any]
    runs: list[dict[str, Any]]
    device_ms: list[Floats]


def read_checked(file: Path, gpus: Mapping[str, Gpu]) -> tuple[pl.DataFrame, Footer]:
    """Read a cell and check its bounds; the footer's recipe names the gpu with its site.

    Raises:
        CellError: the file is not what its name and footer say, or holds what cannot be.
    """
    rows, footer = read_cell(file)
    footer = replace(footer, recipe=footer.recipe | {"gpu": gpu_of(file, footer.recipe)})
    if footer.recipe["gpu"] not in gpus:
        raise CellError(
            f"{file} is of the GPU {footer.recipe['gpu']}, which has no entry in config/gpus.yaml; add one, "
            "or remove the file."
        )
    try:
        check_bounds(rows, footer.recipe, footer.observed.get("facts", {}), gpus[footer.recipe["gpu"]])
    except CellError as error:
        raise CellError(f"{file} must go unless a fact in config/gpus.yaml is wrong: {error}") from None
    return rows, footer


def gpu_of(file: Path, recipe: Mapping[str, Any]) -> str:
    """The GPU of a file below results/<gpu>/, with its site: the folder tells the site, the recipe the kind."""
    kind, folder = str(recipe["gpu"]), file.parent.parent.name
    return folder if split_site(folder)[0] == kind else kind


def by_family(files: Iterable[Path]) -> Iterable[list[Path]]:
    """Files of one folder whose names differ in sweep and recipe alone, by name: whatever order they come in."""
    families: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted(files):
        families.setdefault((file.parent, file.name.rpartition("_s")[0]), []).append(file)
    return families.values()


def read_one(file: Path, gpus: Mapping[str, Gpu], floors: Mapping[str, float]) -> ReadCell:
    """Read, check and flag a cell.

    Args:
        floors: see `flags.cell_flags`.

    Raises:
        CellError: the file is not what its name and footer say, or holds what cannot be.
    """
    rows, footer = read_checked(file, gpus)
    flags = cell_flags(rows, footer, gpus[footer.recipe["gpu"]], floors)
    facts = {name: footer.recipe[name] for name in (*CELL_KEY, *ABOUT_MODE)} | _facts(rows, footer)
    facts |= {"flags": flags, "launch_bound": "launch_bound" in flags, "cell_file": file.as_posix()}
    runs, device_ms = _runs(rows, footer.recipe) if facts["status"] == OK else ([], [])
    return ReadCell(file, footer, facts, runs, device_ms)


def _runs(rows: pl.DataFrame, recipe: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Floats]]:
    """What the runs of a timed cell say, and the device times of each one's latency calls."""
    # Arrays: a query on so few rows costs ten times as much.
    arms, numbers = np.array(rows["arm"].to_list()), rows["run"].to_numpy()
    device, host, enqueue, calls = (rows[name].to_numpy() for name in ("device_ms", "host_ms", "enqueue_ms", "calls"))
    images_per_s = 1000 * recipe["batch_size"] * calls / host
    about = {name: recipe[name] for name in (*CELL_KEY, *ABOUT_MODE)}
    runs, device_ms = [], []
    for number in np.unique(numbers):
        of_run = numbers == number
        lone = of_run & (arms == LATENCY)
        times, enqueued = device[lone], enqueue[lone][~np.isnan(enqueue[lone])]
        runs.append(
            about
            | {
                "run": int(number),
                "samples": len(times),
                "median_ms": float(np.median(times)),
                "mean_ms": float(np.mean(times)),
                "std_ms": float(np.std(times, ddof=1)) if len(times) > 1 else None,
                "min_ms": float(np.min(times)),
                "max_ms": float(np.max(times)),
                "p99_ms": tail_quantile(times),
                "host_median_ms": float(np.median(host[lone])),
                "enqueue_median_ms": _median(enqueued),
                "cold_median_ms": _median(device[of_run & (arms == COLD)]),
                "end_to_end_median_ms": _median(host[of_run & (arms == END_TO_END)]),
                "throughput_img_s": _median(images_per_s[of_run & (arms == THROUGHPUT)]),
                "burst_img_s": _median(images_per_s[of_run & (arms == BURST)]),
            }
        )
        device_ms.append(times)
    return runs, device_ms


def _median(values: Floats) -> float | None:
    return float(np.median(values)) if len(values) else None


def software(footer: Footer) -> dict[str, str | None]:
    """The versions of `STACK` and of the driver; null where there is none."""
    versions: dict[str, str | None] = {name: footer.provenance["versions"].get(name) for name in STACK}
    return versions | {"driver": footer.provenance["device"].get("driver")}


def engine_build(footer: Footer) -> str | None:
    """What tells one build of a cell's engine, or its graph, from another; null where it has neither."""
    built = {"engine": footer.observed.get("engine"), "graph": footer.graph_sha256}
    return json.dumps(built, sort_keys=True) if any(built.values()) else None


def _limits(footer: Footer) -> str:
    host, device = footer.provenance["host"], footer.provenance["device"]
    of_device = ("power_limit_w", "ecc", "max_sm_clock_mhz", "default_sm_clock_mhz", "max_memory_clock_mhz")
    held = {name: device.get(name) for name in of_device}
    if device.get("uuid_sha256") is None:
        held |= {"memory_gib": host.get("memory_gib"), "limits": host.get("limits")}
    return json.dumps(held, sort_keys=True)


def _facts(rows: pl.DataFrame, footer: Footer) -> dict[str, Any]:
    observed, provenance = footer.observed, footer.provenance
    device, session = provenance["device"], provenance.get("session", {})
    memory, energy = observed.get("memory", {}), observed.get("energy", {})
    first = [observed.get(name) for name in ("prepare_ms", "first_call_ms")]
    joules, window_s = energy.get("joules"), energy.get("window_s")
    return {
        "status": rows["status"][0],
        "reason": rows["reason"][0],
        "host": provenance["host"].get("host_sha256"),
        "card": device.get("uuid_sha256"),
        "session": session.get("id"),
        "place": session.get("place"),
        "measured_at": provenance["measured_at"],
        "weights_sha256": footer.weights_sha256,
        "stack": json.dumps(software(footer) | provenance.get("libraries", {}), sort_keys=True),
        "engine": engine_build(footer),
        "limits": _limits(footer),
        "memory_bytes": memory.get("device_peak_bytes") or memory.get("host_peak_bytes"),
        "memory_allocated_bytes": memory.get("allocated_peak_bytes"),
        "memory_context_bytes": memory.get("context_bytes"),
        "first_call_ms": None if None in first else sum(first),
        "intraop_threads": observed.get("intraop_threads"),
        **_telemetry_facts(observed.get("telemetry", {}).get("arms", {})),
        "max_sm_clock_mhz": device.get("max_sm_clock_mhz"),
        "power_w": None if joules is None else joules / window_s,
        "energy_j_per_image": energy.get("joules_per_image"),
        "energy_above_idle_j_per_image": energy.get("joules_per_image_above_idle"),
        "integral_over_counter": energy.get("integral_over_counter"),
        "energy_note": energy.get("absent", None if energy else "not recorded"),
        "timed_start_ms": rows["start_ms"].min(),
        "timed_end_ms": None if rows["start_ms"].has_nulls() else (rows["start_ms"] + rows["host_ms"]).max(),
    }


def _telemetry_facts(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    sustained = arms.get(THROUGHPUT, {})
    hottest = [arms[name].get("temperature_max_c") for name in (LATENCY, THROUGHPUT) if name in arms]
    return {
        "sm_clock_median_mhz": sustained.get("sm_clock_median_mhz"),
        "sm_clock_share": sustained.get("sm_clock_mean_share"),
        "temperature_max_c": max((value for value in hottest if value is not None), default=None),
    }


RUN_COLUMNS = [name for name in RUNS.names() if name not in OF_CELL]
RUN_STATISTICS = pl.Schema({name: RUNS[name] for name in RUN_COLUMNS})
"""What `schemas.RUNS` says of a run's own calls."""

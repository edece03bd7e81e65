"""What cell files say: checked, flagged, and summarised family by family, with the calls of one family in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from deepgap.analyse.flags import cell_flags
from deepgap.analyse.summary import FAMILIES, FIDELITY, HOSTS, KEY, OVERHEAD, RUNS, STRINGS
from deepgap.cells.bounds import check_bounds
from deepgap.cells.cell_file import COLD, LATENCY, OK, THROUGHPUT, read_cell
from deepgap.cells.footer import Footer
from deepgap.errors import CellError
from deepgap.stats import Floats, median_interval, percentile, percentile_bound, percentile_note
from deepgap.study.gpus import Gpu, split_site

QUANTILES = {"p90_ms": 0.90, "p95_ms": 0.95, "p99_ms": 0.99}
BOUNDED = "p99_ms"
RUN_KEY = [*KEY, "sweep", "repeat"]
STACK = ("torch", "cuda_runtime", "cudnn", "nvidia-cudnn-frontend", "onnxruntime", "tensorrt", "triton")
"""The software that computes a model's answers; with the driver it must be the same in all cells of a family."""
WORK_PHASES = ("prepare", "first_call", "warm_up", "latency", "throughput", "cold", "energy", "idle")

FamilyKey: TypeAlias = tuple[Any, ...]
"""The values of `KEY`."""

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
RUN_STATISTICS: pl.Schema = pl.Schema({name: kind for name, kind in RUNS.items() if name not in CELL_FACTS})
"""What `summary.RUNS` says of a run's own calls."""

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

CELL_SECONDS = pl.Schema({name: OVERHEAD[name] for name in ("gpu", "model", "cell_s", "wait_s", "work_s")})
FAMILY_ROWS = pl.Schema({**FAMILIES, "weights": STRINGS})
"""What a family's own cells say of it, and the hashes of their weights; null is what only several families say."""


class Rows:
    """A frame in the making: rows come as dictionaries and are put away as columns, a thousand at a time."""

    def __init__(self, schema: pl.Schema, rows: Iterable[Mapping[str, Any] | None] = ()) -> None:
        self._schema, self._frames, self._rows = schema, [schema.to_frame()], list[Mapping[str, Any]]()
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any] | None) -> None:
        """Add a row; null adds none."""
        if row is not None:
            self._rows.append(row)
        if len(self._rows) == 1000:
            self._put_away()

    def frame(self) -> pl.DataFrame:
        self._put_away()
        return pl.concat(self._frames)

    def _put_away(self) -> None:
        self._frames.append(pl.DataFrame(self._rows, schema=self._schema))
        self._rows = []


@dataclass(frozen=True)
class Measurements:
    """What was read of cells; the gpu of each is with its site.

    cells: in `CELLS`, failed ones included. runs: in `RUN_STATISTICS`. families: in `FAMILY_ROWS`. hosts, fidelity,
    seconds: a row a cell that says it, in `summary.HOSTS`, `CELL_FIDELITY` and `CELL_SECONDS`.
    """

    cells: pl.DataFrame
    runs: pl.DataFrame
    families: pl.DataFrame
    hosts: pl.DataFrame
    fidelity: pl.DataFrame
    seconds: pl.DataFrame


@dataclass(frozen=True)
class _Cell:
    """One cell while its family is put together."""

    facts: dict[str, Any]
    runs: list[dict[str, Any]]
    device_ms: list[Floats]
    enqueue_ms: list[Floats]
    cold_ms: Floats


def read_measurements(files: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float]) -> Measurements:
    """Read cells, check that they can be true, flag what is odd, and summarise them family by family.

    Args:
        files: `<cell-id>.<recipe>.parquet`.
        gpus: the hardware facts, by key.
        floors: see `flags.cell_flags`.

    Raises:
        CellError: a file is not what its name and footer say, or holds what cannot be, or is of the same sweep of one
            cell as another.
    """
    cells, runs, families = Rows(CELLS), Rows(RUN_STATISTICS), Rows(FAMILY_ROWS)
    hosts, fidelity, seconds = Rows(HOSTS), Rows(CELL_FIDELITY), Rows(CELL_SECONDS)
    seen: dict[tuple[Any, ...], Path] = {}
    for of_family in _by_family(files):
        family = []
        for file in of_family:
            rows, footer = read_checked(file, gpus)
            place = tuple(footer.recipe[name] for name in (*KEY, "sweep"))
            if place in seen:
                raise CellError(f"{file} and {seen[place]} are of the same sweep of one cell; remove one of them.")
            seen[place] = file
            gpu = gpus[footer.recipe["gpu"]]
            flags = cell_flags(rows, footer.recipe, footer.observed, footer.provenance, gpu, floors)
            family.append(_read_facts(rows, footer, {"flags": flags, "cell_file": file.as_posix()}))
            hosts.add(host_row(footer))
            fidelity.add(fidelity_row(footer))
            seconds.add(seconds_row(footer))
        family.sort(key=lambda cell: cell.facts["sweep"])
        for cell in family:
            cells.add(cell.facts)
            for run in cell.runs:
                runs.add(run)
        families.add(_family_row(family))
    return Measurements(
        cells.frame().sort(*KEY, "sweep"),
        runs.frame().sort(RUN_KEY),
        families.frame().sort(list(KEY)),
        hosts.frame(),
        fidelity.frame(),
        seconds.frame(),
    )


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


def _by_family(files: Iterable[Path]) -> Iterable[list[Path]]:
    """Files of one folder whose names differ in sweep and recipe alone."""
    families: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        families.setdefault((file.parent, file.name.rpartition("_s")[0]), []).append(file)
    return families.values()


def gpu_of(file: Path, recipe: Mapping[str, Any]) -> str:
    """The GPU of a file below results/<gpu>/, with its site: the folder tells the site, the recipe the kind."""
    kind, folder = str(recipe["gpu"]), file.parent.parent.name
    return folder if split_site(folder)[0] == kind else kind


def _read_facts(rows: pl.DataFrame, footer: Footer, about: dict[str, Any]) -> _Cell:
    key = {name: footer.recipe[name] for name in (*KEY, "sweep")}
    facts = key | _cell_facts(rows, footer) | about
    if facts["status"] != OK:
        return _Cell(facts, [], [], [], np.empty(0))
    # Arrays: a query on so few rows costs ten times as much.
    arms, run_numbers = np.array(rows["arm"].to_list()), rows["run"].to_numpy()
    device, host, enqueue, counts = (
        rows[name].to_numpy() for name in ("device_ms", "host_ms", "enqueue_ms", "calls")
    )
    images_per_s = 1000 * footer.recipe["batch_size"] * counts / host
    runs, device_ms, enqueue_ms = [], [], []
    for span in np.flatnonzero(arms == THROUGHPUT):
        calls = (arms == LATENCY) & (run_numbers == run_numbers[span])
        times = device[calls]
        enqueued = enqueue[calls][~np.isnan(enqueue[calls])]
        runs.append(
            {
                **key,
                "repeat": int(run_numbers[span]),
                "samples": len(times),
                "median_ms": np.median(times),
                "mean_ms": np.mean(times),
                "std_ms": np.std(times, ddof=1) if len(times) > 1 else None,
                "min_ms": np.min(times),
                "max_ms": np.max(times),
                "host_median_ms": np.median(host[calls]),
                "enqueue_median_ms": np.median(enqueued) if len(enqueued) else None,
                "throughput_img_s": images_per_s[span],
            }
        )
        device_ms.append(times)
        enqueue_ms.append(enqueued)
    return _Cell(facts, runs, device_ms, enqueue_ms, device[arms == COLD])


def software(footer: Footer) -> dict[str, str | None]:
    """The versions of `STACK` and of the driver that a cell was measured with; null where there is none."""
    versions = {name: footer.provenance["versions"].get(name) for name in STACK}
    return versions | {"driver": footer.provenance["device"].get("driver")}


def _cell_facts(rows: pl.DataFrame, footer: Footer) -> dict[str, Any]:
    observed, device = footer.observed, footer.provenance["device"]
    telemetry, energy = observed.get("telemetry", {}), observed.get("energy", {})
    memory, throughput = observed.get("memory", {}), telemetry.get("arms", {}).get(THROUGHPUT, {})
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
        "stack": json.dumps(software(footer)),
        "memory_bytes": memory.get("device_peak_bytes") or memory.get("host_peak_bytes"),
        "memory_allocated_bytes": memory.get("allocated_peak_bytes"),
        "first_call_ms": None if None in first else sum(first),
        "intraop_threads": observed.get("intraop_threads"),
        **{name: throughput.get(name) for name in ("sm_clock_median_mhz", "temperature_max_c", "power_mean_w")},
        "energy_j_per_image": energy.get("joules_per_image"),
        "energy_above_idle_j_per_image": energy.get("joules_per_image_above_idle"),
        "power_w": None if joules is None or window_s is None else joules / window_s,
        "energy_note": note,
        "timed_start_ms": rows["start_ms"].min(),
        "timed_end_ms": None if rows["start_ms"].has_nulls() else (rows["start_ms"] + rows["host_ms"]).max(),
    }


def host_row(footer: Footer) -> dict[str, Any]:
    """A row of `summary.HOSTS` of one cell."""
    host, device = footer.provenance["host"], footer.provenance["device"]
    versions, recipe = footer.provenance["versions"], footer.recipe
    of_device = ("driver", "max_sm_clock_mhz", "power_limit_w", "ecc", "l2_cache_bytes")
    libraries = ("triton", "onnx", "onnxruntime", "tensorrt")
    measured_at = footer.provenance["measured_at"]
    threads, card = footer.observed.get("intraop_threads"), device.get("uuid_sha256")
    return {
        "gpu": recipe["gpu"],
        "cells": 1,
        "first_measured_at": measured_at,
        "last_measured_at": measured_at,
        "device": device["name"],
        "device_sha256": [] if card is None else [card],
        "intraop_threads": [] if threads is None else [threads],
        "modes": [f"{recipe['runtime']}-{recipe['precision']}"],
        "weights": [f"{recipe['model']} {footer.weights_sha256}"],
        **{name: device.get(name) for name in of_device},
        **{name: host[name] for name in ("cpu", "logical_cores", "memory_gib", "os", "kernel")},
        **{name: versions[name] for name in ("python", "torch", "torchvision", "cuda_runtime", "cudnn")},
        **{name: versions.get(name) for name in libraries},
        "cudnn_frontend": versions.get("nvidia-cudnn-frontend"),
    }


def fidelity_row(footer: Footer) -> dict[str, Any] | None:
    """A row of `CELL_FIDELITY`; null for a cell that could not be timed, which gave no answers."""
    fidelity = footer.observed.get("fidelity", {})
    if "images" not in fidelity:
        return None
    recipe = footer.recipe
    calibration = recipe.get("calibration", {})
    return {
        **{name: recipe[name] for name in ("gpu", "model", "runtime", "precision")},
        **{f"calibration_{name}": calibration.get(name) for name in ("method", "images", "count")},
        **{name: fidelity.get(name) for name in CELL_FIDELITY.names()[8:]},
    }


def seconds_row(footer: Footer) -> dict[str, Any] | None:
    """A row of `CELL_SECONDS`; null for a cell that does not say how long it took."""
    if footer.observed.get("cell_s") is None:
        return None
    seconds = footer.observed.get("phases_s", {})
    return {
        "gpu": footer.recipe["gpu"],
        "model": footer.recipe["model"],
        "cell_s": footer.observed["cell_s"],
        "wait_s": seconds.get("wait", 0.0),
        "work_s": sum(seconds.get(name, 0.0) for name in WORK_PHASES),
    }


def family_key(row: Mapping[str, Any]) -> FamilyKey:
    return tuple(row[name] for name in KEY)


def _family_row(cells: Sequence[_Cell]) -> dict[str, Any]:
    """What a family's cells, failed ones included, say together."""
    facts = [cell.facts for cell in cells]
    timed, lost = ([row for row in facts if (row["status"] == OK) == wanted] for wanted in (True, False))
    flags = set().union(*(row["flags"] for row in facts))
    if len({row["stack"] for row in timed}) > 1:
        flags.add("mixed_stack")
    if timed and lost:
        flags.add("partly_failed")
    row = {
        **{name: facts[0][name] for name in KEY},
        "sweeps": len(timed),
        "first_call_ms": _median(timed, "first_call_ms"),
        "intraop_threads": _most(facts, "intraop_threads"),
        "memory_bytes": _most(timed, "memory_bytes"),
        "memory_allocated_bytes": _most(timed, "memory_allocated_bytes"),
        "weights": sorted({row["weights_sha256"] for row in timed}),
        "flags": sorted(flags),
        "flagged_cells": sum(bool(row["flags"]) for row in facts),
    }
    if not timed:
        failure = min(lost, key=lambda row: (row["status"], row["reason"]))
        return row | {"status": failure["status"], "reason": failure["reason"]}
    cold_ms = np.concatenate([cell.cold_ms for cell in cells])
    row |= {"status": OK, "cold_median_ms": float(np.median(cold_ms)) if len(cold_ms) else None}
    return row | _latency_columns(cells) | _energy_columns(timed)


def _latency_columns(cells: Sequence[_Cell]) -> dict[str, Any]:
    """Statistics of a family's latency calls."""
    runs = [times for cell in cells for times in cell.device_ms]
    samples = np.concatenate(runs)
    enqueued = np.concatenate([times for cell in cells for times in cell.enqueue_ms])
    low, high = median_interval(runs) or (None, None)
    return {
        "runs": len(runs),
        "samples": len(samples),
        "median_ms": float(np.median(samples)),
        "median_low_ms": low,
        "median_high_ms": high,
        "enqueue_median_ms": float(np.median(enqueued)) if len(enqueued) else None,
        **{name: percentile(samples, quantile) for name, quantile in QUANTILES.items()},
        "percentile_note": percentile_note(len(samples), list(QUANTILES.values())),
        "p99_bound_ms": percentile_bound(samples, QUANTILES[BOUNDED]),
        "variation": float(np.std(samples, ddof=1) / np.mean(samples)) if len(samples) > 1 else None,
    }


def _energy_columns(timed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Energy of a family's timed cells. Where some have it the others' reasons do not matter."""
    counted = [row for row in timed if row["energy_j_per_image"] is not None]
    joules, above_idle = _median(counted, "energy_j_per_image"), _median(counted, "energy_above_idle_j_per_image")
    notes = sorted(set(_known(counted or timed, "energy_note")))
    return {
        "energy_j_per_image": joules,
        "energy_above_idle_j_per_image": above_idle,
        "images_per_joule": None if joules is None else 1 / joules,
        "power_w": _median(counted, "power_w"),
        "energy_windows": len(counted),
        "energy_note": "; ".join(notes) if above_idle is None else None,
    }


def _known(rows: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row[name] is not None]


def _median(rows: Iterable[Mapping[str, Any]], name: str) -> float | None:
    known = _known(rows, name)
    return float(np.median(known)) if known else None


def _most(rows: Iterable[Mapping[str, Any]], name: str) -> Any:
    return max(_known(rows, name), default=None)

"""From cell files to the tidy tables of `deepgap.summary`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from joblib import Parallel, delayed

from deepgap.bounds import check_bounds, peak_share
from deepgap.cells import COLD, LATENCY, OK, THROUGHPUT, Footer, read_cell
from deepgap.errors import CellError, ConfigError, TelemetryError
from deepgap.files import put_in_place, write_parquet
from deepgap.flags import NO_THROTTLING, cell_flags, falling_memory
from deepgap.hardware import Gpu, in_config, split_site, with_sites
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


HOST_TYPES: dict[str, Any] = {name: HOSTS[name] for name in HOSTS.names()[4:-1]}
HOST_CELLS = pl.Schema(
    {
        "gpu": pl.String,
        "measured_at": pl.String,
        "device_sha256": pl.String,
        **HOST_TYPES,
    }
)
CELL_SECONDS = pl.Schema({name: OVERHEAD[name] for name in ("gpu", "cell_s", "wait_s", "work_s")})


class Rows:
    """A frame in the making: rows come as dictionaries and are put away as columns, a thousand at a time."""

    def __init__(self, schema: pl.Schema, rows: Iterable[Mapping[str, Any] | None] = ()) -> None:
        self._schema, self._frames, self._rows = schema, [schema.to_frame()], list[Mapping[str, Any]]()
        self.extend(rows)

    def add(self, row: Mapping[str, Any] | None) -> None:
        """Add a row; null adds none."""
        if row is not None:
            self._rows.append(row)
        if len(self._rows) == 1000:
            self._put_away()

    def extend(self, rows: Iterable[Mapping[str, Any] | None]) -> None:
        for row in rows:
            self.add(row)

    def frame(self) -> pl.DataFrame:
        self._put_away()
        return pl.concat(self._frames)

    def _put_away(self) -> None:
        self._frames.append(pl.DataFrame(self._rows, schema=self._schema))
        self._rows = []


@dataclass(frozen=True)
class Measurements:
    """What was read of all cells; the gpu of each is with its site.

    cells: in `CELLS`, failed ones included. runs: in `RUN_STATISTICS`. families: the part of a row of
    `summary.FAMILIES` that a family's own cells say, with the sets `flags` and `weights`.
    hosts, fidelity, seconds: a row a cell that says it, in `HOST_CELLS`, `CELL_FIDELITY` and `CELL_SECONDS`.
    """

    cells: pl.DataFrame
    runs: pl.DataFrame
    families: list[dict[str, Any]]
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


@dataclass(frozen=True)
class _Family:
    """All that is kept of a family's cells: rows of the frames of `Measurements`."""

    row: dict[str, Any]
    cells: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    hosts: list[dict[str, Any]]
    fidelity: list[dict[str, Any] | None]
    seconds: list[dict[str, Any] | None]


def read_measurements(
    files: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float], processes: int = 1
) -> Measurements:
    """Read cells, check that they can be true, flag what is odd, and summarise them family by family, so that the
    calls of one family at a time are in memory.

    Args:
        files: `<cell-id>.<recipe>.parquet`.
        gpus: the hardware facts, by key.
        floors: see `flags.cell_flags`.
        processes: to read with.

    Raises:
        CellError: a file is not what its name and footer say, or holds what cannot be, or is of the same sweep of one
            cell as another.
    """
    cells, runs, families = Rows(CELLS), Rows(RUN_STATISTICS), []
    hosts, fidelity, seconds = Rows(HOST_CELLS), Rows(CELL_FIDELITY), Rows(CELL_SECONDS)
    seen: dict[tuple[Any, ...], str] = {}
    read = Parallel(n_jobs=processes, return_as="generator")
    for family in read(delayed(_read_family)(of_family, gpus, floors) for of_family in _by_family(files)):
        for cell in family.cells:
            place, file = tuple(cell[name] for name in (*KEY, "sweep")), cell["cell_file"]
            if place in seen:
                raise CellError(f"{file} and {seen[place]} are of the same sweep of one cell; remove one of them.")
            seen[place] = file
        families.append(family.row)
        for rows, found in (
            (cells, family.cells),
            (runs, family.runs),
            (hosts, family.hosts),
            (fidelity, family.fidelity),
            (seconds, family.seconds),
        ):
            rows.extend(found)
    return Measurements(
        cells.frame().sort(*KEY, "sweep"),
        runs.frame().sort(RUN_KEY),
        sorted(families, key=_family_key),
        hosts.frame(),
        fidelity.frame(),
        seconds.frame(),
    )


def _read_family(files: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float]) -> _Family:
    cells, footers = [], []
    for file in files:
        rows, footer = read_checked(file, gpus)
        gpu = gpus[footer.recipe["gpu"]]
        flags = cell_flags(rows, footer.recipe, footer.observed, footer.provenance, gpu, floors)
        cells.append(_read_facts(rows, footer, {"flags": flags, "cell_file": file.as_posix()}))
        footers.append(footer)
    cells.sort(key=lambda cell: cell.facts["sweep"])
    return _Family(
        _family_row(cells),
        [cell.facts for cell in cells],
        [run for cell in cells for run in cell.runs],
        [host_row(footer) for footer in footers],
        [fidelity_row(footer) for footer in footers],
        [seconds_row(footer) for footer in footers],
    )


def read_checked(file: Path, gpus: Mapping[str, Gpu]) -> tuple[pl.DataFrame, Footer]:
    """Read a cell and check its bounds; the footer's recipe names the gpu with its site.

    Raises:
        CellError: the file is not what its name and footer say, or holds what cannot be.
    """
    rows, footer = read_cell(file)
    _check_footer(file, footer)
    footer = replace(footer, recipe=footer.recipe | {"gpu": gpu_of(file, footer.recipe)})
    if footer.recipe["gpu"] not in gpus:
        raise CellError(
            f"{file} is of the GPU {footer.recipe['gpu']}, which has no entry in config/gpus.yaml; add one, "
            "or remove the file."
        )
    try:
        check_bounds(rows, footer.recipe, gpus[footer.recipe["gpu"]])
    except CellError as error:
        raise CellError(f"{file} must go unless a fact in config/gpus.yaml is wrong: {error}") from None
    return rows, footer


def _check_footer(file: Path, footer: Footer) -> None:
    """Raise CellError where a footer lacks what the tables need, or a value is of another type."""
    try:
        check_schema(vars(footer), FOOTER_SCHEMA, "its footer")
    except ConfigError as error:
        raise CellError(f"{file} was not written by deepgap or was edited ({error}); remove it.") from None


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
    arms, repeats = np.array(rows["arm"].to_list()), rows["repeat"].to_numpy()
    device, host, enqueue, counts = (
        rows[name].to_numpy() for name in ("device_ms", "host_ms", "enqueue_ms", "calls")
    )
    images_per_s = 1000 * footer.recipe["batch_size"] * counts / host
    runs, device_ms, enqueue_ms = [], [], []
    for span in np.flatnonzero(arms == THROUGHPUT):
        calls = (arms == LATENCY) & (repeats == repeats[span])
        times = device[calls]
        enqueued = enqueue[calls][~np.isnan(enqueue[calls])]
        runs.append(
            {
                **key,
                "repeat": int(repeats[span]),
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
        "timed_end_ms": None if rows["start_ms"].has_nulls() else (rows["start_ms"] + rows["host_ms"]).max(),
    }


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
    for found in measurements.families:
        row = found | {"flags": set(found["flags"])}
        if row["status"] == OK:
            baseline = throughputs.get(_family_key(row | BASELINE))
            row |= _throughput_columns(throughputs[_family_key(row)], baseline)
            row["share_of_peak"] = peak_share(
                row["model"], row["precision"], row["throughput_img_s"], gpus[row["gpu"]]
            )
        rows.append(row)
    families = {_family_key(row): row for row in rows}
    for key, flag in _flags_between([row for row in rows if row["status"] == OK], gpus):
        families[key]["flags"].add(flag)
    tidy = [{name: row.get(name) for name in FAMILIES} | {"flags": sorted(row["flags"])} for row in rows]
    return pl.DataFrame(tidy, schema=FAMILIES).sort(list(KEY))


def _family_key(row: Mapping[str, Any]) -> FamilyKey:
    return tuple(row[name] for name in KEY)


def _family_row(cells: Sequence[_Cell]) -> dict[str, Any]:
    """What a family's cells, failed ones included, say together; flags and weights are sets."""
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
        "weights": {row["weights_sha256"] for row in timed},
        "flags": flags,
        "flagged_cells": sum(bool(row["flags"]) for row in facts),
    }
    if not timed:
        failure = min(lost, key=lambda row: (row["status"], row["reason"]))
        return row | {"status": failure["status"], "reason": failure["reason"]}
    cold_ms = np.concatenate([cell.cold_ms for cell in cells])
    row |= {"status": OK, "cold_median_ms": float(np.median(cold_ms)) if len(cold_ms) else None}
    return row | _latency_columns(cells) | _energy_columns(timed)


def _known(rows: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row[name] is not None]


def _median(rows: Iterable[Mapping[str, Any]], name: str) -> float | None:
    known = _known(rows, name)
    return float(np.median(known)) if known else None


def _most(rows: Iterable[Mapping[str, Any]], name: str) -> Any:
    return max(_known(rows, name), default=None)


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
        key = _family_key(row)
        if row["batch_size"] in falling.get(_sweep_key(row), ()):
            yield key, "memory_falls"
        if len(weights[row["gpu"], row["model"]]) > 1:
            yield key, "weights_differ"


def _sweep_key(row: Mapping[str, Any]) -> FamilyKey:
    return tuple(row[name] for name in KEY if name != "batch_size")


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


def summarise_hosts(cells: pl.DataFrame) -> pl.DataFrame:
    """One row a distinct stack and device; see `summary.HOSTS`.

    Args:
        cells: in `HOST_CELLS`.
    """
    columns = HOSTS.names()[4:-1]
    # Cells of fewer threads are of the same stack as those of all.
    threads = pl.col("intraop_threads")
    others = ["gpu", *(name for name in columns if name != "intraop_threads")]
    devices = pl.col("device_sha256").drop_nulls().n_unique().cast(pl.Int64)
    return (
        cells.with_columns(threads.fill_null(threads.max().over(others)))
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


def host_row(footer: Footer) -> dict[str, Any]:
    """A row of `HOST_CELLS`."""
    host, device = footer.provenance["host"], footer.provenance["device"]
    versions = footer.provenance["versions"]
    return {
        "gpu": footer.recipe["gpu"],
        "measured_at": footer.provenance["measured_at"],
        "device": device["name"],
        "device_sha256": device.get("uuid_sha256"),
        "intraop_threads": None if footer.recipe["threads"] else footer.observed.get("intraop_threads"),
        **{name: device.get(name) for name in ("driver", "max_sm_clock_mhz", "power_limit_w", "ecc")},
        **{name: host[name] for name in ("cpu", "logical_cores", "memory_gib", "os", "kernel")},
        **{name: versions[name] for name in ("python", "torch", "torchvision", "cuda_runtime", "cudnn")},
    }


def summarise_fidelity(cells: pl.DataFrame) -> pl.DataFrame:
    """One row a gpu, model and mode of the cells that were compared with FP32; see `summary.FIDELITY`.

    Args:
        cells: in `CELL_FIDELITY`.
    """
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


def fidelity_row(footer: Footer) -> dict[str, Any] | None:
    """A row of `CELL_FIDELITY`; null for a cell that could not be timed, which gave no answers."""
    if "fidelity" not in footer.observed:
        return None
    recipe = footer.recipe
    calibration = recipe.get("calibration", {})
    return {
        **{name: recipe[name] for name in ("gpu", "model", "runtime", "precision")},
        **{f"calibration_{name}": calibration.get(name) for name in ("method", "images", "count")},
        **footer.observed["fidelity"],
    }


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


def seconds_row(footer: Footer) -> dict[str, Any] | None:
    """A row of `CELL_SECONDS`; null for a cell that does not say how long it took."""
    if footer.observed.get("cell_s") is None:
        return None
    seconds = footer.observed.get("phases_s", {})
    return {
        "gpu": footer.recipe["gpu"],
        "cell_s": footer.observed["cell_s"],
        "wait_s": seconds.get("wait", 0.0),
        "work_s": sum(seconds.get(name, 0.0) for name in WORK_PHASES),
    }


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


def summarise_telemetry(files: Iterable[Path], measurements: Measurements) -> pl.DataFrame:
    """One row a second of each measured cell that has samples; see `summary.TELEMETRY`.

    Args:
        files: `<cell-id>.<recipe>.parquet` of `deepgap.telemetry`; those of other cells are left out.

    Raises:
        TelemetryError: a file is damaged, or belongs to another cell than the one in its name.
    """
    cells = {(row["gpu"], Path(row["cell_file"]).name): row for row in measurements.cells.iter_rows(named=True)}
    frames, seconds = [], []
    for file in files:
        samples, recipe, started = read_samples(file)
        cell = cells.get((gpu_of(file, recipe), file.name))
        if cell is not None:
            frames.append(_label_samples(samples, cell, started))
        if len(frames) == 500:
            seconds.append(_by_second(frames))
            frames = []
    seconds.append(_by_second(frames))
    return pl.concat(seconds).sort(
        "gpu", "started_unix_s", "model", "runtime", "precision", "batch_size", "sweep", "time_s"
    )


def read_samples(file: Path) -> tuple[pl.DataFrame, dict[str, Any], float]:
    """The samples of a cell, its recipe, and the Unix time of the cell's start.

    Raises:
        TelemetryError: the file is damaged, or belongs to another cell than the one in its name.
    """
    samples, about = read_telemetry(file)
    recipe, started = about.get("recipe"), about.get("clock_zero_unix_s")
    if (
        not isinstance(recipe, dict)
        or "gpu" not in recipe
        or recipe_digest(recipe) != file.stem.rpartition(".")[-1]
        or not isinstance(started, float)
    ):
        raise TelemetryError(f"{file} does not hold the samples of the cell in its name; remove it.")
    if not samples["time_ms"].is_finite().all() or samples["time_ms"].null_count():
        raise TelemetryError(f"{file} has a sample without a time; remove it.")
    return samples, recipe, started


def _by_second(cells: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of `summary.TELEMETRY` of some cells' labelled samples."""
    if not cells:
        return TELEMETRY.to_frame()
    key = [name for name in (*KEY, "sweep", "started_unix_s", "power_semantics", "timed") if name != "threads"]
    first, last = pl.col("time_ms").min(), pl.col("time_ms").max()
    seconds = (
        pl.concat(cells)
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
    processes: int = 1,
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
        processes: to read the cells with.

    Raises:
        CellError: a cell is not what its name and footer say, or holds what cannot be.
        TelemetryError: samples are not of the cell in their file's name.
        DeepGapError: the published numbers cannot be read.
    """
    gpus = with_sites(gpus, (file.parent.parent.name for file in cells))
    measurements = read_measurements(cells, gpus, floors, processes)
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
        "telemetry": summarise_telemetry(telemetry, measurements),
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

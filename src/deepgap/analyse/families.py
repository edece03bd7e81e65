"""From the cells of a family to its row: one value a sweep, and what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from deepgap.analyse.reading import ReadCell
from deepgap.analyse.schemas import ABOUT_MODE, BY_HOST, FAMILIES, KEY, STRINGS
from deepgap.cells.cell_file import OK
from deepgap.stats import (
    FEWEST_TAIL_CALLS,
    TAIL,
    TAIL_AGREEMENT,
    Floats,
    median_coverage,
    median_interval,
    tails_agree,
)

OF_SWEEP = (
    "median_ms",
    "p99_ms",
    "enqueue_median_ms",
    "cold_median_ms",
    "end_to_end_median_ms",
    "throughput_img_s",
    "burst_img_s",
)
"""What a sweep has a value of: the median over its cell's runs."""

FAMILY_ROWS = pl.Schema({**FAMILIES, "weights": STRINGS})
"""What a family's own cells say of it, and the hashes of their weights; null is what only several families say."""

Row = dict[str, Any]


def sweep_row(cell: ReadCell) -> Row:
    """The facts of a timed cell with its sweep's value of each of `OF_SWEEP`."""
    return cell.facts | {name: median_of(cell.runs, name) for name in OF_SWEEP}


def family_row(cells: Sequence[ReadCell]) -> Row:
    """A row of `FAMILY_ROWS` of all cells of one family, failed ones included."""
    facts = [cell.facts for cell in cells]
    lost = [row for row in facts if row["status"] != OK]
    timed = [cell for cell in cells if cell.facts["status"] == OK]
    row = {name: facts[0][name] for name in (*KEY, *ABOUT_MODE)} | {
        "intraop_threads": _most(facts, "intraop_threads"),
        "weights": sorted({row["weights_sha256"] for row in facts if row["status"] == OK}),
        "flagged_cells": sum(bool(row["flags"]) for row in facts),
        "hosts": len({cell.facts["host"] for cell in timed}),
        "cards": len({cell.facts["card"] for cell in timed} - {None}),
        "runs": 0,
        "samples": 0,
        "sweeps": 0,
        "launch_bound": any(cell.facts["launch_bound"] for cell in timed),
        "flags": sorted(set().union(*(row["flags"] for row in facts)) | _family_flags(timed, lost)),
    }
    if not timed:
        failure = min(lost, key=lambda row: (row["status"], row["reason"]))
        return row | {"status": failure["status"], "reason": failure["reason"]}
    used = cells_used(timed)
    hosts = {cell.facts["host"] for cell in used}
    sweeps = [sweep_row(cell) for cell in used]
    return (
        row
        | {"status": OK, "host": hosts.pop() if len(hosts) == 1 else None, "sweeps": len(sweeps)}
        | {"coverage": median_coverage(len(sweeps)), "runs": sum(len(cell.runs) for cell in used)}
        | {name: median_of(sweeps, name) for name in (*OF_SWEEP, "first_call_ms", "sm_clock_share")}
        | spread_columns(sweeps)
        | _tail_columns(used)
        | _memory_columns(sweeps)
        | _energy_columns(sweeps)
    )


def cells_used(timed: Sequence[ReadCell]) -> list[ReadCell]:
    """The cells that a family's figures are of: all, or where it is launch-bound those of one host.

    Launch-bound families moved by -33 to +16 % from host to host, so that values of several describe none. The host
    with the most sweeps counts, of equal ones the one that was measured first.
    """
    if not any(cell.facts["launch_bound"] for cell in timed):
        return list(timed)
    by_host: dict[str | None, list[ReadCell]] = {}
    for cell in sorted(timed, key=lambda cell: cell.facts["measured_at"]):
        by_host.setdefault(cell.facts["host"], []).append(cell)
    host = max(by_host, key=lambda host: len(by_host[host]))
    return sorted(by_host[host], key=lambda cell: cell.facts["sweep"])


def host_rows(cells: Sequence[ReadCell]) -> list[Row]:
    """Rows of `schemas.BY_HOST` of one family."""
    timed = [cell for cell in cells if cell.facts["status"] == OK]
    bound = any(cell.facts["launch_bound"] for cell in timed)
    rows = []
    for host in sorted({cell.facts["host"] for cell in timed}, key=str):
        sweeps = [sweep_row(cell) for cell in timed if cell.facts["host"] == host]
        row = {name: sweeps[0][name] for name in KEY} | {"host": host, "sweeps": len(sweeps), "launch_bound": bound}
        medians = {name: median_of(sweeps, name) for name in ("median_ms", "throughput_img_s")}
        rows.append({name: (row | medians | spread_columns(sweeps))[name] for name in BY_HOST})
    return rows


def spread_columns(sweeps: Sequence[Mapping[str, Any]]) -> Row:
    """Interval and range over sweeps of the latency and the throughput."""
    columns: Row = {}
    for name, unit in (("median", "ms"), ("throughput", "img_s")):
        values = known(sweeps, "median_ms" if name == "median" else "throughput_img_s")
        low, high = _interval(values)
        columns |= {f"{name}_low_{unit}": low, f"{name}_high_{unit}": high}
        columns |= {f"{name}_least_{unit}": min(values), f"{name}_most_{unit}": max(values)}
    return columns


def _family_flags(timed: Sequence[ReadCell], lost: Sequence[Row]) -> set[str]:
    def several(name: str) -> bool:
        return len({cell.facts[name] for cell in timed}) > 1

    found = {
        "mixed_stack": several("stack"),
        "mixed_engine": several("engine"),
        "mixed_devices": several("limits"),
        "mixed_hosts": several("host") and any(cell.facts["launch_bound"] for cell in timed),
        "partly_failed": bool(timed and lost),
    }
    return {flag for flag, holds in found.items() if holds}


def _tail_columns(cells: Sequence[ReadCell]) -> Row:
    """The 99th percentile where processes agree on it, and its ratio to the median process by process."""
    calls = [np.concatenate(cell.device_ms) for cell in cells]
    enough = [times for times in calls if len(times) >= FEWEST_TAIL_CALLS]
    tails = np.array([np.quantile(times, TAIL) for times in enough])
    ratios = [float(tail / np.median(times)) for tail, times in zip(tails, enough, strict=True)]
    note = None
    if len(enough) < len(calls):
        note = f"{len(calls) - len(enough)} of {len(calls)} processes have under {FEWEST_TAIL_CALLS} calls"
    elif not tails_agree(tails):
        alone = "one process has no other to agree with"
        over = f"the highest of the processes' p99 is over {TAIL_AGREEMENT:g} times the lowest"
        note = alone if len(tails) == 1 else over
    return {
        "samples": sum(map(len, calls)),
        "p99_ms": float(np.quantile(np.concatenate(calls), TAIL)) if note is None else None,
        "tail_least": min(ratios, default=None),
        "tail_most": max(ratios, default=None),
        "tail_processes": len(ratios),
        "tail_note": note,
    }


def _memory_columns(sweeps: Sequence[Row]) -> Row:
    context = median_of(sweeps, "memory_context_bytes")
    return {
        "memory_bytes": _most(sweeps, "memory_bytes"),
        "memory_allocated_bytes": _most(sweeps, "memory_allocated_bytes"),
        "memory_context_bytes": None if context is None else int(context),
    }


def _energy_columns(sweeps: Sequence[Row]) -> Row:
    """Energy of a family over the sweeps that have it. Where some have it the others' reasons do not matter."""
    counted = [row for row in sweeps if row["energy_j_per_image"] is not None]
    joules = median_of(counted, "energy_j_per_image")
    low, high = _interval(known(counted, "energy_j_per_image"))
    above = known(counted, "energy_above_idle_j_per_image")
    notes = sorted(set(known(counted or sweeps, "energy_note")))
    return {
        "energy_j_per_image": joules,
        "energy_low_j_per_image": low,
        "energy_high_j_per_image": high,
        "energy_above_idle_j_per_image": float(np.median(above)) if 2 * len(above) > len(counted) else None,
        "images_per_joule": None if joules is None else 1 / joules,
        "images_per_joule_low": None if high is None else 1 / high,
        "images_per_joule_high": None if low is None else 1 / low,
        "power_w": None if joules is None else joules * (median_of(sweeps, "throughput_img_s") or 0.0),
        "integral_over_counter": median_of(counted, "integral_over_counter"),
        "energy_sweeps": len(counted),
        "energy_note": "; ".join(notes) or None if joules is None else None,
    }


def known(rows: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row[name] is not None]


def median_of(rows: Iterable[Mapping[str, Any]], name: str) -> float | None:
    values = known(rows, name)
    return float(np.median(values)) if values else None


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    array: Floats = np.array(values, dtype=float)
    ends = median_interval(array)
    return (None, None) if ends is None else (float(ends[0]), float(ends[1]))


def _most(rows: Iterable[Mapping[str, Any]], name: str) -> Any:
    return max(known(rows, name), default=None)

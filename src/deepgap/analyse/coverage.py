"""How often intervals hold what they claim to: simulated, and tried on the families themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from deepgap.analyse.schemas import KEY
from deepgap.analyse.summary import Summary
from deepgap.cells.cell_file import OK
from deepgap.stats import CONFIDENCE, Ends, median_interval
from deepgap.study.cell import ALL_THREADS

Floats = NDArray[np.float64]

PROCESS_SPREAD, RUN_SPREAD = 0.0076, 0.0020
"""Standard deviations of the logarithm between processes and between the runs of one, as found in 270 families of an
H200 that had three runs in each of three processes."""
CALL_SPREAD, CALLS = 0.01, 300
"""The same between the calls of a process, and how many these are: of a quiet device and the study's protocol."""
FAMILIES, SEED = 20_000, 0


@dataclass(frozen=True)
class Interval:
    """A way to state 95 % over a family.

    sweeps: processes. runs: of each. kind: `t` takes all runs as independent (Student), `order` is
    `stats.median_interval` over the processes, `range` is their range, which the percentile bootstrap of the median
    of so few always is, and `calls` takes the calls of one process as independent.
    """

    label: str
    kind: str
    sweeps: int
    runs: int = 1


INTERVALS = (
    Interval("calls of 1 process, t", "calls", 1),
    Interval("3 runs of 3 processes, t over 9", "t", 3, 3),
    Interval("3 processes, bootstrap", "range", 3),
    Interval("3 processes, t over 3", "t", 3),
    Interval("5 processes, t over 5", "t", 5),
    Interval("6 processes, lowest to highest", "order", 6),
)


@dataclass(frozen=True)
class Trial:
    """How often an interval held its target: a share of `tries`, of this many families."""

    interval: Interval
    share: float
    tries: int
    families: int


def student(values: Floats) -> Ends:
    """The interval of the mean of values taken as independent; shape (..., values)."""
    count = values.shape[-1]
    middle = values.mean(axis=-1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * values.std(axis=-1, ddof=1) / np.sqrt(count)
    return middle - half, middle + half


def of_calls(mean: Floats, spread: Floats | float, calls: Floats | int) -> Ends:
    """The interval of the mean of calls taken as independent, from their relative standard deviation."""
    half = stats.t.ppf((1 + CONFIDENCE) / 2, np.asarray(calls) - 1) * mean * spread / np.sqrt(calls)
    return mean - half, mean + half


def ends_of(interval: Interval, values: Floats) -> Ends | None:
    """The interval of families of shape (..., sweeps, runs); None of one that needs more sweeps."""
    if interval.kind == "t":
        return student(values.reshape(*values.shape[:-2], -1))
    middles = np.median(values, axis=-1)
    return median_interval(middles) if interval.kind == "order" else (middles.min(axis=-1), middles.max(axis=-1))


@cache
def simulate(interval: Interval, others: int = 0) -> Trial:
    """How often an interval holds its target, of families whose processes and runs are lognormal with
    `PROCESS_SPREAD` and `RUN_SPREAD`.

    Args:
        others: of so many further processes of the family the median is the target; 0: the true median.
    """
    rng = np.random.default_rng(SEED)
    processes = rng.normal(0.0, PROCESS_SPREAD, (FAMILIES, interval.sweeps + others))
    values = np.exp(processes[..., None] + rng.normal(0.0, RUN_SPREAD, (*processes.shape, interval.runs)))
    own = values[:, : interval.sweeps]
    if interval.kind == "calls":
        error = rng.normal(0.0, CALL_SPREAD / np.sqrt(CALLS), FAMILIES)
        ends: Ends | None = of_calls(own[:, 0, 0] * (1 + error), CALL_SPREAD, CALLS)
    else:
        ends = ends_of(interval, own)
    target = np.median(np.median(values[:, interval.sweeps :], axis=-1), axis=-1) if others else np.ones(FAMILIES)
    held = 0.0 if ends is None else float(np.mean((ends[0] <= target) & (ends[1] >= target)))
    return Trial(interval, held, FAMILIES, FAMILIES)


def try_on_data(summary: Summary, interval: Interval) -> Trial | None:
    """How often an interval over some sweeps of a family holds the median of its other sweeps, over all choices of
    them: of the families that a device bounds. None where no family has sweeps to spare.

    The target is not the true median, which nobody knows, but as uncertain as the others are few; even an exact
    interval holds it less often than it says.
    """
    held, tries, families = 0, 0, 0
    for means, spreads, calls in _families(summary, interval.runs):
        count = len(means)
        if count <= interval.sweeps:
            continue
        families += 1
        for chosen in combinations(range(count), interval.sweeps):
            rest = np.median([np.median(means[place]) for place in range(count) if place not in chosen])
            values = means[list(chosen)]
            if interval.kind == "calls":
                ends: Ends | None = of_calls(values[:, 0], spreads[list(chosen), 0], calls[list(chosen), 0])
            else:
                ends = ends_of(interval, values)
            if ends is not None:
                tries += 1
                held += bool(np.all(ends[0] <= rest) and np.all(ends[1] >= rest))
    return Trial(interval, held / tries, tries, families) if tries else None


def _families(summary: Summary, runs: int) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Mean latency, its relative standard deviation and the number of calls of each device-bound family with this
    many runs in every sweep: shape (sweeps, runs)."""
    bound = summary.families.filter(~pl.col("launch_bound"), status=OK, threads=ALL_THREADS).select(*KEY, "host")
    timed = summary.runs.filter(pl.col("mean_ms").is_not_null(), pl.col("std_ms").is_not_null())
    # A family that is of one host says so; one of several says none, and all of its runs count.
    rows = timed.join(bound, on=list(KEY), suffix="_family").filter(
        pl.col("host_family").is_null() | (pl.col("host") == pl.col("host_family"))
    )
    for (*_,), family in rows.sort("sweep", "session", "run").group_by(*KEY, maintain_order=True):
        sweeps = family.group_by("sweep", "session", maintain_order=True).agg("mean_ms", "std_ms", "samples")
        whole = [row for row in sweeps.iter_rows(named=True) if len(row["mean_ms"]) == runs]
        if whole:
            means = np.asarray([row["mean_ms"] for row in whole], float)
            spreads = np.asarray([row["std_ms"] for row in whole], float) / means
            yield means, spreads, np.asarray([row["samples"] for row in whole], float)

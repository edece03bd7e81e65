"""The published 99th percentiles."""

from __future__ import annotations

from collections.abc import Sequence

from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    OPEN,
    Finding,
    NotPrintedError,
    Values,
    cell_label,
    closest,
    need,
    percent,
)
from deepgap.stats import minimum_samples


def p99_above_the_median(values: Values) -> Finding:
    """The 99th percentile is no lower than the median."""
    medians, below, compared = values.cells("median_latency"), {}, 0
    for cell, rows in values.cells("p99_latency").items():
        same = [row for row in medians.get(cell, []) if row["batch"] == rows[0]["batch"]]
        if not same or rows[0]["approx"] == "over" or all(row["approx"] == "under" for row in same):
            continue
        compared += 1
        highest, median = max(row["value"] for row in rows), closest(same)["value"]
        if highest < median:
            below[cell] = (highest, median)
    if not compared:
        raise NotPrintedError
    told = "; ".join(f"{cell_label(c[1:])} on the {c[0]}: {p:g} below {m:g} ms" for c, (p, m) in below.items())
    return values.finding(
        "The 99th percentile is no lower than the median",
        f"It is lower in {len(below)} of {compared} cells{f' ({told})' if told else ''}; all are printed as "
        "approximate.",
        FAILS if below else HOLDS,
    )


def p99_of_few_calls(values: Values) -> Finding:
    """The tail is stable: the 99th percentile describes it."""
    calls = int(values.one("timed_iterations"))
    needed = minimum_samples(0.99)
    return values.finding(
        "The tail is stable: the 99th percentile describes it",
        f"With {calls} calls a run even the largest lies below the true 99th percentile with a probability of "
        f"{percent(0.99**calls)}; at 99 % confidence it takes {needed}.",
        HOLDS if calls >= needed else OPEN,
    )


def p99_reductions(values: Values) -> Finding:
    """The stated reductions of the 99th percentile from T4 to L4, a cell and a range at a time."""
    tails, off = values.cells("p99_latency"), list[float]()
    cells: dict[tuple[str, str], tuple[float, float]] = {}
    for cell, theirs in tails.items():
        if cell[0] == "T4" and ("L4", *cell[1:]) in tails:
            ours = tails["L4", cell[1], cell[2]]
            cells[cell[1], cell[2]] = _reduction([row["value"] for row in ours], [row["value"] for row in theirs])
    for row in values.rows("p99_reduction", gpu="L4/T4"):
        stated = (row["model"], row["precision"])
        if stated in cells:
            low, high = cells[stated]
            limit = float("inf") if row["approx"] == "over" else high
            off.append(max(low - row["value"], row["value"] - limit, 0.0))
    need(off)
    ranges = _stated_ranges(values)
    outside = {
        cell: ends
        for cell, ends in cells.items()
        if cell[1] in ranges and not (ranges[cell[1]][0] <= ends[0] and ends[1] <= ranges[cell[1]][1])
    }
    said = " and ".join(
        f"{low:g} to {high:g} % in {', '.join(p.upper() for p in ranges if ranges[p] == (low, high))}"
        for low, high in dict.fromkeys(ranges.values())
    )
    told = "; ".join(
        f"{cell_label(cell)} {' to '.join(dict.fromkeys(f'{end:.0f}' for end in ends))} %"
        for cell, ends in outside.items()
    )
    return values.finding(
        f"The L4 reduces the T4's 99th percentile by {said}",
        f"By its own values {len(outside)} of {len(cells)} cells are outside{f' ({told})' if told else ''}. Of "
        "single "
        f"cells {len(off)} reductions are stated, the largest off by {max(off):.1f} percentage points.",
        FAILS if outside or max(off) >= 2.5 else HOLDS,
    )


def _reduction(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The least and the most reduction in percent by values that may be ranges."""
    return 100 * (1 - max(ours) / min(theirs)), 100 * (1 - min(ours) / max(theirs))


def _stated_ranges(values: Values) -> dict[str, tuple[float, float]]:
    """The range that is stated of all models, by precision."""
    stated: dict[str, list[float]] = {}
    for row in values.rows("p99_reduction", gpu="L4/T4", model="any"):
        stated.setdefault(row["precision"], []).append(row["value"])
    return {precision: (min(ends), max(ends)) for precision, ends in stated.items()}

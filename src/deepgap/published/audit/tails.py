"""The published 99th percentiles."""

from __future__ import annotations

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
    """The stated reductions of the 99th percentile from T4 to L4 follow from its values."""
    tails, off = values.cells("p99_latency"), []
    for row in values.rows("p99_reduction", gpu="L4/T4"):
        cells = [(gpu, row["model"], row["precision"]) for gpu in ("L4", "T4")]
        if not all(cell in tails for cell in cells):
            continue
        ours, theirs = ([r["value"] for r in tails[cell]] for cell in cells)
        low, high = (100 * (1 - a / b) for a, b in ((max(ours), min(theirs)), (min(ours), max(theirs))))
        limit = float("inf") if row["approx"] == "over" else high
        off.append(max(low - row["value"], row["value"] - limit, 0.0))
    need(off)
    return values.finding(
        "The stated reductions of the 99th percentile from T4 to L4 follow from its values",
        f"{len(off)} recomputed; the largest is off by {max(off):.1f} percentage points.",
        HOLDS if max(off) < 2.5 else FAILS,
    )

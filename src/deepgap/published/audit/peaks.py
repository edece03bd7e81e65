"""Peaks and operating points: whether the published pairs and peaks belong to one batch size."""

from __future__ import annotations

from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    OPEN,
    ROUGH,
    Cell,
    Finding,
    NotPrintedError,
    Values,
    batch_of,
    cell_label,
    listed_once,
    need,
    percent,
)
from deepgap.published.values import CPU


def pairs_of_one_batch(values: Values) -> Finding:
    """A stated pair of throughput and latency belongs to one batch size."""
    peaks, sweep = values.table1(), values.sweep()
    speeds, latencies = values.rows("pareto_throughput"), values.rows("pareto_latency")
    implied: dict[tuple[Cell, float, float], float] = {}
    if len(speeds) != len(latencies):
        raise NotPrintedError
    for speed, latency in zip(speeds, latencies, strict=True):
        cell = (speed["gpu"], speed["model"], speed["precision"])
        if cell in peaks and speed["value"] == peaks[cell][1]:
            key = (cell, speed["value"], latency["value"])
            implied[key] = speed["value"] * latency["value"] / 1000
    need(implied)
    near = [key for key, batch in implied.items() if _agree(batch, peaks[key[0]][0])]
    beyond = [key for key, batch in implied.items() if batch > (1 + ROUGH) * max(sweep)]
    top = max(implied, key=lambda key: key[1])
    return values.finding(
        "A stated pair of throughput and latency belongs to one batch size",
        f"Throughput times latency is the throughput's own batch size, within {percent(ROUGH)}, in {len(near)} of "
        f"{len(implied)} pairs, and beyond the sweep's {max(sweep)} by more than that in {len(beyond)}. "
        f"{top[1]:,.0f} img/s with {top[2]:g} ms would be batch {implied[top]:.0f}; that peak is at "
        f"{peaks[top[0]][0]}, where a call takes {1000 * peaks[top[0]][0] / top[1]:.2f} ms.",
        HOLDS if len(near) == len(implied) else FAILS,
    )


def no_batch_above_the_peak(values: Values) -> Finding:
    """No batch size is faster than the printed peak."""
    peaks, shares = values.table1(), []
    for cell, rows in values.cells("median_latency").items():
        for row in rows:
            # A latency of under some time allows any throughput above its own.
            batch = batch_of(row)
            if cell in peaks and batch is not None and row["approx"] != "under":
                shares.append(1000 * batch / row["value"] / peaks[cell][1])
    need(shares)
    return values.finding(
        "No batch size is faster than the printed peak",
        f"Batch over median latency is at most {percent(max(shares))} of the mode's peak, in {len(shares)} medians.",
        HOLDS if max(shares) <= 1 + ROUGH else FAILS,
    )


def peaks_within_the_sweep(values: Values) -> Finding:
    """Table I's peaks are the highest throughputs there are."""
    peaks, edge = values.table1(), max(values.sweep())
    cells = {cell: batch for cell, (batch, _) in peaks.items() if cell[0] != CPU}
    need(cells)
    at_edge = [cell for cell, batch in cells.items() if batch == edge]
    told = ", ".join(f"{cell_label(cell[1:])} on the {cell[0]}" for cell in at_edge)
    return values.finding(
        "Table I's peaks are the highest throughputs there are",
        f"{len(at_edge)} of {len(cells)} lie at the sweep's largest batch size, {edge}{f': {told}' if told else ''}; "
        "the true peak may be beyond.",
        OPEN if at_edge else HOLDS,
    )


def t4_peaks_late(values: Values) -> Finding:
    """The stated peak batch sizes of the T4."""
    limit = values.one("peak_batch", "V-A", gpu="T4")
    return _peaks_between(values, "T4", limit, float("inf"), f"The T4 peaks at batch sizes of {limit:g} and more")


def l4_peaks_early(values: Values) -> Finding:
    """The stated peak batch sizes of the L4."""
    said = [row["value"] for row in values.rows("peak_batch", "V-A", gpu="L4")]
    need(said)
    claim = f"The L4 peaks at batch sizes of {min(said):g} to {max(said):g}"
    return _peaks_between(values, "L4", min(said), max(said), claim)


def _peaks_between(values: Values, gpu: str, low: float, high: float, claim: str) -> Finding:
    batches = [batch for cell, (batch, _) in values.table1().items() if cell[0] == gpu]
    need(batches)
    inside = sum(low <= batch <= high for batch in batches)
    if inside == len(batches):
        return values.finding(claim, f"All {inside} in Table I.", HOLDS)
    others = listed_once(batch for batch in batches if not low <= batch <= high)
    return values.finding(claim, f"{inside} of {len(batches)} in Table I; the others are at {others}.", FAILS)


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= ROUGH * other

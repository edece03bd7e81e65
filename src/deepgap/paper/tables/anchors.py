"""MLPerf Inference's records for ResNet-50 in INT8, beside what is measured here and what the study published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import ABSENT, Latex, interval, number, rounded
from deepgap.published.anchors import MODEL, OFFLINE, P50, P99, PRECISION
from deepgap.published.values import table1_peaks

DEVICES = ("cuda",)
BATCHES = (1, 8)


def context(summary: Summary) -> dict[str, Any]:
    """A row a card and round, with the peak of the fastest mode in INT8 beside it.

    Returns:
        batches: of the latencies. rows: gpu, note, round, and as LaTeX offline (images a second), latencies (median
            and 99th percentile in ms, by batch size); source, of what stands beside (published, the mode, or
            None), own (its peak), own_interval, own_batch, share (own over the record, in percent) and own_latencies.
    """
    offline = summary.anchors.filter(quantity=OFFLINE)
    rows = [
        {
            "gpu": row["gpu"],
            "note": row["note"] or "",
            "round": row["round"],
            "offline": _range(row),
            "latencies": [_latency(summary.anchors, row, size) for size in BATCHES],
            **_beside(summary, row),
        }
        for row in offline.iter_rows(named=True)
    ]
    return {"batches": list(BATCHES), "rows": rows}


def _range(row: Mapping[str, Any]) -> Latex:
    return Latex(" to ".join(dict.fromkeys((number(row["low"]), number(row["high"])))))


def _latency(anchors: pl.DataFrame, row: Mapping[str, Any], batch_size: int) -> Latex:
    here = anchors.filter(gpu=row["gpu"], round=row["round"], batch_size=batch_size)
    ends = [here.filter(quantity=quantity)["low"].to_list() for quantity in (P50, P99)]
    return Latex(" / ".join(rounded(end[0], 3) for end in ends)) if all(ends) else ABSENT


def _beside(summary: Summary, row: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a card beside its highest record: measured here, or else published by the study."""
    none: dict[str, Any] = {
        "source": None,
        "own": ABSENT,
        "own_interval": Latex(""),
        "own_batch": None,
        "share": ABSENT,
    }
    none["own_latencies"] = [ABSENT for _ in BATCHES]
    of_card = summary.anchors.filter(quantity=OFFLINE, gpu=row["gpu"])
    if row["high"] < max(of_card["high"]):
        return none
    here = summary.measured.filter(gpu=row["gpu"], model=MODEL, precision=PRECISION)
    if not here.is_empty():
        peaks = find_peaks(here)
        _, _, mode = key = max(peaks, key=lambda key: peaks[key].point.throughput)
        point = peaks[key].point
        by_batch = dict(here.filter(mode=mode).select("batch_size", "median_ms").iter_rows())
        return {
            "source": mode,
            "own": rounded(point.throughput),
            "own_interval": interval(point.low, point.high),
            "own_batch": f"{point.batch_size}{'+' if peaks[key].at_edge else ''}",
            "share": rounded(100 * point.throughput / row["high"], 3),
            "own_latencies": [rounded(by_batch.get(size), 3) for size in BATCHES],
        }
    printed = table1_peaks(summary.published)
    for peak in printed.filter(gpu=row["gpu"], model=MODEL, precision=PRECISION).iter_rows(named=True):
        return none | {
            "source": "published",
            "own": number(peak["throughput_img_s"]),
            "own_batch": str(peak["batch_size"]),
            "share": rounded(100 * peak["throughput_img_s"] / row["high"], 3),
        }
    return none

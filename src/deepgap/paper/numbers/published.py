"""Headline values of the published study, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.latex import escape, number
from deepgap.paper.numbers.macro import (
    NOT_AVAILABLE,
    PUBLISHED_DIGITS,
    Number,
    exact,
    low_and_high,
    macro_name,
    rounded_or_not,
)
from deepgap.published.audit import audit, if_printed
from deepgap.published.audit.cache import cached_peaks
from deepgap.published.audit.evidence import FAILS, HOLDS, OPEN, PARTLY
from deepgap.published.audit.ratios import matched_ratios
from deepgap.published.values import pareto_pairs, table1_peaks


def audit_numbers(summary: Summary) -> Iterator[Number]:
    """How many of the published study's claims hold by its own values."""
    verdicts = [finding.verdict for finding in audit(summary.published, summary.gpus)]
    yield Number("AuditFindings", number(len(verdicts)), "audit: all findings")
    for name, verdict in (("AuditHolds", HOLDS), ("AuditPartly", PARTLY), ("AuditFails", FAILS), ("AuditOpen", OPEN)):
        yield Number(name, number(verdicts.count(verdict)), f"audit: verdict '{verdict}'")


def published_numbers(summary: Summary) -> Iterator[Number]:
    """Headline values of the published study, and what follows from them by arithmetic alone."""
    values = summary.published
    yield Number("PublishedValues", number(values.height), "published: all rows")
    peaks = table1_peaks(values)
    for row in peaks.iter_rows(named=True):
        key = (row["gpu"], row["model"], f"{row['runtime']}-{row['precision']}")
        rows = f"published: Table I, {', '.join(key)}"
        yield Number(macro_name("PublishedPeak", *key), number(row["throughput_img_s"]), rows)
        yield Number(macro_name("PublishedPeakBatch", *key), number(row["batch_size"]), rows)
    for name, quantity in (("PublishedSpeedupCpu", "speedup_vs_cpu"), ("PublishedRatio", "throughput_ratio")):
        found = values.filter(section="Abstract", quantity=quantity)["value"]
        yield Number(name, exact(None if found.is_empty() else found[0]), f"published: Abstract, {quantity}")
    yield from _ratios_of_peaks(peaks)
    yield from _matched(summary)
    yield from _cached(summary)
    pair = pareto_pairs(values).filter(gpu="L4").sort("throughput_img_s").tail(1)
    batch = None if pair.is_empty() else pair["throughput_img_s"][0] * pair["median_ms"][0] / 1000
    rows = "published: V-F, highest L4 pair, throughput x latency"
    yield Number("PublishedImpliedBatch", rounded_or_not(batch, 3), rows)


def _ratios_of_peaks(peaks: pl.DataFrame) -> Iterator[Number]:
    """L4 over T4 in all cells but the headline's, and INT8 over FP16 on the L4, each at its own batch size."""
    t4, l4 = (peaks.filter(gpu=gpu) for gpu in ("T4", "L4"))
    others = _ratios(l4, t4, "model", "runtime", "precision").sort().head(-1).to_list()
    rows = "published: Table I, L4 over T4, all cells but the highest"
    yield Number("PublishedRatioCells", number(len(others)), rows)
    yield from low_and_high("PublishedRatioOther", others, PUBLISHED_DIGITS, rows)
    steps = _ratios(l4.filter(precision="int8"), l4.filter(precision="fp16"), "model").to_list()
    yield from low_and_high(
        "PublishedIntEightStep", steps, PUBLISHED_DIGITS, "published: Table I, L4, int8 over fp16"
    )


def _ratios(over: pl.DataFrame, under: pl.DataFrame, *key: str) -> pl.Series:
    """The ratios of the throughputs of two frames in the rows of equal keys."""
    both = over.join(under, on=key, suffix="_under")
    return both["throughput_img_s"] / both["throughput_img_s_under"]


def _matched(summary: Summary) -> Iterator[Number]:
    """L4 over T4 at one batch size, as in the audit."""
    rows = "audit: L4 over T4 by the medians at the largest batch size"
    found = if_printed(matched_ratios, summary.published, summary.gpus)
    known = list(found.known.values()) if found else []
    yield Number("PublishedRatioMatchedBatch", exact(found.batch_size if found else None), rows)
    yield Number("PublishedRatioMatchedCells", number(len(known)), rows)
    yield from low_and_high("PublishedRatioMatched", known, PUBLISHED_DIGITS, rows)
    bounds = escape(found.bounds) if found and found.lower else NOT_AVAILABLE
    yield Number("PublishedRatioMatchedBounds", bounds, f"{rows}, those printed as bounds")


def _cached(summary: Summary) -> Iterator[Number]:
    """The L4's peaks that share one product of batch size and bytes an element, as in the audit."""
    rows = "audit: peaks of the L4 by batch size times bytes of an element"
    found = if_printed(cached_peaks, summary.published, summary.gpus)
    values = (found.usual, found.count, found.peaks) if found else (None, None, None)
    for name, value in zip(("Product", "Count", "Peaks"), values, strict=True):
        yield Number(f"PublishedCache{name}", exact(value), rows)

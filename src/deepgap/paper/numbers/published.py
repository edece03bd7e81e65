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
from deepgap.published.audit.evidence import FAILS, HOLDS, OPEN
from deepgap.published.audit.ratios import matched_ratios
from deepgap.published.values import pareto_pairs, table1_peaks


def audit_numbers(summary: Summary) -> Iterator[Number]:
    """How many of the published study's claims hold by its own values."""
    verdicts = [finding.verdict for finding in audit(summary.published, summary.gpus)]
    yield Number("AuditFindings", number(len(verdicts)), "audit: all findings")
    for name, verdict in (("AuditHolds", HOLDS), ("AuditFails", FAILS), ("AuditOpen", OPEN)):
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

    def stated(section: str, quantity: str) -> float | None:
        found = values.filter(pl.col("section") == section, pl.col("quantity") == quantity)["value"]
        return None if found.is_empty() else float(found[0])

    headline = "published: Abstract"
    yield Number(
        "PublishedSpeedupCpu",
        exact(stated("Abstract", "speedup_vs_cpu")),
        f"{headline}, speedup_vs_cpu",
    )
    yield Number(
        "PublishedRatio",
        exact(stated("Abstract", "throughput_ratio")),
        f"{headline}, throughput_ratio",
    )

    mode_of_model = ["model", "runtime", "precision"]
    t4, l4 = (peaks.filter(pl.col("gpu") == gpu) for gpu in ("T4", "L4"))
    ratios = (
        l4.join(t4, on=mode_of_model)
        .select(ratio=pl.col("throughput_img_s") / pl.col("throughput_img_s_right"))["ratio"]
        .sort()
    )
    others = ratios.head(-1).to_list()
    yield Number(
        "PublishedRatioCells",
        number(len(others)),
        "published: Table I, L4 over T4, all cells but the highest",
    )
    yield from low_and_high(
        "PublishedRatioOther", others, PUBLISHED_DIGITS, "published: Table I, L4 over T4, all cells but the highest"
    )

    steps = (
        l4.filter(pl.col("precision") == "int8")
        .join(l4.filter(pl.col("precision") == "fp16"), on="model")
        .select(ratio=pl.col("throughput_img_s") / pl.col("throughput_img_s_right"))["ratio"]
    )
    int8_rows = "published: Table I, L4, int8 over fp16"
    yield from low_and_high("PublishedIntEightStep", steps.to_list(), PUBLISHED_DIGITS, int8_rows)
    yield from _matched(summary)
    yield from _cached(summary)

    pair = pareto_pairs(values).filter(pl.col("gpu") == "L4").sort("throughput_img_s").tail(1)
    batch = None if pair.is_empty() else pair["throughput_img_s"][0] * pair["median_ms"][0] / 1000
    yield Number(
        "PublishedImpliedBatch", rounded_or_not(batch, 3), "published: V-F, highest L4 pair, throughput x latency"
    )


def _matched(summary: Summary) -> Iterator[Number]:
    """L4 over T4 at one batch size, as in Table VII."""
    rows = "audit: L4 over T4 by the medians at the largest batch size"
    found = if_printed(matched_ratios, summary.published, summary.gpus)
    known = list(found.known.values()) if found else []
    yield Number("PublishedRatioMatchedBatch", exact(found.batch_size if found else None), rows)
    yield Number("PublishedRatioMatchedCells", number(len(known)), rows)
    yield from low_and_high("PublishedRatioMatched", known, PUBLISHED_DIGITS, rows)
    bounds = escape(found.bounds) if found and found.lower else NOT_AVAILABLE
    yield Number("PublishedRatioMatchedBounds", bounds, f"{rows}, those printed as bounds")


def _cached(summary: Summary) -> Iterator[Number]:
    """The L4's peaks that share one product of batch size and bytes an element, as in Table VII."""
    rows = "audit: peaks of the L4 by batch size times bytes of an element"
    found = if_printed(cached_peaks, summary.published, summary.gpus)
    values = (found.usual, found.count, found.peaks) if found else (None, None, None)
    for name, value in zip(("Product", "Count", "Peaks"), values, strict=True):
        yield Number(f"PublishedCache{name}", exact(value), rows)

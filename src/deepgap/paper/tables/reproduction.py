"""Measured over published, for each GPU that has both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.summary import Summary
from deepgap.published.values import CPU, CPU_LABEL, median_latencies, table1_peaks
from deepgap.study.words import by_mode, model_label

PEAK, AT_BATCH, LATENCY = "peak (img/s)", "throughput (img/s)", "median latency (ms)"


def context(summary: Summary) -> dict[str, Any]:
    """The rows of the table.

    A published fp32 is held against eager-fp32 and, on a GPU that has TF32, against eager-tf32: that study left TF32
    at its default, which is on.

    Returns:
        rows: with platform, model, mode (measured), quantity, batch (of a peak: the measured and the published one),
            published and bound (over, under or empty), measured with low and high, and ratio (measured over
            published) with ratio_low and ratio_high; null without an interval.
        compared: GPUs that have rows. missing: GPUs with published values alone.
        processor: what the published processor is; null unless a processor is compared.
    """
    stated = {_own_key(summary, gpu) for gpu in table1_peaks(summary.published)["gpu"]}
    gpus = summary.order_gpus({key for key in stated if key is not None})
    place = summary.place_model
    rows = sorted(
        _rows(summary),
        key=lambda row: (gpus.index(row["gpu"]), by_mode(row["mode"]), place(row["key"]), row["order"]),
    )
    compared = [gpu for gpu in gpus if any(row["gpu"] == gpu for row in rows)]
    return {
        "rows": rows,
        "compared": compared,
        "missing": [gpu for gpu in gpus if gpu not in compared],
        "processor": CPU_LABEL if summary.processor in compared else None,
    }


def compared_gpus(summary: Summary) -> list[str]:
    """The devices that have both measured and published values."""
    return list(context(summary)["compared"])


def _own_key(summary: Summary, gpu: str) -> str | None:
    """The GPU here that a published one is compared with; the study's processor with the one measured here."""
    return summary.processor if gpu == CPU else gpu if gpu in summary.gpus else None


def _rows(summary: Summary) -> Iterator[dict[str, Any]]:
    peaks = find_peaks(summary.measured)
    families = {
        (row["gpu"], row["model"], row["mode"], row["batch_size"]): row
        for row in summary.measured.iter_rows(named=True)
    }
    throughput = ("throughput_img_s", "throughput_low_img_s", "throughput_high_img_s")
    latency = ("median_ms", "median_low_ms", "median_high_ms")
    for row in table1_peaks(summary.published).iter_rows(named=True):
        for key in _keys(summary, row):
            peak = peaks.get(key)
            if peak is not None:
                own = families[*key, peak.point.batch_size]
                batch = f"{peak.point.batch_size} / {row['batch_size']}"
                yield _row(key, PEAK, batch, row["throughput_img_s"], "", [own[name] for name in throughput])
            same = families.get((*key, row["batch_size"]))
            if same is not None:
                values = [same[name] for name in throughput]
                yield _row(key, AT_BATCH, str(row["batch_size"]), row["throughput_img_s"], "", values)
    for row in median_latencies(summary.published).filter(pl.col("batch_size").is_not_null()).iter_rows(named=True):
        for key in _keys(summary, row):
            same = families.get((*key, row["batch_size"]))
            if same is not None:
                bound = row["approx"] if row["approx"] in ("over", "under") else ""
                values = [same[name] for name in latency]
                yield _row(key, LATENCY, str(row["batch_size"]), row["median_ms"], bound, values)


def _keys(summary: Summary, row: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The measured gpu, model and modes that a published row is held against."""
    gpu = _own_key(summary, row["gpu"])
    if gpu is not None:
        yield gpu, row["model"], f"{row['runtime']}-{row['precision']}"
        if row["precision"] == "fp32" and "tf32" in summary.gpus[gpu].peak_tops:
            yield gpu, row["model"], f"{row['runtime']}-tf32"


def _row(
    key: tuple[str, str, str], quantity: str, batch: str, published: float, bound: str, values: list[float | None]
) -> dict[str, Any]:
    gpu, model, mode = key
    ratio, low, high = (None if value is None else value / published for value in values)
    return {
        "gpu": gpu,
        "order": ((PEAK, AT_BATCH, LATENCY).index(quantity), batch),
        "key": model,
        "model": model_label(model),
        "mode": mode,
        "quantity": quantity,
        "batch": batch,
        "published": published,
        "bound": bound,
        **dict(zip(("measured", "low", "high"), values, strict=True)),
        **{"ratio": ratio, "ratio_low": low, "ratio_high": high},
    }

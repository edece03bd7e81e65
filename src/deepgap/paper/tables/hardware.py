"""Theoretical peaks, and the share of them that was reached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.published.networks import GMAC_PER_IMAGE
from deepgap.published.values import table1_peaks
from deepgap.study.words import PRECISION_KEYS, model_label


def context(summary: Summary) -> dict[str, Any]:
    """The hardware facts, and for each GPU, precision and source the model nearest to the peak.

    Returns:
        gpus: rows with key, architecture, year, sms, clock_mhz, bandwidth_gb_s, l2_mib, memory_gb, tdp_w,
            inference (a card for it), and
            peaks, the dense peaks of `precisions` in 10^12 operations a second (None: unsupported or unknown).
        without_peak: the keys of the GPUs of which no peak is known.
        precisions: the labels of those that a GPU has.
        shares: rows with gpu, precision, source, model, mode, batch, throughput in images a second,
            achieved_tops (throughput x 2 x multiply-adds of an image, which cells count in the graph) and
            share of the peak, in percent.
    """
    cards = [gpu for gpu in summary.kinds if gpu.device == "cuda"]
    precisions = [name for name in PRECISION_KEYS if any(name in gpu.peak_tops for gpu in cards)]
    gpus = [
        {
            "key": gpu.key,
            "architecture": gpu.architecture,
            "year": gpu.year,
            "sms": gpu.sm_count,
            "clock_mhz": gpu.max_sm_clock_mhz,
            "peaks": [gpu.peak_tops.get(precision) for precision in precisions],
            "bandwidth_gb_s": gpu.memory_bandwidth_gb_s,
            "l2_mib": gpu.l2_cache_mib,
            "memory_gb": gpu.memory_gb,
            "tdp_w": gpu.tdp_w,
            "inference": gpu.inference_card,
        }
        for gpu in cards
    ]
    without_peak = [gpu.key for gpu in cards if not any(gpu.peak_tops.values())]
    return {
        "gpus": gpus,
        "without_peak": without_peak,
        "precisions": [name.upper() for name in precisions],
        "shares": best_shares(summary),
    }


def best_shares(summary: Summary) -> list[dict[str, Any]]:
    """For each GPU, precision and source the peak that comes nearest to the theoretical one."""
    candidates = [*_measured(summary), *_published(summary)]
    best: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in candidates:
        gpu = summary.gpus.get(row["gpu"])
        peak = gpu.peak_tops.get(row["precision"]) if gpu else None
        if peak is None or row["multiply_adds"] is None:
            continue
        achieved = row["throughput"] * 2 * row["multiply_adds"] / 1e12
        full = row | {
            "achieved_tops": achieved,
            "share": 100 * achieved / peak,
            "model": model_label(row["model_key"]),
        }
        key = (row["gpu"], row["precision"], row["source"])
        if key not in best or full["share"] > best[key]["share"]:
            best[key] = full
    gpus = summary.order_gpus({gpu for gpu, _, _ in best})
    return [
        best[gpu, precision, source]
        for gpu in gpus
        for source in (MEASURED, PUBLISHED)
        for precision in PRECISION_KEYS
        if (gpu, precision, source) in best
    ]


def _measured(summary: Summary) -> Iterable[dict[str, Any]]:
    counted = {
        (gpu, model): count for gpu, model, count in summary.facts[["gpu", "model", "multiply_adds"]].iter_rows()
    }
    precisions = dict(summary.measured[["mode", "precision"]].iter_rows())
    for (gpu, model, mode), peak in find_peaks(summary.measured).items():
        yield {
            "gpu": gpu,
            "model_key": model,
            "mode": mode,
            "precision": precisions[mode],
            "batch": peak.point.batch_size,
            "throughput": peak.point.throughput,
            "multiply_adds": counted.get((gpu, model)),
            "source": MEASURED,
        }


def _published(summary: Summary) -> Iterable[dict[str, Any]]:
    for row in table1_peaks(summary.published).iter_rows(named=True):
        yield {
            "gpu": row["gpu"],
            "model_key": row["model"],
            "mode": f"{row['runtime']}-{row['precision']}",
            "precision": row["precision"],
            "batch": row["batch_size"],
            "throughput": row["throughput_img_s"],
            "multiply_adds": 1e9 * GMAC_PER_IMAGE[row["model"]] if row["model"] in GMAC_PER_IMAGE else None,
            "source": PUBLISHED,
        }

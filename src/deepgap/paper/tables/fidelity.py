"""How close the answers of each mode are to FP32's."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import Any

from deepgap.analyse.summary import Summary
from deepgap.paper.latex import ABSENT, Latex
from deepgap.paper.wording import calibration_label, gpu_label
from deepgap.study.words import by_mode, model_label


def context(summary: Summary) -> dict[str, Any]:
    """The modes of each GPU and model.

    Returns:
        rows: platform, model, mode, calibration (None: not int8), cells (that were compared on the most images) and
            compared (on any), images a cell, and as LaTeX the worst centred sqnr in decibels, the worst cosine, and
            in percent the worst agreement and accuracy, each with its interval, and the reference's accuracy.
    """
    gpus = summary.order_gpus(set(summary.fidelity["gpu"]))
    rows = summary.fidelity.to_dicts()
    rows.sort(key=lambda row: (gpus.index(row["gpu"]), summary.place_model(row["model"]), by_mode(row["mode"])))
    return {"rows": [_row(row) for row in rows]}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "platform": gpu_label(row["gpu"]),
        "model": model_label(row["model"]),
        "mode": row["mode"],
        "calibration": calibration_label(row),
        "cells": row["cells"],
        "compared": row["compared_cells"],
        "images": row["images"],
        "sqnr": _decibels(row),
        "cosine": rounded_down(row["cosine"], 5),
        "agreement": rounded_down(row["top1_agreement"], 1, percent=True),
        "agreement_interval": _percent(row["top1_agreement_low"], row["top1_agreement_high"]),
        "accuracy": _percent(row["top1_accuracy"]),
        "accuracy_interval": _percent(row["top1_accuracy_low"], row["top1_accuracy_high"]),
        "reference": _percent(row["reference_top1_accuracy"]),
    }


def rounded_down(value: float | None, places: int, percent: bool = False) -> Latex:
    """A share or a cosine with this many decimals, so that only a perfect one prints as such."""
    if value is None:
        return ABSENT
    exact = Decimal(repr(value)).scaleb(2 if percent else 0)
    return Latex(rf"\num{{{exact.quantize(Decimal(10) ** -places, ROUND_FLOOR)}}}")


def _decibels(row: dict[str, Any]) -> Latex:
    if not row["all_finite"]:
        return Latex("not finite")
    if row["identical"]:
        return Latex("exact")
    return ABSENT if row["sqnr_db"] is None else Latex(rf"\num{{{row['sqnr_db']:.1f}}}")


def _percent(*shares: float | None) -> Latex:
    """A share in percent, or the two ends of an interval in brackets; a dash for what is not known."""
    known = [rf"\num{{{100 * share:.1f}}}" for share in shares if share is not None]
    if len(known) < len(shares):
        return ABSENT
    return Latex(f"[{', '.join(known)}]" if len(known) > 1 else known[0])

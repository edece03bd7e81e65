"""The predictions of how throughput follows memory bandwidth with their outcomes, and the elasticities."""

from __future__ import annotations

from typing import Any

from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex, interval, rounded
from deepgap.paper.predictions import bandwidth_elasticities, judge_all
from deepgap.study.words import model_label

DEVICES = ("cuda",)


def context(summary: Summary) -> dict[str, Any]:
    """The predictions as they were written, and a row a model and mode that both devices have.

    Returns:
        predictions: rows with number, text, evidence and verdict.
        gpu, base: the devices. batch_sizes: that both have. rows: model, mode and for each batch size its elasticity
            and interval as LaTeX, empty where it was not measured on both; L marks launch-bound ones.
    """
    found = bandwidth_elasticities(summary)
    sizes = sorted(set(found["batch_size"]))
    rows = []
    for (model, mode), curve in found.group_by("model", "mode", maintain_order=True):
        at = {row["batch_size"]: row for row in curve.iter_rows(named=True)}
        rows.append(
            {
                "model": model_label(str(model)),
                "mode": mode,
                "values": [_value(at.get(size)) for size in sizes],
            }
        )
    gpus = summary.reporting["bandwidth_gpus"]
    return {
        "predictions": [
            {"number": number, "text": item.text, "evidence": outcome.evidence, "verdict": outcome.verdict}
            for number, (item, outcome) in enumerate(judge_all(summary), 1)
        ],
        "gpu": gpus[-1] if gpus else "",
        "base": gpus[0] if gpus else "",
        "batch_sizes": sizes,
        "rows": rows,
    }


def _value(row: dict[str, Any] | None) -> Latex:
    if row is None or row["elasticity"] is None:
        return Latex("")
    mark = r"$^{\mathrm{L}}$" if row["launch_bound"] else ""
    ends = interval(row["elasticity_low"], row["elasticity_high"], 2)
    return Latex(f"{rounded(row['elasticity'], 2)}{mark} {ends}".strip())

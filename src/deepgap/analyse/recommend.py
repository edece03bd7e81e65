"""The best measured operating point under a bound on latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from deepgap.analyse.peaks import intervals_overlap
from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.text import significant

UNITS = {"throughput": "img/s", "per_joule": "images/J", "per_euro": "images/EUR"}
"""The objectives, as in the config's schema, and the unit of each."""

P99, MEDIAN = "p99", "median"
BEST, TIED = "best", "tied"

RECOMMENDATION = pl.Schema(
    {
        "model": pl.String,
        "place": pl.String,
        "gpu": pl.String,
        "mode": pl.String,
        "batch_size": pl.Int64,
        "objective": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "unit": pl.String,
        "latency_ms": pl.Float64,
        "latency_statistic": pl.String,
        "runs": pl.Int64,
        "samples": pl.Int64,
        "flags": pl.String,
        "slo_ms": pl.Float64,
    }
)
"""One row a recommended point, the best of each model first.

place: best, or tied: its interval overlaps that of the best, so the data cannot tell the two apart.
value: of the objective, in unit; low, high: its 95 % interval over runs, where it has one.
latency_statistic: p99 where the samples can carry it, else median; it is what was held against slo_ms.
flags: those of the family, joined by semicolons (`deepgap.analyse.flags`).
"""


@dataclass(frozen=True)
class Recommendation:
    """rows: in `RECOMMENDATION`. notes: sentences on models without a point, and on what was left out."""

    rows: pl.DataFrame
    notes: tuple[str, ...]


def recommend(summary: Summary, slo_ms: float, objective: str) -> Recommendation:
    """The best GPU, mode and batch size of each model within a bound on latency, and those tied with it.

    Only measured families with all threads count, whatever their flags: these are told. Of equal values the one with
    the lower latency is the best, then the first in the order of gpus.yaml.

    Args:
        slo_ms: the bound, in milliseconds, on the 99th percentile or, where that may not be stated, the median.
        objective: a key of `UNITS`.

    Raises:
        DeepGapError: nothing was measured, or what the objective needs is not known; the sentence says what to do.
    """
    families = summary.measured.filter(pl.col("throughput_img_s").is_not_null(), pl.col("median_ms").is_not_null())
    if families.is_empty():
        raise DeepGapError(
            "No cells are measured, so there is nothing to recommend; "
            f"measure this machine's processor with: snakemake --cores 1 --config gpu={summary.processor}"
        )
    points = [point for row in families.iter_rows(named=True) if (point := _point(summary, row, objective, slo_ms))]
    notes = _left_out(summary, families, points, objective)
    if not points:
        raise DeepGapError(" ".join(notes))
    rows: list[dict[str, Any]] = []
    for model in summary.order_models(families["model"]):
        of_model = [point for point in points if point["model"] == model]
        within = [point for point in of_model if point["latency_ms"] <= slo_ms]
        if within:
            rows += _best_first(within)
        elif of_model:
            notes.append(_nearest(model, of_model, slo_ms))
        else:
            notes.append(f"No measured point of {model} has a value of {objective}.")
    return Recommendation(pl.DataFrame(rows, schema=RECOMMENDATION), tuple(notes))


def _point(summary: Summary, row: dict[str, Any], objective: str, slo_ms: float) -> dict[str, Any] | None:
    """A family as a candidate; None where the objective has no value for it."""
    values = _objective(summary, row, objective)
    if values is None:
        return None
    value, low, high = values
    stated = row["p99_ms"] is not None
    return {
        **{name: row[name] for name in ("model", "gpu", "mode", "batch_size", "runs", "samples")},
        **{"objective": objective, "value": value, "low": low, "high": high, "unit": UNITS[objective]},
        "latency_ms": row["p99_ms"] if stated else row["median_ms"],
        "latency_statistic": P99 if stated else MEDIAN,
        "flags": ";".join(row["flags"]),
        "slo_ms": float(slo_ms),
    }


def _objective(
    summary: Summary, row: dict[str, Any], objective: str
) -> tuple[float, float | None, float | None] | None:
    if objective == "per_joule":
        return None if row["images_per_joule"] is None else (row["images_per_joule"], None, None)
    scale = 1.0
    if objective == "per_euro":
        price = summary.gpus[row["gpu"]].price_eur_per_hour
        if price is None:
            return None
        scale = 3600 / price
    low, high = (row[f"throughput_{end}_img_s"] for end in ("low", "high"))
    return row["throughput_img_s"] * scale, *(None if end is None else end * scale for end in (low, high))


def _best_first(within: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best of one model's points, and the tied ones by falling value."""
    # The sort is stable and the points come in the order of gpus.yaml.
    ranked = sorted(within, key=lambda point: (-point["value"], point["latency_ms"]))
    best = ranked[0]
    tied = [
        point
        for point in ranked[1:]
        if point["value"] == best["value"]
        or intervals_overlap((point["low"], point["high"]), (best["low"], best["high"]))
    ]
    return [best | {"place": BEST}, *(point | {"place": TIED} for point in tied)]


def _nearest(model: str, points: Sequence[dict[str, Any]], slo_ms: float) -> str:
    fastest = min(points, key=lambda point: float(point["latency_ms"]))
    return (
        f"No measured point of {model} is within {slo_ms:g} ms; the fastest is {fastest['gpu']} {fastest['mode']} at "
        f"batch {fastest['batch_size']} with {significant(fastest['latency_ms'], 3)} ms "
        f"({fastest['latency_statistic']})."
    )


def _left_out(
    summary: Summary, families: pl.DataFrame, points: Sequence[dict[str, Any]], objective: str
) -> list[str]:
    """Sentences on GPUs that were measured and have no value of the objective."""
    lost = summary.order_gpus(set(families["gpu"]) - {point["gpu"] for point in points})
    if not lost:
        return []
    names = ", ".join(lost)
    if objective == "per_euro":
        return [f"No price is known for {names}: add price_eur_per_hour to its entry in config/gpus.yaml."]
    return [
        f"No energy is known for {names}: on a GPU with an energy counter, add batch sizes to energy.batch_sizes in "
        "config/config.yaml and measure again."
    ]


def describe(rows: pl.DataFrame, notes: Sequence[str]) -> str:
    """A recommendation as lines of text: a table of its rows, in `RECOMMENDATION`, and its notes."""
    heading = ["model", "", "GPU", "mode", "batch", "value", "95 % interval", "unit", "latency (ms)", "runs", "flags"]
    table = [heading] if rows.height else []
    model = None
    for row in rows.iter_rows(named=True):
        span = "" if row["low"] is None else f"[{significant(row['low'], 4)}, {significant(row['high'], 4)}]"
        table.append(
            [
                row["model"] if row["model"] != model else "",
                row["place"],
                row["gpu"],
                row["mode"],
                str(row["batch_size"]),
                significant(row["value"], 4),
                span,
                row["unit"],
                f"{significant(row['latency_ms'], 3)} {row['latency_statistic']}",
                str(row["runs"]),
                (row["flags"] or "").replace(";", ", "),
            ]
        )
        model = row["model"]
    widths = [max(len(line[column]) for line in table) for column in range(len(heading))] if table else []
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table
    ]
    return "\n".join([*lines, *notes])

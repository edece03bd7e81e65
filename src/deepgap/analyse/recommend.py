"""The best measured operating point under a bound on latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from deepgap.analyse.ratios import family_key
from deepgap.analyse.schemas import KEY
from deepgap.analyse.summary import Summary
from deepgap.analyse.sweeps import PER_JOULE, THROUGHPUT, Sweeps, compare, split_families, sweep_values
from deepgap.errors import DeepGapError
from deepgap.stats import unpaired_ratio
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
        "sweeps": pl.Int64,
        "flags": pl.String,
        "slo_ms": pl.Float64,
    }
)
"""One row a recommended point, the best of each model first.

place: best, or tied: the interval of its ratio to the best reaches 1, so that the data cannot tell the two apart. On
    one gpu the ratio is paired.
value: of the objective, in unit; low, high: its interval over sweeps, where there are six.
latency_statistic: p99 where the processes agree on it, else median; it is what was held against slo_ms.
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
    if summary.measured.is_empty():
        raise DeepGapError(
            "No cells are measured, so there is nothing to recommend; "
            f"measure this machine's processor with: snakemake --cores 1 --config gpu={summary.processor}"
        )
    rows = summary.measured.iter_rows(named=True)
    points = [point for row in rows if (point := _point(summary, row, objective, slo_ms))]
    notes = _left_out(summary, points, objective)
    if not points:
        raise DeepGapError(" ".join(notes))
    sweeps = _sweeps(summary, objective)
    found: list[dict[str, Any]] = []
    for model in summary.order_models(summary.measured["model"]):
        of_model = [point for point in points if point["model"] == model]
        within = [point for point in of_model if point["latency_ms"] <= slo_ms]
        if within:
            found += _best_first(within, sweeps)
        elif of_model:
            notes.append(_nearest(model, of_model, slo_ms))
        else:
            notes.append(f"No measured point of {model} has a value of {objective}.")
    return Recommendation(pl.DataFrame(found, schema=RECOMMENDATION), tuple(notes))


def _point(summary: Summary, row: dict[str, Any], objective: str, slo_ms: float) -> dict[str, Any] | None:
    """A family as a candidate; None where the objective has no value for it."""
    scale = _scale(summary, row["gpu"], objective)
    names = ("images_per_joule", "images_per_joule_low", "images_per_joule_high")
    if objective != "per_joule":
        names = ("throughput_img_s", "throughput_low_img_s", "throughput_high_img_s")
    value, low, high = (None if row[name] is None or scale is None else row[name] * scale for name in names)
    if value is None:
        return None
    stated = row["p99_ms"] is not None
    return {
        **{name: row[name] for name in (*KEY, "sweeps")},
        **{"objective": objective, "value": value, "low": low, "high": high, "unit": UNITS[objective]},
        "latency_ms": row["p99_ms"] if stated else row["median_ms"],
        "latency_statistic": P99 if stated else MEDIAN,
        "flags": ";".join(row["flags"]),
        "slo_ms": float(slo_ms),
    }


def _scale(summary: Summary, gpu: str, objective: str) -> float | None:
    """What the measured quantity is multiplied by; None where the price of an hour is not known."""
    if objective != "per_euro":
        return 1.0
    price = summary.gpus[gpu].price_eur_per_hour
    return None if price is None else 3600 / price


def _sweeps(summary: Summary, objective: str) -> dict[tuple[Any, ...], Sweeps]:
    """The objective sweep by sweep, by the family's key."""
    quantity = PER_JOULE if objective == "per_joule" else THROUGHPUT
    found = {}
    for about, sweeps in split_families(sweep_values(summary.runs, summary.measured), quantity):
        scale = _scale(summary, about["gpu"], objective) or 1.0
        found[family_key(about)] = replace(sweeps, values=scale * sweeps.values)
    return found


def _best_first(within: Sequence[dict[str, Any]], sweeps: Mapping[tuple[Any, ...], Sweeps]) -> list[dict[str, Any]]:
    """The best of one model's points, and the tied ones by falling value."""
    # The sort is stable and the points come in the order of gpus.yaml.
    ranked = sorted(within, key=lambda point: (-point["value"], point["latency_ms"]))
    best = ranked[0]
    tied = [point for point in ranked[1:] if point["value"] == best["value"] or _reaches(point, best, sweeps)]
    return [best | {"place": BEST}, *(point | {"place": TIED} for point in tied)]


def _reaches(point: Mapping[str, Any], best: Mapping[str, Any], sweeps: Mapping[tuple[Any, ...], Sweeps]) -> bool:
    """Whether the interval of a point's ratio to the best reaches 1."""
    here, there = (sweeps.get(family_key(row)) for row in (point, best))
    if here is None or there is None:
        return False
    one_gpu = point["gpu"] == best["gpu"]
    ratio = compare(here, there).ratio if one_gpu else unpaired_ratio(here.values, there.values)
    return ratio.high is not None and ratio.high >= 1


def _nearest(model: str, points: Sequence[dict[str, Any]], slo_ms: float) -> str:
    fastest = min(points, key=lambda point: float(point["latency_ms"]))
    return (
        f"No measured point of {model} is within {slo_ms:g} ms; the fastest is {fastest['gpu']} {fastest['mode']} at "
        f"batch {fastest['batch_size']} with {significant(fastest['latency_ms'], 3)} ms "
        f"({fastest['latency_statistic']})."
    )


def _left_out(summary: Summary, points: Sequence[dict[str, Any]], objective: str) -> list[str]:
    """Sentences on GPUs that were measured and have no value of the objective."""
    lost = summary.order_gpus(set(summary.measured["gpu"]) - {point["gpu"] for point in points})
    if not lost:
        return []
    names = ", ".join(lost)
    if objective == "per_euro":
        return [f"No price is known for {names}: add price_eur_per_hour to its entry in config/gpus.yaml."]
    return [f"No energy is known for {names}: its cells have no reading of an energy counter."]


def describe(rows: pl.DataFrame, notes: Sequence[str]) -> str:
    """A recommendation as lines of text: a table of its rows, in `RECOMMENDATION`, and its notes."""
    heading = ["model", "", "GPU", "mode", "batch", "value", "interval", "unit", "latency (ms)", "sweeps", "flags"]
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
                str(row["sweeps"]),
                (row["flags"] or "").replace(";", ", "),
            ]
        )
        model = row["model"]
    widths = [max(len(line[column]) for line in table) for column in range(len(heading))] if table else []
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table
    ]
    return "\n".join([*lines, *notes])

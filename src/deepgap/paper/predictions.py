"""The predictions of how throughput follows memory bandwidth, and what became of them.

They were written from data of the H200 and the layers' floors alone, before an H100 was measured, and stand as they
were written. What judges each is stated beside it. All are of the two devices of `reporting.bandwidth_gpus`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from deepgap.analyse.elasticity import elasticities
from deepgap.analyse.residency import residencies
from deepgap.analyse.summary import Summary
from deepgap.analyse.sweeps import THROUGHPUT
from deepgap.study.words import model_label

HELD, REFUTED, MIXED, UNDECIDED, PENDING = "held", "refuted", "in part", "undecided", "pending"

NEAR_ZERO = 0.15
"""An elasticity whose whole interval is within this of 0 is near 0."""

ABSENT = "Not measured on both cards in this edition."


@dataclass(frozen=True)
class Outcome:
    """What became of a prediction: the numbers in words, and HELD, REFUTED, MIXED, UNDECIDED or PENDING."""

    evidence: str
    verdict: str


@dataclass(frozen=True)
class Prediction:
    """text: as it was written. judge: its outcome from the elasticities of throughput, and the summary."""

    text: str
    judge: Callable[[pl.DataFrame, Summary], Outcome]


def judge_all(summary: Summary) -> list[tuple[Prediction, Outcome]]:
    """Every prediction with its outcome; PENDING where the data that it needs are not there."""
    found = bandwidth_elasticities(summary)
    return [(item, item.judge(found, summary)) for item in PREDICTIONS]


def bandwidth_elasticities(summary: Summary) -> pl.DataFrame:
    """The elasticities of throughput of the second of `reporting.bandwidth_gpus` over the first; empty without."""
    gpus = summary.reporting["bandwidth_gpus"]
    base, gpu = (gpus[0], gpus[-1]) if gpus else ("", "")
    found = elasticities(summary, gpu, base) if gpu != base else elasticities(summary, "", "")
    return found.filter(quantity=THROUGHPUT)


def _int8_at_512(found: pl.DataFrame, _: Summary) -> Outcome:
    here = found.filter(pl.col("low").is_not_null(), model="resnet50", mode="cudnn-int8", batch_size=512)
    if here.is_empty():
        return Outcome(ABSENT, PENDING)
    (row,) = here.to_dicts()
    told = f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]."
    if row["low"] >= 1.13 and row["high"] <= 1.30:
        return Outcome(told, HELD)
    return Outcome(told, REFUTED if row["high"] < 1.13 or row["low"] > 1.30 else UNDECIDED)


def _precisions(found: pl.DataFrame, _: Summary) -> Outcome:
    known = found.filter(pl.col("elasticity_low").is_not_null() & ~pl.col("launch_bound"))
    fp32 = _last(known.filter(model="resnet18", mode="eager-fp32"))
    pairs = [
        _last(known.filter(model="resnet50", mode=mode))
        for mode in ("eager-fp32", "eager-tf32", "cudnn-fp16", "cudnn-int8")
    ]
    steps = [(one, other) for one, other in pairwise(pairs) if one is not None and other is not None]
    if fp32 is None or not steps:
        return Outcome(ABSENT, PENDING)
    near = abs(fp32["elasticity_low"]) <= NEAR_ZERO and abs(fp32["elasticity_high"]) <= NEAR_ZERO
    rising = [one["elasticity_high"] < other["elasticity_low"] for one, other in steps]
    told = f"ResNet-18 eager-fp32: {_elastic(fp32)}. ResNet-50: " + ", ".join(
        f"{row['mode']} {row['elasticity']:.2f}" for row in pairs if row is not None
    )
    return Outcome(f"{told}.", HELD if near and all(rising) else MIXED if near or any(rising) else REFUTED)


def _cache(found: pl.DataFrame, summary: Summary) -> Outcome:
    base = summary.reporting["bandwidth_gpus"][0] if summary.reporting["bandwidth_gpus"] else ""
    rises, compared = 0, 0
    for item in residencies(summary, base):
        curve = found.filter(pl.col("elasticity_low").is_not_null(), model=item.model, mode=item.mode)
        fits = _last(curve.filter(pl.col("batch_size") <= item.last_fit, ~pl.col("launch_bound")))
        beyond = _last(curve.filter(pl.col("batch_size") > item.last_fit))
        if fits is not None and beyond is not None:
            compared += 1
            rises += beyond["elasticity_low"] > fits["elasticity_high"]
    if not compared:
        return Outcome(ABSENT, PENDING)
    told = f"Higher beyond the cache, by intervals, in {rises} of {compared} curves."
    return Outcome(told, HELD if rises == compared else MIXED if rises else REFUTED)


def _compiled(found: pl.DataFrame, _: Summary) -> Outcome:
    known = found.filter(pl.col("elasticity_low").is_not_null(), pl.col("batch_size") >= 128, mode="compile-fp16")
    if known.is_empty():
        return Outcome(ABSENT, PENDING)
    rows = known.to_dicts()
    near = [abs(row[f"elasticity_{end}"]) <= NEAR_ZERO for row in rows for end in ("low", "high")]
    told = "; ".join(f"{model_label(row['model'])} at {row['batch_size']}: {_elastic(row)}" for row in rows)
    return Outcome(f"{told}.", HELD if all(near) else MIXED if any(near) else REFUTED)


def _launch_bound(found: pl.DataFrame, _: Summary) -> Outcome:
    known = found.filter(pl.col("low").is_not_null() & pl.col("launch_bound"))
    if known.is_empty():
        return Outcome(ABSENT, PENDING)
    ones = known.filter(pl.col("low") <= 1, pl.col("high") >= 1).height
    told = f"The interval holds 1 in {ones} of {known.height} families; ratios {_span(known['ratio'].to_list())}."
    return Outcome(told, HELD if ones == known.height else MIXED if ones else REFUTED)


def _transformer(found: pl.DataFrame, _: Summary) -> Outcome:
    known = found.filter(pl.col("elasticity_low").is_not_null() & ~pl.col("launch_bound"))
    lower, compared = 0, 0
    for mode in known.filter(model="vit_b_16")["mode"].unique():
        ours, theirs = (_last(known.filter(model=model, mode=mode)) for model in ("vit_b_16", "resnet50"))
        if ours is not None and theirs is not None:
            compared += 1
            lower += ours["elasticity_high"] < theirs["elasticity_low"]
    if not compared:
        return Outcome(ABSENT, PENDING)
    told = f"Lower, by intervals, in {lower} of {compared} modes at their largest batch sizes."
    return Outcome(told, HELD if lower == compared else MIXED if lower else REFUTED)


def _last(rows: pl.DataFrame) -> dict[str, float] | None:
    """The row of the largest batch size; None where there is none."""
    return None if rows.is_empty() else rows.sort("batch_size").to_dicts()[-1]


def _elastic(row: dict[str, float]) -> str:
    return f"{row['elasticity']:.2f} [{row['elasticity_low']:.2f}, {row['elasticity_high']:.2f}]"


def _span(values: list[float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:.3f}" for end in (min(values), max(values))))


PREDICTIONS = (
    Prediction(
        "cudnn-int8 ResNet-50 at 512: X ratio between 1.13 and 1.30 (layer floors give 1.29 if all is traffic); 1.00 "
        "refutes the engine's account of where its time goes.",
        _int8_at_512,
    ),
    Prediction(
        "eager-fp32: e near 0 for ResNet-18; e ordered fp32 < tf32 < fp16 < int8 within graph or cuDNN modes.",
        _precisions,
    ),
    Prediction("e rises where batch × bytes of the largest activation crosses the L2 cache.", _cache),
    Prediction(
        "compile-fp16 at large batches: e near 0 although its floor is memory, because both cards are at their power "
        "limit; then images a joule move instead.",
        _compiled,
    ),
    Prediction(
        "Launch-bound families: ratio 1.00 within the host effect (negative control, with the launch "
        "micro-benchmark).",
        _launch_bound,
    ),
    Prediction("ViT-B/16 (matrix products): lower e than ResNet-50 at equal precision.", _transformer),
)
"""In their order, in the words in which they were written."""

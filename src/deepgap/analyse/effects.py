"""What a gain in throughput comes from: one factor at a time, with the others held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import combinations, pairwise
from math import prod
from typing import Any, NamedTuple

import polars as pl

from deepgap.analyse.schemas import ABOUT_MODE, MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.published.values import median_latencies, sweep_batch_sizes
from deepgap.stats import Ratio
from deepgap.study.cell import ALL_THREADS
from deepgap.study.words import mode_order

PATH = (
    "eager-fp32",
    "eager-tf32",
    "eager-fp16-nchw",
    "eager-fp16",
    "graph-fp16",
    "compilegraph-fp16",
    "cudnn-fp16",
    "cudnn-int8",
)
"""A way from the plainest mode to the fastest on which each step changes one factor."""


class Way(NamedTuple):
    """How a runtime runs a model. layouts: whether the mode says the layout; an engine chooses its own."""

    engine: str
    graph: bool
    fusion: bool
    layouts: bool = False


WAYS = {
    "eager": Way("PyTorch", graph=False, fusion=False, layouts=True),
    "graph": Way("PyTorch", graph=True, fusion=False, layouts=True),
    "compile": Way("PyTorch", graph=False, fusion=True, layouts=True),
    "compilegraph": Way("PyTorch", graph=True, fusion=True, layouts=True),
    "cudnn": Way("cuDNN", graph=True, fusion=True),
    "tensorrt": Way("TensorRT", graph=False, fusion=True),
    "rtx": Way("TensorRT-RTX", graph=False, fusion=True),
    "ort": Way("ONNX Runtime", graph=False, fusion=True),
    "torchao": Way("torchao", graph=False, fusion=True),
}
"""By the runtime's name, with the options that it has unless the config changes them. A runtime that is not listed
takes part in no effect."""


@dataclass(frozen=True)
class Factors:
    """What can change between two modes, a factor each."""

    precision: str
    layout: str | None
    graph: bool
    fusion: bool
    engine: str


FACTORS = tuple(field.name for field in fields(Factors))


@dataclass(frozen=True)
class Effect:
    """The ratio of throughputs of two modes at one gpu, model and batch size that differ in these factors.

    factors: one where the others are held; several where the modes confound them.
    start, mode: the ratio is mode over start. ratio: None where it was not measured.
    launch_bound: either mode's calls are bound by launching them. primary: both are of the primary set.
    cells: the files of both operands, without their ending. source: measured or published.
    """

    gpu: str
    model: str
    batch_size: int
    factors: tuple[str, ...]
    start: str
    mode: str
    ratio: Ratio
    launch_bound: bool = False
    primary: bool = True
    cells: tuple[str, ...] = ()
    source: str = MEASURED

    @property
    def is_pure(self) -> bool:
        return len(self.factors) == 1


def mode_factors(runtime: str, precision: str, layout: str) -> Factors | None:
    """The factors of a mode; None of a runtime that `WAYS` does not list."""
    way = WAYS.get(runtime)
    if way is None:
        return None
    return Factors(precision, layout if way.layouts else None, way.graph, way.fusion, way.engine)


def differing(one: Factors, other: Factors) -> tuple[str, ...]:
    """The factors in which two modes differ. The layout is one only where both modes have it to choose."""
    return tuple(
        name
        for name, here, there in zip(FACTORS, astuple(one), astuple(other), strict=True)
        if here != there and not (name == "layout" and None in (here, there))
    )


def find_effects(summary: Summary) -> list[Effect]:
    """All pairs of measured modes that differ in one factor, by gpu, model, batch size, factor and mode."""
    return sorted(
        (effect for effect in _measured(summary) if effect.is_pure),
        key=lambda effect: (*_place(summary, effect), FACTORS.index(effect.factors[0])),
    )


def find_path(summary: Summary, gpu: str, model: str, batch_size: int, path: Sequence[str] = PATH) -> list[Effect]:
    """The steps of a path between the modes of it that were measured at a place, one after another.

    A step over a mode that is missing may change several factors, and its `factors` say which.
    """
    here = {
        (effect.start, effect.mode): effect
        for effect in _measured(summary)
        if (effect.gpu, effect.model, effect.batch_size) == (gpu, model, batch_size)
    }
    present = [mode for mode in path if any(mode in pair for pair in here)]
    return [here[pair] for pair in pairwise(present) if pair in here]


def product(effects: Sequence[Effect], factor: str) -> float | None:
    """The product of the pure effects of one factor along a path; None where there is none."""
    ratios = [effect.ratio.ratio for effect in effects if effect.factors == (factor,)]
    return prod(ratios) if ratios else None


def _measured(summary: Summary) -> Iterator[Effect]:
    """Every measured pair of modes whose factors are known."""
    factors = {
        str(row["mode"]): mode_factors(*(row[name] for name in ABOUT_MODE))
        for row in summary.measured.select("mode", *ABOUT_MODE).unique().iter_rows(named=True)
    }
    for row in summary.ratios.filter(threads=ALL_THREADS).iter_rows(named=True):
        start, mode = factors.get(row["denominator"]), factors.get(row["numerator"])
        if start is not None and mode is not None:
            yield _effect(row, differing(start, mode))


def _effect(row: Mapping[str, Any], factors: tuple[str, ...]) -> Effect:
    return Effect(
        gpu=row["gpu"],
        model=row["model"],
        batch_size=row["batch_size"],
        factors=factors,
        start=row["denominator"],
        mode=row["numerator"],
        ratio=Ratio(**{name: row[name] for name in ("ratio", "low", "high", "values", "paired")}),
        launch_bound=row["launch_bound"],
        primary=row["primary"],
        cells=(*row["denominator_cells"], *row["numerator_cells"]),
    )


def published_effects(summary: Summary) -> list[Effect]:
    """The published gains at the largest batch size, the only one at which the study states medians of all its modes:
    throughput is in inverse proportion to them. Only values that are not bounds count.

    Its INT8 came from another engine than its FP16, so that step confounds engine, fusion and precision.
    """
    sweep = sweep_batch_sizes(summary.published)
    if not sweep:
        return []
    exact = median_latencies(summary.published.filter(pl.col("approx") == "approx"))
    found = []
    for (gpu, model), rows in exact.filter(batch_size=max(sweep)).group_by("gpu", "model", maintain_order=True):
        modes = sorted(rows.to_dicts(), key=lambda row: mode_order(row["runtime"], row["precision"]))
        for start, mode in combinations(modes, 2):
            factors = [mode_factors(row["runtime"], row["precision"], "nchw") for row in (start, mode)]
            if factors[0] is None or factors[1] is None:
                continue
            names = [f"{row['runtime']}-{row['precision']}" for row in (start, mode)]
            ratio = Ratio(start["median_ms"] / mode["median_ms"], None, None, 1, paired=False)
            changed = differing(factors[0], factors[1])
            found.append(
                Effect(str(gpu), str(model), max(sweep), changed, names[0], names[1], ratio, source=PUBLISHED)
            )
    return sorted(found, key=lambda effect: _place(summary, effect))


def _place(summary: Summary, effect: Effect) -> tuple[Any, ...]:
    gpus = summary.order_gpus({effect.gpu})
    order = list(summary.gpus)
    place = order.index(gpus[0]) if gpus[0] in order else len(order)
    return place, effect.gpu, summary.place_model(effect.model), effect.batch_size


def operating_batches(swept: set[int], matched: int) -> list[int]:
    """The smallest and the largest of a sweep and the one at which all is compared, ascending."""
    return sorted({min(swept), matched, max(swept)})

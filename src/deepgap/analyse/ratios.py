"""Ratios of throughputs within one gpu and model: of modes at one batch size, and of batch sizes in one mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from deepgap.analyse.schemas import ABOUT_MODE, CURVE_KEY, KEY, RATIOS
from deepgap.analyse.sweeps import Sweeps, compare, split_families
from deepgap.stats import Ratio
from deepgap.study.words import mode_order

BASELINE = "eager-fp32"
PLACE = ["gpu", "model", "batch_size", "threads"]

Key = tuple[Any, ...]
"""The values of `KEY`."""

Family = tuple[dict[str, Any], Sweeps]


def summarise_ratios(values: pl.DataFrame, primary: set[Key]) -> pl.DataFrame:
    """One row a pair of modes, the later one of `mode_order` over the earlier; see `schemas.RATIOS`.

    Args:
        values: of `sweeps.sweep_values`.
        primary: the families of the primary set.
    """
    rows = []
    for families in _grouped(values, PLACE):
        ordered = sorted(families, key=lambda family: mode_order(*(family[0][name] for name in ABOUT_MODE)))
        for (earlier, denominator), (later, numerator) in combinations(ordered, 2):
            found = compare(numerator, denominator)
            rows.append(
                {name: later[name] for name in PLACE}
                | {"numerator": later["mode"], "denominator": earlier["mode"]}
                | ratio_columns(found.ratio)
                | {"launch_bound": later["launch_bound"] or earlier["launch_bound"]}
                | {"primary": primary.issuperset(family_key(about) for about in (earlier, later))}
                | {"numerator_cells": found.numerator_cells, "denominator_cells": found.denominator_cells}
            )
    return pl.DataFrame(rows, schema=RATIOS).sort(*PLACE, "numerator", "denominator")


def ratio_columns(ratio: Ratio) -> dict[str, Any]:
    """The columns that every table of ratios has."""
    return {name: getattr(ratio, name) for name in ("ratio", "low", "high", "values", "paired")}


def speedups(values: pl.DataFrame) -> dict[Key, Ratio]:
    """The throughput of each family over that of `BASELINE` at its place."""
    found: dict[Key, Ratio] = {}
    for families in _grouped(values, PLACE):
        for base in (sweeps for about, sweeps in families if about["mode"] == BASELINE):
            found |= {family_key(about): compare(sweeps, base).ratio for about, sweeps in families}
    return found


def best_batches(values: pl.DataFrame) -> Iterator[tuple[Key, dict[str, Any]]]:
    """For each family its columns of `schemas.FAMILIES` on the best batch size of its curve."""
    for families in _grouped(values, CURVE_KEY):
        best, top = max(families, key=lambda family: (float(np.median(family[1].values)), -family[0]["batch_size"]))
        for about, sweeps in families:
            ratio, is_best = compare(sweeps, top).ratio, about is best
            reaches = ratio.high is not None and ratio.high >= 1
            yield (
                family_key(about),
                {"of_best": ratio.ratio, "of_best_low": ratio.low, "of_best_high": ratio.high}
                | {"best": is_best, "tied": is_best or reaches},
            )


def family_key(row: Mapping[str, Any]) -> Key:
    return tuple(row[name] for name in KEY)


def _grouped(values: pl.DataFrame, key: list[str]) -> Iterator[list[Family]]:
    """The families of each group of `values`."""
    for here in values.partition_by(key, maintain_order=True):
        yield list(split_families(here))

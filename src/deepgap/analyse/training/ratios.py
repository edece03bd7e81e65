"""What is faster than what in the second study, each ratio with its interval and both of its sides."""

from __future__ import annotations

import polars as pl

from deepgap.analyse.rows import Rows
from deepgap.analyse.training.cells import KEY, SET_UP
from deepgap.cells.cell_file import OK
from deepgap.stats import paired_ratio, unpaired_ratio

BASE = "eager-fp32"
"""The mode over which those of one device are compared, and the processor's over which a GPU is."""

BLOCK = ("sweep", "card", "session")
"""Cells of one block were measured one after another on one card."""

SPEEDUPS = pl.Schema(
    {
        **{name: pl.Int64 if name in ("image_size", "batch_size") else pl.String for name in SET_UP},
        "mode": pl.String,
        "base_gpu": pl.String,
        "base_mode": pl.String,
        "ratio": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "values": pl.Int64,
        "paired": pl.Boolean,
    }
)
"""One row a set-up and a pair of families: samples a second of `mode` on `gpu` over those of `base_mode` on
`base_gpu`; see `stats.Ratio`."""


def over_base_mode(cells: pl.DataFrame) -> pl.DataFrame:
    """`SPEEDUPS` of each mode over `BASE` on the same device at equal work, of pairs of cells of one block."""
    good = _timed(cells)
    base = good.filter(mode=BASE).select(*SET_UP, "threads", *BLOCK, pl.col("samples_s").alias("base_samples_s"))
    pairs = good.filter(pl.col("mode") != BASE).join(
        base, on=[*SET_UP, "threads", *BLOCK], nulls_equal=True, maintain_order="left"
    )
    rows = Rows(SPEEDUPS)
    for key, family in pairs.group_by(*SET_UP, "mode", maintain_order=True):
        about = dict(zip((*SET_UP, "mode"), key, strict=True))
        ratio = paired_ratio(family["samples_s"].to_numpy(), family["base_samples_s"].to_numpy())
        found = {name: getattr(ratio, name) for name in ("ratio", "low", "high", "values", "paired")}
        rows.add({**about, "base_gpu": about["gpu"], "base_mode": BASE, **found})
    return rows.frame()


def over_processor(cells: pl.DataFrame, processors: set[str]) -> pl.DataFrame:
    """`SPEEDUPS` of FP32 on a GPU over the same mode on a processor at equal work; never paired."""
    good = _timed(cells).filter(precision="fp32")
    of = dict(good.group_by(*KEY, maintain_order=True))
    rows = Rows(SPEEDUPS)
    for key, family in of.items():
        about = dict(zip(KEY, key, strict=True))
        if about["gpu"] in processors:
            continue
        for other, base in of.items():
            there = dict(zip(KEY, other, strict=True))
            if there["gpu"] in processors and all(there[name] == about[name] for name in (*SET_UP[1:], "mode")):
                ratio = unpaired_ratio(family["samples_s"].to_numpy(), base["samples_s"].to_numpy())
                found = {name: getattr(ratio, name) for name in ("ratio", "low", "high", "values", "paired")}
                names = {name: about[name] for name in (*SET_UP, "mode")}
                rows.add({**names, "base_gpu": there["gpu"], "base_mode": there["mode"], **found})
    return rows.frame()


def _timed(cells: pl.DataFrame) -> pl.DataFrame:
    return cells.filter(pl.col("samples_s").is_not_null(), status=OK)

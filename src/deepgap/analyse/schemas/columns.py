"""What the columns of several tables have in common: their types, and what names a row."""

from __future__ import annotations

from typing import Any

import polars as pl

STRINGS: Any = pl.List(pl.String)
INTEGERS: Any = pl.List(pl.Int64)
NUMBER: Any = pl.Float64
NUMBERS: Any = pl.List(pl.Float64)

KEY = {
    "gpu": pl.String,
    "model": pl.String,
    "mode": pl.String,
    "batch_size": pl.Int64,
    "threads": pl.Int64,
}
"""What names a cell family: all sweeps of it. threads: of the host's processor; 0 is all of its cores."""

CURVE_KEY = ["gpu", "model", "mode", "threads"]
"""What names a curve over batch sizes."""

ABOUT_MODE = {"runtime": pl.String, "precision": pl.String, "layout": pl.String}

"""The tidy tables between the cells and the paper: their columns and units.

All tables and figures read these files of results/summary/ and config/gpus.yaml, and nothing else. Tables that are
made of cells are folders with a file a GPU and model, so that a changed cell changes those of its own alone.

Intervals are of medians over sweeps, at least 95 %, and null below six sweeps (`deepgap.stats.median_interval`).
"""

from __future__ import annotations

import polars as pl

from deepgap.analyse.schemas.asked import COVERAGE, COVERAGE_KEY, DESIGN, EXPECTED, FOUND
from deepgap.analyse.schemas.columns import ABOUT_MODE, CURVE_KEY, INTEGERS, KEY, NUMBER, NUMBERS, STRINGS
from deepgap.analyse.schemas.observations import (
    COST,
    FACTS,
    FIDELITY,
    SESSION_KEY,
    SESSIONS,
    SHARES,
    TELEMETRY,
    TELEMETRY_ORDER,
)
from deepgap.analyse.schemas.times import BY_HOST, FAMILIES, OF_CELL, RATIOS, RUNS, VARIANCE
from deepgap.published.anchors import ANCHORS
from deepgap.published.values import PUBLISHED_VALUES
from deepgap.study.words import MEASURED, PUBLISHED

CELL_TABLES: dict[str, pl.Schema] = {
    "runs": RUNS,
    "families": FAMILIES,
    "by_host": BY_HOST,
    "ratios": RATIOS,
    "variance": VARIANCE,
    "facts": FACTS,
    "fidelity": FIDELITY,
    "telemetry": TELEMETRY,
    "sessions": SESSIONS,
    "found": FOUND,
    "cost": COST,
}
"""The folders of results/summary/, in each of which is a file `<gpu>/<model>.parquet` of this schema."""

STUDY_TABLES: dict[str, pl.Schema] = {
    "published": PUBLISHED_VALUES,
    "anchors": ANCHORS,
    "expected": EXPECTED,
    "design": DESIGN,
}
"""The files of results/summary/, by stem: what no cell changes."""

__all__ = [
    "ABOUT_MODE",
    "ANCHORS",
    "BY_HOST",
    "CELL_TABLES",
    "COST",
    "COVERAGE",
    "COVERAGE_KEY",
    "CURVE_KEY",
    "DESIGN",
    "EXPECTED",
    "FACTS",
    "FAMILIES",
    "FIDELITY",
    "FOUND",
    "INTEGERS",
    "KEY",
    "MEASURED",
    "NUMBER",
    "NUMBERS",
    "OF_CELL",
    "PUBLISHED",
    "PUBLISHED_VALUES",
    "RATIOS",
    "RUNS",
    "SESSIONS",
    "SESSION_KEY",
    "SHARES",
    "STRINGS",
    "STUDY_TABLES",
    "TELEMETRY",
    "TELEMETRY_ORDER",
    "VARIANCE",
]

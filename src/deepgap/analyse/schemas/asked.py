"""What the study asks for, and what of it is there."""

from __future__ import annotations

import polars as pl

from deepgap.analyse.schemas.columns import ABOUT_MODE, INTEGERS, STRINGS

COVERAGE_KEY = {"gpu": pl.String, "model": pl.String, "mode": pl.String}
EXPECTED = pl.Schema({**COVERAGE_KEY, **ABOUT_MODE, "expected": pl.Int64, "unlisted": pl.Int64})
"""Cells that the study asks for, cells or not. `unlisted` counts files of a gpu that the study does not name, in one
row a gpu with null model and mode."""

FOUND = pl.Schema({**COVERAGE_KEY, "found": pl.Int64, "failed": pl.Int64, "refused": pl.Int64})
"""Cells that are there, of those that the study asks for; failed: without times, refused: of these those whose
answers or times cannot be."""

COVERAGE = pl.Schema(
    {
        **COVERAGE_KEY,
        **ABOUT_MODE,
        "expected": pl.Int64,
        "found": pl.Int64,
        "failed": pl.Int64,
        "refused": pl.Int64,
        "unlisted": pl.Int64,
    }
)
"""`EXPECTED` and `FOUND` together."""

DESIGN = pl.Schema(
    {
        "gpu": pl.String,
        "models": STRINGS,
        "modes": STRINGS,
        "threads": STRINGS,
        "batch_sizes": INTEGERS,
        "protocol": pl.String,
        "sweeps": pl.Int64,
        "runs": pl.Int64,
        "warmup_iterations": pl.Int64,
        "timed_iterations": pl.Int64,
        "throughput_s": pl.Float64,
        "arms": STRINGS,
        "minimum_iterations": pl.Int64,
        "minimum_ms": pl.Float64,
        "maximum_s": pl.Float64,
        "half_width": pl.Float64,
        "fidelity_images": pl.Int64,
    }
)
"""What the study asks for: one row a gpu, cells or not.

threads: for each of `modes` the numbers of threads that it runs with, as words; `all` on a GPU.
protocol: its name, and after it its counts (`study.Protocol`); minimum_iterations, minimum_ms, maximum_s and
    half_width are null where a run never ends before its timed_iterations.
"""

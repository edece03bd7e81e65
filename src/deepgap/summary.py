"""The tidy tables between the cells and the paper: their columns and units.

All tables and figures read these files of results/summary/ and config/gpus.yaml, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from deepgap.errors import DeepGapError
from deepgap.hardware import Gpu, load_gpus

MEASURED, PUBLISHED = "measured", "published"

KEY = {
    "gpu": pl.String,
    "model": pl.String,
    "runtime": pl.String,
    "precision": pl.String,
    "batch_size": pl.Int64,
}

RUNS = pl.Schema(
    {
        **KEY,
        "sweep": pl.Int64,
        "repeat": pl.Int64,
        "samples": pl.Int64,
        "median_ms": pl.Float64,
        "mean_ms": pl.Float64,
        "std_ms": pl.Float64,
        "min_ms": pl.Float64,
        "max_ms": pl.Float64,
        "host_median_ms": pl.Float64,
        "throughput_img_s": pl.Float64,
        "memory_bytes": pl.Int64,
        "first_call_ms": pl.Float64,
        "weights_sha256": pl.String,
        "cell_file": pl.String,
    }
)
"""One row a run (a repeat of a sweep) of every cell that was timed. Latencies are device times."""

FAMILIES = pl.Schema(
    {
        **KEY,
        "status": pl.String,
        "reason": pl.String,
        "runs": pl.Int64,
        "samples": pl.Int64,
        "median_ms": pl.Float64,
        "median_low_ms": pl.Float64,
        "median_high_ms": pl.Float64,
        "p90_ms": pl.Float64,
        "p95_ms": pl.Float64,
        "p99_ms": pl.Float64,
        "percentile_note": pl.String,
        "variation": pl.Float64,
        "throughput_img_s": pl.Float64,
        "throughput_low_img_s": pl.Float64,
        "throughput_high_img_s": pl.Float64,
        "memory_bytes": pl.Int64,
        "speedup_fp32": pl.Float64,
        "speedup_fp32_low": pl.Float64,
        "speedup_fp32_high": pl.Float64,
    }
)
"""One row a cell family: all sweeps and repeats of a gpu, model, mode and batch size.

status: ok, out_of_memory or unsupported (then the reason, and all numbers null).
median, percentiles: device latency over the pooled samples; a percentile that the samples cannot carry is
    null, and percentile_note says why.
low, high: 95 % bootstrap interval over runs; null with fewer than three runs.
variation: standard deviation over mean of the pooled latencies.
throughput: images over wall time of runs that keep the device fed; the median over runs.
memory: most device memory of the family's cells above the baseline (NVML); on a CPU the growth of the
resident set over that before the model was loaded.
speedup_fp32: throughput over that of eager-fp32 at the same gpu, model and batch size; null without it.
"""

PUBLISHED_VALUES = pl.Schema(
    {
        "section": pl.String,
        "gpu": pl.String,
        "model": pl.String,
        "precision": pl.String,
        "runtime": pl.String,
        "batch": pl.String,
        "quantity": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "approx": pl.String,
        "quote": pl.String,
        "source": pl.String,
    }
)
"""The numbers that the published paper prints, as transcribed; source is always `published`."""

COVERAGE = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "runtime": pl.String,
        "precision": pl.String,
        "expected": pl.Int64,
        "found": pl.Int64,
        "unlisted": pl.Int64,
    }
)
"""Cells that the study asks for and cells found. `unlisted` counts files of a gpu that the study does not
name, in one row a gpu with null model and mode."""

HOSTS = pl.Schema(
    {
        "gpu": pl.String,
        "cells": pl.Int64,
        "first_measured_at": pl.String,
        "last_measured_at": pl.String,
        "device": pl.String,
        "driver": pl.String,
        "cpu": pl.String,
        "logical_cores": pl.Int64,
        "memory_gib": pl.Float64,
        "os": pl.String,
        "kernel": pl.String,
        "python": pl.String,
        "torch": pl.String,
        "torchvision": pl.String,
        "cuda_runtime": pl.String,
        "cudnn": pl.String,
        "max_sm_clock_mhz": pl.Int64,
        "power_limit_w": pl.Float64,
        "ecc": pl.Boolean,
        "intraop_threads": pl.Int64,
    }
)
"""One row a distinct stack and device that cells were measured with."""

FIDELITY = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "runtime": pl.String,
        "precision": pl.String,
        "calibration_method": pl.String,
        "calibration_images": pl.String,
        "calibration_count": pl.Int64,
        "cells": pl.Int64,
        "images": pl.Int64,
        "sqnr_db": pl.Float64,
        "cosine": pl.Float64,
        "top1_agreement": pl.Float64,
        "top1_accuracy_low": pl.Float64,
        "top1_accuracy_high": pl.Float64,
        "reference_top1_accuracy": pl.Float64,
        "identical": pl.Boolean,
        "all_finite": pl.Boolean,
    }
)
"""One row a gpu, model and mode: how its answers compare with those of FP32, over all its timed cells.

calibration: of int8, else null. `images`: procedural or folder; `count`: the most images that were used.
images: held-out images on which each cell was compared.
sqnr_db, cosine: the smallest centred figure of any cell (`deepgap.fidelity`). A cell that equals the reference has
    no decibels and does not count in sqnr_db; both are null when an answer of any cell is not finite.
top1_agreement: the smallest part of the images with the reference's first class.
top1_accuracy, reference_top1_accuracy: part of the images whose first class is the label; null without labels.
identical: every cell gave the reference's values.
"""

FRAMES: dict[str, pl.Schema] = {
    "runs": RUNS,
    "families": FAMILIES,
    "published": PUBLISHED_VALUES,
    "coverage": COVERAGE,
    "hosts": HOSTS,
    "fidelity": FIDELITY,
}
"""The files of results/summary/, by stem, and their schemas."""


@dataclass(frozen=True)
class Summary:
    """All that a table, a figure or a number of the paper is made from."""

    runs: pl.DataFrame
    families: pl.DataFrame
    published: pl.DataFrame
    coverage: pl.DataFrame
    hosts: pl.DataFrame
    fidelity: pl.DataFrame
    gpus: dict[str, Gpu]
    reporting: Mapping[str, Any]

    @cached_property
    def measured(self) -> pl.DataFrame:
        """The families that have numbers, with their `mode`, in the order of gpus.yaml, model, mode and
        batch."""
        return self._ordered(self.families.filter(pl.col("status") == "ok"))

    @cached_property
    def failed(self) -> pl.DataFrame:
        """The families that were tried and have no numbers, with their `mode`, status and reason."""
        return self._ordered(self.families.filter(pl.col("status") != "ok"))

    def order_gpus(self, keys: set[str]) -> list[str]:
        """These GPUs in the order of gpus.yaml; others (a published host) after them, by name."""
        return [key for key in self.gpus if key in keys] + sorted(keys - self.gpus.keys())

    def _ordered(self, families: pl.DataFrame) -> pl.DataFrame:
        gpus = pl.Enum(self.order_gpus(set(families["gpu"])))
        return (
            families.with_columns(mode=pl.format("{}-{}", "runtime", "precision"))
            .with_columns(_gpu=pl.col("gpu").cast(gpus), _depth=pl.col("model").str.extract(r"(\d+)").cast(pl.Int64))
            .sort("_gpu", "_depth", "model", "runtime", "precision", "batch_size")
            .drop("_gpu", "_depth")
        )


def load_summary(files: Mapping[str, Path], gpus: dict[str, Gpu], reporting: Mapping[str, Any]) -> Summary:
    """Read the summary's tables.

    Args:
        files: a parquet file for each name of `FRAMES`.
        gpus: the hardware facts.
        reporting: the operating points at which the paper compares, `reporting` of the config.

    Raises:
        DeepGapError: a file is missing or does not have its schema.
    """
    frames = {name: _read(Path(files[name]), schema) for name, schema in FRAMES.items()}
    return Summary(**frames, gpus=gpus, reporting=reporting)


def summary_files(folder: Path) -> dict[str, Path]:
    """The files of a summary folder, for `load_summary`."""
    return {name: folder / f"{name}.parquet" for name in FRAMES}


def load_job_summary(job: Any) -> Summary:
    """The summary of a script's job: its inputs are named as `FRAMES`, and `gpus` and `schema`."""
    schema = yaml.safe_load(Path(job.schema).read_text())
    gpus = load_gpus(Path(job.gpus), schema)
    return load_summary({name: Path(getattr(job, name)) for name in FRAMES}, gpus, job.reporting)


SUMMARY_INPUTS = (*FRAMES, "gpus", "schema")
"""The input names of every script that reads the summary."""


def _read(file: Path, schema: pl.Schema) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(file)
    except FileNotFoundError:
        raise DeepGapError(f"{file} is missing; 'snakemake --cores 1' builds it from the cells.") from None
    if frame.schema != schema:
        wrong = sorted(set(frame.schema.items()) ^ set(schema.items()), key=str)
        raise DeepGapError(
            f"{file} does not have its columns: {', '.join(sorted({name for name, _ in wrong}))} differ."
        )
    return frame

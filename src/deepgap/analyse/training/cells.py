"""The second study's cells as one table, a row a cell, and as families, a row for all sweeps of a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.analyse.rows import Rows
from deepgap.cells.bounds import dense_peak
from deepgap.cells.cell_file import FORWARD, GRADIENTS, LATENCY, OK, THROUGHPUT, read_cell
from deepgap.cells.footer import Footer
from deepgap.errors import CellError
from deepgap.stats import median_interval
from deepgap.study.gpus import Gpu, split_site

KEY = ("gpu", "model", "image_size", "phase", "batch_size", "framework", "runtime", "precision", "mode", "threads")
"""What a family is; its cells differ in their sweep."""

SET_UP = ("gpu", "model", "image_size", "phase", "batch_size")
"""What is compared at equal work on one device."""

_KEY_TYPES = {name: pl.Int64 if name in ("image_size", "batch_size", "threads") else pl.String for name in KEY}

TRAINING_CELLS = pl.Schema(
    {
        **_KEY_TYPES,
        "sweep": pl.Int64,
        "status": pl.String,
        "reason": pl.String,
        "step_ms": pl.Float64,
        "forward_ms": pl.Float64,
        "gradients_ms": pl.Float64,
        "samples_s": pl.Float64,
        "multiply_adds": pl.Float64,
        "parameters": pl.Int64,
        "memory_bytes": pl.Int64,
        "intraop_threads": pl.Int64,
        "logical_cores": pl.Int64,
        "card": pl.String,
        "session": pl.String,
    }
)
"""One row a cell.

gpu: with its site. step_ms: median of a whole call. forward_ms, gradients_ms: medians of the parts, null where they
were not timed. samples_s: of the queued calls. multiply_adds: of a sample in the cell's phase. memory_bytes: the most
that the telemetry saw, or on a processor the growth of the resident set.
"""

TRAINING_FAMILIES = pl.Schema(
    {
        **_KEY_TYPES,
        "status": pl.String,
        "reason": pl.String,
        "sweeps": pl.Int64,
        **{
            f"{name}{end}": pl.Float64 for name in ("step_ms", "samples_s", "tflops") for end in ("", "_low", "_high")
        },
        "forward_ms": pl.Float64,
        "gradients_ms": pl.Float64,
        "share": pl.Float64,
        "memory_bytes": pl.Int64,
        "parameters": pl.Int64,
        "multiply_adds": pl.Float64,
        "intraop_threads": pl.Int64,
        "logical_cores": pl.Int64,
    }
)
"""One row a family: medians over its sweeps, each of one process, and `stats.median_interval` of them.

status: `ok` where any sweep has numbers, else that of the first. tflops: operations achieved a second, two a
multiply-add, in 10^12; share: of the dense peak of the precision. memory_bytes: the most of all sweeps.
"""


def read_training_cells(files: Iterable[Path]) -> tuple[pl.DataFrame, list[str]]:
    """`TRAINING_CELLS` of these files, and a sentence for each that cannot be read, which has no row."""
    rows, unreadable = Rows(TRAINING_CELLS), []
    for file in sorted(files):
        try:
            spans, footer = read_cell(file)
        except CellError as error:
            unreadable.append(str(error))
            continue
        rows.add(_about_cell(file, spans, footer))
    return rows.frame().sort(*KEY, "sweep"), unreadable


def _about_cell(file: Path, spans: pl.DataFrame, footer: Footer) -> dict[str, Any]:
    recipe, observed = footer.recipe, footer.observed
    training, memory = observed.get("training", {}), observed.get("memory", {})
    device, host = footer.provenance["device"], footer.provenance["host"]
    return {
        **{name: recipe[name] for name in KEY if name != "gpu"},
        "gpu": file.parent.parent.name,
        "sweep": recipe["sweep"],
        "status": spans["status"][0],
        "reason": spans["reason"][0],
        "step_ms": _median(spans, LATENCY),
        "forward_ms": _median(spans, FORWARD),
        "gradients_ms": _median(spans, GRADIENTS),
        "samples_s": _samples_s(spans, recipe["batch_size"]),
        "multiply_adds": observed.get("facts", {}).get("multiply_adds"),
        "parameters": training.get("parameters"),
        "memory_bytes": memory.get("device_peak_bytes") or memory.get("host_peak_bytes"),
        "intraop_threads": observed.get("intraop_threads"),
        "logical_cores": host.get("logical_cores"),
        "card": device.get("uuid_sha256"),
        "session": footer.provenance.get("session", {}).get("id"),
    }


def _median(spans: pl.DataFrame, arm: str) -> float | None:
    times = spans.filter(arm=arm)["device_ms"].drop_nulls().to_numpy()
    return float(np.median(times)) if len(times) else None


def _samples_s(spans: pl.DataFrame, batch_size: int) -> float | None:
    queued = spans.filter(arm=THROUGHPUT)
    rates = (1000 * batch_size * queued["calls"] / queued["host_ms"]).drop_nulls().to_numpy()
    return float(np.median(rates)) if len(rates) else None


def training_families(cells: pl.DataFrame, gpus: Mapping[str, Gpu]) -> pl.DataFrame:
    """`TRAINING_FAMILIES` of `TRAINING_CELLS`, in the order of their keys."""
    rows = Rows(TRAINING_FAMILIES)
    for key, family in cells.group_by(*KEY, maintain_order=True):
        about = dict(zip(KEY, key, strict=True))
        rows.add(about | _about_family(family, gpus.get(split_site(str(about["gpu"]))[0]), str(about["precision"])))
    return rows.frame()


def _about_family(family: pl.DataFrame, gpu: Gpu | None, precision: str) -> dict[str, Any]:
    good = family.filter(status=OK)
    told = (family if good.is_empty() else good).row(0, named=True)
    found: dict[str, Any] = {name: told[name] for name in ("status", "reason", "parameters", "multiply_adds")}
    found |= {name: told[name] for name in ("intraop_threads", "logical_cores")}
    found |= {"sweeps": good.height, "memory_bytes": good["memory_bytes"].max()}
    found |= {name: good[name].median() for name in ("forward_ms", "gradients_ms")}
    work = good["multiply_adds"] * good["samples_s"] * 2 / 1e12
    for name, values in (("step_ms", good["step_ms"]), ("samples_s", good["samples_s"]), ("tflops", work)):
        known = values.drop_nulls().to_numpy()
        ends = median_interval(known) if len(known) else None
        found[name] = float(np.median(known)) if len(known) else None
        found[f"{name}_low"], found[f"{name}_high"] = (None, None) if ends is None else map(float, ends)
    peak = None if gpu is None else dense_peak(precision, gpu)
    found["share"] = None if peak is None or found["tflops"] is None else found["tflops"] / peak
    return found

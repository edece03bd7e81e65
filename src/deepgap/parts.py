"""What was read of one GPU's cells of one model, kept in files until the parts of all are put together.

After a change only the cells of its part are read again, and Snakemake reads as many parts at once as it has cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from deepgap.files import put_in_place, write_parquet
from deepgap.hardware import Gpu, with_sites
from deepgap.measurements import (
    CELL_FIDELITY,
    CELL_SECONDS,
    CELLS,
    FAMILY_ROWS,
    HOST_CELLS,
    RUN_STATISTICS,
    Measurements,
    read_measurements,
)
from deepgap.summary import TELEMETRY, read_frame
from deepgap.telemetry_summary import ORDER, summarise_telemetry

FRAMES = {
    "cells": CELLS,
    "runs": RUN_STATISTICS,
    "families": FAMILY_ROWS,
    "hosts": HOST_CELLS,
    "fidelity": CELL_FIDELITY,
    "seconds": CELL_SECONDS,
    "telemetry": TELEMETRY,
}
"""The schema of each file of a part, `<name>.parquet`: the frames of `Measurements`."""


def read_part(
    cells: Sequence[Path], samples: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float]
) -> Measurements:
    """Read cells and their telemetry.

    Args:
        cells: `results/<gpu>/cells/<cell-id>.<recipe>.parquet`.
        samples: see `summarise_telemetry`.
        gpus: the hardware facts, by key, without sites.
        floors: see `flags.cell_flags`.

    Raises:
        CellError: a cell is not what its name and footer say, or holds what cannot be.
        TelemetryError: samples are not of the cell in their file's name.
    """
    gpus = with_sites(gpus, (file.parent.parent.name for file in cells))
    measurements = read_measurements(cells, gpus, floors)
    return replace(measurements, telemetry=summarise_telemetry(samples, measurements.cells))


def write_part(part: Measurements, files: Mapping[str, Path]) -> None:
    """Write a part into a file for each name of `FRAMES`."""
    for name in FRAMES:
        with put_in_place(files[name]) as partial:
            write_parquet(partial, getattr(part, name))


def load_parts(folders: Iterable[Path]) -> Measurements:
    """Put the parts in these folders together.

    Raises:
        DeepGapError: a file is missing, damaged, or does not have its schema.
    """
    folders = list(folders)
    together = {
        name: pl.concat([schema.to_frame(), *(read_frame(folder / f"{name}.parquet", schema) for folder in folders)])
        for name, schema in FRAMES.items()
    }
    return Measurements(**together | {"telemetry": together["telemetry"].sort(ORDER)})

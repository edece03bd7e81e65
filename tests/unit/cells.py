"""Synthetic cells in a folder, and the tables that are made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.aggregate import aggregate
from deepgap.analyse.design import describe_study
from deepgap.analyse.schemas import CELL_TABLES
from deepgap.analyse.store import load_summary, write_tables
from deepgap.analyse.summary import Summary
from deepgap.cells.footer import Footer
from deepgap.study.study import Study
from tests.unit.synthetic import (
    GPUS,
    REPORTING,
    ROOT,
    synthetic_footer,
    synthetic_recipe,
    synthetic_rows,
    write_synthetic_cell,
)

FLOORS = {"top1_agreement": 0.95}


def write_study_cells(study: Study, gpu: str, root: Path, call_ms: float = 2.0) -> list[Path]:
    """The cells that a study asks for of a GPU, with invented times, at their places below a project's root."""
    files = []
    for cell in study.cells(gpu):
        protocol = cell.recipe["protocol"]
        calls = [call_ms * (1 + cell.sweep / 1000)] * protocol["timed_iterations"]
        runs = protocol["runs"]
        late = None if study.gpus[gpu].device == "cpu" else 0.1
        rows = synthetic_rows([calls] * runs, calls[:1] * runs, enqueue=late)
        files.append(write_synthetic_cell((root / cell.path).parent, rows, synthetic_footer(cell.recipe)))
    return files


class Cells:
    """Cells that are added one by one; what they hold is invented."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []

    def add(
        self,
        mode: str = "eager-fp16",
        batch_size: int = 8,
        sweep: int = 1,
        *,
        gpu: str = "H200",
        model: str = "resnet18",
        rows: pl.DataFrame | None = None,
        call_ms: float = 2.0,
        recipe: dict[str, Any] | None = None,
        footer: dict[str, Any] | None = None,
        host: dict[str, Any] | None = None,
        device: dict[str, Any] | None = None,
        session: str | None = None,
        **observed: Any,
    ) -> Path:
        """Write a cell.

        Args:
            rows: or calls of call_ms. recipe, footer, host, device: what is changed in them. observed: likewise.
        """
        named = synthetic_recipe(gpu, model, mode, batch_size, sweep=sweep, **(recipe or {}))
        made: Footer = replace(synthetic_footer(named, **observed), **(footer or {}))
        made.provenance["host"] |= host or {}
        made.provenance["device"] |= device or {}
        if session:
            made.provenance["session"] = {"id": session, "place": 1, "cells": 1}
        if rows is None:
            rows = synthetic_rows([[call_ms, call_ms]] * 2, [call_ms] * 2, enqueue=None if gpu == "CPU" else 0.1)
        self.files.append(write_synthetic_cell(self.folder / gpu / "cells", rows, made))
        return self.files[-1]

    def add_sweeps(self, mode: str, calls_ms: list[float], batch_size: int = 8, **more: Any) -> None:
        """A cell a sweep with calls of these times."""
        for sweep, call_ms in enumerate(calls_ms, 1):
            self.add(mode, batch_size, sweep, call_ms=call_ms, **more)

    def tables(self) -> dict[str, pl.DataFrame]:
        tables = aggregate(self.files, [], GPUS, FLOORS)
        assert {name: table.schema for name, table in tables.items()} == CELL_TABLES
        return tables

    def families(self) -> list[dict[str, Any]]:
        return self.tables()["families"].to_dicts()

    def family(self) -> dict[str, Any]:
        (row,) = self.families()
        return row

    def summary(self, folder: Path) -> Summary:
        tables = self.tables() | describe_study(
            ROOT / "data/published/deep_gap.csv", ROOT / "data/published/mlperf_resnet50.csv", [], {}, {}
        )
        files = {name: folder / f"{name}.parquet" for name in tables}
        write_tables(tables, files)
        return load_summary({name: [file] for name, file in files.items()}, GPUS, REPORTING)

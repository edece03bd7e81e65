"""The files of the tidy tables: where they are, and how they are written and read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.schemas import (
    CELL_TABLES,
    COVERAGE,
    COVERAGE_KEY,
    STUDY_TABLES,
    TELEMETRY_ORDER,
)
from deepgap.analyse.sessions import merge_sessions
from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.files import put_in_place, read_parquet, write_parquet
from deepgap.study.gpus import Gpu, with_sites


def load_summary(files: Mapping[str, Iterable[Path]], gpus: dict[str, Gpu], reporting: Mapping[str, Any]) -> Summary:
    """Read the summary's tables.

    Args:
        files: the files of each table of `CELL_TABLES` and `STUDY_TABLES`, the former in the order of their names; of
            cells that do not matter there may be none.
        gpus: the hardware facts.
        reporting: the operating points at which the paper compares, `reporting` of the config.

    Raises:
        DeepGapError: a file is missing or does not have its schema.
    """
    frames = {
        name: pl.concat([schema.to_frame(), *(read_frame(file, schema) for file in files[name])])
        for name, schema in (CELL_TABLES | STUDY_TABLES).items()
    }
    expected, found = frames.pop("expected"), frames.pop("found")
    frames |= {
        "coverage": cover(expected, found),
        "sessions": merge_sessions(frames["sessions"]),
        "telemetry": frames["telemetry"].sort(TELEMETRY_ORDER),
    }
    return Summary(**frames, gpus=with_sites(gpus, expected["gpu"]), reporting=reporting)


def cover(expected: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """`COVERAGE` from `EXPECTED` and `FOUND`."""
    joined = expected.join(found, on=list(COVERAGE_KEY), how="left", maintain_order="left")
    return joined.with_columns(pl.col("found", "failed", "refused").fill_null(0)).select(COVERAGE.names())


def cell_table_file(table: str, gpu: str, model: str) -> str:
    """The file of a table of `CELL_TABLES` with the rows of a GPU, its site included, and a model."""
    return f"results/summary/{table}/{gpu}/{model}.parquet"


def study_table_file(table: str) -> str:
    """The file of a table of `STUDY_TABLES`."""
    return f"results/summary/{table}.parquet"


def keep_tables(root: Path, groups: Iterable[tuple[str, str]]) -> None:
    """Remove the tables of cells in a project that are of other GPUs and models than these."""
    kept = {root / study_table_file(name) for name in STUDY_TABLES}
    kept |= {root / cell_table_file(name, *group) for name, group in product(CELL_TABLES, groups)}
    for file in (root / "results/summary").rglob("*.parquet"):
        if file not in kept:
            file.unlink(missing_ok=True)


def forget_future_times(files: Iterable[Path], now_s: float) -> None:
    """Give files whose times lie in the future the present one.

    Merged cells may come from a host whose clock is ahead. Snakemake ends with a clock skew when what it makes is
    older than what it makes it of, until that time has passed; what the cells hold is the same whenever they came.
    """
    for file in files:
        # A file that is not ours keeps its time, and one that is gone has none.
        with suppress(OSError):
            if file.stat().st_mtime > now_s:
                os.utime(file, (now_s, now_s))


def write_tables(tables: Mapping[str, pl.DataFrame], files: Mapping[str, Path]) -> None:
    """Write each table into the file of its name; an interrupted write leaves none."""
    for name, table in tables.items():
        with put_in_place(files[name]) as partial:
            write_parquet(partial, table)


def read_frame(file: Path, schema: pl.Schema) -> pl.DataFrame:
    """A table of this schema.

    Raises:
        DeepGapError: the file is missing, damaged or of another schema.
    """
    try:
        frame, _ = read_parquet(file)
    except FileNotFoundError:
        raise DeepGapError(f"{file} is missing; 'snakemake --cores 1' builds it from the cells.") from None
    except ValueError as error:
        raise DeepGapError(f"{file} is damaged ({error}); delete it and run 'snakemake --cores 1' again.") from None
    if frame.schema != schema:
        wrong = sorted(set(frame.schema.items()) ^ set(schema.items()), key=str)
        raise DeepGapError(
            f"{file} does not have its columns: {', '.join(sorted({name for name, _ in wrong}))} differ."
        )
    return frame

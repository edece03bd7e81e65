"""The values of families sweep by sweep, and ratios of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.schemas import ABOUT_MODE, KEY
from deepgap.stats import Floats, Ratio, median_rank, paired_ratio, unpaired_ratio

BLOCK = ["sweep", "session", "host", "card"]
"""What a pair shares."""

THROUGHPUT, LATENCY, PER_JOULE = "throughput_img_s", "median_ms", "images_per_joule"


@dataclass(frozen=True)
class Sweeps:
    """One quantity of one family. values: one a sweep, with the block and the cell (its file's name without the
    ending) of each."""

    values: Floats
    blocks: tuple[tuple[Any, ...], ...]
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """The ratio of two families, and the cells of both that it is made of."""

    ratio: Ratio
    numerator_cells: tuple[str, ...]
    denominator_cells: tuple[str, ...]


def sweep_values(runs: pl.DataFrame, families: pl.DataFrame) -> pl.DataFrame:
    """One row a sweep that a timed family's figures are of: medians over the runs of its cell.

    Args:
        runs: in `schemas.RUNS`.
        families: with the columns of `KEY`, host and launch_bound of `schemas.FAMILIES`; other families are left out.

    Returns:
        `KEY`, what the mode is, `BLOCK`, cell_file, launch_bound (of the family), and the quantities.
    """
    cell = [*KEY, *ABOUT_MODE, *BLOCK, "cell_file"]
    about = families.select(*KEY, "launch_bound", pl.col("host").alias("only_host"))
    return (
        runs.group_by(cell, maintain_order=True)
        .agg(pl.col(THROUGHPUT, LATENCY).median(), (1 / pl.col("energy_j_per_image")).first().alias(PER_JOULE))
        .join(about, on=list(KEY), maintain_order="left")
        .filter(~pl.col("launch_bound") | pl.col("host").eq_missing(pl.col("only_host")))
        .drop("only_host")
        .sort(*KEY, "sweep")
    )


def split_families(values: pl.DataFrame, quantity: str = THROUGHPUT) -> Iterator[tuple[dict[str, Any], Sweeps]]:
    """The families in rows of `sweep_values` that have the quantity: what they are, and their sweeps."""
    known = values.drop_nulls(quantity)
    for frame in known.partition_by(list(KEY), maintain_order=True):
        about = frame.select(*KEY, *ABOUT_MODE, "launch_bound").row(0, named=True)
        yield (
            about,
            Sweeps(
                values=frame[quantity].to_numpy(),
                blocks=tuple(frame.select(BLOCK).iter_rows()),
                cells=tuple(Path(file).stem for file in frame["cell_file"]),
            ),
        )


def compare(numerator: Sweeps, denominator: Sweeps) -> Compared:
    """The ratio of two families of one gpu.

    Paired wherever the pairs are all that there can be or suffice for an interval; else of the two medians.
    """
    shared = [block for block in numerator.blocks if block in set(denominator.blocks)]
    possible = min(len(numerator.blocks), len(denominator.blocks))
    if len(shared) < possible and not median_rank(len(shared)):
        ratio = unpaired_ratio(numerator.values, denominator.values)
        return Compared(ratio, numerator.cells, denominator.cells)
    tops, bottoms = ([operand.blocks.index(block) for block in shared] for operand in (numerator, denominator))
    return Compared(
        paired_ratio(numerator.values[tops], denominator.values[bottoms]),
        tuple(numerator.cells[place] for place in tops),
        tuple(denominator.cells[place] for place in bottoms),
    )

"""How the answers of a mode compare with those of FP32, over its cells."""

from __future__ import annotations

from typing import Any

import polars as pl

from deepgap.analyse.schemas import ABOUT_MODE, FIDELITY
from deepgap.cells.footer import Footer
from deepgap.stats import wilson

FIDELITY_KEY = ["gpu", "model", "mode", *ABOUT_MODE, *(f"calibration_{name}" for name in ("method", "images"))]
CELL_FIDELITY = pl.Schema(
    {
        **dict.fromkeys(FIDELITY_KEY, pl.String),
        "calibration_count": pl.Int64,
        "images": pl.Int64,
        "all_finite": pl.Boolean,
        "centred_cosine": pl.Float64,
        "centred_sqnr_db": pl.Float64,
        "top1_agreeing": pl.Int64,
        "top1_right": pl.Int64,
        "top5_right": pl.Int64,
        "reference_top1_accuracy": pl.Float64,
        "reference_top5_accuracy": pl.Float64,
    }
)
"""One row a cell whose answers were compared."""

COMPARED = CELL_FIDELITY.names()[CELL_FIDELITY.names().index("images") :]

SHARES = {"top1_agreement": "top1_agreeing", "top1_accuracy": "top1_right", "top5_accuracy": "top5_right"}
"""Each share of the images in `schemas.FIDELITY`, and its count."""


def fidelity_row(footer: Footer) -> dict[str, Any] | None:
    """A row of `CELL_FIDELITY`; null for a cell whose answers were not compared."""
    found = footer.observed.get("fidelity", {})
    if found.get("images") is None:
        return None
    recipe, calibration = footer.recipe, footer.recipe.get("calibration", {})
    return {
        **{name: recipe[name] for name in ("gpu", "model", "mode", *ABOUT_MODE)},
        **{f"calibration_{name}": calibration.get(name) for name in ("method", "images", "count")},
        **{name: found.get(name) for name in COMPARED},
    }


def summarise_fidelity(cells: pl.DataFrame) -> pl.DataFrame:
    """One row a gpu, model and mode of the cells that were compared with FP32; see `schemas.FIDELITY`.

    Small batches are checked on fewer images than others. A share of one set of images cannot be held against one of
    another, so a row rests on the cells with the most.

    Args:
        cells: in `CELL_FIDELITY`.
    """
    rows = []
    for key, here in cells.group_by(FIDELITY_KEY, maintain_order=True):
        chosen = here.filter(pl.col("images") == pl.col("images").max())
        images, finite = chosen["images"][0], bool(here["all_finite"].all())
        same = (chosen["centred_cosine"] == 1).fill_null(False) & chosen["centred_sqnr_db"].is_null()
        rows.append(
            dict(zip(FIDELITY_KEY, key, strict=True))
            | {"calibration_count": here["calibration_count"].max()}
            | {"compared_cells": here.height, "cells": chosen.height, "images": images}
            | {"sqnr_db": chosen["centred_sqnr_db"].min() if finite else None}
            | {"cosine": chosen["centred_cosine"].min() if finite else None}
            | _shares(chosen, images)
            | {f"reference_{name}": chosen[f"reference_{name}"].min() for name in ("top1_accuracy", "top5_accuracy")}
            | {"identical": bool(same.all()), "all_finite": finite}
        )
    return pl.DataFrame(rows, schema=FIDELITY).sort(FIDELITY_KEY)


def _shares(cells: pl.DataFrame, images: int) -> dict[str, float | None]:
    """The lowest share of any of these cells, each with Wilson's interval from that cell's count."""
    columns: dict[str, float | None] = {}
    for share, count in SHARES.items():
        lowest: Any = cells[count].min()
        low, high = (None, None) if lowest is None else wilson(lowest, images)
        columns |= {share: None if lowest is None else lowest / images, f"{share}_low": low, f"{share}_high": high}
    return columns

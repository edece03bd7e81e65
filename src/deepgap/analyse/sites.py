"""How far two sites of one kind of GPU are apart, family by family."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl

from deepgap.stats import unpaired_ratio

QUANTITIES = ("latency_ms", "images_per_s")
PLACE = ["kind", "model", "mode", "batch_size", "threads"]

SITES = pl.Schema(
    {
        "gpu": pl.String,
        "other": pl.String,
        "mode": pl.String,
        "quantity": pl.String,
        "family": pl.String,
        "ratio": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
)
"""One row a pair of sites, family and quantity: the ratio of the medians over sweeps, other over gpu (the one without
a site, or first by name), with its interval; null below six sweeps at either."""


def compare_families(cells: pl.DataFrame) -> pl.DataFrame:
    """`SITES` of cells in `check.CHECKED`."""
    rows = []
    timed = cells.filter("timed").sort(*PLACE, "gpu")
    for here in timed.partition_by(PLACE, maintain_order=True):
        sites = {str(gpu): frame for (gpu,), frame in here.partition_by("gpu", as_dict=True).items()}
        for gpu, other in combinations(sorted(sites), 2):
            for name in QUANTITIES:
                ratio = unpaired_ratio(sites[other][name].to_numpy(), sites[gpu][name].to_numpy())
                family = f"{here['model'][0]} at batch {here['batch_size'][0]}"
                rows.append(
                    {"gpu": gpu, "other": other, "mode": here["mode"][0], "quantity": name, "family": family}
                    | {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high}
                )
    return pl.DataFrame(rows, schema=SITES)


def describe_sites(families: pl.DataFrame) -> list[str]:
    """A sentence a pair of sites, quantity and mode: the modes that wait for the host differ more between hosts than
    those that wait for the device."""
    lines = []
    for (gpu, other, quantity, mode), here in families.group_by(
        "gpu", "other", "quantity", "mode", maintain_order=True
    ):
        ratios = here["ratio"].to_numpy()
        farthest = int(np.argmax(np.abs(np.log(ratios))))
        told = here.drop_nulls("low")
        apart = told.filter((pl.col("low") > 1) | (pl.col("high") < 1)).height
        intervals = f"{apart} of {told.height} intervals exclude 1" if told.height else "too few sweeps for intervals"
        lines.append(
            f"{other} over {gpu}, {quantity}, {here.height} families of {mode}: median {np.median(ratios):.3f}, "
            f"farthest {ratios[farthest]:.3f} ({here['family'][farthest]}), {intervals}"
        )
    return lines

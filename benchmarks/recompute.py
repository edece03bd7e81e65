"""Compute the figures of results/summary/ once more from the cells, by other code, and hold both against each other.

    python benchmarks/recompute.py [RESULTS]

Reads cells with polars alone and imports nothing of deepgap: medians over sweeps, intervals by order statistics,
paired ratios of modes, energy, and the ratio of p99 to median in a process. Ends with an error where a figure differs
by more than 1e-9 of it, or where throughput / power is not images a joule within 1e-6.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import combinations
from math import comb, exp, log
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

KEY = ["gpu", "model", "mode", "batch_size", "threads"]
PLACE = ["gpu", "model", "batch_size", "threads"]
TOLERANCE, ENERGY_TOLERANCE = 1e-9, 1e-6
LAUNCH_BOUND = 0.8
ENOUGH_CALLS = 100


def read(file: Path) -> tuple[pl.DataFrame, dict[str, Any]] | None:
    """The rows and the footer of a cell; None of one that has no times."""
    footer = json.loads(pl.read_parquet_metadata(file)["deepgap"])
    rows = pl.read_parquet(file)
    return (rows, footer) if rows["status"][0] == "ok" else None


def describe(file: Path, rows: pl.DataFrame, footer: dict[str, Any]) -> dict[str, Any]:
    """One row a cell, which is one process and one sweep."""
    recipe, observed, provenance = footer["recipe"], footer["observed"], footer["provenance"]
    calls = rows.filter(arm="latency")
    runs = calls.group_by("run").agg(pl.col("device_ms").median())["device_ms"].to_list()
    rate = 1000 * recipe["batch_size"] * pl.col("calls") / pl.col("host_ms")
    rates = rows.filter(arm="throughput").select(rate.alias("rate"))["rate"].to_list()
    energy = observed.get("energy", {})
    times, queued = calls["device_ms"].to_list(), calls["enqueue_ms"].drop_nulls().to_list()
    p99 = pl.Series(times).quantile(0.99, "linear")
    return {name: recipe[name] for name in KEY if name != "gpu"} | {
        "gpu": file.parent.parent.name,
        "sweep": recipe["sweep"],
        "host": provenance["host"].get("host_sha256"),
        "block": json.dumps(
            [
                recipe["sweep"],
                provenance.get("session", {}).get("id"),
                provenance["host"].get("host_sha256"),
                provenance["device"].get("uuid_sha256"),
            ]
        ),
        "measured_at": provenance["measured_at"],
        "median_ms": median(runs),
        "throughput": median(rates),
        "joules_per_image": energy.get("joules_per_image"),
        "power": energy["joules"] / energy["window_s"] if "joules" in energy else None,
        "runs": len(runs),
        "tail": p99 / median(times) if p99 and len(times) >= ENOUGH_CALLS else None,
        "bound": bool(queued) and median(queued) > LAUNCH_BOUND * median(times),
    }


def interval(values: list[float]) -> tuple[float | None, float | None]:
    """Between the k-th smallest and the k-th largest, with the largest k that covers 95 % of medians."""
    n, best = len(values), 0
    for k in range(1, n // 2 + 1):
        if 2 * sum(comb(n, i) for i in range(k)) / 2**n <= 0.05:
            best = k
    ordered = sorted(values)
    return (ordered[best - 1], ordered[n - best]) if best else (None, None)


def used(cells: pl.DataFrame) -> pl.DataFrame:
    """Of a launch-bound family the sweeps of one host: the one with most, then the one that was measured first."""
    if not cells["bound"].any():
        return cells.sort("sweep")
    hosts = cells.group_by("host").agg(pl.len().alias("count"), pl.col("measured_at").min())
    host = hosts.sort("count", "measured_at", descending=[True, False])["host"][0]
    return cells.filter(pl.col("host").eq_missing(host)).sort("sweep")


def families(cells: pl.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, float | None], pl.DataFrame]]:
    """Each family's key, its figures by their names in results/summary/families, and its sweeps."""
    for here in cells.partition_by(KEY):
        kept = used(here)
        latency, rate = kept["median_ms"].to_list(), kept["throughput"].to_list()
        joules, tails = kept["joules_per_image"].drop_nulls().to_list(), kept["tail"].drop_nulls().to_list()
        figures: dict[str, float | None] = {"median_ms": median(latency), "throughput_img_s": median(rate)}
        figures["median_low_ms"], figures["median_high_ms"] = interval(latency)
        figures["throughput_low_img_s"], figures["throughput_high_img_s"] = interval(rate)
        figures["energy_j_per_image"] = median(joules) if joules else None
        figures["energy_low_j_per_image"], figures["energy_high_j_per_image"] = interval(joules)
        figures["tail_least"], figures["tail_most"] = min(tails, default=None), max(tails, default=None)
        yield {name: kept[name][0] for name in KEY}, figures, kept


def ratio(top: pl.DataFrame, bottom: pl.DataFrame) -> tuple[float, float | None, float | None]:
    """The median ratio of pairs of one block, or of the medians where pairs are too few, with its interval."""
    pairs = top.join(bottom, on="block", nulls_equal=True, suffix="_other")
    if pairs.height < min(top.height, bottom.height) and pairs.height < 6:
        tops, bottoms = top["throughput"].to_list(), bottom["throughput"].to_list()
        (low, high), (low_other, high_other) = interval(tops), interval(bottoms)
        middle = median(tops) / median(bottoms)
        if low is None or high is None or low_other is None or high_other is None:
            return middle, None, None
        return middle, low / high_other, high / low_other
    ratios = (pairs["throughput"] / pairs["throughput_other"]).to_list()
    return exp(median(log(value) for value in ratios)), *interval(ratios)


def differs(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is not other
    return abs(one - other) > tolerance * abs(other)


def main(results: Path) -> None:
    tables = {
        name: pl.concat([pl.read_parquet(file) for file in sorted((results / "summary" / name).glob("*/*.parquet"))])
        for name in ("families", "ratios", "runs")
    }
    # Files of settings that the study does not name are in no table.
    listed = {tuple(Path(file).parts[-3::2]) for file in tables["runs"]["cell_file"]}
    files = [file for file in sorted(results.glob("*/cells/*.parquet")) if file.parts[-3::2] in listed]
    read_cells = [(file, read(file)) for file in files]
    cells = pl.DataFrame([describe(file, *cell) for file, cell in read_cells if cell], infer_schema_length=None)
    counts, wrong = {"families": 0, "ratios": 0, "energy": 0}, []
    sweeps: dict[tuple[Any, ...], dict[str, pl.DataFrame]] = {}
    for key, figures, kept in families(cells):
        (row,) = tables["families"].filter(**key).to_dicts()
        counts["families"] += 1
        sweeps.setdefault(tuple(key[name] for name in PLACE), {})[key["mode"]] = kept
        wrong += [f"{key}: {name}" for name, value in figures.items() if differs(value, row[name], TOLERANCE)]
        if row["power_w"] is not None:
            counts["energy"] += 1
            if differs(row["throughput_img_s"] / row["power_w"], row["images_per_joule"], ENERGY_TOLERANCE):
                wrong.append(f"{key}: throughput / power")
        # A cell of one run has the throughput of the span that its energy is of.
        for cell in kept.drop_nulls("power").filter(runs=1).iter_rows(named=True):
            if differs(cell["throughput"] / cell["power"], 1 / cell["joules_per_image"], ENERGY_TOLERANCE):
                wrong.append(f"{key}, sweep {cell['sweep']}: throughput / power")
    for place, modes in sweeps.items():
        here = tables["ratios"].filter(**dict(zip(PLACE, place, strict=True)))
        for row in here.iter_rows(named=True):
            counts["ratios"] += 1
            found = ratio(modes[row["numerator"]], modes[row["denominator"]])
            stated = [row[name] for name in ("ratio", "low", "high")]
            if any(differs(one, other, TOLERANCE) for one, other in zip(found, stated, strict=True)):
                wrong.append(f"{place}: {row['numerator']} over {row['denominator']}")
        if here.height != len(list(combinations(modes, 2))):
            wrong.append(f"{place}: ratios are missing")
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{told} computed once more from {cells.height} cells")
    if wrong:
        sys.exit("\n".join(["They differ in:", *wrong]))
    print(f"All agree within {TOLERANCE:g}, and throughput / power with images a joule within {ENERGY_TOLERANCE:g}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))

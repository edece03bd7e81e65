"""The samples of all cells, second by second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.flags import NO_THROTTLING
from deepgap.analyse.reading import CELLS, gpu_of
from deepgap.analyse.schemas import KEY, STRINGS, TELEMETRY, TELEMETRY_ORDER
from deepgap.cells.telemetry_file import CLOCK_EVENT_REASONS, INTERVAL_S, read_telemetry
from deepgap.errors import TelemetryError
from deepgap.study.cell import recipe_digest

LABELS = [*(name for name in KEY if name != "threads"), "sweep", "session", "card"]
"""What a row says of its cell."""


def summarise_telemetry(files: Iterable[Path], cells: pl.DataFrame) -> pl.DataFrame:
    """One row a second of each measured cell that has samples; see `schemas.TELEMETRY`.

    Args:
        files: `<cell-id>.<recipe>.parquet` of `deepgap.cells.telemetry_file`; those of other cells are left out.
        cells: in `reading.CELLS`.

    Raises:
        TelemetryError: a file is damaged, or belongs to another cell than the one in its name.
    """
    measured = {(row["gpu"], Path(row["cell_file"]).name): row for row in cells.iter_rows(named=True)}
    frames, seconds = [], []
    for file in files:
        samples, recipe, started = read_samples(file)
        cell = measured.get((gpu_of(file, recipe), file.name))
        if cell is not None:
            frames.append(_label_samples(samples, cell, started))
        if len(frames) == 500:
            seconds.append(_by_second(frames))
            frames = []
    seconds.append(_by_second(frames))
    return pl.concat(seconds).sort(TELEMETRY_ORDER)


def read_samples(file: Path) -> tuple[pl.DataFrame, dict[str, Any], float]:
    """The samples of a cell, its recipe, and the Unix time of the cell's start.

    Raises:
        TelemetryError: the file is damaged, or belongs to another cell than the one in its name.
    """
    samples, about = read_telemetry(file)
    recipe, started = about.get("recipe"), about.get("clock_zero_unix_s")
    if (
        not isinstance(recipe, dict)
        or "gpu" not in recipe
        or recipe_digest(recipe) != file.stem.rpartition(".")[-1]
        or not isinstance(started, float)
    ):
        raise TelemetryError(f"{file} does not hold the samples of the cell in its name; remove it.")
    if not samples["time_ms"].is_finite().all() or samples["time_ms"].null_count():
        raise TelemetryError(f"{file} has a sample without a time; remove it.")
    return samples, recipe, started


def _by_second(cells: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of `schemas.TELEMETRY` of some cells' labelled samples."""
    if not cells:
        return TELEMETRY.to_frame()
    key = [*LABELS, "started_unix_s", "power_semantics", "timed"]
    first, last = pl.col("time_ms").min(), pl.col("time_ms").max()
    seconds = (
        pl.concat(cells)
        .group_by(*key, pl.col("time_ms") // 1000)
        .agg(
            pl.len().cast(pl.Int64).alias("samples"),
            (first / 1000).alias("time_s"),
            (last / 1000).alias("last_s"),
            pl.col("interval_s").first(),
            *(pl.col(name).median() for name in ("temperature_c", "power_w", "utilisation_percent", "sm_clock_mhz")),
            pl.col("sm_clock_mhz").min().alias("sm_clock_min_mhz"),
            pl.col("sm_clock_mhz").max().alias("sm_clock_max_mhz"),
            pl.col("clock_event_reasons").bitwise_or(),
            pl.col("max_sm_clock_mhz").first(),
        )
    )
    masks = seconds["clock_event_reasons"].to_list()
    return (
        seconds.with_columns(
            (pl.col("sm_clock_mhz") / pl.col("max_sm_clock_mhz")).alias("sm_clock_share"),
            (pl.col("last_s") - pl.col("time_s") + pl.col("interval_s")).alias("duration_s"),
            pl.Series("throttle_reasons", [throttle_reasons(mask) for mask in masks], dtype=STRINGS),
        )
        .select(TELEMETRY.names())
        .cast(TELEMETRY)
    )


def _label_samples(samples: pl.DataFrame, cell: Mapping[str, Any], started: float) -> pl.DataFrame:
    """The samples of one cell with its key, and which are of its timed part."""
    # As in `telemetry.summarise_samples`: the power of the moment where the device tells it.
    instant = samples["power_instant_w"].null_count() == 0
    power, semantics = (
        ("power_instant_w", "NVML_FI_DEV_POWER_INSTANT") if instant else ("power_w", "nvmlDeviceGetPowerUsage")
    )
    timed = pl.col("time_ms").is_between(cell["timed_start_ms"], cell["timed_end_ms"])
    return samples.select(
        *(pl.lit(cell[name], CELLS[name]).alias(name) for name in (*LABELS, "max_sm_clock_mhz")),
        pl.lit(started, pl.Float64).alias("started_unix_s"),
        pl.lit(semantics).alias("power_semantics"),
        (pl.lit(False) if cell["timed_start_ms"] is None else timed).alias("timed"),
        (pl.col("time_ms").diff().median() / 1000).fill_null(INTERVAL_S).alias("interval_s"),
        "time_ms",
        pl.col(power).alias("power_w"),
        *("temperature_c", "utilisation_percent", "sm_clock_mhz", "clock_event_reasons"),
    )


def throttle_reasons(mask: int | None) -> list[str]:
    """The names in NVML's bit mask of clock event reasons that hold the clocks down, sorted."""
    held = {name for name, bit in CLOCK_EVENT_REASONS.items() if (mask or 0) & bit} - NO_THROTTLING
    return sorted(held)

"""The contract of a cell file: what is in it, how it is written, and how it is checked when read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.errors import CellError
from deepgap.files import put_in_place, read_parquet, write_parquet
from deepgap.study.cell import recipe_digest

FORMAT = 2
FOOTER_KEY = "deepgap"
OK, OUT_OF_MEMORY, UNSUPPORTED = "ok", "out_of_memory", "unsupported"
LATENCY, THROUGHPUT, COLD, ENERGY = "latency", "throughput", "cold", "energy"

SCHEMA = pl.Schema(
    {
        "status": pl.String,
        "reason": pl.String,
        "arm": pl.String,
        "repeat": pl.Int32,
        "iteration": pl.Int32,
        "calls": pl.Int32,
        "start_ms": pl.Float64,
        "device_ms": pl.Float64,
        "host_ms": pl.Float64,
        "enqueue_ms": pl.Float64,
    }
)
"""A row is one timed span of `calls` back-to-back calls.

status, reason: `ok`, or why nothing was timed (then the only row, all else null).
arm: `latency` (one call, then synchronise), `throughput` (calls queued ahead, synchronised at the end), `cold`
(a latency call after the L2 cache was overwritten) or `energy` (a throughput run long enough for the energy counter).
repeat, iteration: from 1; a throughput row is a whole repeat and has iteration 1; the energy row has repeat 1.
start_ms: host clock at the span's start since the cell's start; telemetry has the same clock.
device_ms: CUDA events around the span; on a CPU the same as host_ms.
host_ms: host clock from before the first call until the device is done.
enqueue_ms: host clock until the last call has returned; null on a CPU, where calls do not return early.
"""


@dataclass(frozen=True)
class Footer:
    """What is known of all rows of a cell."""

    recipe: dict[str, Any]
    weights_sha256: str
    provenance: dict[str, Any]
    """The software and the device: versions, driver, names, limits."""
    observed: dict[str, Any]
    """What was seen while measuring: see `deepgap.measure.measure.OBSERVED`."""


def write_cell(path: Path, rows: pl.DataFrame, footer: Footer) -> None:
    """Check a cell and put it in place in one step, so that no partial file is ever seen.

    Raises:
        CellError: the rows break the contract; nothing is written.
        DiskError: there is no room for the file.
    """
    _check_rows(path, rows, footer.recipe)
    text = json.dumps(
        {"format": FORMAT, **asdict(footer), "rows_sha256": hash_rows(rows)}, sort_keys=True, allow_nan=False
    )
    with put_in_place(path) as partial:
        write_parquet(partial, rows, {FOOTER_KEY: text})
        read_cell(partial, expected_digest=recipe_digest(footer.recipe))


def read_cell(path: Path, expected_digest: str | None = None) -> tuple[pl.DataFrame, Footer]:
    """Read a cell and check everything that can be checked.

    Args:
        path: `<cell-id>.<recipe>.parquet`.
        expected_digest: the recipe's digest; from the file's name when absent.

    Returns:
        The rows in `SCHEMA`, and the footer.

    Raises:
        CellError: the file is truncated, foreign or edited; the sentence names it and what to do.
    """
    mend = "restore it, or delete it and run 'snakemake --cores 1 --config gpu=...' to measure it again"
    try:
        rows, metadata = read_parquet(path)
    except FileNotFoundError:
        raise CellError(f"{path} does not exist; {mend.removeprefix('restore it, or delete it and ')}.") from None
    except ValueError as error:
        raise CellError(f"{path} is damaged or not a cell ({error}); {mend}.") from None
    try:
        content = json.loads(metadata[FOOTER_KEY])
        file_format = content.pop("format")
        rows_hash = content.pop("rows_sha256")
        footer = Footer(**content)
        digest = recipe_digest(footer.recipe)
        _row_counts(footer.recipe)
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError):
        raise CellError(f"{path} was not written by deepgap (its footer is missing or foreign); remove it.") from None
    if file_format != FORMAT:
        raise CellError(f"{path} has the cell format {file_format}, this version reads {FORMAT}; {mend}.")
    if digest != (expected_digest or path.stem.rpartition(".")[-1]):
        raise CellError(f"{path} holds the recipe {digest}, not the one in its name; {mend}.")
    _check_rows(path, rows, footer.recipe)
    if hash_rows(rows) != rows_hash:
        raise CellError(f"{path} was edited: its rows are not those that were written; {mend}.")
    return rows, footer


def failure_row(status: str, reason: str) -> pl.DataFrame:
    """The one row of a cell that could not be timed for an expected reason."""
    return pl.DataFrame([{"status": status, "reason": reason}], schema=SCHEMA)


def _check_rows(path: Path, rows: pl.DataFrame, recipe: Mapping[str, Any]) -> None:
    def refuse(problem: str) -> None:
        raise CellError(f"{path.name}: {problem}; the cell is refused: delete it and measure it again.")

    if rows.schema != SCHEMA:
        wrong = sorted({name for name, _ in set(rows.schema.items()) ^ set(SCHEMA.items())}) or list(SCHEMA)
        refuse(f"the columns are not those of a cell; {', '.join(wrong)} differ")
    statuses = set(rows["status"])
    if statuses in ({OUT_OF_MEMORY}, {UNSUPPORTED}):
        if rows.height != 1 or not rows["reason"][0]:
            refuse("a failed cell has one row with a reason")
        return
    if statuses != {OK}:
        refuse(f"the statuses are {sorted(map(str, statuses))}")
    fewest, most = _row_counts(recipe)
    arms, repeats, iterations = (rows[name].to_list() for name in ("arm", "repeat", "iteration"))
    counts = Counter(zip(arms, repeats, strict=True))
    for arm in dict.fromkeys(arm for arm, _ in counts):
        if arm not in most:
            refuse(f"rows of an unknown arm, {arm}")
    for arm in most:
        per_repeat = [count for (of, _), count in counts.items() if of == arm]
        expected = 1 if arm == ENERGY else recipe["protocol"]["repeats"]
        if most[arm] and len(per_repeat) != expected:
            refuse(f"{len(per_repeat)} repeats of the arm {arm} where the protocol asks for {expected}")
        if any(not fewest[arm] <= count <= most[arm] for count in per_repeat):
            refuse(
                f"{', '.join(map(str, per_repeat))} {arm} rows in its repeats where the protocol asks for "
                f"{fewest[arm]} to {most[arm]}"
            )
    if len(set(zip(arms, repeats, iterations, strict=True))) < rows.height:
        refuse("a repeat and iteration stands twice")
    # Arrays and no series: a null is not finite there, and many small columns are checked in half the time.
    starts, *times, calls = (rows[name].to_numpy() for name in ("start_ms", "device_ms", "host_ms", "calls"))
    if not (np.isfinite(starts) & (starts >= 0)).all():
        refuse("a start is missing, not finite or negative")
    if not all((np.isfinite(column) & (column > 0)).all() for column in times):
        refuse("a time is missing, not finite or not positive")
    if not (calls >= 1).all():
        refuse("a span has no calls")


def _row_counts(recipe: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """The fewest and the most rows of each arm in a repeat."""
    protocol = recipe["protocol"]
    most = {
        LATENCY: protocol["timed_iterations"],
        THROUGHPUT: 1,
        COLD: protocol["cold_iterations"],
        ENERGY: 1 if recipe["energy_s"] else 0,
    }
    stop = protocol["stop"]
    return most | ({LATENCY: stop["minimum_iterations"]} if stop else {}), most


def hash_rows(rows: pl.DataFrame) -> str:
    """SHA-256 of the rows' values, whatever the parquet encoding."""
    digest = hashlib.sha256()
    for row in rows.rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()

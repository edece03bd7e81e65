"""The contract of a cell file: what is in it, how it is written, and how it is checked when read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.cells.footer import Footer, check_footer
from deepgap.errors import CellError
from deepgap.files import put_in_place, read_parquet, write_parquet
from deepgap.study.cell import recipe_digest

FORMAT = 3
FOOTER_KEY = "deepgap"

OK, OUT_OF_MEMORY, UNSUPPORTED, REFUSED = "ok", "out_of_memory", "unsupported", "refused"
FAILURES = (OUT_OF_MEMORY, UNSUPPORTED, REFUSED)

LATENCY, ENQUEUE, THROUGHPUT, BURST = "latency", "enqueue", "throughput", "burst"
COLD, END_TO_END = "cold", "end_to_end"
ARMS = (LATENCY, ENQUEUE, THROUGHPUT, BURST, COLD, END_TO_END)
"""In the order in which a run measures them; all but latency and throughput are there where the protocol asks."""
FORWARD, GRADIENTS = "forward", "gradients"
PARTS = (FORWARD, GRADIENTS)
"""The arms of the parts of a training step, behind all others."""
ROW_A_CALL = frozenset({LATENCY, COLD, END_TO_END, *PARTS})
"""The arms that have a row a call; the others have one a run."""

SCHEMA = pl.Schema(
    {
        "status": pl.String,
        "reason": pl.String,
        "arm": pl.String,
        "run": pl.Int32,
        "iteration": pl.Int32,
        "calls": pl.Int32,
        "start_ms": pl.Float64,
        "device_ms": pl.Float64,
        "host_ms": pl.Float64,
        "enqueue_ms": pl.Float64,
    }
)
"""A row is one timed span of `calls` back-to-back calls.

status, reason: `ok`, or why there are no times (then the only row, all else null): `out_of_memory`, `unsupported`, or
    `refused` for answers that are not finite and times that cannot be (`deepgap.cells.bounds`).
arm: `latency` (one call, then synchronise), `enqueue` (a few calls queued on an idle device; enqueue_ms is what
    counts), `throughput` (calls queued for the seconds of the protocol, synchronised at the end), `burst` (calls
    queued for about 100 ms), `cold` (a latency call after the L2 cache was overwritten), `end_to_end` (a latency call
    with the copy of a batch from the host before it and of the logits to the host behind it); of a training step
    alone `forward` (up to its loss) and `gradients` (forward and backward), a call and a wait each.
run, iteration: from 1. A run is one warm-up with all arms behind it.
start_ms: host clock at the span's start since the cell's start; telemetry has the same clock.
device_ms: CUDA events around the span; on a CPU the same as host_ms.
host_ms: host clock from before the first call until the device is done.
enqueue_ms: host clock until the last call has returned; null on a CPU, where calls do not return early. In the arms
    throughput and burst it holds waits for room in a queue of bounded depth.
"""


def write_cell(path: Path, rows: pl.DataFrame, footer: Footer) -> None:
    """Check a cell and put it in place in one step, so that no partial file is ever seen.

    Raises:
        CellError: the rows or the footer break the contract; nothing is written.
        DiskError: there is no room for the file.
    """
    check_footer(footer, path.name)
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
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError):
        raise CellError(f"{path} was not written by deepgap (its footer is missing or foreign); remove it.") from None
    if file_format != FORMAT:
        raise CellError(f"{path} has the cell format {file_format}, this version reads {FORMAT}; {mend}.")
    check_footer(content, str(path))
    try:
        rows_hash = content.pop("rows_sha256")
        footer = Footer(**content)
    except (KeyError, TypeError):
        raise CellError(f"{path} was not written by deepgap (its footer is foreign); remove it.") from None
    if recipe_digest(footer.recipe) != (expected_digest or path.stem.rpartition(".")[-1]):
        raise CellError(f"{path} holds the recipe {recipe_digest(footer.recipe)}, not the one in its name; {mend}.")
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
    if len(statuses) == 1 and statuses <= set(FAILURES):
        if rows.height != 1 or not rows["reason"][0]:
            refuse("a failed cell has one row with a reason")
        return
    if statuses != {OK}:
        refuse(f"the statuses are {sorted(map(str, statuses))}")
    expected, runs = _row_counts(recipe), recipe["protocol"]["runs"]
    arms, run_numbers, iterations = (rows[name].to_list() for name in ("arm", "run", "iteration"))
    counts = Counter(zip(arms, run_numbers, strict=True))
    for arm in dict.fromkeys(arm for arm, _ in counts):
        if arm not in expected:
            refuse(f"rows of the arm {arm}, which the protocol does not ask for")
    for arm, (fewest, most) in expected.items():
        of_runs = [count for (of, _), count in counts.items() if of == arm]
        if len(of_runs) != runs:
            refuse(f"{len(of_runs)} runs of the arm {arm} where the protocol asks for {runs}")
        if any(not fewest <= count <= most for count in of_runs):
            refuse(
                f"{', '.join(map(str, of_runs))} {arm} rows in its runs where the protocol asks for {fewest} to "
                f"{most}"
            )
    if len(set(zip(arms, run_numbers, iterations, strict=True))) < rows.height:
        refuse("a run and iteration stands twice")
    # Arrays and no series: a null is not finite there, and many small columns are checked in half the time.
    starts, *times, calls = (rows[name].to_numpy() for name in ("start_ms", "device_ms", "host_ms", "calls"))
    if not (np.isfinite(starts) & (starts >= 0)).all():
        refuse("a start is missing, not finite or negative")
    if not all((np.isfinite(column) & (column > 0)).all() for column in times):
        refuse("a time is missing, not finite or not positive")
    if not (calls >= 1).all():
        refuse("a span has no calls")


def _row_counts(recipe: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The fewest and the most rows of a run, by arm."""
    protocol = recipe["protocol"]
    most, stop = protocol["timed_iterations"], protocol["stop"]
    fewest = min(most, stop["minimum_iterations"]) if stop else most
    asked = {LATENCY, THROUGHPUT, *protocol["arms"]}
    return {arm: (fewest, most) if arm in ROW_A_CALL else (1, 1) for arm in (*ARMS, *PARTS) if arm in asked}


def hash_rows(rows: pl.DataFrame) -> str:
    """SHA-256 of the rows' values, whatever the parquet encoding."""
    digest = hashlib.sha256()
    for row in rows.rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()

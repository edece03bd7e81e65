"""What a check of the published study is made of: its values, and what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import polars as pl

from deepgap.published.values import CPU
from deepgap.study.gpus import Gpu
from deepgap.study.words import model_label
from deepgap.text import significant

HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "cannot be told"
"""A claim of several cells, or of what stands in none, holds in part: what a reader takes from it is not so."""
ROUGH = 0.1
MINUS = "\N{MINUS SIGN}"
"""Before a negative number in words, where a hyphen would be too short."""
Row: TypeAlias = dict[str, Any]
Cell: TypeAlias = tuple[str, str, str]
"""A gpu, model and precision: each GPU has one runtime a precision."""
BOUNDS = ("over", "under", "at_least", "at_most")


@dataclass(frozen=True)
class Finding:
    """What a claim of the study is worth by its own numbers.

    claim: in this project's words. evidence: what was recomputed, with units. verdict: HOLDS, PARTLY, FAILS or
    OPEN.
    rows: of the transcription, all that the evidence is computed from. facts: other sources, by name.
    """

    claim: str
    evidence: str
    verdict: str
    rows: tuple[Row, ...]
    facts: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that the rows stand in, in the order of the transcription."""
        return tuple(dict.fromkeys(row["section"] for row in self.rows))


Found = TypeVar("Found")
Key = TypeVar("Key")
Value = TypeVar("Value")


class NotPrintedError(Exception):
    """The transcription lacks a value that a check needs."""


class Printed(dict[Key, Value]):
    """What the study prints, by key; a key that it does not have is a value that is not printed."""

    def __missing__(self, key: Key) -> Value:
        raise NotPrintedError(key)


@dataclass(frozen=True)
class Values:
    """The transcription, and what was read from it for a finding."""

    frame: pl.DataFrame
    gpus: Mapping[str, Gpu]
    used: list[Row] = field(default_factory=list)

    def rows(self, quantity: str, section: str | None = None, **equal: str) -> list[Row]:
        """The rows of a quantity, of a section if one is given, with these values, marked as used.

        Those without a number, printed as not available, are left out.
        """
        found = self.frame.filter(pl.col("quantity") == quantity, **equal)
        if section is not None:
            found = found.filter(pl.col("section").str.starts_with(section))
        rows = found.to_dicts()
        self.used.extend(row for row in rows if row not in self.used)
        return [row for row in rows if row["value"] is not None]

    def one(self, quantity: str, section: str | None = None, **equal: str) -> float:
        """The value of a quantity that the study states once, or of its first statement; see `rows`."""
        rows = self.rows(quantity, section, **equal)
        need(rows)
        return float(rows[0]["value"])

    def limits(self, quantity: str) -> tuple[float, float]:
        """The lowest and the highest value of a quantity that is stated as a range."""
        values = [row["value"] for row in self.rows(quantity)]
        need(values)
        return min(values), max(values)

    def headline(self) -> float:
        """The stated ratio of the L4 to the T4."""
        return self.one("throughput_ratio", "Abstract", gpu="L4/T4")

    def cells(self, quantity: str, section: str | None = None, **equal: str) -> Printed[Cell, list[Row]]:
        """The rows of a quantity by cell, those of pairs of devices and of any model left out."""
        found: Printed[Cell, list[Row]] = Printed()
        for row in self.rows(quantity, section, **equal):
            cell = (row["gpu"], row["model"], row["precision"])
            if row["gpu"] in (*self.gpus, CPU) and row["model"] not in (None, "any") and "/" not in str(cell[2]):
                found.setdefault(cell, []).append(row)
        return found

    def table1(self) -> Printed[Cell, tuple[int, float]]:
        """Batch size and throughput of each of Table I's peaks."""
        batches = self.cells("peak_batch", "Table I")
        return Printed(
            (cell, (int(batches[cell][0]["value"]), rows[0]["value"]))
            for cell, rows in self.cells("peak_throughput", "Table I").items()
        )

    def theoretical_peaks(self) -> Printed[str, Printed[str, float]]:
        """The peak rate of each precision of each GPU, as the study prints it."""
        found: Printed[str, Printed[str, float]] = Printed()
        for row in self.rows("theoretical_peak"):
            found.setdefault(row["gpu"], Printed())[row["precision"]] = row["value"]
        return found

    def sweep(self) -> list[int]:
        """The batch sizes of the sweep, ascending; never none."""
        sizes = sorted({int(row["value"]) for row in self.rows("batch_size_in_sweep")})
        need(sizes)
        return sizes

    def finding(self, claim: str, evidence: str, verdict: str, *facts: str) -> Finding:
        return Finding(claim, evidence, verdict, tuple(self.used), facts)


def need(items: Sequence[Any] | Mapping[Any, Any]) -> None:
    """Raises:
    NotPrintedError: there are none.
    """
    if not items:
        raise NotPrintedError


def batch_of(row: Row) -> int | None:
    """The batch size of a row; None where the study names none, or several."""
    return int(row["batch"]) if row["batch"] is not None and row["batch"].isdecimal() else None


def closest(rows: Sequence[Row]) -> Row:
    """The statement that is not a bound, or else the first."""
    return next((row for row in rows if row["approx"] not in BOUNDS), rows[0])


def cell_label(cell: Sequence[str]) -> str:
    return f"{model_label(cell[0])} {cell[1].upper()}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def listed_once(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def span(values: Iterable[float], digits: int) -> str:
    """`1.4 to 1.8`, with this many significant digits."""
    known = list(values)
    ends = [significant(end, digits).replace("-", MINUS) for end in (min(known), max(known))] if known else []
    return " to ".join(dict.fromkeys(ends)) or "none"

"""A number of the prose: the name of its macro, its text, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from deepgap.paper.latex import Latex, number, rounded

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
THROUGHPUT_DIGITS, OTHER_DIGITS, PUBLISHED_DIGITS = 4, 3, 2
"""Significant digits as in the tables: of throughput; of latency, energy and ratios; and of what is recomputed from
published values, most of which are approximate."""
NOT_AVAILABLE = Latex(r"\notmeasured")
"""What the data do not give: a sentence with it is left out, and alone it says so."""


@dataclass(frozen=True)
class Number:
    """A macro: its name (letters only), its text, and where it comes from."""

    name: str
    text: Latex
    rows: str


def macro_name(*words: str) -> str:
    """Letters only: `("Peak", "H200", "eager-fp16")` is `PeakHTwoZeroZeroEagerFpOneSix`."""
    parts = re.split("[-_@]", "-".join(words))
    spelled = "".join(part[:1].upper() + part[1:] for part in parts)
    return "".join(DIGITS[int(char)] if char.isdecimal() else char for char in spelled if char.isalnum())


def rounded_or_not(value: float | None, digits: int) -> Latex:
    return NOT_AVAILABLE if value is None else rounded(value, digits)


def exact(value: float | None) -> Latex:
    return NOT_AVAILABLE if value is None else number(value)


def span(values: Sequence[float], write: Callable[[float], Latex]) -> Latex:
    """`9`, or `96 to 128` where values differ."""
    if not values:
        return NOT_AVAILABLE
    return Latex(" to ".join(dict.fromkeys((write(min(values)), write(max(values))))))


def low_and_high(name: str, values: list[float], digits: int, rows: str) -> Iterator[Number]:
    yield Number(f"{name}Low", rounded_or_not(min(values, default=None), digits), f"{rows}, lowest")
    yield Number(f"{name}High", rounded_or_not(max(values, default=None), digits), f"{rows}, highest")

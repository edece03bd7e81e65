"""Numbers as text."""

from __future__ import annotations


def significant(value: float, digits: int) -> str:
    """This many significant digits without an exponent: 38932 with 3 is 38900, 2.0 with 2 is 2.0."""
    if value == 0:
        return "0"
    # The exponent after rounding, because 9.96 with 2 digits is 10 and not 10.0.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    places = digits - 1 - exponent
    return f"{round(value, places):.{max(places, 0)}f}"

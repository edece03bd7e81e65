"""Text in files, and numbers in text."""

from __future__ import annotations

import sys
from pathlib import Path

from deepgap.errors import DiskError
from deepgap.files import put_in_place, unreadable


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, whatever the locale; Windows line ends become plain ones, a byte order mark goes.

    Raises:
        DiskError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DiskError(unreadable(path, error)) from None
    except UnicodeDecodeError as error:
        raise DiskError(f"{path} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8.") from None


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step, whatever the locale: a run that ends here leaves the old file or the new one.

    Raises:
        DiskError: there is no room for the file, or no right to write it.
    """
    with put_in_place(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def significant(value: float, digits: int) -> str:
    """This many significant digits without an exponent: 38932 with 3 is 38900, 2.0 with 2 is 2.0."""
    if value == 0:
        return "0"
    # The exponent after rounding, because 9.96 with 2 digits is 10 and not 10.0.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    places = digits - 1 - exponent
    return f"{round(value, places):.{max(places, 0)}f}"


def tell(line: str) -> None:
    """Show a line of progress at once, beside what a program gives as its result."""
    print(line, file=sys.stderr, flush=True)

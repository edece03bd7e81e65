"""A frame in the making."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl


class Rows:
    """Rows come as dictionaries and are put away as columns, a thousand at a time."""

    def __init__(self, schema: pl.Schema, rows: Iterable[Mapping[str, Any] | None] = ()) -> None:
        self._schema, self._frames, self._rows = schema, [schema.to_frame()], list[Mapping[str, Any]]()
        self.extend(rows)

    def add(self, row: Mapping[str, Any] | None) -> None:
        """Add a row; null adds none."""
        if row is not None:
            self._rows.append(row)
        if len(self._rows) == 1000:
            self._put_away()

    def extend(self, rows: Iterable[Mapping[str, Any] | None]) -> None:
        for row in rows:
            self.add(row)

    def frame(self) -> pl.DataFrame:
        self._put_away()
        return pl.concat(self._frames)

    def _put_away(self) -> None:
        self._frames.append(pl.DataFrame(self._rows, schema=self._schema))
        self._rows = []

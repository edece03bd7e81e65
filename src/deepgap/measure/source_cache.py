"""What was read from files, kept for the cells that read the same: the least recently used is forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class SourceCache:
    """Values by key, of no more than `limit_bytes` together."""

    limit_bytes: int
    _kept: OrderedDict[Hashable, tuple[Any, int]] = field(default_factory=OrderedDict)

    @property
    def held_bytes(self) -> int:
        """The size of all that is kept."""
        return sum(size for _, size in self._kept.values())

    def get(self, key: Hashable) -> Any | None:
        """A value, which is thereby the last to be forgotten; null where it is not there, or no more."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of so many bytes, and forget what there is no room for any more; one too large is not kept."""
        self._kept.pop(key, None)
        if size > self.limit_bytes:
            return
        self._kept[key] = value, size
        while self.held_bytes > self.limit_bytes:
            self._kept.popitem(last=False)

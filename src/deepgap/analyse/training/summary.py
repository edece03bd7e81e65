"""All that the second paper is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from deepgap.published.gpu_memory import yearly_maxima
from deepgap.stats import Floats
from deepgap.study.gpus import Gpu


@dataclass(frozen=True)
class TrainingSummary:
    """All that a table, a figure or a number of the second paper is made from.

    published: schema `published.democratizing.DEMOCRATIZING`. gpu_memory: `published.gpu_memory.GPU_MEMORY`.
    """

    published: pl.DataFrame
    gpu_memory: pl.DataFrame
    gpus: Mapping[str, Gpu]

    @cached_property
    def largest_memory(self) -> pl.DataFrame:
        """The GPU with the most memory of each year."""
        return yearly_maxima(self.gpu_memory)

    @property
    def memory_by_year(self) -> tuple[Floats, Floats]:
        """The years that have a GPU, and the most memory of each in GB."""
        years, gb = (self.largest_memory[name].to_numpy().astype(np.float64) for name in ("year", "memory_gb"))
        return years, gb

"""All that the second paper is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from deepgap.analyse.training.cells import training_families
from deepgap.analyse.training.ratios import over_base_mode, over_processor
from deepgap.published.gpu_memory import yearly_maxima
from deepgap.stats import Floats
from deepgap.study.gpus import Gpu, split_site


@dataclass(frozen=True)
class TrainingSummary:
    """All that a table, a figure or a number of the second paper is made from.

    cells: schema `analyse.training.cells.TRAINING_CELLS`. published: `published.democratizing.DEMOCRATIZING`.
    gpu_memory: `published.gpu_memory.GPU_MEMORY`.
    """

    cells: pl.DataFrame
    published: pl.DataFrame
    gpu_memory: pl.DataFrame
    gpus: Mapping[str, Gpu]

    @cached_property
    def families(self) -> pl.DataFrame:
        """A row for all sweeps of a cell: schema `analyse.training.cells.TRAINING_FAMILIES`."""
        return training_families(self.cells, self.gpus)

    @cached_property
    def over_base_mode(self) -> pl.DataFrame:
        """Modes over `ratios.BASE` on the same device: schema `analyse.training.ratios.SPEEDUPS`."""
        return over_base_mode(self.cells)

    @cached_property
    def over_processor(self) -> pl.DataFrame:
        """GPUs over processors in one mode: schema `analyse.training.ratios.SPEEDUPS`."""
        return over_processor(self.cells, {gpu for gpu in self.devices if self.is_processor(gpu)})

    @property
    def devices(self) -> list[str]:
        """The devices with cells, GPUs first, in the order of gpus.yaml."""
        order = list(self.gpus)

        def place(gpu: str) -> tuple[bool, int, str]:
            kind = split_site(gpu)[0]
            return self.is_processor(gpu), order.index(kind) if kind in order else len(order), gpu

        return sorted(set(self.cells["gpu"]), key=place)

    def is_processor(self, gpu: str) -> bool:
        """Whether this is a processor, at whatever site."""
        kind = self.gpus.get(split_site(gpu)[0])
        return kind is not None and kind.device == "cpu"

    @cached_property
    def largest_memory(self) -> pl.DataFrame:
        """The GPU with the most memory of each year."""
        return yearly_maxima(self.gpu_memory)

    @property
    def memory_by_year(self) -> tuple[Floats, Floats]:
        """The years that have a GPU, and the most memory of each in GB."""
        years, gb = (self.largest_memory[name].to_numpy().astype(np.float64) for name in ("year", "memory_gb"))
        return years, gb

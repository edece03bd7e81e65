"""On which of the host's cores a cell is measured."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Pinning:
    """The cores that the measuring process keeps to, and the one that telemetry and Snakemake have; null for none."""

    measuring: tuple[int, ...]
    spare: int | None


def choose_cores(usable: set[int], on_gpu: bool) -> Pinning:
    """Leave the first core to telemetry and Snakemake, where a GPU is measured and there are two.

    On a processor the cell has all cores: what is measured there is the processor, which is not sampled, and the
    threads are those of the recipe.
    """
    cores = sorted(usable)
    if not on_gpu or len(cores) < 2:
        return Pinning(tuple(cores), None)
    return Pinning(tuple(cores[1:]), cores[0])


def pin_process(on_gpu: bool) -> Pinning:
    """Keep this process and its threads to come to its cores.

    PyTorch must not have started its threads: they would keep the cores that they were started with.
    """
    chosen = choose_cores(os.sched_getaffinity(0), on_gpu)
    os.sched_setaffinity(0, chosen.measuring)
    return chosen

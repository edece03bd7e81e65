"""Whether cells that would be pooled are of one kind of device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepgap.cells.footer import Footer
from deepgap.errors import CellError
from deepgap.study.gpus import Gpu, split_site

OF_CARD = ("name", "compute_capability", "sm_count", "memory_bytes")
OF_PROCESSOR = ("cpu", "logical_cores")
MEMORY_ROUNDED_TO = 2**28
"""Drivers keep some device memory for themselves, not always the same; a quarter of a GiB tells cards apart."""


class Devices:
    """The device of each GPU's cells, as they are read.

    Limits, clocks, drivers and hosts may differ between cells of one device: these are flagged and told. Cells of
    another processor, or of a card with another chip or memory, are no further sweeps of it and are never pooled.
    """

    def __init__(self, gpus: Mapping[str, Gpu]) -> None:
        self._gpus, self._seen = gpus, dict[tuple[str, str], tuple[Path, Any]]()

    def check(self, file: Path, footer: Footer) -> None:
        """Hold a cell against the first one of its gpu.

        Raises:
            CellError: they are of different devices.
        """
        gpu = footer.recipe["gpu"]
        known = {name: value for name, value in describe_device(footer, self._gpus[gpu]).items() if value is not None}
        first = {name: self._seen.setdefault((gpu, name), (file, value)) for name, value in known.items()}
        differing = [name for name, value in known.items() if first[name][1] != value]
        if differing:
            here = ", ".join(f"{name} {known[name]}" for name in differing)
            there = ", ".join(f"{name} {first[name][1]}" for name in differing)
            raise CellError(
                f"{file} is of another device than {first[differing[0]][0]} ({here} against {there}); cells of "
                "different devices are not pooled: move those of one to a site, "
                f"results/{split_site(gpu)[0]}@name/, or remove them."
            )


def describe_device(footer: Footer, gpu: Gpu) -> dict[str, Any]:
    """What makes a cell's device another one; null is what its host did not tell."""
    if gpu.device == "cpu":
        return {name: footer.provenance["host"].get(name) for name in OF_PROCESSOR}
    card = {name: footer.provenance["device"].get(name) for name in OF_CARD}
    if card["memory_bytes"] is not None:
        card["memory_bytes"] = round(card["memory_bytes"] / MEMORY_ROUNDED_TO) * MEMORY_ROUNDED_TO
    return card

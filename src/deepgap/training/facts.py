"""What is known of a workload without a device: its weights, and the arithmetic of a sample."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deepgap.errors import WeightsError
from deepgap.text import write_text


class Arithmetic(NamedTuple):
    """Multiply-adds of a sample: of a forward pass of a phase, losses included, and of a whole call."""

    forward: float
    step: float


@dataclass(frozen=True)
class WorkloadFacts:
    """Of a workload at an image size. parameters: of all networks. weights_sha256: of the seeded initial weights."""

    parameters: int
    weights_sha256: str
    train: Arithmetic
    inference: Arithmetic

    def of_phase(self, phase: str) -> Arithmetic:
        return self.train if phase == "train" else self.inference


def write_facts(file: Path, facts: WorkloadFacts) -> None:
    write_text(file, json.dumps(asdict(facts), indent=2, sort_keys=True) + "\n")


def read_facts(file: Path) -> WorkloadFacts:
    """The facts of a file of `write_facts`.

    Raises:
        WeightsError: the file is damaged or foreign.
    """
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        train, inference = (Arithmetic(*map(float, value[phase])) for phase in ("train", "inference"))
        return WorkloadFacts(int(value["parameters"]), str(value["weights_sha256"]), train, inference)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise WeightsError(f"{file} does not hold a workload's facts; delete it and run Snakemake again.") from None

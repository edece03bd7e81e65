"""The words that figures and tables share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deepgap.published.values import CPU as PUBLISHED_CPU
from deepgap.published.values import CPU_LABEL
from deepgap.sources.models import GMAC_PER_IMAGE
from deepgap.study.gpus import in_config
from deepgap.study.words import PRECISION_KEYS, mode_order

HOST = "CPU"
"""The key of the host's own processor in gpus.yaml."""

PRECISIONS = PRECISION_KEYS
MODELS = tuple(GMAC_PER_IMAGE)


def model_label(model: str) -> str:
    return model.replace("resnet", "ResNet-")


def by_precision(mode: str) -> tuple[Any, ...]:
    """Sorts modes as figures and tables list them: `summary.mode_order` of a mode's name."""
    runtime, _, precision = mode.rpartition("-")
    return mode_order(runtime, precision)


def gpu_label(gpu: str) -> str:
    return CPU_LABEL if gpu == PUBLISHED_CPU else gpu


def nothing_measured(gpu: str) -> str:
    """The sentence for a device without cells."""
    return f"No cells measured for {gpu}; measure them with: snakemake --cores 1 --config {in_config(gpu)}"


def failures_in_words(failed: Iterable[Mapping[str, Any]]) -> str:
    """`out of memory: eager-fp32 at 256, 512`, one clause a status and mode."""
    clauses: dict[tuple[str, str], list[int]] = {}
    for row in failed:
        clauses.setdefault((row["status"].replace("_", " "), row["mode"]), []).append(row["batch_size"])
    return "; ".join(
        f"{status}: {mode} at {', '.join(map(str, sorted(batch_sizes)))}"
        for (status, mode), batch_sizes in sorted(clauses.items())
    )


def calibration_label(row: Mapping[str, Any]) -> str | None:
    """The calibration of a row of `summary.FIDELITY` in words; null for a precision without."""
    if row["calibration_method"] is None:
        return None
    images = "images of a folder" if row["calibration_images"] == "folder" else f"{row['calibration_images']} images"
    return f"{row['calibration_method']}, {row['calibration_count']} {images}"

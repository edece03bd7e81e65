"""The words that figures and tables share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.published.values import CPU as PUBLISHED_CPU
from deepgap.published.values import CPU_LABEL


def gpu_label(gpu: str) -> str:
    return CPU_LABEL if gpu == PUBLISHED_CPU else gpu


def prose_gpus(summary: Summary) -> list[str]:
    """The devices for which the prose is written, `reporting.paper_gpus` of the config.

    Raises:
        DeepGapError: one of them is not in gpus.yaml.
    """
    gpus = list(summary.reporting["paper_gpus"])
    unknown = [gpu for gpu in gpus if gpu not in summary.gpus]
    if unknown:
        raise DeepGapError(
            f"reporting.paper_gpus in config/config.yaml names {unknown[0]}, which config/gpus.yaml does not have; "
            f"it has {', '.join(summary.gpus)}."
        )
    return gpus


def measured_modes(summary: Summary, gpu: str) -> list[str]:
    """The modes of a device that have numbers, in order."""
    return list(dict.fromkeys(summary.measured.filter(gpu=gpu)["mode"]))


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

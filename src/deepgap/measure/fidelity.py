"""How close the answers of one form of a network are to those of another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fidelity:
    """Logits against reference logits on the same images; plain Python values without NaN and infinity.

    images: rows compared.
    all_finite: whether every logit of both is finite.
    centred_cosine: of all logits as one vector, each class less the reference's mean; the constant part of logits
        would bring any cosine near 1. Null for fewer than two images or logits that are not finite.
    centred_sqnr_db: power of the centred reference over that of the difference, in decibels; null also where there
        is no difference or no power, for which a decibel figure does not exist.
    top1_agreeing, top1_agreement: images with the same first class, and their part; a row that is not finite agrees
        with nothing.
    top1_right, top1_accuracy, reference_top1_accuracy: images whose first class is the label, and their part; null
        without labels. top5_...: likewise for a label among the first five classes; null also for five classes or
        fewer. Of equal logits the lowest class is first.
    """

    images: int
    all_finite: bool
    centred_cosine: float | None
    centred_sqnr_db: float | None
    top1_agreeing: int
    top1_agreement: float
    top1_right: int | None = None
    top1_accuracy: float | None = None
    reference_top1_accuracy: float | None = None
    top5_right: int | None = None
    top5_accuracy: float | None = None
    reference_top5_accuracy: float | None = None


def compare_logits(logits: np.ndarray, reference: np.ndarray, labels: np.ndarray | None = None) -> Fidelity:
    """Compare logits with a reference's, both of shape (n, classes) with n > 0; labels of shape (n,)."""
    assert logits.shape == reference.shape and len(logits)
    logits, reference = logits.astype(np.float64), reference.astype(np.float64)
    finite, reference_finite = np.isfinite(logits).all(axis=1), np.isfinite(reference).all(axis=1)
    all_finite = bool(finite.all() and reference_finite.all())
    cosine = sqnr_db = None
    if all_finite and len(logits) > 1:
        mean = reference.mean(axis=0)
        cosine = _cosine(logits - mean, reference - mean)
        sqnr_db = _decibels(np.square(reference - mean).sum(), np.square(logits - reference).sum())
    agreeing = (logits.argmax(axis=1) == reference.argmax(axis=1)) & finite & reference_finite
    return Fidelity(
        images=len(logits),
        all_finite=all_finite,
        centred_cosine=cosine,
        centred_sqnr_db=sqnr_db,
        top1_agreeing=int(agreeing.sum()),
        top1_agreement=float(agreeing.mean()),
        **({} if labels is None else _accuracy(logits, reference, labels)),
    )


def _accuracy(logits: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The fields of `Fidelity` that need labels."""
    found: dict[str, Any] = {}
    for first in (1, 5):
        if first > 1 and logits.shape[1] <= first:
            continue
        right, expected = (_among_first(values, labels, first) for values in (logits, reference))
        found |= {
            f"top{first}_right": int(right.sum()),
            f"top{first}_accuracy": float(right.mean()),
            f"reference_top{first}_accuracy": float(expected.mean()),
        }
    return found


def _among_first(logits: np.ndarray, labels: np.ndarray, first: int) -> np.ndarray:
    """Which rows have their label among their highest classes; a row that is not finite has not."""
    highest = np.argsort(-logits, axis=1, kind="stable")[:, :first]
    hits: np.ndarray = (highest == labels[:, np.newaxis]).any(axis=1) & np.isfinite(logits).all(axis=1)
    return hits


def compare_layers(reference: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Compare each tensor of the reference with its namesake, in the reference's order.

    Returns:
        A dict for each: `tensor`, `sqnr_db` and `cosine`, of the values as they are. A figure is null where it does
        not exist: no difference, no power, or a value that is not finite.
    """
    rows = []
    for name, expected in reference.items():
        wide, found = expected.astype(np.float64), other[name].astype(np.float64)
        finite = bool(np.isfinite(wide).all() and np.isfinite(found).all())
        rows.append(
            {
                "tensor": name,
                "sqnr_db": _decibels(np.square(wide).sum(), np.square(found - wide).sum()) if finite else None,
                "cosine": _cosine(found, wide) if finite else None,
            }
        )
    return rows


def _decibels(signal: float, noise: float) -> float | None:
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def _cosine(values: np.ndarray, reference: np.ndarray) -> float | None:
    """Exactly 1 for equal values; null where one of the vectors is zero."""
    if np.array_equal(values, reference):
        return 1.0
    norms = float(np.linalg.norm(values) * np.linalg.norm(reference))
    return float(np.clip(np.vdot(values, reference) / norms, -1, 1)) if norms > 0 else None

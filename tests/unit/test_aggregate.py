"""From footers to the tidy table of fidelity."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from deepgap.aggregate import summarise_fidelity
from deepgap.cells import Footer
from deepgap.fidelity import Fidelity, compare_logits
from deepgap.summary import FIDELITY

CALIBRATION = {"method": "entropy", "images": "procedural", "count": 128}
RNG = np.random.default_rng(0)
REFERENCE = RNG.standard_normal((8, 4)).astype(np.float32)
LABELS = REFERENCE.argmax(axis=1)


def footer(mode: str, fidelity: Fidelity | None, **recipe: Any) -> Footer:
    runtime, precision = mode.split("-")
    key = {"gpu": "H200", "model": "resnet18", "runtime": runtime, "precision": precision}
    return Footer(key | recipe, "0" * 64, {}, {} if fidelity is None else {"fidelity": asdict(fidelity)})


def noisy(scale: float, labels: np.ndarray | None = LABELS) -> Fidelity:
    noise = np.random.default_rng(1).standard_normal(REFERENCE.shape).astype(np.float32)
    return compare_logits(REFERENCE + scale * noise, REFERENCE, labels)


def row(*footers: Footer) -> dict[str, Any]:
    frame = summarise_fidelity(footers)
    assert frame.schema == FIDELITY and frame.height == 1
    return frame.row(0, named=True)


def test_a_mode_is_as_good_as_its_worst_cell():
    good, bad = noisy(0.01), noisy(1.0)
    found = row(*(footer("cudnn-int8", cell, calibration=CALIBRATION) for cell in (good, bad, good)))
    assert (found["cells"], found["images"]) == (3, 8)
    assert (found["sqnr_db"], found["cosine"]) == (bad.centred_sqnr_db, bad.centred_cosine)
    assert found["top1_agreement"] == bad.top1_agreement < good.top1_agreement
    assert (found["top1_accuracy_low"], found["top1_accuracy_high"]) == (bad.top1_accuracy, good.top1_accuracy)
    assert found["reference_top1_accuracy"] == 1.0
    assert (found["identical"], found["all_finite"]) == (False, True)
    assert [found[f"calibration_{name}"] for name in CALIBRATION] == list(CALIBRATION.values())


def test_identical_needs_every_cell():
    same = noisy(0.0)
    found = row(footer("eager-fp32", same), footer("eager-fp32", same))
    assert (found["identical"], found["sqnr_db"], found["cosine"]) == (True, None, 1.0)
    assert found["calibration_method"] is None
    found = row(footer("eager-fp32", same), footer("eager-fp32", noisy(0.01)))
    assert (found["identical"], found["sqnr_db"]) == (False, noisy(0.01).centred_sqnr_db)


def test_one_answer_that_is_not_finite_leaves_no_decibels():
    logits = REFERENCE.copy()
    logits[0, 0] = np.inf
    found = row(footer("eager-fp16", noisy(0.01)), footer("eager-fp16", compare_logits(logits, REFERENCE)))
    assert (found["all_finite"], found["identical"]) == (False, False)
    assert found["sqnr_db"] is found["cosine"] is None


def test_unlabelled_images_have_no_accuracy():
    found = row(footer("eager-fp16", noisy(0.01, None)))
    assert found["top1_accuracy_low"] is found["top1_accuracy_high"] is found["reference_top1_accuracy"] is None


def test_a_row_a_gpu_model_and_mode_and_none_for_a_failed_cell():
    cells = [
        footer("eager-fp16", noisy(0.1)),
        footer("graph-fp16", noisy(0.1)),
        footer("eager-fp16", noisy(0.1), model="resnet50"),
        footer("eager-fp16", noisy(0.1), gpu="T4"),
        footer("eager-fp32", None),
    ]
    frame = summarise_fidelity(cells)
    assert frame.select("gpu", "model", "runtime").rows() == [
        ("H200", "resnet18", "eager"),
        ("H200", "resnet18", "graph"),
        ("H200", "resnet50", "eager"),
        ("T4", "resnet18", "eager"),
    ]
    assert set(frame["cells"]) == {1}


def test_no_cells_give_an_empty_table():
    assert summarise_fidelity([]).equals(pl.DataFrame(schema=FIDELITY))

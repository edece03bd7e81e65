"""How the answers of cells become those of a mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
import pytest

from deepgap.analyse.answers import CELL_FIDELITY, fidelity_row, summarise_fidelity
from deepgap.analyse.rows import Rows
from deepgap.analyse.schemas import FIDELITY
from deepgap.cells.footer import Footer
from deepgap.measure.fidelity import Fidelity, compare_logits
from deepgap.stats import wilson
from tests.unit.synthetic import about_mode

CALIBRATION = {"method": "entropy", "images": "procedural", "count": 128}
REFERENCE = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
LABELS = REFERENCE.argmax(axis=1)


def footer(mode: str, fidelity: Fidelity | None, **recipe: Any) -> Footer:
    key = {"gpu": "H200", "model": "resnet18", "mode": mode} | about_mode(mode)
    found: dict[str, Any] = {"absent": "not timed"}
    if fidelity is not None:
        found = asdict(fidelity)
        for count, share in (("top1_agreeing", "top1_agreement"), ("top1_right", "top1_accuracy")):
            found[count] = None if found[share] is None else round(found["images"] * found[share])
    return Footer(key | recipe, "0" * 64, {}, {"fidelity": found})


def noisy(scale: float, labels: np.ndarray | None = LABELS) -> Fidelity:
    noise = np.random.default_rng(1).standard_normal(REFERENCE.shape).astype(np.float32)
    return compare_logits(REFERENCE + scale * noise, REFERENCE, labels)


def fidelity_of(footers: Iterable[Footer]) -> pl.DataFrame:
    return summarise_fidelity(Rows(CELL_FIDELITY, map(fidelity_row, footers)).frame())


def row(*footers: Footer) -> dict[str, Any]:
    frame = fidelity_of(footers)
    assert frame.schema == FIDELITY and frame.height == 1
    return frame.row(0, named=True)


def test_a_mode_is_as_good_as_its_worst_cell() -> None:
    good, bad = noisy(0.01), noisy(1.0)
    found = row(*(footer("cudnn-int8", cell, calibration=CALIBRATION) for cell in (good, bad, good)))
    assert (found["cells"], found["images"]) == (3, 8)
    assert (found["sqnr_db"], found["cosine"]) == (bad.centred_sqnr_db, bad.centred_cosine)
    assert found["top1_agreement"] == bad.top1_agreement < good.top1_agreement
    assert found["top1_accuracy"] == bad.top1_accuracy
    assert found["reference_top1_accuracy"] == 1.0
    assert (found["identical"], found["all_finite"]) == (False, True)
    assert [found[f"calibration_{name}"] for name in CALIBRATION] == list(CALIBRATION.values())


def test_intervals_are_of_one_cells_images_however_many_cells_saw_them() -> None:
    bad = noisy(1.0)
    agreeing = round(8 * bad.top1_agreement)
    for cells in (1, 5):
        found = row(*[footer("eager-fp16", bad)] * cells)
        assert (found["top1_agreement_low"], found["top1_agreement_high"]) == wilson(agreeing, 8)


def test_a_row_rests_on_the_cells_with_the_most_images() -> None:
    whole, part = noisy(0.5), compare_logits(-REFERENCE[:4], REFERENCE[:4], LABELS[:4])
    found = row(*(footer("eager-fp16", cell) for cell in (part, whole, part, whole)))
    assert part.top1_agreement < whole.top1_agreement
    assert (found["compared_cells"], found["cells"], found["images"]) == (4, 2, 8)
    assert (found["sqnr_db"], found["top1_agreement"]) == (whole.centred_sqnr_db, whole.top1_agreement)
    assert found["top1_accuracy"] == whole.top1_accuracy
    assert found["reference_top1_accuracy"] == whole.reference_top1_accuracy


def test_an_answer_that_is_not_finite_is_told_whatever_its_images() -> None:
    lost = compare_logits(np.full((4, 4), np.nan, np.float32), REFERENCE[:4])
    found = row(footer("eager-fp16", noisy(0.01)), footer("eager-fp16", lost))
    assert (found["all_finite"], found["sqnr_db"], found["cells"]) == (False, None, 1)


def test_identical_needs_every_cell() -> None:
    same = noisy(0.0)
    found = row(footer("eager-fp32", same), footer("eager-fp32", same))
    assert (found["identical"], found["sqnr_db"], found["cosine"]) == (True, None, 1.0)
    assert found["calibration_method"] is None
    found = row(footer("eager-fp32", same), footer("eager-fp32", noisy(0.01)))
    assert (found["identical"], found["sqnr_db"]) == (False, noisy(0.01).centred_sqnr_db)


def test_unlabelled_images_have_no_accuracy() -> None:
    found = row(footer("eager-fp16", noisy(0.01, None)))
    assert found["top1_accuracy"] is found["top1_accuracy_low"] is found["reference_top1_accuracy"] is None


def test_a_row_a_gpu_model_and_mode_and_none_for_a_failed_cell() -> None:
    cells = [
        footer("eager-fp16", noisy(0.1)),
        footer("eager-fp16-nchw", noisy(0.1)),
        footer("eager-fp16", noisy(0.1), model="resnet50"),
        footer("eager-fp16", noisy(0.1), gpu="T4"),
        footer("eager-fp32", None),
    ]
    frame = fidelity_of(cells)
    assert frame.select("gpu", "model", "mode").rows() == [
        ("H200", "resnet18", "eager-fp16"),
        ("H200", "resnet18", "eager-fp16-nchw"),
        ("H200", "resnet50", "eager-fp16"),
        ("T4", "resnet18", "eager-fp16"),
    ]
    assert set(frame["cells"]) == {1}


@pytest.mark.parametrize("footers", [[], [footer("eager-fp32", None)]])
def test_no_answers_give_an_empty_table(footers: list[Footer]) -> None:
    assert fidelity_of(footers).equals(pl.DataFrame(schema=FIDELITY))

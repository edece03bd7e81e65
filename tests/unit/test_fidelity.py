"""Figures of fidelity are those of their formulas, and absent where they do not exist."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine

from deepgap.measure.fidelity import Fidelity, compare_layers, compare_logits

shapes = st.tuples(st.integers(1, 6), st.integers(1, 5))
numbers = st.integers(-1600, 1600).map(lambda number: number / 16)
"""Numbers whose differences are exact."""


@st.composite
def pairs(draw: st.DrawFn, finite: bool = True) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(shapes)
    elements = numbers if finite else st.one_of(numbers, st.sampled_from([math.nan, math.inf, -math.inf]))
    return draw(arrays(np.float32, shape, elements=elements)), draw(arrays(np.float32, shape, elements=numbers))


@given(pairs())
@settings(max_examples=200, deadline=None)
def test_the_figures_follow_their_formulas(both):
    logits, reference = both
    count, classes = logits.shape
    assume(count > 1)
    found = compare_logits(logits, reference)
    rows = range(count)
    mean = [sum(float(reference[row, column]) for row in rows) / count for column in range(classes)]
    centred = np.array([[float(reference[row, column]) - mean[column] for column in range(classes)] for row in rows])
    other = np.array([[float(logits[row, column]) - mean[column] for column in range(classes)] for row in rows])
    signal, noise = float((centred**2).sum()), float(((other - centred) ** 2).sum())
    if noise == 0 or signal == 0:
        assert found.centred_sqnr_db is None
    else:
        assert found.centred_sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)
    if noise and signal and other.any():
        assert found.centred_cosine == pytest.approx(1 - cosine(other.ravel(), centred.ravel()), abs=1e-6)
    agreed = [int(np.argmax(logits[row])) == int(np.argmax(reference[row])) for row in rows]
    assert found.top1_agreement == pytest.approx(sum(agreed) / count)
    assert found.images == count and found.all_finite


@given(pairs(finite=False), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_value_is_plain_json(both, labelled):
    logits, reference = both
    labels = np.zeros(len(logits), int) if labelled else None
    found = compare_logits(logits, reference, labels)
    assert Fidelity(**json.loads(json.dumps(asdict(found), allow_nan=False))) == found
    assert all(type(value) in (int, float, bool, type(None)) for value in asdict(found).values())
    assert found.all_finite == bool(np.isfinite(logits).all())
    if not found.all_finite or len(logits) < 2:
        assert found.centred_cosine is found.centred_sqnr_db is None
    assert (found.top1_accuracy is None) == (found.reference_top1_accuracy is None) == (not labelled)


@given(arrays(np.float32, shapes, elements=numbers))
@settings(max_examples=100, deadline=None)
def test_identical_logits_have_cosine_one_and_no_decibels(logits):
    found = compare_logits(logits, logits.copy())
    assert found.centred_cosine == (1.0 if len(logits) > 1 else None)
    assert found.centred_sqnr_db is None
    assert found.top1_agreement == 1.0


def test_a_known_case():
    reference = np.array([[1.0, 11.0], [3.0, 9.0]])
    logits = np.array([[1.0, 11.0], [3.0, 10.0]])
    # Centred reference: -1, 1, 1, -1; difference: 1 in one place.
    found = compare_logits(logits, reference, np.array([1, 0]))
    assert found.centred_sqnr_db == pytest.approx(10 * math.log10(4))
    assert found.centred_cosine == pytest.approx(3 / math.sqrt(3 * 4))
    assert (found.top1_agreement, found.top1_accuracy, found.reference_top1_accuracy) == (1.0, 0.5, 0.5)


def test_a_constant_part_does_not_help():
    rng = np.random.default_rng(0)
    constant = 1000 * rng.standard_normal(10)
    reference, noise = rng.standard_normal((50, 10)), rng.standard_normal((50, 10))
    assert compare_logits(constant + noise, constant + reference).centred_cosine < 0.2
    plain, shifted = compare_logits(noise, reference), compare_logits(constant + noise, constant + reference)
    assert shifted.centred_sqnr_db == pytest.approx(plain.centred_sqnr_db)


def test_rows_that_are_not_finite_agree_with_nothing():
    reference = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    logits = reference.copy()
    logits[2, 1] = np.inf
    found = compare_logits(logits, reference, np.array([1, 0, 1]))
    assert not found.all_finite
    assert found.centred_cosine is found.centred_sqnr_db is None
    assert found.top1_agreement == found.top1_accuracy == pytest.approx(2 / 3)
    assert found.reference_top1_accuracy == 1.0


def test_half_precision_is_compared_in_double():
    reference = np.full((2, 3), 300.0, np.float16)
    reference[0] += 100
    logits = reference.copy()
    logits[1, 2] += 1
    assert compare_logits(logits, reference).centred_sqnr_db == pytest.approx(10 * math.log10(6 * 50**2))


def test_layers_are_compared_in_order_as_they_are():
    reference = {
        "relu_9": np.array([3.0, 4.0]),
        "relu": np.array([1.0, 1.0]),
        "dead": np.zeros(2),
        "same": np.ones(2),
    }
    other = {
        "same": np.ones(2),
        "dead": np.ones(2),
        "relu": np.array([1.0, np.nan]),
        "relu_9": np.array([3.0, 3.0]),
    }
    rows = compare_layers(reference, other)
    assert [row["tensor"] for row in rows] == ["relu_9", "relu", "dead", "same"]
    assert rows[0]["sqnr_db"] == pytest.approx(10 * math.log10(25))
    assert rows[0]["cosine"] == pytest.approx(21 / (5 * math.sqrt(18)))
    assert rows[1] == {"tensor": "relu", "sqnr_db": None, "cosine": None}
    assert rows[2] == {"tensor": "dead", "sqnr_db": None, "cosine": None}
    assert rows[3] == {"tensor": "same", "sqnr_db": None, "cosine": 1.0}
    json.dumps(rows, allow_nan=False)

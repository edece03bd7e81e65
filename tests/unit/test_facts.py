"""What a network's counts say about bytes and operations."""

from __future__ import annotations

import pytest

from deepgap.cells.facts import Facts
from deepgap.study.words import BYTES_PER_ELEMENT

FACTS = Facts(
    multiply_adds=1_000,
    weight_elements=400,
    activation_elements=300,
    largest_activation_elements=50,
    classes=10,
    blocks=2,
)


def test_weights_are_read_once_a_call_and_activations_once_an_image():
    assert FACTS.bytes_per_image("fp32", 1) == 4 * (300 + 400)
    assert FACTS.bytes_per_image("fp16", 4) == 2 * (300 + 100)
    assert FACTS.largest_bytes("int8", 3) == 150
    assert FACTS.arithmetic_intensity("fp16", 4) == 2_000 / 800


def test_intensity_grows_with_the_batch_and_as_elements_shrink():
    sizes = [FACTS.arithmetic_intensity("fp16", batch) for batch in (1, 8, 512)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    assert FACTS.arithmetic_intensity("int8", 8) == pytest.approx(4 * FACTS.arithmetic_intensity("fp32", 8))


def test_what_is_not_known_is_absent():
    assert FACTS.bytes_per_image("fp128", 1) is None
    assert FACTS.largest_bytes("fp128", 1) is None
    assert FACTS.arithmetic_intensity("fp128", 1) is None
    assert FACTS.peak_share(1e9, None) is None
    assert FACTS.peak_share(1e9, 4.0) == pytest.approx(0.5)
    assert {"bf16", "fp8"} <= BYTES_PER_ELEMENT.keys()


def test_facts_pass_through_json_and_damaged_ones_are_refused():
    assert Facts.from_json(FACTS.as_json()) == FACTS
    for change, told in (
        ({"blocks": -1}, "blocks -1, which is no count"),
        ({"classes": 2.5}, "classes 2.5"),
        ({"layers": 1}, "the unknown count 'layers'"),
    ):
        with pytest.raises(ValueError, match=told):
            Facts.from_json(FACTS.as_json() | change)
    short = FACTS.as_json()
    del short["multiply_adds"]
    with pytest.raises(ValueError, match="lack 'multiply_adds'"):
        Facts.from_json(short)

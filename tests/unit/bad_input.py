"""What the tests of bad input share."""

from __future__ import annotations

import os

from deepgap.errors import DeepGapError

FACTOR = int(os.environ.get("DEEPGAP_BAD_INPUT", "1"))
"""How many times the usual number of cases is tried: DEEPGAP_BAD_INPUT=14 is thorough."""

LONGEST_SENTENCE = 2000


def check_sentence(error: DeepGapError, *parts: str) -> None:
    """One paragraph that ends as a sentence does, and names what it is about."""
    sentence = str(error)
    assert sentence.endswith("."), sentence
    assert "\n" not in sentence and "Traceback" not in sentence
    assert len(sentence) < LONGEST_SENTENCE, sentence
    for part in parts:
        assert part in sentence

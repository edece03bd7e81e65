r"""What the second paper says in words about its data, and whether it is true of the data at hand.

A claim is a sentence of paper/training.tex inside `\Claim<Name>{...}`; see `deepgap.paper.claims`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np

from deepgap.analyse.memory_trend import FEWEST, FORMS, LogisticFit, aicc, back_test, first_fall
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.errors import DeepGapError
from deepgap.paper.claims import LEFT_OUT
from deepgap.published.audit.evidence import HOLDS
from deepgap.published.audit.training import audit_training


@dataclass(frozen=True)
class Claim:
    """A statement and its test: true, false, or None where the data cannot tell."""

    name: str
    statement: str
    holds: Callable[[TrainingSummary], bool | None]


def write_claims(summary: TrainingSummary) -> str:
    r"""The content of claims.tex: a macro a claim that prints its sentence, or leaves it out.

    Raises:
        DeepGapError: the data contradict a claim; all of them are named.
    """
    verdicts = {claim: claim.holds(summary) for claim in CLAIMS}
    broken = [f"{claim.name} ({claim.statement})" for claim, verdict in verdicts.items() if verdict is False]
    if broken:
        raise DeepGapError(
            f"The second paper's text claims what the data contradict: {'; '.join(broken)}; "
            "mend the sentence in paper/training.tex and its test in src/deepgap/paper/training/claims.py."
        )
    return "".join(
        f"\\newcommand{{\\Claim{claim.name}}}[1]{{{LEFT_OUT if verdict is None else '#1'}}}\n"
        for claim, verdict in verdicts.items()
    )


def _exponential_is_best(summary: TrainingSummary) -> bool | None:
    if not _enough(summary):
        return None
    years, gb = summary.memory_by_year
    scores = {name: aicc(form(years, gb), len(gb)) for name, form in FORMS.items()}
    foretold = back_test(years, gb)
    errors = {name: float(np.median([one.error for one in foretold if one.form == name])) for name in FORMS}
    return min(scores, key=lambda name: scores[name]) == min(errors, key=lambda name: errors[name]) == "exponential"


def _polynomials_foretell_nothing(summary: TrainingSummary) -> bool | None:
    if not _enough(summary):
        return None
    foretold = back_test(*summary.memory_by_year, forms=["degree 3", "degree 4"])
    return {one.form for one in foretold if one.factor <= 0} == {"degree 3", "degree 4"}


def _polynomials_fall(summary: TrainingSummary) -> bool | None:
    if not _enough(summary):
        return None
    years, gb = summary.memory_by_year
    ends = int(years[0]), int(years[-1])
    return all(first_fall(FORMS[f"degree {degree}"](years, gb), *ends) is not None for degree in (2, 3, 4))


def _twice_the_projection(summary: TrainingSummary) -> bool | None:
    listed = summary.largest_memory.filter(year=2025)["memory_gb"].to_list()
    return listed[0] >= 2 * 141 if listed else None


def _no_ceiling(summary: TrainingSummary) -> bool | None:
    return LogisticFit(*summary.memory_by_year).ceiling[2] == inf if _enough(summary) else None


def _terabyte_is_possible(summary: TrainingSummary) -> bool | None:
    if not _enough(summary):
        return None
    forecast = FORMS["exponential"](*summary.memory_by_year).at(2030)
    return forecast.low < 1000 < forecast.high


def _one_claim_holds(summary: TrainingSummary) -> bool | None:
    found = audit_training(summary.published, summary.gpu_memory, summary.gpus)
    return [finding.verdict for finding in found].count(HOLDS) == 1 if found else None


def _enough(summary: TrainingSummary) -> bool:
    return len(summary.memory_by_year[0]) > FEWEST


CLAIMS = (
    Claim(
        "ExponentialIsBest",
        "the exponential has the least AICc and the least error of its forecasts",
        _exponential_is_best,
    ),
    Claim(
        "PolynomialsForetellNothing",
        "polynomials of degree 3 and 4 have foretold no memory or less",
        _polynomials_foretell_nothing,
    ),
    Claim("PolynomialsFall", "each polynomial falls between years to which it is fitted", _polynomials_fall),
    Claim("TwiceTheProjection", "twice 141 GB are listed for 2025", _twice_the_projection),
    Claim("NoCeiling", "the data do not bound the logistic's ceiling", _no_ceiling),
    Claim("TerabyteIsPossible", "1 TB lies in the exponential's interval of 2030", _terabyte_is_possible),
    Claim("OneClaimHolds", "one finding of the audit holds", _one_claim_holds),
)

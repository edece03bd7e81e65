"""What the published study concludes, recomputed from its own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepgap.analyse.summary import Summary
from deepgap.published.audit import RESULTS, Check, audit

DEVICES = ()


def context(summary: Summary) -> dict[str, Any]:
    """The findings of `deepgap.published.audit.RESULTS`; returns: see `findings`."""
    return findings(summary, RESULTS)


def findings(summary: Summary, checks: Sequence[Check]) -> dict[str, Any]:
    """The rows of a table of the audit.

    Returns:
        findings: rows with claim, evidence, verdict, rows (of the transcription, that were used), sections (theirs)
            and facts (other sources, by name).
    """
    return {
        "findings": [
            {
                "claim": finding.claim,
                "evidence": finding.evidence,
                "verdict": finding.verdict,
                "sections": ", ".join(finding.sections),
                "facts": "; ".join(finding.facts),
                "rows": finding.rows,
            }
            for finding in audit(summary.published, summary.gpus, checks)
        ]
    }

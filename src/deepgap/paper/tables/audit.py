"""The published study's claims, recomputed from its own numbers."""

from __future__ import annotations

from typing import Any

from deepgap.analyse.summary import Summary
from deepgap.published.audit import audit

DEVICES = ()


def context(summary: Summary) -> dict[str, Any]:
    """The findings of `deepgap.published.audit`.

    Returns:
        findings: rows with claim, evidence, verdict, rows (of the transcription, that were used), sections (theirs)
            and facts (other sources, by name).
    """
    findings = audit(summary.published, summary.gpus)
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
            for finding in findings
        ]
    }

"""What the published study of training claims, recomputed from its own numbers."""

from __future__ import annotations

from typing import Any

from deepgap.analyse.training.summary import TrainingSummary
from deepgap.published.audit.training import audit_training


def context(summary: TrainingSummary) -> dict[str, Any]:
    """A row a finding.

    Returns:
        findings: rows with claim, evidence, verdict, sections (where its values are from) and facts (other sources).
    """
    return {
        "findings": [
            {
                "claim": finding.claim,
                "evidence": finding.evidence,
                "verdict": finding.verdict,
                "sections": ", ".join(finding.sections),
                "facts": "; ".join(finding.facts),
            }
            for finding in audit_training(summary.published, summary.gpu_memory, summary.gpus)
        ]
    }

"""How the published study measured, and what its memory and its tables say, recomputed from its own numbers."""

from __future__ import annotations

from typing import Any

from deepgap.analyse.summary import Summary
from deepgap.paper.tables.audit import findings
from deepgap.published.audit import CONDUCT

DEVICES = ()


def context(summary: Summary) -> dict[str, Any]:
    """The findings of `deepgap.published.audit.CONDUCT`; returns: see `deepgap.paper.tables.audit.findings`."""
    return findings(summary, CONDUCT)

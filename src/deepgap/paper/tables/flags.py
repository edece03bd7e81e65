"""How many families have each flag."""

from __future__ import annotations

from typing import Any

from deepgap.analyse.flag_counts import families_with, flagged_families, flags_seen
from deepgap.analyse.flags import FLAGS
from deepgap.analyse.summary import Summary
from deepgap.paper.wording import gpu_label


def context(summary: Summary) -> dict[str, Any]:
    """A row a flag that any timed family has, a column a GPU.

    Returns:
        platforms: their labels.
        rows: with flag, meaning and counts (of families, by platform), the most frequent first.
        flagged, families: families with any flag, and all, by platform.
    """
    gpus = summary.order_gpus(set(summary.measured["gpu"]))
    rows = [
        {"flag": flag, "meaning": FLAGS[flag], "counts": [families_with(summary, gpu, flag) for gpu in gpus]}
        for flag in flags_seen(summary)
    ]
    return {
        "platforms": [gpu_label(gpu) for gpu in gpus],
        "rows": sorted(rows, key=lambda row: (-sum(row["counts"]), row["flag"])),
        "flagged": [flagged_families(summary, gpu) for gpu in gpus],
        "families": [families_with(summary, gpu) for gpu in gpus],
    }

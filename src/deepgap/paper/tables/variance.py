"""Where the spread of throughput and latency comes from."""

from __future__ import annotations

from typing import Any

from deepgap.analyse.summary import Summary
from deepgap.analyse.variance import LEVELS, QUANTITIES, pool_variance
from deepgap.paper.latex import ABSENT, Latex, rounded
from deepgap.paper.wording import gpu_label


def context(summary: Summary) -> dict[str, Any]:
    """A row a GPU, kind of family and quantity.

    Returns:
        levels: from the widest to the narrowest.
        rows: platform, kind (bound by launching or by the device), quantity, families' curves (groups), and for each
            level the spread in percent as LaTeX; a dash where the level was never repeated.
    """
    rows = []
    for gpu in summary.order_gpus(set(summary.variance["gpu"])):
        for kind, bound in (("device", False), ("launching", True)):
            for quantity in QUANTITIES:
                here = summary.variance.filter(gpu=gpu, launch_bound=bound, quantity=quantity)
                if here.is_empty():
                    continue
                pooled = pool_variance(here)
                rows.append(
                    {
                        "platform": gpu_label(gpu),
                        "kind": kind,
                        "quantity": quantity,
                        "groups": here.select("model", "mode").unique().height,
                        "freedom": int(here.filter(level="process")["degrees_of_freedom"].sum()),
                        "spreads": [_percent(pooled[level]) for level in LEVELS],
                    }
                )
    return {"levels": list(LEVELS), "rows": rows}


def _percent(spread: float | None) -> Latex:
    return ABSENT if spread is None else rounded(100 * spread, 2)

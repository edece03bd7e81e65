"""How throughput follows memory bandwidth between two kinds of GPU."""

from __future__ import annotations

from math import log

import polars as pl

from deepgap.analyse.schemas import ABOUT_MODE, KEY
from deepgap.analyse.summary import Summary
from deepgap.analyse.sweeps import PER_JOULE, THROUGHPUT, split_families, sweep_values
from deepgap.stats import unpaired_ratio
from deepgap.study.cell import ALL_THREADS

QUANTITIES = (THROUGHPUT, PER_JOULE)

ELASTICITY = pl.Schema(
    {
        "model": pl.String,
        "mode": pl.String,
        **ABOUT_MODE,
        "batch_size": pl.Int64,
        "quantity": pl.String,
        "ratio": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "values": pl.Int64,
        "paired": pl.Boolean,
        "elasticity": pl.Float64,
        "elasticity_low": pl.Float64,
        "elasticity_high": pl.Float64,
        "launch_bound": pl.Boolean,
        "primary": pl.Boolean,
    }
)
"""One row a model, mode, batch size and quantity that both kinds have.

ratio: of the medians over sweeps; never paired, since two cards share no block. values: sweeps of the one with fewer.
elasticity: ln(ratio) over ln of the ratio of memory bandwidths: 1 where DRAM bounds, 0 where anything else does.
launch_bound: either family is; primary: both are.
"""


def elasticities(summary: Summary, gpu: str, base: str) -> pl.DataFrame:
    """`ELASTICITY` of a GPU over another, in the order of models, modes and batch sizes.

    Args:
        gpu, base: keys of `summary.gpus`; the figures are gpu over base.
    """
    bandwidths = [summary.gpus[key].memory_bandwidth_gb_s for key in (gpu, base) if key in summary.gpus]
    families = summary.families.filter(threads=ALL_THREADS)
    values = sweep_values(summary.runs, families)
    primary = set(families.filter("primary").select(list(KEY)).iter_rows())
    rows = []
    for quantity in QUANTITIES:
        of_base = {
            _place(about): (about, sweeps) for about, sweeps in split_families(values.filter(gpu=base), quantity)
        }
        for about, sweeps in split_families(values.filter(gpu=gpu), quantity):
            if _place(about) not in of_base:
                continue
            there, base_sweeps = of_base[_place(about)]
            ratio = unpaired_ratio(sweeps.values, base_sweeps.values)
            rows.append(
                {name: about[name] for name in ("model", "mode", *ABOUT_MODE, "batch_size")}
                | {"quantity": quantity, "values": ratio.values, "paired": ratio.paired}
                | {name: getattr(ratio, name) for name in ("ratio", "low", "high")}
                | dict(zip(_ELASTIC, _elastic(bandwidths, ratio.ratio, ratio.low, ratio.high), strict=True))
                | {"launch_bound": about["launch_bound"] or there["launch_bound"]}
                | {"primary": primary.issuperset(tuple(row[name] for name in KEY) for row in (about, there))}
            )
    return pl.DataFrame(rows, schema=ELASTICITY).sort(
        "quantity",
        pl.col("model").cast(pl.Enum(summary.order_models(row["model"] for row in rows))),
        pl.col("mode").cast(pl.Enum(summary.modes)),
        "batch_size",
        descending=[True, False, False, False],
    )


_ELASTIC = ("elasticity", "elasticity_low", "elasticity_high")


def _place(about: dict[str, object]) -> tuple[object, ...]:
    return about["model"], about["mode"], about["batch_size"]


def _elastic(bandwidths: list[float | None], *ratios: float | None) -> list[float | None]:
    """Each ratio's elasticity; null without a ratio, or where the bandwidths are not known or the same."""
    known = [bandwidth for bandwidth in bandwidths if bandwidth]
    slope = log(known[0] / known[1]) if len(known) == 2 else 0.0
    ends = [None if ratio is None or not slope else log(ratio) / slope for ratio in ratios]
    # A GPU with less bandwidth turns the interval round.
    return [ends[0], ends[2], ends[1]] if slope < 0 else ends

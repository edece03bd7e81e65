"""What a gain in throughput comes from: one factor changed at a time, the others held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from deepgap.analyse.effects import FACTORS, Effect, find_effects, operating_batches, published_effects
from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import ABSENT, Latex, interval, rounded
from deepgap.paper.wording import gpu_label
from deepgap.study.words import model_label

DIGITS = 3

Place = tuple[str, str, str, str, str]
"""gpu, model, factors, start and mode of an effect."""


def context(summary: Summary) -> dict[str, Any]:
    """A block a GPU, and one of published values.

    Returns:
        blocks: with published (or measured), batch_sizes, and rows: platform, model, factor, start and mode (the
            ratio is mode over start), and as LaTeX ratios and intervals, one for each batch size.
    """
    found: dict[str, list[Effect]] = {}
    for effect in find_effects(summary):
        found.setdefault(effect.gpu, []).append(effect)
    blocks = [_block(effects, _operating(summary, gpu)) for gpu, effects in found.items()]
    printed = [effect for effect in published_effects(summary) if effect.is_pure]
    if printed:
        blocks.append(_block(printed, sorted({effect.batch_size for effect in printed})) | {"published": True})
    return {"blocks": blocks}


def _operating(summary: Summary, gpu: str) -> list[int]:
    swept = set(summary.measured.filter(pl.col("gpu") == gpu)["batch_size"])
    return [size for size in operating_batches(swept, summary.reporting["matched_batch_size"]) if size in swept]


def _block(effects: Sequence[Effect], batch_sizes: Sequence[int]) -> dict[str, Any]:
    at: dict[Place, dict[int, Effect]] = {}
    for effect in effects:
        if effect.batch_size in batch_sizes:
            place = (effect.gpu, effect.model, effect.factors[0], effect.start, effect.mode)
            at.setdefault(place, {})[effect.batch_size] = effect
    gpus, models = ([*dict.fromkeys(place[part] for place in at)] for part in (0, 1))
    ordered = sorted(at, key=lambda place: (gpus.index(place[0]), models.index(place[1]), FACTORS.index(place[2])))
    rows = []
    for gpu, model, factor, start, mode in ordered:
        here = [at[gpu, model, factor, start, mode].get(size) for size in batch_sizes]
        rows.append(
            {
                "platform": gpu_label(gpu),
                "model": model_label(model),
                "factor": factor,
                "start": start,
                "mode": mode,
                "ratios": [_ratio(effect) for effect in here],
                "intervals": [
                    Latex("") if effect is None else interval(effect.ratio.low, effect.ratio.high, DIGITS)
                    for effect in here
                ],
            }
        )
    return {"published": False, "batch_sizes": list(batch_sizes), "rows": rows}


def _ratio(effect: Effect | None) -> Latex:
    """A ratio. L: launch-bound; u: measured, but not paired."""
    if effect is None:
        return ABSENT
    unpaired = effect.source == MEASURED and not effect.ratio.paired
    signs = ("L" if effect.launch_bound else "") + ("u" if unpaired else "")
    return Latex(rounded(effect.ratio.ratio, DIGITS) + (rf"\rlap{{$^{{\mathrm{{{signs}}}}}$}}" if signs else ""))

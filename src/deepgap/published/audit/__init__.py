"""The published study's claims, recomputed from its own printed numbers.

Every finding names the rows of the transcription that it was computed from. Approximately printed values (read off
figures by the study itself) agree with each other when they are within `evidence.ROUGH`. A check is a function from
the printed values to its finding; a value that a check needs and the transcription lacks leaves its claim open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from deepgap.published.audit import cache, memory, peaks, ratios, setup, tails
from deepgap.published.audit.evidence import OPEN, Finding, Found, NotPrintedError, Values
from deepgap.study.gpus import Gpu


def audit(values: pl.DataFrame, gpus: Mapping[str, Gpu]) -> list[Finding]:
    """All findings on a transcription, in the order of `CHECKS`; none on an empty one.

    Args:
        values: in `summary.PUBLISHED_VALUES`.
        gpus: the hardware facts, by key.
    """
    if values.is_empty():
        return []
    findings = []
    for check in CHECKS:
        seen = Values(values, gpus)
        try:
            findings.append(check(seen))
        except NotPrintedError:
            claim = check.__name__.replace("_", " ").capitalize()
            findings.append(seen.finding(claim, "The transcription lacks values that this needs.", OPEN))
    return findings


def if_printed(compute: Callable[[Values], Found], values: pl.DataFrame, gpus: Mapping[str, Gpu]) -> Found | None:
    """What `compute` finds on a transcription; null where it lacks a value for that. Arguments: see `audit`."""
    try:
        return compute(Values(values, gpus))
    except NotPrintedError:
        return None


CHECKS: tuple[Callable[[Values], Finding], ...] = (
    peaks.pairs_of_one_batch,
    peaks.no_batch_above_the_peak,
    ratios.stated_ratios_of_peaks,
    ratios.cards_at_their_own_best,
    ratios.cards_at_one_batch,
    ratios.speedups_over_the_cpu,
    ratios.over_the_cpu_at_own_best,
    ratios.over_the_cpu_at_one_batch,
    ratios.precision_of_int8,
    ratios.int8_over_fp32,
    tails.p99_above_the_median,
    tails.p99_of_few_calls,
    tails.p99_reductions,
    peaks.peaks_within_the_sweep,
    peaks.t4_peaks_late,
    peaks.l4_peaks_early,
    cache.scheduling_of_the_l4,
    memory.larger_model_more_memory,
    memory.memory_without_batch,
    memory.growth_of_int8,
    memory.reduction_of_memory,
    memory.difference_of_memory,
    memory.one_value_a_mode,
    setup.bandwidth_of_the_l4,
    setup.batch_configurations,
    setup.one_host,
)

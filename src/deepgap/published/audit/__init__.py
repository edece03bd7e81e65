"""The published study's claims, recomputed from its own printed numbers.

Every finding names the rows of the transcription that it was computed from. Approximately printed values (read off
figures by the study itself) agree with each other when they are within `evidence.ROUGH`. A check is a function from
the printed values to its finding; a value that a check needs and the transcription lacks leaves its claim open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import polars as pl

from deepgap.published.audit import batching, cache, efficiency, memory, peaks, procedure, ratios, setup, tails
from deepgap.published.audit.evidence import OPEN, Finding, Found, NotPrintedError, Values
from deepgap.study.gpus import Gpu

Check: TypeAlias = Callable[[Values], Finding]


def audit(values: pl.DataFrame, gpus: Mapping[str, Gpu], checks: Sequence[Check] | None = None) -> list[Finding]:
    """All findings on a transcription, in the order of `CHECKS`; none on an empty one.

    Args:
        values: in `summary.PUBLISHED_VALUES`.
        gpus: the hardware facts, by key.
        checks: some of `CHECKS`; all unless given.
    """
    if values.is_empty():
        return []
    findings = []
    for check in CHECKS if checks is None else checks:
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


RESULTS: tuple[Check, ...] = (
    procedure.int8_on_an_idle_gpu,
    ratios.cards_at_their_own_best,
    ratios.cards_at_one_batch,
    batching.gains_at_higher_batches,
    efficiency.ratios_follow_the_peaks,
    ratios.over_the_cpu_at_own_best,
    ratios.over_the_cpu_at_one_batch,
    ratios.precision_of_int8,
    ratios.int8_over_fp32,
    batching.fp16_latency_against_throughput,
    batching.fp16_on_the_t4_twice,
    batching.throughput_rises_to_32,
    batching.latency_is_linear,
    batching.latency_at_batch_one,
    peaks.pairs_of_one_batch,
    peaks.peaks_within_the_sweep,
    peaks.l4_peaks_early,
    cache.scheduling_of_the_l4,
    tails.p99_above_the_median,
    tails.p99_of_few_calls,
    tails.p99_reductions,
    efficiency.t4_is_power_efficient,
    setup.bandwidth_of_the_l4,
)
"""Of what the study concludes; the most damaging first."""

CONDUCT: tuple[Check, ...] = (
    memory.memory_without_batch,
    memory.larger_model_more_memory,
    efficiency.memory_allows_batches,
    memory.reduction_of_memory,
    memory.difference_of_memory,
    memory.one_value_a_mode,
    procedure.no_transfers,
    procedure.order_of_precisions,
    procedure.utilisation_as_occupancy,
    procedure.half_is_mixed,
    procedure.one_set_of_weights,
    procedure.int8_answers,
    procedure.scripts_run,
    setup.batch_configurations,
    setup.one_host,
    ratios.speedups_over_the_cpu,
    ratios.stated_ratios_of_peaks,
    peaks.no_batch_above_the_peak,
    peaks.t4_peaks_late,
    memory.growth_of_int8,
)
"""Of memory, of how it was measured, and last what is no more than consistent."""

CHECKS = RESULTS + CONDUCT

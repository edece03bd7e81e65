"""What was timed: runs, families of cells, their ratios and their variance."""

from __future__ import annotations

import polars as pl

from deepgap.analyse.schemas.columns import ABOUT_MODE, KEY, NUMBERS, STRINGS

OF_CELL = {
    "host": pl.String,
    "card": pl.String,
    "session": pl.String,
    "place": pl.Int64,
    "measured_at": pl.String,
    "memory_bytes": pl.Int64,
    "first_call_ms": pl.Float64,
    "sm_clock_median_mhz": pl.Float64,
    "sm_clock_share": pl.Float64,
    "temperature_max_c": pl.Float64,
    "power_w": pl.Float64,
    "energy_j_per_image": pl.Float64,
    "energy_above_idle_j_per_image": pl.Float64,
    "integral_over_counter": pl.Float64,
    "launch_bound": pl.Boolean,
    "flags": STRINGS,
    "weights_sha256": pl.String,
    "cell_file": pl.String,
}

RUNS = pl.Schema(
    {
        **KEY,
        **ABOUT_MODE,
        "sweep": pl.Int64,
        "run": pl.Int64,
        "samples": pl.Int64,
        "median_ms": pl.Float64,
        "mean_ms": pl.Float64,
        "std_ms": pl.Float64,
        "min_ms": pl.Float64,
        "max_ms": pl.Float64,
        "p99_ms": pl.Float64,
        "host_median_ms": pl.Float64,
        "enqueue_median_ms": pl.Float64,
        "cold_median_ms": pl.Float64,
        "end_to_end_median_ms": pl.Float64,
        "throughput_img_s": pl.Float64,
        "burst_img_s": pl.Float64,
        **OF_CELL,
    }
)
"""One row a run of every cell that was timed. A protocol has one run a cell, or asks for several.

Latencies are device times of lone calls. p99_ms: null below 100 calls. end_to_end: from a batch in host memory to
logits on the host. throughput: of the sustained queued run; burst: of a short one. Arms that were not measured are
null. All from host on are of the run's cell, null where it is not told:
host, card: hashes; card is null for a processor. session, place: the call of Snakemake, and the cell's place in it.
memory_bytes: the maximum while the cell ran, above the baseline; on a processor the growth of the resident set.
first_call_ms: preparing the model on the device and the first call.
sm_clock_median, sm_clock_share: of the sustained run; share: the mean over the card's maximum. temperature_max: of
    the latency and the sustained run. power, energy: between two updates of the counter within the sustained run.
flags: those of the cell (`deepgap.analyse.flags`).
"""

FAMILIES = pl.Schema(
    {
        **KEY,
        **ABOUT_MODE,
        "status": pl.String,
        "reason": pl.String,
        "sweeps": pl.Int64,
        "hosts": pl.Int64,
        "cards": pl.Int64,
        "host": pl.String,
        "runs": pl.Int64,
        "samples": pl.Int64,
        "coverage": pl.Float64,
        "first_call_ms": pl.Float64,
        "intraop_threads": pl.Int64,
        "median_ms": pl.Float64,
        "median_low_ms": pl.Float64,
        "median_high_ms": pl.Float64,
        "median_least_ms": pl.Float64,
        "median_most_ms": pl.Float64,
        "enqueue_median_ms": pl.Float64,
        "cold_median_ms": pl.Float64,
        "end_to_end_median_ms": pl.Float64,
        "p99_ms": pl.Float64,
        "tail_least": pl.Float64,
        "tail_most": pl.Float64,
        "tail_processes": pl.Int64,
        "tail_note": pl.String,
        "throughput_img_s": pl.Float64,
        "throughput_low_img_s": pl.Float64,
        "throughput_high_img_s": pl.Float64,
        "throughput_least_img_s": pl.Float64,
        "throughput_most_img_s": pl.Float64,
        "burst_img_s": pl.Float64,
        "share_of_peak": pl.Float64,
        "sm_clock_share": pl.Float64,
        "memory_bytes": pl.Int64,
        "memory_allocated_bytes": pl.Int64,
        "memory_context_bytes": pl.Int64,
        "energy_j_per_image": pl.Float64,
        "energy_low_j_per_image": pl.Float64,
        "energy_high_j_per_image": pl.Float64,
        "energy_above_idle_j_per_image": pl.Float64,
        "images_per_joule": pl.Float64,
        "images_per_joule_low": pl.Float64,
        "images_per_joule_high": pl.Float64,
        "power_w": pl.Float64,
        "integral_over_counter": pl.Float64,
        "energy_sweeps": pl.Int64,
        "energy_note": pl.String,
        "speedup_fp32": pl.Float64,
        "speedup_fp32_low": pl.Float64,
        "speedup_fp32_high": pl.Float64,
        "of_best": pl.Float64,
        "of_best_low": pl.Float64,
        "of_best_high": pl.Float64,
        "best": pl.Boolean,
        "tied": pl.Boolean,
        "flags": STRINGS,
        "flagged_cells": pl.Int64,
        "launch_bound": pl.Boolean,
        "primary": pl.Boolean,
    }
)
"""One row a cell family: all sweeps of a gpu, model, mode, batch size and number of threads.

status: ok, out_of_memory, unsupported or refused (then the reason, no sweeps, and all that was to be measured null).
sweeps: cells that the figures are of, each a process of its own; a sweep's value is the median over its runs, and a
    family's figures are medians over sweeps unless said otherwise. A family that is launch-bound is never pooled over
    hosts: where `hosts` is more than 1 its figures are those of `host`, and `by_host` has all.
hosts, cards: on how many it was timed. host: the one that the figures are of; null where they are of several.
low, high: the interval, whose true coverage is `coverage`; null below six sweeps. least, most: the range over sweeps.
p99_ms: of all calls of all sweeps, where the processes agree on it; tail_note says why not. tail: the 99th
    percentile over the median in one process, its range over the tail_processes that have 100 calls.
share_of_peak: operations a second at the throughput over the dense peak of the precision; null without a peak.
memory: the most of any cell. memory_context: of the device's context alone, the median.
energy: from every sweep that has it; images_per_joule its inverse; power: throughput times energy an image, so that
    throughput / power is images_per_joule. above_idle: null where most sweeps say nothing. energy_note: why energy is
    null.
speedup_fp32: paired, over eager-fp32 at the same gpu, model, batch size and threads; null without it.
of_best: throughput over that of the best batch size of the curve, paired. best: the highest median of the curve.
    tied: the best, and every batch size whose interval reaches 1, so that the data cannot tell it from the best;
    without an interval nothing is known to tie.
flags: those of any cell and of the family, sorted; flagged_cells: cells with a flag of their own.
primary: it may stand in a sentence (`flags.NOT_PRIMARY`).
"""

BY_HOST = pl.Schema(
    {
        **KEY,
        "host": pl.String,
        "sweeps": pl.Int64,
        "median_ms": pl.Float64,
        "median_low_ms": pl.Float64,
        "median_high_ms": pl.Float64,
        "median_least_ms": pl.Float64,
        "median_most_ms": pl.Float64,
        "throughput_img_s": pl.Float64,
        "throughput_low_img_s": pl.Float64,
        "throughput_high_img_s": pl.Float64,
        "throughput_least_img_s": pl.Float64,
        "throughput_most_img_s": pl.Float64,
        "launch_bound": pl.Boolean,
    }
)
"""One row a timed family and host; columns as in `FAMILIES`, over the sweeps of that host alone."""

RATIOS = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "batch_size": pl.Int64,
        "threads": pl.Int64,
        "numerator": pl.String,
        "denominator": pl.String,
        "ratio": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "values": pl.Int64,
        "paired": pl.Boolean,
        "launch_bound": pl.Boolean,
        "primary": pl.Boolean,
        "numerator_cells": STRINGS,
        "denominator_cells": STRINGS,
    }
)
"""One row a pair of modes at one gpu, model, batch size and number of threads: the ratio of their throughputs.

numerator, denominator: modes; the numerator is the later one of `deepgap.study.words`' order.
ratio, low, high: the median of the paired ratios and its interval; values: the number of pairs. A pair is of one
    sweep, session and card. Where there are too few (a mode was measured in another session), the ratio is that of
    the two medians, not `paired`, and values the fewer of the two families' sweeps.
launch_bound: an operand is. primary: both operands are. cells: what the ratio is made of, file names without ending.
"""

VARIANCE = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "mode": pl.String,
        "launch_bound": pl.Boolean,
        "quantity": pl.String,
        "level": pl.String,
        "degrees_of_freedom": pl.Int64,
        "sum_of_squares": pl.Float64,
        "coefficients": NUMBERS,
        "spread": pl.Float64,
    }
)
"""One row a gpu, model, mode, kind of family, quantity and level; see `deepgap.analyse.variance`.

quantity: throughput or latency. level: host, card, process or run. spread: the level's standard deviation of the
logarithm, about a relative one; null where the level was never repeated, zero where the estimate is not positive.
sum_of_squares, coefficients: what it follows from; both add over files.
"""

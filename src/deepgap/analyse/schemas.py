"""The tidy tables between the cells and the paper: their columns and units.

All tables and figures read these files of results/summary/ and config/gpus.yaml, and nothing else. Tables that are
made of cells are folders with a file a GPU and model, so that a changed cell changes those of its own alone.

Intervals are of medians over sweeps, at least 95 %, and null below six sweeps (`deepgap.stats.median_interval`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

MEASURED, PUBLISHED = "measured", "published"
STRINGS: Any = pl.List(pl.String)
INTEGERS: Any = pl.List(pl.Int64)
NUMBER: Any = pl.Float64
NUMBERS: Any = pl.List(pl.Float64)

KEY = {
    "gpu": pl.String,
    "model": pl.String,
    "mode": pl.String,
    "batch_size": pl.Int64,
    "threads": pl.Int64,
}
"""What names a cell family: all sweeps of it. threads: of the host's processor; 0 is all of its cores."""

CURVE_KEY = ["gpu", "model", "mode", "threads"]
"""What names a curve over batch sizes."""

ABOUT_MODE = {"runtime": pl.String, "precision": pl.String, "layout": pl.String}

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

FACTS = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "image_size": pl.Int64,
        "multiply_adds": pl.Int64,
        "weight_elements": pl.Int64,
        "activation_elements": pl.Int64,
        "largest_activation_elements": pl.Int64,
        "classes": pl.Int64,
        "blocks": pl.Int64,
    }
)
"""One row a gpu and model: what its cells say of the graph, for one image."""

PUBLISHED_VALUES = pl.Schema(
    {
        "section": pl.String,
        "gpu": pl.String,
        "model": pl.String,
        "precision": pl.String,
        "runtime": pl.String,
        "batch": pl.String,
        "quantity": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "approx": pl.String,
        "quote": pl.String,
        "source": pl.String,
    }
)
"""The numbers that the published paper prints, as transcribed; source is always `published`."""

COVERAGE_KEY = {"gpu": pl.String, "model": pl.String, "mode": pl.String}
EXPECTED = pl.Schema({**COVERAGE_KEY, **ABOUT_MODE, "expected": pl.Int64, "unlisted": pl.Int64})
"""Cells that the study asks for, cells or not. `unlisted` counts files of a gpu that the study does not name, in one
row a gpu with null model and mode."""

FOUND = pl.Schema({**COVERAGE_KEY, "found": pl.Int64, "failed": pl.Int64, "refused": pl.Int64})
"""Cells that are there, of those that the study asks for; failed: without times, refused: of these those whose
answers or times cannot be."""

COVERAGE = pl.Schema(
    {
        **COVERAGE_KEY,
        **ABOUT_MODE,
        "expected": pl.Int64,
        "found": pl.Int64,
        "failed": pl.Int64,
        "refused": pl.Int64,
        "unlisted": pl.Int64,
    }
)
"""`EXPECTED` and `FOUND` together."""

SESSIONS = pl.Schema(
    {
        "gpu": pl.String,
        "session": pl.String,
        "host": pl.String,
        "cpu": pl.String,
        "logical_cores": pl.Int64,
        "usable_cores": pl.Float64,
        "cpu_quota_cores": pl.Float64,
        "memory_gib": pl.Float64,
        "os": pl.String,
        "kernel": pl.String,
        "device": pl.String,
        "driver": pl.String,
        "max_sm_clock_mhz": pl.Int64,
        "power_limit_w": pl.Float64,
        "ecc": pl.Boolean,
        "l2_cache_bytes": pl.Int64,
        "device_memory_bytes": pl.Int64,
        "pcie": pl.String,
        "python": pl.String,
        "torch": pl.String,
        "cuda_runtime": pl.String,
        "cudnn": pl.String,
        "cells": pl.Int64,
        "load_least": pl.Float64,
        "load_most": pl.Float64,
        "launch_enqueue_least_ns": pl.Float64,
        "launch_enqueue_most_ns": pl.Float64,
        "launch_device_least_ns": pl.Float64,
        "launch_device_most_ns": pl.Float64,
        "first_measured_at": pl.String,
        "last_measured_at": pl.String,
        "cards": STRINGS,
        "sweeps": INTEGERS,
        "models": STRINGS,
        "modes": STRINGS,
        "intraop_threads": INTEGERS,
        "pinned_cores": INTEGERS,
        "versions": STRINGS,
        "weights": STRINGS,
    }
)
"""One row a session (one call of Snakemake on one host), software and kind of device.

load: of the last minute before a cell. launch: an empty kernel's time to be queued and on the device. pinned_cores:
how many cores the measuring process was held to. versions: `<name> <version>` of all software, and of the libraries
of its modes' runtimes. weights: `<model> <SHA-256>`. pcie: generation and width. Lists are sorted.
"""

SESSION_KEY = SESSIONS.names()[: SESSIONS.names().index("cells")]

COST = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "mode": pl.String,
        "phase": pl.String,
        "cells": pl.Int64,
        "seconds": pl.Float64,
    }
)
"""One row a gpu, model, mode and phase: seconds in all of its cells that say how long they took.

phase: those of the cells, `cell` for the whole process from start to file, and `other`: the whole less all phases.
cells: of the gpu, model and mode, whether they had the phase or not.
"""

SHARES = tuple(
    f"{name}{end}" for name in ("top1_agreement", "top1_accuracy", "top5_accuracy") for end in ("", "_low", "_high")
)
FIDELITY = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "mode": pl.String,
        **ABOUT_MODE,
        "calibration_method": pl.String,
        "calibration_images": pl.String,
        "calibration_count": pl.Int64,
        "compared_cells": pl.Int64,
        "cells": pl.Int64,
        "images": pl.Int64,
        "sqnr_db": pl.Float64,
        "cosine": pl.Float64,
        **dict.fromkeys(SHARES, NUMBER),
        "reference_top1_accuracy": pl.Float64,
        "reference_top5_accuracy": pl.Float64,
        "identical": pl.Boolean,
        "all_finite": pl.Boolean,
    }
)
"""One row a gpu, model and mode: how its answers compare with those of FP32.

calibration: of int8, else null. `images`: procedural or folder; `count`: the most images that were used.
compared_cells: those whose answers were compared, on however many images. cells: of them those that were compared on
    `images`, the most held-out images of any. All figures below but all_finite are of these cells.
sqnr_db, cosine: the smallest centred figure of any cell (`deepgap.measure.fidelity`). A cell that equals the
    reference has no decibels and does not count in sqnr_db; both are null when an answer of any compared cell is not
    finite.
top1, top5: shares of the images, the lowest of any cell: agreement with FP32's first class; accuracy against the
    labels, null without them. low, high: Wilson's 95 % interval from the counts of that one cell: all cells see the
    same images, so that more cells are no more evidence.
identical: every cell gave the reference's values. all_finite: of all compared cells.
"""

TELEMETRY = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "mode": pl.String,
        "batch_size": pl.Int64,
        "sweep": pl.Int64,
        "session": pl.String,
        "card": pl.String,
        "time_s": pl.Float64,
        "duration_s": pl.Float64,
        "timed": pl.Boolean,
        "started_unix_s": pl.Float64,
        "samples": pl.Int64,
        "temperature_c": pl.Float64,
        "power_w": pl.Float64,
        "power_semantics": pl.String,
        "utilisation_percent": pl.Float64,
        "sm_clock_mhz": pl.Float64,
        "sm_clock_min_mhz": pl.Int64,
        "sm_clock_max_mhz": pl.Int64,
        "sm_clock_share": pl.Float64,
        "throttle_reasons": STRINGS,
    }
)
"""What the device did: one row a second at most of each cell whose samples are there; a processor has none.

time_s: of the row's first sample, since the cell's start, which was at started_unix_s. duration_s: what the row's
    samples span, the time until a next one included.
timed: between the cell's first timed call and the end of its last, the warm-up of later runs included; the other
    rows are of loading, preparing, the first warm-up and the held-out images.
temperature, power, utilisation, sm_clock: medians over the row's samples; min and max of the clock beside it.
sm_clock_share: the median over the card's maximum.
power_semantics: the name of NVML's query, of which power_w is the value.
throttle_reasons: names of the clock event reasons that held the clocks down in any sample, sorted.
"""

TELEMETRY_ORDER = ["gpu", "started_unix_s", "model", "mode", "batch_size", "sweep", "time_s"]

DESIGN = pl.Schema(
    {
        "gpu": pl.String,
        "models": STRINGS,
        "modes": STRINGS,
        "threads": STRINGS,
        "batch_sizes": INTEGERS,
        "protocol": pl.String,
        "sweeps": pl.Int64,
        "runs": pl.Int64,
        "warmup_iterations": pl.Int64,
        "timed_iterations": pl.Int64,
        "throughput_s": pl.Float64,
        "arms": STRINGS,
        "minimum_iterations": pl.Int64,
        "minimum_ms": pl.Float64,
        "maximum_s": pl.Float64,
        "half_width": pl.Float64,
        "fidelity_images": pl.Int64,
    }
)
"""What the study asks for: one row a gpu, cells or not.

threads: for each of `modes` the numbers of threads that it runs with, as words; `all` on a GPU.
protocol: its name, and after it its counts (`study.Protocol`); minimum_iterations, minimum_ms, maximum_s and
    half_width are null where a run never ends before its timed_iterations.
"""

CELL_TABLES: dict[str, pl.Schema] = {
    "runs": RUNS,
    "families": FAMILIES,
    "by_host": BY_HOST,
    "ratios": RATIOS,
    "variance": VARIANCE,
    "facts": FACTS,
    "fidelity": FIDELITY,
    "telemetry": TELEMETRY,
    "sessions": SESSIONS,
    "found": FOUND,
    "cost": COST,
}
"""The folders of results/summary/, in each of which is a file `<gpu>/<model>.parquet` of this schema."""

STUDY_TABLES: dict[str, pl.Schema] = {"published": PUBLISHED_VALUES, "expected": EXPECTED, "design": DESIGN}
"""The files of results/summary/, by stem: what no cell changes."""

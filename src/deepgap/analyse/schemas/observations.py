"""What else is known of cells: the graph, the answers, the device, the host and the software, and what they cost."""

from __future__ import annotations

import polars as pl

from deepgap.analyse.schemas.columns import ABOUT_MODE, INTEGERS, NUMBER, STRINGS

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

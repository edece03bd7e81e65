"""What no measurement can be: more arithmetic than the device has, or times that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from deepgap.cells.cell_file import LATENCY, OK, PARTS, THROUGHPUT
from deepgap.errors import CellError
from deepgap.study.gpus import Gpu

WINOGRAD = 2.25
"""The most that FP32 convolutions can exceed the peak: a 3 x 3 convolution in Winograd's F(2 x 2, 3 x 3) needs 16
multiplications where the direct sum needs 36 (Lavin and Gray, CVPR 2016)."""

SAME_PEAK = {"bf16": "fp16", "fp8": "int8", "mixed_fp16": "fp16", "mixed_bf16": "fp16"}
"""Precisions whose dense peak is that of another one on NVIDIA's tensor cores; a peak of their own counts first."""

LEAST_HOST_RATIO = 0.5
MOST_DEVICE_RATIO = 2.0
CLOCK_TOLERANCE = 0.01
CLOCK_TOLERANCE_MS = 0.05


def dense_peak(precision: str, gpu: Gpu) -> float | None:
    """The dense peak of a precision in tera-operations a second; null where it is not known."""
    peak = gpu.peak_tops.get(precision)
    return gpu.peak_tops.get(SAME_PEAK.get(precision, precision)) if peak is None else peak


def _most_of_peak(precision: str, gpu: Gpu) -> float:
    """The largest part of its peak that a precision can reach: FP16 may be summed in FP16, which can be faster."""
    if precision == "fp32":
        return WINOGRAD
    summed_in_fp32 = gpu.peak_tops.get("fp16")
    if precision != "fp16" or not gpu.fp16_accumulate_peak_tops or not summed_in_fp32:
        return 1.0
    return gpu.fp16_accumulate_peak_tops / summed_in_fp32


def peak_share(multiply_adds: float | None, precision: str, images_per_s: float, gpu: Gpu) -> float | None:
    """Part of the dense peak of a precision that a throughput needs, at two operations a multiply-add.

    Null for a model without a known count and for a device without a known peak.

    Args:
        multiply_adds: of one image, `observed.facts.multiply_adds` of a footer.
    """
    peak_tops = dense_peak(precision, gpu)
    if peak_tops is None or multiply_adds is None:
        return None
    return 2 * multiply_adds * images_per_s / (1e12 * peak_tops)


def highest_share(
    rows: pl.DataFrame, recipe: Mapping[str, Any], facts: Mapping[str, Any], gpu: Gpu
) -> tuple[float, str] | None:
    """The largest `peak_share` of any arm of a timed cell, by device time, and the arm and run that has it.

    An arm counts by the median time of a call in a run: of one span for the queued arms, of all calls for the others.
    The arms of parts of a call do not count: the facts are of a whole one.
    Null where `peak_share` is.
    """
    # Lists and arrays, here and below: a query on so few rows costs ten times as much.
    arms, runs = rows["arm"].to_list(), rows["run"].to_numpy()
    call_ms, of_arm = rows["device_ms"].to_numpy() / rows["calls"].to_numpy(), np.array(arms)
    fastest_ms, arm, run = min(
        (float(np.median(call_ms[(of_arm == arm) & (runs == run)])), arm, run)
        for arm, run in dict.fromkeys(zip(arms, runs.tolist(), strict=True))
        if arm not in PARTS
    )
    images_per_s = 1000 * recipe["batch_size"] / fastest_ms
    share = peak_share(facts.get("multiply_adds"), recipe["precision"], images_per_s, gpu)
    return None if share is None else (share, f"the {arm} arm of run {run}")


def arms_ratio(rows: pl.DataFrame, times: str) -> float:
    """Throughput by wall time x median latency / batch size of a timed cell; 1 where a call takes as long in a queue
    as alone.

    Args:
        times: the column of latencies, `device_ms` or `host_ms`.
    """
    arms = np.array(rows["arm"].to_list())
    latency_ms = rows[times].to_numpy()[arms == LATENCY]
    period_ms = (rows["host_ms"].to_numpy() / rows["calls"].to_numpy())[arms == THROUGHPUT]
    return float(np.median(latency_ms) / np.median(period_ms))


def broken_bound(rows: pl.DataFrame, recipe: Mapping[str, Any], facts: Mapping[str, Any], gpu: Gpu) -> str | None:
    """Why the rows of a cell cannot be true, in one sentence; null where they can. What is merely odd is for
    `deepgap.analyse.flags`.

    - A span's device time and enqueue time lie within its host time, up to the clocks' differences. A queued run
      whose end was not waited for breaks this.
    - No arm does more operations a second than the dense peak of its precision, or `WINOGRAD` of it in fp32, or the
      rate with sums in FP16 where a card has one. A null
      peak and an unknown count are not checked.
    - On a GPU, calls in a queue take at most twice as long as a lone synchronised call (`LEAST_HOST_RATIO`): a queue
      only takes waits away. And a lone call's device time, which holds its kernels and the gaps of launching them, is
      at most twice the time of a call in the queue (`MOST_DEVICE_RATIO`): the queue needs at least the longer of
      kernels and launches, so gaps can double the time and no more. On a CPU both ratios depend on what else the host
      does, so there they are not checked.

    Args:
        rows: of a cell, in `cell_file.SCHEMA`; a failed cell passes.
        recipe: its recipe, which names the precision and the batch size.
        facts: of its model, `observed.facts` of its footer.
        gpu: the profile of the recipe's gpu.
    """
    if set(rows["status"]) != {OK}:
        return None
    return next(_problems(rows, recipe, facts, gpu), None)


def check_bounds(rows: pl.DataFrame, recipe: Mapping[str, Any], facts: Mapping[str, Any], gpu: Gpu) -> None:
    """Refuse the rows of a file that cannot be true; see `broken_bound`.

    Raises:
        CellError: what was found, the limit, and what to do.
    """
    problem = broken_bound(rows, recipe, facts, gpu)
    if problem is not None:
        mode = f"{recipe['runtime']}-{recipe['precision']}"
        cell = f"{recipe['gpu']} {recipe['model']} {mode} batch {recipe['batch_size']}"
        raise CellError(f"{cell}: {problem}, so the cell is refused: mend that and measure it again.")


def _problems(rows: pl.DataFrame, recipe: Mapping[str, Any], facts: Mapping[str, Any], gpu: Gpu) -> Iterator[str]:
    host_limit = rows["host_ms"].to_numpy() * (1 + CLOCK_TOLERANCE) + CLOCK_TOLERANCE_MS
    for name in ("device_ms", "enqueue_ms"):
        outside = rows[name].to_numpy() > host_limit
        if outside.any():
            row = rows.row(int(outside.argmax()), named=True)
            yield (
                f"{row['arm']} {row['iteration']} of run {row['run']} has a {name} of {row[name]:.4g} within a "
                f"host_ms of {row['host_ms']:.4g}, which is the longest that it can be; its end was not waited for "
                "or a clock is wrong"
            )
    highest = highest_share(rows, recipe, facts, gpu)
    limit = _most_of_peak(recipe["precision"], gpu)
    if highest and highest[0] > limit:
        yield (
            f"{highest[1]} reaches {100 * highest[0]:.0f} % of {gpu.key}'s dense {recipe['precision']} peak of "
            f"{dense_peak(recipe['precision'], gpu):g} Tops/s, and the limit is {100 * limit:.0f} %; the work was "
            "not all done, the precision is another one or the peak in config/gpus.yaml is wrong"
        )
    if gpu.device == "cpu":
        return
    host_ratio, device_ratio = arms_ratio(rows, "host_ms"), arms_ratio(rows, "device_ms")
    if host_ratio < LEAST_HOST_RATIO:
        yield (
            f"throughput x median host latency is {host_ratio:.2f} of the batch size, and the least is "
            f"{LEAST_HOST_RATIO:g}; the queued run was disturbed or the latency calls did not wait for the device"
        )
    if device_ratio > MOST_DEVICE_RATIO:
        yield (
            f"throughput x median device latency is {device_ratio:.2f} of the batch size, and the most is "
            f"{MOST_DEVICE_RATIO:g}; the queued run did not do all its work or the latency calls were disturbed"
        )

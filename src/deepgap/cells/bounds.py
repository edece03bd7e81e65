"""What no measurement can be: more arithmetic than the device has, or times that contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from deepgap.cells.cell_file import LATENCY, OK, THROUGHPUT
from deepgap.errors import CellError
from deepgap.sources.models import GMAC_PER_IMAGE
from deepgap.study.gpus import Gpu

WINOGRAD = 2.25
"""The most that FP32 convolutions can exceed the peak: a 3 x 3 convolution in Winograd's F(2 x 2, 3 x 3) needs 16
multiplications where the direct sum needs 36 (Lavin and Gray, CVPR 2016)."""

LEAST_HOST_RATIO = 0.5
MOST_DEVICE_RATIO = 2.0
CLOCK_TOLERANCE = 0.01
CLOCK_TOLERANCE_MS = 0.05


def peak_share(model: str, precision: str, images_per_s: float, gpu: Gpu) -> float | None:
    """Part of the dense peak of a precision that a throughput needs, at two operations a multiply-add.

    Null for a model without a known count and for a device without a known peak.
    """
    peak_tops, gmac = gpu.peak_tops.get(precision), GMAC_PER_IMAGE.get(model)
    if peak_tops is None or gmac is None:
        return None
    return 2 * gmac * images_per_s / (1000 * peak_tops)


def highest_share(rows: pl.DataFrame, recipe: Mapping[str, Any], gpu: Gpu) -> tuple[float, str] | None:
    """The largest `peak_share` of any arm of a timed cell, by device time, and the arm and repeat that has it.

    An arm counts by the median time of a call in a repeat: of one span for the queued arms, of all calls for the
    others. Null where `peak_share` is.
    """
    # Lists and arrays, here and below: a query on so few rows costs ten times as much.
    arms, repeats = rows["arm"].to_list(), rows["repeat"].to_numpy()
    call_ms, of_arm = rows["device_ms"].to_numpy() / rows["calls"].to_numpy(), np.array(arms)
    fastest_ms, arm, repeat = min(
        (float(np.median(call_ms[(of_arm == arm) & (repeats == repeat)])), arm, repeat)
        for arm, repeat in dict.fromkeys(zip(arms, repeats.tolist(), strict=True))
    )
    images_per_s = 1000 * recipe["batch_size"] / fastest_ms
    share = peak_share(recipe["model"], recipe["precision"], images_per_s, gpu)
    return None if share is None else (share, f"the {arm} of repeat {repeat}")


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


def check_bounds(rows: pl.DataFrame, recipe: Mapping[str, Any], gpu: Gpu) -> None:
    """Refuse the rows of a cell that cannot be true. What is merely odd is for `deepgap.analyse.flags`.

    - A span's device time and enqueue time lie within its host time, up to the clocks' differences. A queued run
      whose end was not waited for breaks this.
    - No arm does more operations a second than the dense peak of its precision, or `WINOGRAD` of it in fp32. A null
      peak and an unknown model are not checked.
    - On a GPU, calls in a queue take at most twice as long as a lone synchronised call (`LEAST_HOST_RATIO`): a queue
      only takes waits away. And a lone call's device time, which holds its kernels and the gaps of launching them, is
      at most twice the time of a call in the queue (`MOST_DEVICE_RATIO`): the queue needs at least the longer of
      kernels and launches, so gaps can double the time and no more. On a CPU both ratios depend on what else the host
      does, so there they are not checked.

    Args:
        rows: of a cell, in `cells.SCHEMA`; a failed cell passes.
        recipe: its recipe, which names the model, precision and batch size.
        gpu: the profile of the recipe's gpu.

    Raises:
        CellError: what was found, the limit, and what to do.
    """
    if set(rows["status"]) != {OK}:
        return

    def refuse(found: str, cause: str) -> None:
        mode = f"{recipe['runtime']}-{recipe['precision']}"
        cell = f"{recipe['gpu']} {recipe['model']} {mode} batch {recipe['batch_size']}"
        raise CellError(f"{cell}: {found}; {cause}, so the cell is refused: mend that and measure it again.")

    host_limit = rows["host_ms"].to_numpy() * (1 + CLOCK_TOLERANCE) + CLOCK_TOLERANCE_MS
    for name in ("device_ms", "enqueue_ms"):
        outside = rows[name].to_numpy() > host_limit
        if outside.any():
            row = rows.row(int(outside.argmax()), named=True)
            refuse(
                f"{row['arm']} {row['iteration']} of repeat {row['repeat']} has a {name} of {row[name]:.4g} within a "
                f"host_ms of {row['host_ms']:.4g}, which is the longest that it can be",
                "its end was not waited for or a clock is wrong",
            )
    highest = highest_share(rows, recipe, gpu)
    limit = WINOGRAD if recipe["precision"] == "fp32" else 1.0
    if highest and highest[0] > limit:
        refuse(
            f"{highest[1]} reaches {100 * highest[0]:.0f} % of {gpu.key}'s dense {recipe['precision']} peak of "
            f"{gpu.peak_tops[recipe['precision']]:g} Tops/s, and the limit is {100 * limit:g} %",
            "the work was not all done, the precision is another one or the peak in config/gpus.yaml is wrong",
        )
    if gpu.device == "cpu":
        return
    host_ratio, device_ratio = arms_ratio(rows, "host_ms"), arms_ratio(rows, "device_ms")
    if host_ratio < LEAST_HOST_RATIO:
        refuse(
            f"throughput x median host latency is {host_ratio:.2f} of the batch size, and the least is "
            f"{LEAST_HOST_RATIO:g}",
            "the queued run was disturbed or the latency calls did not wait for the device",
        )
    if device_ratio > MOST_DEVICE_RATIO:
        refuse(
            f"throughput x median device latency is {device_ratio:.2f} of the batch size, and the most is "
            f"{MOST_DEVICE_RATIO:g}",
            "the queued run did not do all its work or the latency calls were disturbed",
        )

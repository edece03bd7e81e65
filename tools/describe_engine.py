"""Tell layer by layer what a cuDNN engine runs, and how far it is from the limits of its GPU, as Markdown."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepgap.build.engine_file import HEADER
from deepgap.runtimes.cudnn.layers import Layer
from deepgap.study.gpus import Gpu, load_gpus

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """All layers of one shape; times in microseconds, for all of them together."""

    shape: str
    count: int
    kernel: str
    time_us: float
    best_cudnn_us: float | None
    best_triton_us: float | None
    traffic_us: float
    arithmetic_us: float

    @property
    def floor_us(self) -> float:
        return max(self.traffic_us, self.arithmetic_us)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", type=Path, help="a file of build/engines/<gpu>/ of the cudnn runtime")
    parser.add_argument("--gpu", required=True, help="the key of config/gpus.yaml whose bandwidth and peak apply")
    parser.add_argument("--batch-size", type=int, required=True)
    options = parser.parse_args()
    gpu = load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")[options.gpu]
    with np.load(options.engine, allow_pickle=False) as file:
        header = json.loads(file[HEADER].tobytes())
    sys.stdout.write(describe(header["about"], gpu, options.batch_size))


def describe(about: Mapping[str, Any], gpu: Gpu, batch: int) -> str:
    """A table of the layers by what they lose against the floor, most first, and the sums.

    The floor of a layer is the larger of its least memory traffic over the DRAM bandwidth and its operations over
    the dense INT8 peak.
    """
    rows = sorted(_rows(about, gpu, batch), key=lambda row: row.floor_us - row.time_us)
    total, floor = sum(row.time_us for row in rows), sum(row.floor_us for row in rows)
    lines = [
        f"All {sum(row.count for row in rows)} convolutions at batch {batch}: {total / 1e3:.3f} ms; "
        f"floor {floor / 1e3:.3f} ms.",
        "",
        "| input, filters | layers | runs on | time (us) | best cuDNN | best Triton | traffic | arithmetic | lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        others = ["-" if us is None else f"{us:.0f}" for us in (row.best_cudnn_us, row.best_triton_us)]
        lines.append(
            f"| {row.shape} | {row.count} | {row.kernel} | {row.time_us:.0f} | {others[0]} | {others[1]} | "
            f"{row.traffic_us:.0f} | {row.arithmetic_us:.0f} | {row.time_us - row.floor_us:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _rows(about: Mapping[str, Any], gpu: Gpu, batch: int) -> Iterator[Row]:
    bandwidth, peak = gpu.memory_bandwidth_gb_s, gpu.peak_tops.get("int8")
    assert bandwidth and peak
    groups: dict[Any, list[dict[str, Any]]] = {}
    for entry in about["layers"]:
        if entry["op"] == "convolution":
            choice = about["choices"][entry["name"]]
            groups.setdefault(Layer(**entry).shape(batch), []).append(choice)
    for shape, choices in groups.items():
        count, choice = len(choices), choices[0]
        best: dict[str, float] = {}
        for kernel, _, us in choice["timed"]:
            best.setdefault(kernel, us * count)
        suffix = " + skip" if shape.skip else ""
        yield Row(
            shape=f"{shape.height}² x {shape.channels}, {shape.kernel} x {shape.kernel} / {shape.stride}, "
            f"{shape.filters}{suffix}",
            count=count,
            kernel="cuDNN" if choice["kernel"] == "cudnn" else "Triton",
            time_us=choice["microseconds"] * count,
            best_cudnn_us=best.get("cudnn"),
            best_triton_us=best.get("triton"),
            traffic_us=count * shape.bytes / bandwidth / 1e3,
            arithmetic_us=count * shape.operations / peak / 1e6,
        )


if __name__ == "__main__":
    main()

"""Compare the throughput arm with a bare PyTorch loop of the same settings, in one process, in turns.

The bare loop is written here from PyTorch's documentation alone: it shares the weights and the settings with the
pipeline, and none of its timing code. Prints a row a configuration; the ratio should be 1 within 1 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from deepgap.measure.arms.timer import CudaTimer
from deepgap.measure.precision import set_precision
from deepgap.measure.subject import make_inputs
from deepgap.runtimes import load_runtimes
from deepgap.weights import load_model

CASES = (("fp32", 8), ("fp32", 128), ("tf32", 128), ("fp16", 1), ("fp16", 32), ("fp16", 256))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    device = torch.device("cuda")
    torch.backends.cudnn.benchmark = True
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {options.model}, {options.rounds} rounds")
    print("precision  batch  pipeline img/s  bare img/s  ratio (min, median, max over rounds)")
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        for precision, batch_size in CASES:
            set_precision(precision)
            dtype = torch.float16 if precision == "fp16" else torch.float32
            layout = torch.channels_last if precision == "fp16" else torch.contiguous_format
            model = load_model(options.model, options.weights)[0]
            model = model.to(device=device, dtype=dtype).to(memory_format=layout)
            inputs = make_inputs(batch_size, 224, device, dtype, layout)
            call = load_runtimes()["eager"].prepare(model, inputs, {})
            for index in range(40):
                call(index % 2)
            torch.cuda.synchronize()
            pipeline, bare = [], []
            for _ in range(options.rounds):
                host_ms = CudaTimer().queue(call, options.iterations).host_ms
                pipeline.append(options.iterations * batch_size / host_ms * 1000)
                bare.append(bare_loop(model, inputs, options.iterations))
            ratios = sorted(ours / theirs for ours, theirs in zip(pipeline, bare, strict=True))
            print(
                f"{precision:9s} {batch_size:6d} {statistics.median(pipeline):15.1f} {statistics.median(bare):11.1f}"
                f"  {ratios[0]:.4f} {statistics.median(ratios):.4f} {ratios[-1]:.4f}"
            )


def bare_loop(model: torch.nn.Module, inputs: list[torch.Tensor], iterations: int) -> float:
    """Images a second of a plain loop."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for iteration in range(iterations):
        model(inputs[iteration % len(inputs)])
    torch.cuda.synchronize()
    return iterations * len(inputs[0]) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()

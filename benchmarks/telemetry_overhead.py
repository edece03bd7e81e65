"""What sampling the device costs the latency of the work on it: each round times the same calls with and without.

Run on an NVIDIA GPU: python benchmarks/telemetry_overhead.py --gpu H200. Prints a line of JSON a case: the ratio of
the medians with and without sampling, over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
import torchvision

from deepgap.measure.arms.timer import CudaTimer
from deepgap.measure.arms.warm_up import warm_up
from deepgap.measure.device import matching_devices
from deepgap.measure.pinning import pin_process
from deepgap.measure.precision import set_precision
from deepgap.measure.subject import make_inputs
from deepgap.runtimes import load_runtimes
from deepgap.study.gpus import load_gpus

ROOT = Path(__file__).resolve().parent.parent
CASES = (("eager", 1), ("graph", 1), ("graph", 32))
SAMPLER = """
import sys, time
from deepgap.measure.telemetry import Telemetry, open_nvml, open_nvml_counter
index, core = map(int, sys.argv[1:])
telemetry = Telemetry(lambda: open_nvml(index), time.perf_counter_ns(), core, lambda: open_nvml_counter(index))
sys.stdin.read()
print(telemetry.stop().frame.height)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", required=True, help="a key of config/gpus.yaml")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0, help="of timed calls a round, with and without each")
    options = parser.parse_args()
    gpus = load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")
    device = matching_devices(gpus[options.gpu])[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid
    spare = pin_process(on_gpu=True).spare or 0
    set_precision("fp16")
    torch.backends.cudnn.benchmark = True
    torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
    timer = CudaTimer()
    for runtime, batch_size in CASES:
        with torch.inference_mode():
            model = torchvision.models.resnet50(weights=None).eval()
            model = model.half().cuda().to(memory_format=torch.channels_last)
            inputs = make_inputs(batch_size, 224, torch.device("cuda"), torch.float16, torch.channels_last)
            call = load_runtimes()[runtime].prepare(model, inputs, {})
            warm_up(call, timer, 20)
            count = int(options.seconds * 1000 / median(span.host_ms for span in timer.each(call, 50)))
            ratios, samples = [], []
            for place in range(options.rounds):
                # The order alternates, so that a drift of the clocks does not look like an effect.
                order = (False, True) if place % 2 else (True, False)
                times = {}
                for sampled in order:
                    sampler = start_sampler(device.index, spare) if sampled else None
                    times[sampled] = median(span.device_ms for span in timer.each(call, count))
                    if sampler is not None:
                        samples.append(int(sampler.communicate()[0]))
                ratios.append(times[True] / times[False])
        print(
            json.dumps(
                {
                    "runtime": runtime,
                    "batch_size": batch_size,
                    "rounds": options.rounds,
                    "calls_a_round": count,
                    "latency_ratio_median": round(median(ratios), 5),
                    "latency_ratio_min": round(min(ratios), 5),
                    "latency_ratio_max": round(max(ratios), 5),
                    "samples_a_round": median(samples),
                }
            ),
            flush=True,
        )


def start_sampler(index: int, core: int) -> subprocess.Popen[str]:
    """A sampler on this core, in a new interpreter, because this one has used CUDA and must not fork."""
    command = [sys.executable, "-c", SAMPLER, str(index), str(core)]
    sampler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
    time.sleep(1.5)
    return sampler


if __name__ == "__main__":
    main()

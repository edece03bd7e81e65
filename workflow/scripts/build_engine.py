"""Build an engine for a device: on it, or on any machine where the runtime builds ahead of time."""

import os
from pathlib import Path

from deepgap.jobs.arguments import run_script
from deepgap.measure.device import take_device
from deepgap.measure.locks import take_host
from deepgap.runtimes import load_runtimes
from deepgap.runtimes.engine_builder import build_engine
from deepgap.study.gpus import Device, Gpu
from deepgap.text import tell


def find_device(gpu, runtime):
    if load_runtimes()[runtime].ahead_of_time:
        take_host()
        return Device(index=-1, uuid="", name=gpu.kind, compute_capability=gpu.compute_capability)
    device = take_device(gpu, tell, alone=True)
    os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid
    return device


def main(job):
    build_engine(
        runtime_name=job.request["runtime"],
        precision=job.request["precision"],
        engine_recipe=job.request["engine_recipe"],
        graph=Path(job.graph),
        timing_cache=Path(job.request["timing_cache"]),
        path=Path(job.engine),
        device=find_device(Gpu(**job.request["gpu"]), job.request["runtime"]),
        say=tell,
    )


run_script(main, globals(), inputs=["graph"], outputs=["engine"], params=["request"])

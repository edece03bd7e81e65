"""Build an engine on this machine's device, bound to the device and to the libraries."""

import os
import sys
from pathlib import Path

from deepgap.jobs.arguments import run_script
from deepgap.measure.device import take_device
from deepgap.runtimes.engine_builder import build_engine
from deepgap.study.gpus import Gpu


def say(text):
    print(text, file=sys.stderr, flush=True)


def main(job):
    device = take_device(Gpu(**job.request["gpu"]), say, alone=True)
    os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid
    build_engine(
        runtime_name=job.request["runtime"],
        precision=job.request["precision"],
        engine_recipe=job.request["engine_recipe"],
        graph=Path(job.graph),
        timing_cache=Path(job.request["timing_cache"]),
        path=Path(job.engine),
        device=device,
        say=say,
    )


run_script(main, globals(), inputs=["graph"], outputs=["engine"], params=["request"])

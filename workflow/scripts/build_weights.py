"""Build the state dict that every mode of a model shares."""

import os
import sys
from pathlib import Path

import torch

from deepgap.hardware import host_threads
from deepgap.job import run_script
from deepgap.models import build_weights
from deepgap.study import IMAGE_SIZE


def main(job):
    torch.set_num_threads(host_threads())
    output = Path(job.weights)
    state = build_weights(
        output.name.split(".")[0], job.settings, IMAGE_SIZE, say=lambda text: print(text, file=sys.stderr)
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    torch.save(state, partial)
    partial.replace(output)


run_script(main, globals(), outputs=["weights"], params=["settings"])

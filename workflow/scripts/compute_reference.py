"""Compute the FP32 logits of the held-out images, the reference of every mode."""

from pathlib import Path

import numpy as np
import torch

from deepgap.hardware import host_threads
from deepgap.imagesets import BATCH, write_arrays
from deepgap.job import run_script
from deepgap.models import load_model


def main(job):
    torch.set_num_threads(host_threads())
    output = Path(job.logits)
    model, _ = load_model(output.name.split(".")[0], Path(job.weights))
    images = torch.from_numpy(np.load(job.images)["images"]).float()
    with torch.inference_mode():
        logits = torch.cat([model(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])
    write_arrays(output, logits=logits.numpy())


run_script(main, globals(), inputs=["weights", "images"], outputs=["logits"])

"""Compute the FP32 logits of the held-out images, the reference of every mode."""

from pathlib import Path

import torch

from deepgap.build.images.imagesets import BATCH, read_arrays, write_arrays
from deepgap.host import host_threads
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host
from deepgap.sources.models import load_model


def main(job):
    take_host()
    torch.set_num_threads(host_threads())
    output = Path(job.logits)
    model, weights_sha256 = load_model(output.name.split(".")[0], Path(job.weights))
    (held_out,) = read_arrays(Path(job.images), "images")
    images = torch.from_numpy(held_out).float()
    with torch.inference_mode():
        logits = torch.cat([model(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])
    write_arrays(output, logits=logits.numpy(), weights_sha256=weights_sha256)


run_script(main, globals(), inputs=["weights", "images"], outputs=["logits"])

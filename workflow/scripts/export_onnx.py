"""Export a model to ONNX from the weights that every mode shares."""

from pathlib import Path

import torch

from deepgap.build.export import export_onnx
from deepgap.host import host_threads
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host
from deepgap.sources.models import load_model


def main(job):
    take_host()
    torch.set_num_threads(host_threads())
    output = Path(job.graph)
    model, weights_sha256 = load_model(output.name.split(".")[0], Path(job.weights))
    export_onnx(model, output, job.precision, job.image_size, weights_sha256)


run_script(main, globals(), inputs=["weights"], outputs=["graph"], params=["precision", "image_size"])

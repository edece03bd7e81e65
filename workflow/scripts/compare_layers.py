"""Compare the layers of a model, in the precisions and graphs of a study's modes, with FP32."""

import os
from pathlib import Path

import numpy as np
import polars as pl

from deepgap.errors import UnsupportedError
from deepgap.host import host_threads
from deepgap.jobs.arguments import list_paths, run_script
from deepgap.measure.device import take_device
from deepgap.study.gpus import Gpu
from deepgap.text import tell


def compare(job):
    """The layers in the forms that the model has; none of a model that PyTorch does not run."""
    device = take_device(Gpu(**job.gpu), tell, alone=True)
    if device.index >= 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid

    import torch

    from deepgap.build.images.imagesets import read_arrays
    from deepgap.measure.fidelity_report import LAYER_IMAGES, LAYERS, report_layers
    from deepgap.weights import load_model, read_weights

    torch.set_num_threads(host_threads())
    (images,) = read_arrays(Path(job.images), "images")
    weights = Path(job.weights)
    try:
        model, _ = load_model(read_weights(weights).spec.key, weights)
    except UnsupportedError as error:
        tell(str(error))
        return pl.DataFrame(schema=LAYERS)
    return report_layers(
        model,
        job.precisions,
        "cuda" if device.index >= 0 else "cpu",
        list_paths(job.graphs),
        images[:LAYER_IMAGES].astype(np.float32),
    )


def main(job):
    compare(job).write_csv(job.layers)


run_script(main, globals(), inputs=["weights", "images", "graphs"], outputs=["layers"], params=["gpu", "precisions"])

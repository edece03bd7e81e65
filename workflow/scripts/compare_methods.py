"""Calibrate a model by every method, from one set of histograms, and compare its INT8 graphs with FP32."""

from functools import partial
from pathlib import Path

import polars as pl

from deepgap.build.images.imagesets import calibration_images, read_arrays
from deepgap.build.quantize.histograms import collect_histograms
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.errors import UnsupportedError
from deepgap.jobs.arguments import run_script
from deepgap.measure.fidelity_report import COSTS, METHOD_IMAGES, compare_methods
from deepgap.measure.locks import take_host
from deepgap.text import tell


def compare(job):
    graph = read_graph(Path(job.graph))
    histograms = collect_histograms(
        Path(job.graph),
        calibrated_tensors(graph, job.calibration["attention"]),
        partial(calibration_images(job.calibration, tell).batches, job.image_size),
        say=tell,
    )
    (images,) = read_arrays(Path(job.images), "images")
    reference, labels, labels_mean = read_arrays(Path(job.reference), "logits", "labels", "labels_mean")
    return compare_methods(
        graph,
        histograms,
        images[:METHOD_IMAGES],
        reference[:METHOD_IMAGES],
        labels[:METHOD_IMAGES] if labels_mean else None,
        job.calibration["attention"],
        say=tell,
    )


def main(job):
    take_host()
    try:
        methods = compare(job)
    except UnsupportedError as error:
        # Of a model that cannot be quantised there is nothing to compare.
        tell(str(error))
        methods = pl.DataFrame(schema=COSTS)
    methods.write_csv(job.methods)


run_script(
    main,
    globals(),
    inputs=["graph", "images", "reference"],
    outputs=["methods"],
    params=["calibration", "image_size"],
)

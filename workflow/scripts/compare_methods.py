"""Calibrate a model by every method, from one set of histograms, and compare its INT8 graphs with FP32."""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from deepgap.fidelity_report import METHOD_IMAGES, compare_methods
from deepgap.imagesets import calibration_batches
from deepgap.job import run_script
from deepgap.quantize.histograms import collect_histograms
from deepgap.quantize.placement import calibrated_tensors, read_graph
from deepgap.study import IMAGE_SIZE


def say(text):
    print(text, file=sys.stderr, flush=True)


def main(job):
    graph = read_graph(Path(job.graph))
    histograms = collect_histograms(
        Path(job.graph),
        calibrated_tensors(graph),
        partial(calibration_batches, job.calibration, IMAGE_SIZE),
        say=say,
    )
    held_out, reference = np.load(job.images), np.load(job.reference)
    methods = compare_methods(
        graph,
        histograms,
        held_out["images"][:METHOD_IMAGES],
        reference["logits"][:METHOD_IMAGES],
        held_out["labels"][:METHOD_IMAGES] if job.labelled else None,
        say=say,
    )
    methods.write_csv(job.methods)


run_script(
    main,
    globals(),
    inputs=["graph", "images", "reference"],
    outputs=["methods"],
    params=["calibration", "labelled"],
)

"""Find the INT8 scales of a model's activations and write them as a calibration cache."""

import sys
from functools import partial
from pathlib import Path

from deepgap.build.images.imagesets import calibration_images, describe_calibration
from deepgap.build.quantize.cache import write_cache
from deepgap.build.quantize.histograms import collect_histograms
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.thresholds import choose_scales
from deepgap.errors import ImageError, UnsupportedError
from deepgap.files import put_in_place
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host


def say(text):
    print(text, file=sys.stderr, flush=True)


def main(job):
    take_host()
    graph, method = Path(job.graph), job.calibration["method"]
    try:
        network = read_graph(graph)
    except UnsupportedError as error:
        # Nothing reads it: the graphs that would be made from it say the same.
        with put_in_place(Path(job.cache)) as path:
            path.write_text(f"{error}\n", encoding="utf-8")
        return
    histograms = collect_histograms(
        graph,
        calibrated_tensors(network, job.calibration["attention"]),
        partial(calibration_images(job.calibration, say).batches, job.image_size),
        say=say,
    )
    # The cache's name tells the images that were there when Snakemake started.
    if describe_calibration(job.calibration) != job.described:
        raise ImageError(
            f"The images in {job.calibration['images']} changed since this run began; run Snakemake again."
        )
    write_cache(Path(job.cache), choose_scales(histograms, method), method)


run_script(main, globals(), inputs=["graph"], outputs=["cache"], params=["calibration", "described", "image_size"])

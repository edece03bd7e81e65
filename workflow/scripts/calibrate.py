"""Find the INT8 scales of a model's activations and write them as a calibration cache."""

from functools import partial
from pathlib import Path

from deepgap.build.images.imagesets import calibration_images, describe_calibration
from deepgap.build.quantize.cache import write_cache, write_unsupported_cache
from deepgap.build.quantize.histograms import collect_histograms
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.thresholds import choose_scales
from deepgap.errors import ImageError, UnsupportedError
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host
from deepgap.text import tell


def calibrate(job):
    graph, method = Path(job.graph), job.calibration["method"]
    histograms = collect_histograms(
        graph,
        calibrated_tensors(read_graph(graph), job.calibration["attention"]),
        partial(calibration_images(job.calibration, tell).batches, job.image_size),
        say=tell,
    )
    # The cache's name tells the images that were there when Snakemake started.
    if describe_calibration(job.calibration) != job.described:
        raise ImageError(
            f"The images in {job.calibration['images']} changed since this run began; run Snakemake again."
        )
    write_cache(Path(job.cache), choose_scales(histograms, method), method)


def main(job):
    take_host()
    try:
        calibrate(job)
    except UnsupportedError as error:
        # The quantised graphs say the same, and their cells become rows with this reason.
        tell(str(error))
        write_unsupported_cache(Path(job.cache), str(error))


run_script(main, globals(), inputs=["graph"], outputs=["cache"], params=["calibration", "described", "image_size"])

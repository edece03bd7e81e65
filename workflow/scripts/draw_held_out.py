"""Draw the images on which every mode's answers are checked."""

from pathlib import Path

from deepgap.build.images.imagesets import write_held_out
from deepgap.build.images.labelled import describe_accuracy
from deepgap.errors import ImageError
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host


def main(job):
    take_host()
    folder = Path(job.accuracy["images"]).expanduser() if job.accuracy else None
    write_held_out(Path(job.images), job.images_wanted, job.image_size, folder)
    # The name of the file tells the images that were there when Snakemake started.
    if folder is not None and describe_accuracy(job.accuracy) != job.described:
        Path(job.images).unlink()
        raise ImageError(f"The images in {folder} changed since this run began; run Snakemake again.")


run_script(
    main,
    globals(),
    outputs=["images"],
    params=["images_wanted", "image_size", "accuracy", "described"],
)

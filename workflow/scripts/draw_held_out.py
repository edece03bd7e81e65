"""Draw the images on which every mode's answers are checked."""

from pathlib import Path

from deepgap.build.images.imagesets import write_held_out
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host


def main(job):
    take_host()
    write_held_out(Path(job.images), job.images_wanted, job.image_size)


run_script(main, globals(), outputs=["images"], params=["images_wanted", "image_size"])

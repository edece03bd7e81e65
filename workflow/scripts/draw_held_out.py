"""Draw the images on which every mode's answers are checked."""

from pathlib import Path

from deepgap.imagesets import write_held_out
from deepgap.job import run_script
from deepgap.study import IMAGE_SIZE


def main(job):
    write_held_out(Path(job.images), job.images_wanted, IMAGE_SIZE)


run_script(main, globals(), outputs=["images"], params=["images_wanted"])

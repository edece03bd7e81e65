"""Draw the images on which every mode's answers are checked."""

from pathlib import Path

from deepgap.build.images.imagesets import write_held_out
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host
from deepgap.study.study import IMAGE_SIZE


def main(job):
    take_host()
    write_held_out(Path(job.images), job.images_wanted, IMAGE_SIZE)


run_script(main, globals(), outputs=["images"], params=["images_wanted"])

"""Compute the FP32 logits of the held-out images, the reference of every mode."""

from pathlib import Path

from deepgap.build.reference import write_reference
from deepgap.jobs.arguments import run_script
from deepgap.jobs.threads import use_all_threads
from deepgap.measure.locks import take_host
from deepgap.study.models import ModelSpec


def main(job):
    take_host()
    use_all_threads()
    write_reference(Path(job.logits), ModelSpec(**job.model), Path(job.source), Path(job.images), job.accuracy)


run_script(main, globals(), inputs=["source", "images"], outputs=["logits"], params=["model", "accuracy"])

"""Aggregate cells and the published numbers into the tidy tables of results/summary/."""

import sys
from pathlib import Path

from deepgap.aggregate import describe_coverage, write_summary
from deepgap.hardware import load_gpus
from deepgap.job import list_paths, run_script
from deepgap.summary import FRAMES


def main(job):
    coverage = write_summary(
        list_paths(job.cells),
        Path(job.published_csv),
        load_gpus(Path(job.gpus), Path(job.schema)),
        job.fidelity_floor,
        job.expected,
        job.unlisted,
        Path(job.runs).parent,
        list_paths(job.samples),
        job.axes,
        job.threads,
    )
    print(describe_coverage(coverage), file=sys.stderr)


run_script(
    main,
    globals(),
    inputs=["cells", "published_csv", "gpus", "schema"],
    outputs=list(FRAMES),
    params=["expected", "unlisted", "axes", "fidelity_floor"],
    optional_inputs=["samples"],
)

"""Aggregate cells and the published numbers into the tidy tables of results/summary/."""

import sys
from pathlib import Path

import yaml

from deepgap.aggregate import describe_coverage, write_summary
from deepgap.hardware import load_gpus
from deepgap.job import run_script
from deepgap.summary import FRAMES


def main(job):
    cells = [job.cells] if isinstance(job.cells, str) else job.cells
    coverage = write_summary(
        [Path(file) for file in cells],
        Path(job.published_csv),
        load_gpus(Path(job.gpus), yaml.safe_load(Path(job.schema).read_text())),
        job.fidelity_floor,
        job.expected,
        job.unlisted,
        Path(job.runs).parent,
        [Path(file) for file in job.samples],
        job.axes,
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

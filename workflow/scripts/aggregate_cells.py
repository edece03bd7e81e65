"""Aggregate cells and the published numbers into the tidy tables of results/summary/."""

import sys
from pathlib import Path

from deepgap.aggregate import describe_coverage, write_summary
from deepgap.job import run_script


def main(job):
    cells = [job.cells] if isinstance(job.cells, str) else job.cells
    coverage = write_summary(
        [Path(file) for file in cells],
        Path(job.published_csv),
        job.expected,
        job.unlisted,
        Path(job.runs).parent,
    )
    print(describe_coverage(coverage), file=sys.stderr)


run_script(
    main,
    globals(),
    inputs=["cells", "published_csv"],
    outputs=["runs", "families", "published", "coverage", "hosts", "fidelity"],
    params=["expected", "unlisted"],
)

"""Put what was read of all cells and the published numbers together into the tidy tables of results/summary/."""

import sys
from pathlib import Path

from deepgap.aggregate import describe_coverage, write_summary
from deepgap.hardware import load_gpus
from deepgap.job import list_paths, run_script
from deepgap.parts import load_parts
from deepgap.summary import FRAMES


def main(job):
    coverage = write_summary(
        load_parts(dict.fromkeys(file.parent for file in list_paths(job.parts))),
        Path(job.published_csv),
        load_gpus(Path(job.gpus), Path(job.schema)),
        job.expected,
        job.unlisted,
        Path(job.runs).parent,
        job.axes,
    )
    print(describe_coverage(coverage), file=sys.stderr)


run_script(
    main,
    globals(),
    inputs=["published_csv", "gpus", "schema"],
    outputs=list(FRAMES),
    params=["expected", "unlisted", "axes"],
    optional_inputs=["parts"],
)

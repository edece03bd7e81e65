"""Write the numbers and the claims of the prose as LaTeX macros."""

import sys
from pathlib import Path

from deepgap.claims import write_claims
from deepgap.design import describe_coverage
from deepgap.job import run_script
from deepgap.numbers import write_numbers
from deepgap.summary import CELL_TABLES, SUMMARY_INPUTS, load_job_summary


def main(job):
    summary = load_job_summary(job)
    Path(job.tex).write_text(write_numbers(summary) + write_claims(summary))
    print(describe_coverage(summary.coverage), file=sys.stderr)


run_script(
    main,
    globals(),
    inputs=SUMMARY_INPUTS,
    optional_inputs=list(CELL_TABLES),
    outputs=["tex"],
    params=["reporting"],
)

"""Write the numbers and the claims of the prose as LaTeX macros."""

import sys
from pathlib import Path

from deepgap.analyse.design import describe_coverage
from deepgap.jobs.summary import run_summary_script
from deepgap.paper.claims import write_claims
from deepgap.paper.numbers import write_numbers


def main(job, summary):
    Path(job.tex).write_text(write_numbers(summary, job.captions) + write_claims(summary))
    print(describe_coverage(summary.coverage), file=sys.stderr)


run_summary_script(main, globals(), outputs=["tex"], params=["captions"])

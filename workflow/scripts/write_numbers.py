"""Write the numbers of the prose as LaTeX macros."""

import sys
from pathlib import Path

from deepgap.analyse.design import describe_coverage
from deepgap.analyse.summary import run_summary_script
from deepgap.paper.numbers import write_numbers


def main(job, summary):
    Path(job.tex).write_text(write_numbers(summary, job.captions, job.macros), encoding="utf-8")
    print(describe_coverage(summary.coverage), file=sys.stderr)


run_summary_script(main, globals(), outputs=["tex"], params=["captions", "macros"])

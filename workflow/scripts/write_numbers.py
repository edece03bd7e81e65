"""Write the numbers of the prose as LaTeX macros."""

from pathlib import Path

from deepgap.analyse.design import describe_coverage
from deepgap.jobs.summary import run_summary_script
from deepgap.paper.numbers import write_numbers
from deepgap.text import tell, write_text


def main(job, summary):
    write_text(Path(job.tex), write_numbers(summary, job.captions, job.macros))
    tell(describe_coverage(summary.coverage))


run_summary_script(main, globals(), outputs=["tex"], params=["captions", "macros"])

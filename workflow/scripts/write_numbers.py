"""Write the numbers and the claims of the prose as LaTeX macros."""

from pathlib import Path

from deepgap.claims import write_claims
from deepgap.job import run_script
from deepgap.numbers import write_numbers
from deepgap.summary import SUMMARY_INPUTS, load_job_summary


def main(job):
    summary = load_job_summary(job)
    Path(job.tex).write_text(write_numbers(summary) + write_claims(summary))


run_script(main, globals(), inputs=SUMMARY_INPUTS, outputs=["tex"], params=["reporting"])

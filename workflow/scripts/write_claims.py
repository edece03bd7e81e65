"""Check what the prose claims in words, and write its claims as LaTeX macros."""

from pathlib import Path

from deepgap.jobs.summary import run_summary_script
from deepgap.paper.claims import write_claims


def main(job, summary):
    Path(job.tex).write_text(write_claims(summary), encoding="utf-8")


run_summary_script(main, globals(), outputs=["tex"])

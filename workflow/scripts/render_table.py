"""Render one table of the paper from its LaTeX template."""

from pathlib import Path

from deepgap.jobs.summary import run_summary_script
from deepgap.paper.latex import render
from deepgap.paper.tables import load_table
from deepgap.text import write_text


def main(job, summary):
    write_text(Path(job.tex), render(Path(job.template), load_table(job.table)(summary)))


run_summary_script(main, globals(), outputs=["tex"], params=["table"], inputs=["template"])

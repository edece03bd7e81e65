"""Render one table of the second paper from its LaTeX template."""

from pathlib import Path

from deepgap.jobs.summary import run_training_script
from deepgap.paper.latex import render
from deepgap.paper.training import load_table
from deepgap.text import write_text


def main(job, summary):
    write_text(Path(job.tex), render(Path(job.template), load_table(job.table)(summary)))


run_training_script(main, globals(), outputs=["tex"], params=["table"], inputs=["template"])

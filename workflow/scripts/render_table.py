"""Render one table of the paper from its LaTeX template."""

from pathlib import Path

from deepgap.job import run_script
from deepgap.latex import render
from deepgap.summary import CELL_TABLES, SUMMARY_INPUTS, load_job_summary
from deepgap.tables import load_table


def main(job):
    Path(job.tex).write_text(render(Path(job.template), load_table(job.table)(load_job_summary(job))))


run_script(
    main,
    globals(),
    inputs=[*SUMMARY_INPUTS, "template"],
    optional_inputs=list(CELL_TABLES),
    outputs=["tex"],
    params=["table", "reporting"],
)

"""Write the measurements as one HTML page that works without a network."""

from pathlib import Path

from deepgap.job import list_paths, run_script
from deepgap.report import write_page
from deepgap.summary import CELL_TABLES, SUMMARY_INPUTS, load_job_summary


def main(job):
    specs = {file.name.split(".")[0]: file for file in list_paths(job.specs)}
    page = write_page(load_job_summary(job), specs, list_paths(job.cells), Path(job.template), root="../")
    Path(job.page).write_text(page)


run_script(
    main,
    globals(),
    inputs=[*SUMMARY_INPUTS, "specs", "template"],
    optional_inputs=[*CELL_TABLES, "cells"],
    outputs=["page"],
    params=["reporting"],
)

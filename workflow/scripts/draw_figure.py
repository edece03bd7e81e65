"""Draw one figure of the paper as a Vega-Lite specification."""

from deepgap.draw import write_spec
from deepgap.figures import load_figure
from deepgap.job import run_script
from deepgap.summary import CELL_TABLES, SUMMARY_INPUTS, load_job_summary


def main(job):
    write_spec(load_figure(job.figure)(load_job_summary(job)), job.spec)


run_script(
    main,
    globals(),
    inputs=SUMMARY_INPUTS,
    optional_inputs=list(CELL_TABLES),
    outputs=["spec"],
    params=["figure", "reporting"],
)

"""Find the best measured operating points under a bound on latency: as CSV, and as a text to print."""

from pathlib import Path

from deepgap.job import run_script
from deepgap.recommend import describe, recommend
from deepgap.summary import CELL_TABLES, SUMMARY_INPUTS, load_job_summary


def main(job):
    found = recommend(load_job_summary(job), job.slo_ms, job.objective)
    found.rows.write_csv(job.points)
    heading = (
        f"Within {job.slo_ms:g} ms, by {job.objective}; latency is the p99 where it may be stated, else the median."
    )
    Path(job.text).write_text(f"{heading}\n\n{describe(found.rows, found.notes)}\n")


run_script(
    main,
    globals(),
    inputs=SUMMARY_INPUTS,
    optional_inputs=list(CELL_TABLES),
    outputs=["points", "text"],
    params=["reporting", "slo_ms", "objective"],
)

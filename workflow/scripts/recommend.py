"""Find the best measured operating points under a bound on latency: as CSV, and as a text to print."""

from pathlib import Path

from deepgap.analyse.recommend import describe, recommend
from deepgap.jobs.summary import run_summary_script
from deepgap.text import write_text


def main(job, summary):
    found = recommend(summary, job.slo_ms, job.objective)
    found.rows.write_csv(job.points)
    heading = (
        f"Within {job.slo_ms:g} ms, by {job.objective}; latency is the p99 where it may be stated, else the median."
    )
    write_text(Path(job.text), f"{heading}\n\n{describe(found.rows, found.notes)}\n")


run_summary_script(main, globals(), outputs=["points", "text"], params=["slo_ms", "objective"])

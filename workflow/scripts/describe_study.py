"""Write the tables of results/summary/ that no cell changes: what the study asks for, and the published numbers."""

from pathlib import Path

from deepgap.analyse.design import describe_study
from deepgap.analyse.schemas import STUDY_TABLES
from deepgap.analyse.store import write_tables
from deepgap.jobs.arguments import run_script


def main(job):
    tables = describe_study(Path(job.published_csv), Path(job.anchors_csv), job.asked, job.unlisted, job.axes)
    write_tables(tables, {name: Path(getattr(job, name)) for name in STUDY_TABLES})


run_script(
    main,
    globals(),
    inputs=["published_csv", "anchors_csv"],
    outputs=list(STUDY_TABLES),
    params=["asked", "unlisted", "axes"],
)

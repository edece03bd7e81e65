"""Write the measurements as one HTML page that works without a network."""

from pathlib import Path

from deepgap.jobs.arguments import list_paths
from deepgap.jobs.summary import run_summary_script
from deepgap.paper.report import write_page
from deepgap.text import read_text, write_text


def main(job, summary):
    specs = {file.name.split(".")[0]: file for file in list_paths(job.specs)}
    tables = {job.titles[file.stem]: read_text(file) for file in list_paths(job.tables)}
    page = write_page(summary, specs, job.captions, list_paths(job.cells), Path(job.template), "../", tables)
    write_text(Path(job.page), page)


run_summary_script(
    main,
    globals(),
    outputs=["page"],
    params=["captions", "titles"],
    inputs=["specs", "tables", "template"],
    optional_inputs=["cells"],
)

"""Write the metadata that make the folder of results an RO-Crate."""

from importlib.metadata import version
from pathlib import Path

from deepgap.jobs.arguments import list_paths, run_script
from deepgap.paper.crate import crate_text, describe_results
from deepgap.text import write_text


def main(job):
    crate = Path(job.crate)
    found = describe_results(crate.parent, list_paths(job.cells), list_paths(job.samples), version("deepgap"))
    write_text(crate, crate_text(found))


run_script(main, globals(), outputs=["crate"], optional_inputs=["cells", "samples"])

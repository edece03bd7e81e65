"""Measure one cell on this machine's device and write its file."""

from pathlib import Path

from deepgap.build.facts import read_facts
from deepgap.jobs.arguments import run_script
from deepgap.measure.progress import describe_cell
from deepgap.measure.worker import run_request
from deepgap.text import tell


def main(job):
    progress = job.progress
    if progress is None:
        tell("{gpu} {model} {mode} batch {batch_size} sweep {sweep}".format(**job.request["recipe"]))
    facts = read_facts(Path(job.facts))
    run_request(
        {
            **job.request,
            "place": job.request.get("place") if progress is None else progress.place,
            "source_file": job.source,
            "facts": facts and facts.as_json(),
            "held_out_file": job.held_out,
            "reference_file": job.reference,
            "cell_file": job.cell,
            "telemetry_file": job.telemetry,
        }
    )
    tell(describe_cell(Path(job.cell)))


run_script(
    main,
    globals(),
    inputs=["source", "held_out", "reference", "facts"],
    outputs=["cell"],
    optional_outputs=["telemetry"],
    params=["request"],
)

"""Measure one cell on this machine's device and write its file."""

from pathlib import Path

from deepgap.build.facts import read_facts
from deepgap.jobs.arguments import run_script
from deepgap.measure.progress import begin_cell
from deepgap.measure.worker import run_request
from deepgap.text import tell


def main(job):
    recipe = job.request["recipe"]
    name = "{gpu} {model} {mode} batch {batch_size} sweep {sweep}".format(**recipe)
    progress = begin_cell(job.cell)
    tell(name if progress is None else f"{progress} {name}")
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


run_script(
    main,
    globals(),
    inputs=["source", "held_out", "reference", "facts"],
    outputs=["cell"],
    optional_outputs=["telemetry"],
    params=["request"],
)

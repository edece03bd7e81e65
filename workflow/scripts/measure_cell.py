"""Measure one cell on this machine's device and write its file."""

import sys

from deepgap.jobs.arguments import run_script
from deepgap.measure.progress import describe_progress
from deepgap.measure.worker import run_request


def main(job):
    recipe = job.request["recipe"]
    name = "{gpu} {model} {runtime}-{precision} batch {batch_size} sweep {sweep}".format(**recipe)
    print(f"{describe_progress()} {name}".strip(), file=sys.stderr, flush=True)
    run_request(
        {
            **job.request,
            "source_file": job.source,
            "held_out_file": job.held_out,
            "reference_file": job.reference,
            "cell_file": job.cell,
            "telemetry_file": job.telemetry,
        }
    )


run_script(
    main,
    globals(),
    inputs=["source", "held_out", "reference"],
    outputs=["cell"],
    optional_outputs=["telemetry"],
    params=["request"],
)

"""Measure one cell of the second study on this machine's device, in its framework's interpreter."""

from pathlib import Path

from deepgap.jobs.arguments import run_script
from deepgap.measure.progress import describe_cell
from deepgap.text import tell
from deepgap.training.process import measure_in


def main(job):
    progress = job.progress
    if progress is None:
        name = "{gpu} {model} {image_size} px {mode} {phase} batch {batch_size} sweep {sweep}"
        tell(name.format(**job.request["recipe"]))
    measure_in(
        job.python,
        {
            **job.request,
            "place": job.request.get("place") if progress is None else progress.place,
            "facts_file": job.facts,
            "cell_file": job.cell,
            "telemetry_file": job.telemetry,
        },
    )
    tell(describe_cell(Path(job.cell)))


run_script(
    main,
    globals(),
    inputs=["facts"],
    outputs=["cell"],
    optional_outputs=["telemetry"],
    params=["request", "python"],
)

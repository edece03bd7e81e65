"""Read, check and summarise the cells of one GPU and model, family by family."""

from pathlib import Path

from deepgap.hardware import load_gpus
from deepgap.job import list_paths, run_script
from deepgap.parts import FRAMES, read_part, write_part


def main(job):
    gpus = load_gpus(Path(job.gpus), Path(job.schema))
    part = read_part(list_paths(job.cells), list_paths(job.samples), gpus, job.fidelity_floor)
    write_part(part, {name: Path(getattr(job, f"read_{name}")) for name in FRAMES})


run_script(
    main,
    globals(),
    inputs=["cells", "gpus", "schema"],
    outputs=[f"read_{name}" for name in FRAMES],
    params=["fidelity_floor"],
    optional_inputs=["samples"],
)

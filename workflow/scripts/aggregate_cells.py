"""Aggregate the cells of one GPU and model into the tidy tables of results/summary/."""

from pathlib import Path

from deepgap.analyse.aggregate import aggregate
from deepgap.analyse.schemas import CELL_TABLES
from deepgap.analyse.store import write_tables
from deepgap.jobs.arguments import list_paths, run_script
from deepgap.study.gpus import Gpu


def main(job):
    gpu = Gpu(**job.gpu)
    tables = aggregate(list_paths(job.cells), list_paths(job.samples), {gpu.key: gpu}, job.fidelity_floor)
    write_tables(tables, {name: Path(getattr(job, name)) for name in CELL_TABLES})


run_script(
    main,
    globals(),
    inputs=["cells"],
    outputs=list(CELL_TABLES),
    params=["gpu", "fidelity_floor"],
    optional_inputs=["samples"],
)

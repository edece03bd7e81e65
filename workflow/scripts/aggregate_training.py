"""Put all cells of the second study into one table."""

from pathlib import Path

from deepgap.analyse.training.cells import read_training_cells
from deepgap.files import put_in_place, write_parquet
from deepgap.jobs.arguments import list_paths, run_script
from deepgap.text import tell


def main(job):
    table, unreadable = read_training_cells(list_paths(job.cells))
    for problem in unreadable:
        tell(f"deep-gap: {problem} It is left out.")
    with put_in_place(Path(job.table)) as partial:
        write_parquet(partial, table)


run_script(main, globals(), outputs=["table"], optional_inputs=["cells"])

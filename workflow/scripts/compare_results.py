"""Compare two states of results, print the verdicts and write them as CSV; fails where something is slower."""

from contextlib import ExitStack
from pathlib import Path

from deepgap.analyse.compare import SLOWER, compare_states, describe, read_state
from deepgap.errors import DeepGapError
from deepgap.files import put_in_place
from deepgap.jobs.arguments import list_paths, run_script
from deepgap.jobs.states import open_state
from deepgap.study.gpus import load_gpus


def main(job):
    if job.base is None or job.other is None:
        raise DeepGapError(
            "A comparison needs two states: 'snakemake compare --cores 1 --config base=H100 other=H100@lab2'; "
            "docs/compare.md says what they may be."
        )
    names = [str(job.base), str(job.other)]
    file, *cards = list_paths(job.gpus)
    gpus = load_gpus(file, Path(job.schema), cards)
    with ExitStack() as stack:
        states = [read_state(stack.enter_context(open_state(name, Path(job.results))), gpus) for name in names]
    found = compare_states(states[0].cells, states[1].cells, job.margin)
    print(describe(names, states, found, job.margin), flush=True)
    if found.rows.is_empty():
        raise DeepGapError(f"{names[0]} and {names[1]} have no family to compare; the lines above say why.")
    with put_in_place(Path(job.table)) as partial:
        found.rows.write_csv(partial)
    slower = found.rows.filter(verdict=SLOWER).height
    if slower:
        raise DeepGapError(
            f"{slower} of {found.rows.height} verdicts on {names[1]} over {names[0]} are slower; {job.table} has all."
        )


run_script(
    main,
    globals(),
    inputs=["gpus", "schema"],
    params=["base", "other", "margin", "results", "table"],
)

"""Check all cells below results/ and print what was found; ends with an error when one is refused."""

from pathlib import Path

from deepgap.analyse.check import check_results, describe
from deepgap.errors import CellError
from deepgap.jobs.arguments import list_paths, run_script
from deepgap.study.gpus import find_platforms, load_gpus, with_sites


def main(job):
    results = Path(job.results)
    file, *cards = list_paths(job.gpus)
    gpus = load_gpus(file, Path(job.schema), cards)
    report = check_results(results, with_sites(gpus, find_platforms(results, gpus)))
    print(describe(report), flush=True)
    if report.refused:
        raise CellError(f"{len(report.refused)} files below {results}/ are refused; the list above says what to do.")


run_script(main, globals(), inputs=["gpus", "schema"], params=["results"])

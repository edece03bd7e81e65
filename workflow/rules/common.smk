# The first study, its cells, and what its other rules share.
import sys
import time
from pathlib import Path

from deepgap.paper import figures, parts, tables
from deepgap.paper.document import missing_latex
from deepgap.study.artifacts import Artifacts
from deepgap.text import read_text
from deepgap.build.images.imagesets import describe_calibration
from deepgap.build.images.labelled import describe_accuracy
from deepgap.runtimes import load_runtimes
from deepgap.measure.session import (
    name_session,
    runtimes_without_libraries,
    start_session,
)
from deepgap.study.checks import load_study
from deepgap.study.models import missing_source
from deepgap.analyse.schemas import CELL_TABLES, STUDY_TABLES
from deepgap.analyse.store import (
    cell_table_file,
    forget_future_times,
    keep_tables,
    study_table_file,
)

RESULTS = "results"

# Found by their files, in the order of the text.
SHOWN = parts.read_shown(Path(own("paper/main.tex")))
FIGURES = parts.in_order(figures.FIGURES, SHOWN.figures)
TABLES = parts.in_order(tables.TABLES, SHOWN.tables)

try:
    # Cards without an entry are known by what their drivers told when they were first measured.
    CARD_FILES = [card.as_posix() for card in find_cards(Path("results"))]
    gpus = load_gpus(Path(GPUS_FILE), Path(own(GPUS_SCHEMA)), map(Path, CARD_FILES))
    study = load_study(
        config,
        schema=read_yaml(Path(own(CONFIG_SCHEMA))),
        gpus=gpus,
        runtimes=load_runtimes(),
        found=find_platforms(Path("results"), gpus),
        describe_calibration=describe_calibration,
        describe_accuracy=describe_accuracy,
    )
    # Cells on disk are leaves of the graph: no rule makes them, so nothing can make them stale.
    present, missing = present_and_missing(
        [cell for gpu in study.platforms for cell in study.run_order(gpu)],
        root=Path("."),
    )
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")

artifacts = Artifacts(study)
asked_for = [
    cell for cell in missing if cell.gpu == study.gpu and study.is_asked_for(cell)
]


def why_skipped(cell):
    """Why a cell cannot be measured, if that is known without trying: a row that needs no more than the sentence."""
    runtime = study.runtimes[cell.mode.runtime]
    return runtime.skip(
        cell.model, cell.mode.precision, cell.batch_size, study.gpus[cell.gpu]
    )


# Cells whose runtime is not installed stay missing; the others are measured.
skipped = {cell.stem for cell in asked_for if why_skipped(cell)}
absent = runtimes_without_libraries(
    cell.mode.runtime for cell in asked_for if cell.stem not in skipped
)
to_measure = {
    cell.stem: cell
    for cell in asked_for
    if cell.mode.runtime not in absent or cell.stem in skipped
}
# An input of each target beside what is made from it: Snakemake does not make a missing file when all that it is for
# is up to date.
ASKED_FOR = [cell.path for cell in to_measure.values()]

# Cells and samples by GPU and model.
GROUPS = {}
for cell in [*present, *to_measure.values()]:
    samples = f"results/{cell.gpu}/telemetry/{cell.stem}.parquet"
    sampled = study.gpus[cell.gpu].device == "cuda"
    group = GROUPS.setdefault((cell.gpu, cell.model), {"cells": [], "samples": []})
    group["cells"].append(cell.path)
    # A cell can be there without its samples; one that is measured now gets them. Another site has it by the same name.
    measured_now = to_measure.get(cell.stem) is cell
    if sampled if measured_now else Path(samples).is_file():
        group["samples"].append(samples)


def summary_of(devices=parts.DEVICES):
    """The summary without the cells of other kinds of device, as named inputs."""
    groups = [key for key in sorted(GROUPS) if study.gpus[key[0]].device in devices]
    return {
        **{name: study_table_file(name) for name in STUDY_TABLES},
        **{
            name: [cell_table_file(name, *key) for key in groups]
            for name in CELL_TABLES
        },
        "gpus": [GPUS_FILE, *CARD_FILES],
        "schema": own(GPUS_SCHEMA),
    }


def clear_summary():
    """Remove tables of cells that the study no longer has, so that a table's folder can be read as a whole, and the
    times of cells that come from a host whose clock is ahead."""
    if workflow.is_main_process:
        keep_tables(Path("."), GROUPS)
        merged = [
            name
            for group in GROUPS.values()
            for names in group.values()
            for name in names
        ]
        forget_future_times(map(Path, merged), time.time())


# At once, since a run that finds nothing else to do ends here.
if workflow.is_main_process:
    for reason in absent.values():
        print(f"deep-gap: {reason} Its cells are left out.", file=sys.stderr)


def check_latex():
    """Tell what LaTeX lacks before the first job of a run that ends with it."""
    compiled = {"compile_paper", "bundle_paper"}
    if workflow.is_main_process and any(
        job.rule.name in compiled for job in workflow.dag.needrun_jobs()
    ):
        missing = missing_latex(Path(own("paper/main.tex")))
        if missing:
            sys.exit(f"deep-gap: {missing}")


def begin_session():
    """Check the device and start the warm worker before the first job of a run that measures here."""
    if not workflow.is_main_process:
        return
    planned, others = set(), {}
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "measure_cell":
            planned.add(job.wildcards.stem)
        elif job.output:
            others[str(job.output[0])] = job.rule.name
    cells = [cell for stem, cell in to_measure.items() if stem in planned]
    if workflow.non_local_exec:
        name_session(len(cells))
        return
    calm_scheduler(workflow.scheduler)
    if not cells:
        return
    global session
    missing_library = missing_source(study.model(cell.model) for cell in cells)
    if missing_library:
        sys.exit(f"deep-gap: {missing_library}")
    try:
        session = start_session(study.gpus[study.gpu], cells, others)
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")

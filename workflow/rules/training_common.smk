# The second study, its cells, and what its rules share.
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

from deepgap.measure.session import name_session
from deepgap.training.cell import RESULTS
from deepgap.training.checks import load_training_study
from deepgap.training.process import absent_frameworks, find_interpreter, start_session

try:
    # Cards without an entry are known by what their drivers told when they were first measured.
    CARD_FILES = [card.as_posix() for card in find_cards(Path("results"))]
    gpus = load_gpus(Path(GPUS_FILE), Path(own(GPUS_SCHEMA)), map(Path, CARD_FILES))
    study = load_training_study(
        config,
        schema=read_yaml(Path(own(CONFIG_SCHEMA))),
        gpus=gpus,
        found=find_platforms(Path(RESULTS), gpus),
    )
    # Cells on disk are leaves of the graph: no rule makes them, so nothing can make them stale.
    present, missing = present_and_missing(
        [cell for gpu in study.platforms for cell in study.run_order(gpu)],
        root=Path("."),
    )
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")

asked_for = [
    cell for cell in missing if cell.gpu == study.gpu and study.is_asked_for(cell)
]
PYTHONS = {
    name: find_interpreter(framework, study.config["interpreters"], Path("."))
    for name, framework in study.frameworks.items()
}
# Cells whose framework is not installed stay missing; the others are measured.
absent = absent_frameworks(PYTHONS, (cell.mode.runtime for cell in asked_for))
to_measure = {cell.stem: cell for cell in asked_for if cell.mode.runtime not in absent}
# At once, since a run that finds nothing else to do ends here.
if workflow.is_main_process:
    for reason in dict.fromkeys(absent.values()):
        print(f"deep-gap: {reason} Its cells are left out.", file=sys.stderr)

ASKED_FOR = [cell.path for cell in to_measure.values()]

order = {stem: place for place, stem in enumerate(to_measure)}


def train_request(wildcards):
    cell = to_measure[wildcards.stem]
    return {
        "recipe": cell.recipe,
        "gpu": asdict(study.gpus[study.gpu]),
        "place": order[wildcards.stem] + 1,
    }


def facts_of(wildcards):
    cell = to_measure[wildcards.stem]
    return f"build/training/{cell.model}_{cell.image_size}px_seed{study.config['seed']}.json"


def check_latex():
    """No PDF is compiled here."""


def clear_summary():
    """No tables are kept here."""


def begin_session():
    """Check the device and name the session before the first cell of a run that measures here."""
    if not workflow.is_main_process:
        return
    planned, others = set(), {}
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "train_cell":
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
    for sentence in study.left_out(study.gpu):
        print(f"deep-gap: {sentence}", file=sys.stderr)
    global session
    try:
        session = start_session(study.gpus[study.gpu], cells, others)
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")

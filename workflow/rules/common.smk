# The study, its cells, and what the other rules share.
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError

try:
    import deepgap
except ModuleNotFoundError:
    sys.exit(
        f"deep-gap: the package deepgap is not installed for {sys.executable}; run 'make setup', then "
        "'.venv/bin/snakemake' in place of 'snakemake'."
    )

from deepgap.paper import figures, parts, tables
from deepgap.study.artifacts import Artifacts
from deepgap.text import read_text
from deepgap.jobs.digest import code_digest
from deepgap.errors import DeepGapError
from deepgap.jobs.startup import check_place, user_name
from deepgap.study.gpus import find_sites, load_gpus
from deepgap.runtimes import load_runtime
from deepgap.study.schema import read_yaml
from deepgap.measure.session import start_session
from deepgap.study.study import load_study, present_and_missing
from deepgap.analyse.summary import (
    CELL_TABLES,
    STUDY_TABLES,
    cell_table_file,
    keep_tables,
    study_table_file,
)

# Snakemake prints the user's name and ends in a traceback where a container runs as a number without one.
os.environ.setdefault("USER", user_name())

try:
    check_place(
        os.path.dirname(os.path.dirname(str(workflow.current_basedir))), Path.cwd()
    )
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")

# Snakemake puts the path of Python into a shell command as it is: a blank in it would end it.
if shlex.quote(sys.executable) != sys.executable:
    sys.executable = os.path.relpath(sys.executable)


async def accept_any_time(self, job, outputs):
    """Contents decide what is stale, so a cell whose file has a time in the future is as good as any other."""


# Snakemake ends a job whose output is older than an input, as all are beside a cell from a clock that runs ahead.
DAG.check_output_mtime = accept_any_time

CONFIG_FILE = "config/config.yaml"
GPUS_FILE = "config/gpus.yaml"
GPUS_SCHEMA = "workflow/schemas/gpus.schema.yaml"
CONFIG_SCHEMA = "workflow/schemas/config.schema.yaml"

# Found by their files, in the order of the text.
SHOWN = parts.read_shown(Path("paper/main.tex"))
FIGURES = parts.in_order(figures.FIGURES, SHOWN.figures)
TABLES = parts.in_order(tables.TABLES, SHOWN.tables)

# Snakemake takes the last of two keys of one name, and ends in a traceback on some files that are not YAML.
try:
    for file in (CONFIG_FILE, *workflow.configfiles):
        read_yaml(Path(file))
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")


configfile: CONFIG_FILE


try:
    gpus = load_gpus(Path(GPUS_FILE), Path(GPUS_SCHEMA))
    study = load_study(
        config,
        schema=read_yaml(Path(CONFIG_SCHEMA)),
        gpus=gpus,
        sites=find_sites(Path("results"), gpus),
    )
    # Cells on disk are leaves of the graph: no rule makes them, so nothing can make them stale.
    present, missing = present_and_missing(
        [cell for gpu in study.gpus for cell in study.run_order(gpu)], root=Path(".")
    )
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")

artifacts = Artifacts(study)
to_measure = {cell.stem: cell for cell in missing if cell.gpu == study.gpu}
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
        "gpus": GPUS_FILE,
        "schema": GPUS_SCHEMA,
    }


def clear_summary():
    """Remove tables of cells that the study no longer has, so that a table's folder can be read as a whole."""
    if workflow.is_main_process:
        keep_tables(Path("."), GROUPS)


def begin_session():
    """Check the device and start the warm worker before the first job of a run that measures here."""
    if not to_measure or workflow.non_local_exec or not workflow.is_main_process:
        return
    global session
    try:
        session = start_session(
            study.gpus[study.gpu],
            ASKED_FOR,
            {cell.mode.runtime for cell in to_measure.values()},
        )
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")


def tell_again(logs):
    """Print the sentences of failed jobs once more: Snakemake prints all input files of a failed job after them."""
    told = "".join(
        Path(file).read_text(encoding="utf-8", errors="replace") for file in logs
    )
    for file in dict.fromkeys(re.findall(r"^    log: (\S+) \(check", told, re.M)):
        if Path(file).is_file():
            print(read_text(Path(file)).strip(), file=sys.stderr)

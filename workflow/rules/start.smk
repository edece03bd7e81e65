# What both studies share: the checkout, the config's file, and the end of a run.
import os
import re
import shlex
import sys
import time
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

from deepgap.jobs.digest import code_digest
from deepgap.errors import DeepGapError
from deepgap.jobs.failures import describe_failures
from deepgap.jobs.scheduler import calm_scheduler
from deepgap.jobs.startup import (
    check_place,
    choose_study,
    usable_home,
    user_name,
)
from deepgap.study.gpus import find_cards, find_platforms, load_gpus
from deepgap.study.schema import read_yaml
from deepgap.study.study import present_and_missing

os.environ.update(HOME=usable_home(Path.cwd()))

# Snakemake prints the user's name and ends in a traceback where a container runs as a number without one.
os.environ.setdefault("USER", user_name())

CHECKOUT = os.path.dirname(os.path.dirname(str(workflow.current_basedir)))

try:
    in_checkout = check_place(CHECKOUT, Path.cwd())
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")


def own(file):
    """A file of deep-gap's own: as it lies here in a checkout, or from where the module is that another folder uses."""
    return file if in_checkout else workflow.source_path(f"../../{file}")


# Snakemake puts the path of Python into a shell command as it is: a blank in it would end it.
if shlex.quote(sys.executable) != sys.executable:
    sys.executable = os.path.relpath(sys.executable)


async def accept_any_time(self, job, outputs):
    """Contents decide what is stale, so a cell whose file has a time in the future is as good as any other."""


# Snakemake ends a job whose output is older than an input, as all are beside a cell from a clock that runs ahead.
DAG.check_output_mtime = accept_any_time

try:
    STUDY = choose_study(config)
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")

CONFIG_FILE, CONFIG_SCHEMA = (
    f"config/{STUDY.file}.yaml",
    f"workflow/schemas/{STUDY.file}.schema.yaml",
)
LOCAL_FILE = f"config/{STUDY.local}.yaml"
GPUS_FILE = "config/gpus.yaml"
GPUS_SCHEMA = "workflow/schemas/gpus.schema.yaml"

# Snakemake takes the last of two keys of one name, and ends in a traceback on some files that are not YAML.
try:
    local = [LOCAL_FILE] if in_checkout and Path(LOCAL_FILE).is_file() else []
    for file in (CONFIG_FILE, *local, *workflow.configfiles):
        read_yaml(Path(file))
except DeepGapError as error:
    sys.exit(f"deep-gap: {error}")


configfile: CONFIG_FILE


if local:

    # What differs on this machine, for every call; the command line stands above it.
    configfile: LOCAL_FILE

    if workflow.is_main_process:
        print(f"deep-gap: {LOCAL_FILE} changes the study.", file=sys.stderr)


def tell_failures(logs):
    """Tell at the end, once and short, what failed: Snakemake tells it among all else, with all input files."""
    told = describe_failures([Path(file) for file in logs])
    if told:
        print(told, file=sys.stderr)

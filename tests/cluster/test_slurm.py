"""Slurm's profile, and the try through a real Slurm where there is one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.cluster.try_slurm import missing
from tests.conftest import ROOT, read_yaml

REASON = missing()
PROFILE = read_yaml(ROOT / "profiles/slurm/config.yaml")


def test_the_profile_reruns_and_orders_as_the_default_one() -> None:
    default = read_yaml(ROOT / "profiles/default/config.yaml")
    assert {name: PROFILE[name] for name in ("rerun-triggers", "scheduler")} == {
        name: default[name] for name in ("rerun-triggers", "scheduler")
    }


def test_just_the_rules_that_take_the_device_ask_slurm_for_a_gpu() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    # A rule of one GPU stands under a condition, four columns to the right.
    rules = re.findall(r"^ *rule (\w+):\n((?:    .*\n|\n)+?)(?=^ *rule |^\S|\Z)", text, re.MULTILINE)
    scripts = {name: re.search(r'"\.\./(scripts/\w+\.py)"', body) for name, body in rules if "        gpu=1," in body}
    assert len(scripts) == text.count("        gpu=1,") > 5
    takes = {
        name: re.search(
            "take_device|run_request|measure_in", (ROOT / "workflow" / script[1]).read_text(encoding="utf-8")
        )
        is not None
        for name, script in scripts.items()
        if script is not None
    }
    assert takes.keys() == scripts.keys()
    asked = {name: PROFILE["set-resources"].get(name, {}).get("gpu", 1) == 1 for name in takes}
    assert asked == takes
    assert PROFILE["set-resources"].keys() <= takes.keys()


@pytest.mark.xdist_group("workflow")
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_a_study_runs_through_slurm_and_a_killed_cell_is_measured_again() -> None:
    command = [sys.executable, "-m", "tests.cluster.try_slurm"]
    run = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False
    )
    assert run.returncode == 0 and "All held." in run.stdout, run.stdout

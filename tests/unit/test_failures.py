"""What failed, told once at the end of a run."""

from __future__ import annotations

import os
import time

import pytest

from deepgap.jobs.failures import UNKNOWN, describe_failures


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Writes a log as Snakemake does, and the logs of the jobs that failed."""
    monkeypatch.chdir(tmp_path)

    def having(*failed: tuple[str, str | None]):
        text = "Building DAG of jobs...\n"
        for number, (rule, said) in enumerate(failed):
            text += f"[Wed Nov 25 05:57:14 2026]\nError in rule {rule}:\n    message: None\n    jobid: {number}\n"
            text += f"    output: o/{number}.txt, o/{number}.b\n"
            text += f"    log: {number}.log (check log file(s) for error details)\n"
            text += "RuleException:\n"
            if said is not None:
                (tmp_path / f"{number}.log").write_text(said, encoding="utf-8")
        log = tmp_path / time.strftime("%Y-%m-%dT%H%M%S.1.snakemake.log")
        log.write_text(text + text, encoding="utf-8")
        return [log]

    return having


def test_nothing_failed(run):
    assert describe_failures(run()) == ""


def test_each_reason_is_told_once_with_its_jobs(run):
    logs = run(
        ("measure_cell", "deep-gap: No room.\n"), ("measure_cell", "deep-gap: No room.\n"), ("calibrate", None)
    )
    assert describe_failures(logs).splitlines() == [
        "3 jobs failed:",
        "deep-gap: No room.",
        "    measure_cell o/0.txt",
        "    measure_cell o/1.txt",
        UNKNOWN,
        "    calibrate o/2.txt",
    ]


def test_a_long_list_is_cut(run):
    told = describe_failures(run(*[("measure_cell", "deep-gap: No room.\n")] * 50)).splitlines()
    assert told[0] == "50 jobs failed:"
    assert told[-1] == "    and 47 more"
    assert len(told) == 6
    told = describe_failures(run(*[("x", f"deep-gap: Reason {n}.\n") for n in range(50)])).splitlines()
    assert told[-1] == "and for 30 more reasons."


def test_a_log_of_an_earlier_run_is_no_reason(run):
    logs = run(("measure_cell", "deep-gap: No room.\n"))
    os.utime("0.log", (time.time() - 3600,) * 2)
    assert UNKNOWN in describe_failures(logs)


def test_a_traceback_is_told_by_its_last_line(run):
    assert "ValueError: odd" in describe_failures(run(("x", "Traceback:\n  File\nValueError: odd\n\n"))).splitlines()

"""What failed in a run of Snakemake, told once and short at its end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

SENTENCES, JOBS = 20, 3
"""Most that are told: different reasons, and jobs that failed for one of them."""
UNKNOWN = "It left no reason in a log; look at what it printed above."


class Failure(NamedTuple):
    """A job that failed: its rule with its first output, and why."""

    job: str
    reason: str


def describe_failures(logs: Sequence[Path]) -> str:
    """The failed jobs of a run by their reasons; empty where no job failed.

    Args:
        logs: Snakemake's own logs of the run.
    """
    jobs: dict[str, list[str]] = {}
    for failure in dict.fromkeys(failure for log in logs for failure in _failures(log)):
        jobs.setdefault(failure.reason, []).append(failure.job)
    if not jobs:
        return ""
    count = sum(map(len, jobs.values()))
    lines = [f"{count} job{'s' if count > 1 else ''} failed:"]
    for reason, failed in list(jobs.items())[:SENTENCES]:
        lines.append(reason)
        lines += [f"    {job}" for job in failed[:JOBS]]
        lines += [f"    and {len(failed) - JOBS} more"] if len(failed) > JOBS else []
    if len(jobs) > SENTENCES:
        lines.append(f"and for {len(jobs) - SENTENCES} more reasons.")
    return "\n".join(lines)


def _failures(log: Path) -> Iterator[Failure]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for rule, block in re.findall(r"^Error in rule (\w+):\n((?:    .*\n?)*)", text, re.MULTILINE):
        said = dict(re.findall(r"^    (output|log): (.*)$", block, re.MULTILINE))
        # A list of files; the log's name has a note behind it.
        output, job_log = (re.split(r", | \(check", said.get(name, ""))[0] for name in ("output", "log"))
        yield Failure(f"{rule} {output}".strip(), _reason(job_log, _start(log)) or UNKNOWN)


def _reason(job_log: str, since: float) -> str:
    """The last line that a job left in its log; empty without one of this run."""
    with suppress(OSError):
        if job_log and Path(job_log).stat().st_mtime >= since:
            lines = Path(job_log).read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def _start(log: Path) -> float:
    """When a run began, by the name that Snakemake gives its log: seconds since 1970, 0 where it does not tell."""
    with suppress(ValueError):
        return datetime.strptime(log.name.split(".")[0], "%Y-%m-%dT%H%M%S").timestamp()
    return 0.0

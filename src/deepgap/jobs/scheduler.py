"""What keeps Snakemake itself from the cores that are being timed."""

from __future__ import annotations

from typing import Any


def calm_scheduler(scheduler: Any) -> None:
    """Keep the scheduler from looking again at all jobs without a cause, while a job runs.

    With a limit of jobs a second, which is the default, each look starts a timer of one second that starts the next
    one, and each job that ends adds another: the looks a second grow with the jobs done, and each asks for all files
    of all jobs that are ready (Snakemake 9.27; pull request 3744, issue 3955). Jobs on this machine need no such
    limit. A version without one is left as it is.

    Args:
        scheduler: `workflow.scheduler` of a run that is about to start.
    """
    if hasattr(scheduler, "job_rate_limiter"):
        scheduler.job_rate_limiter = None

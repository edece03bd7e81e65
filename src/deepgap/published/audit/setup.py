"""What the published study says of its cards, its sweep and its host."""

from __future__ import annotations

from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    Finding,
    NotPrintedError,
    Values,
    need,
)


def bandwidth_of_the_l4(values: Values) -> Finding:
    """The L4's memory bandwidth is higher than the T4's."""
    ours, theirs = (values.gpus[gpu].memory_bandwidth_gb_s if gpu in values.gpus else None for gpu in ("L4", "T4"))
    if ours is None or theirs is None:
        raise NotPrintedError
    return values.finding(
        "The L4's memory bandwidth is higher than the T4's",
        f"By the vendor's datasheets {ours:g} against {theirs:g} GB/s.",
        HOLDS if ours > theirs else FAILS,
        "data sheets",
    )


def batch_configurations(values: Values) -> Finding:
    """The sweep has the stated number of batch sizes."""
    said = int(values.one("batch_configurations"))
    listed = values.sweep()
    return values.finding(
        "The sweep has the stated number of batch sizes",
        f"{said} stated, {len(listed)} listed.",
        HOLDS if said == len(listed) else FAILS,
    )


def one_host(values: Values) -> Finding:
    """One operating system ran all of it."""
    versions = sorted({row["value"] for row in values.rows("os_ubuntu_version")})
    need(versions)
    return values.finding(
        "One operating system ran all of it",
        f"Ubuntu {' and '.join(f'{version:.2f}' for version in versions)}.",
        HOLDS if len(versions) == 1 else FAILS,
    )

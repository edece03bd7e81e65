"""Dry runs of Snakemake, each in a fork of one process that has imported it, which is most of their time.

Reads a line of JSON a run (`folder`, `arguments`, `output`) and answers with the exit status.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import snakemake.cli


def plan(folder: str, arguments: Sequence[str], output: str) -> int:
    """The exit status of a dry run in a fresh fork; what it says is in the file `output`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.chdir(folder)
    # The copy's own package, which this process has not imported.
    sys.path.insert(0, f"{folder}/src")
    said = os.open(output, os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        snakemake.cli.main(["--cores", "1", "--dry-run", *arguments])
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        print(plan(**json.loads(line)), flush=True)

"""What a script is asked to do: by Snakemake, or by hand on the command line."""

from __future__ import annotations

import argparse
import io
import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from deepgap.errors import DeepGapError
from deepgap.measure.progress import begin_step
from deepgap.text import tell


def run_script(
    main: Callable[[Any], None],
    namespace: Mapping[str, Any],
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    params: Sequence[str] = (),
    optional_outputs: Sequence[str] = (),
    optional_inputs: Sequence[str] = (),
) -> None:
    """Call `main(job)` with the script's files, parameters and number of threads as attributes of `job`.

    Under Snakemake they are those of the rule. By hand each name is an option: `--name VALUE`, files as paths
    (several for a list), parameters as JSON. A `DeepGapError` ends the script with its one sentence. In a run that
    measures, where it stands is said first, and in `job.progress`, which is null elsewhere.

    Args:
        main: the script's work.
        namespace: the script's `globals()`, where Snakemake puts its object and `__doc__` describes the script.
        inputs, outputs, params: the names that the rule gives.
        optional_outputs: those that it may leave out; null then.
        optional_inputs: lists of files that may be empty.
    """
    for stream in (sys.stdout, sys.stderr):
        # A locale that cannot print a letter shows its number, and the script goes on.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    snakemake = namespace.get("snakemake")
    job: argparse.Namespace | SimpleNamespace
    if snakemake is None:
        job = _parse(namespace["__doc__"], inputs, optional_inputs, outputs, optional_outputs, params)
    else:
        job = SimpleNamespace(
            threads=snakemake.threads,
            **{name: snakemake.input[name] for name in inputs},
            **{name: list(snakemake.input[name]) for name in optional_inputs},
            **{name: snakemake.output[name] for name in outputs},
            **{name: snakemake.output.get(name) for name in optional_outputs},
            **{name: snakemake.params[name] for name in params},
        )
    job.progress = None if snakemake is None else begin_step(snakemake.output)
    if job.progress is not None:
        tell(str(job.progress))
    log = snakemake.log[0] if snakemake is not None and snakemake.log else None
    try:
        main(job)
    except DeepGapError as error:
        _fail(f"deep-gap: {error}", log)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception:
        _fail(traceback.format_exc(), log)


def list_paths(files: str | Sequence[str]) -> list[Path]:
    """The files of an input that may hold several: one alone comes as a string."""
    return [Path(file) for file in ([files] if isinstance(files, str) else files)]


def _parse(
    description: str,
    inputs: Sequence[str],
    optional_inputs: Sequence[str],
    outputs: Sequence[str],
    optional_outputs: Sequence[str],
    params: Sequence[str],
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    for name in inputs:
        parser.add_argument(f"--{name}", required=True, nargs="+", metavar="FILE")
    for name in optional_inputs:
        parser.add_argument(f"--{name}", default=[], nargs="+", metavar="FILE")
    for name in outputs:
        parser.add_argument(f"--{name}", required=True, metavar="FILE")
    for name in optional_outputs:
        parser.add_argument(f"--{name}", metavar="FILE")
    for name in params:
        parser.add_argument(f"--{name}", required=True, type=json.loads, metavar="JSON")
    job = parser.parse_args()
    job.threads = 1
    for name in inputs:
        files = getattr(job, name)
        setattr(job, name, files[0] if len(files) == 1 else files)
    return job


def _fail(text: str, log: str | None) -> NoReturn:
    print(text, file=sys.stderr, flush=True)
    if log is not None:
        # The disk may be full: that is what the text says then.
        with suppress(OSError):
            Path(log).parent.mkdir(parents=True, exist_ok=True)
            Path(log).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    raise SystemExit(1)

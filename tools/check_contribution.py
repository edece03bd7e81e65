"""Check the cells that somebody sends of a card, in a folder results/KEY or a tar archive of it; none is kept."""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from pathlib import Path

from deepgap.analyse.check import Report, check_results, describe
from deepgap.errors import ConfigError, DeepGapError
from deepgap.study.gpus import find_cards, find_platforms, load_gpus, with_sites

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sent", type=Path, help="the folder or the archive")
    sent = parser.parse_args().sent
    with tempfile.TemporaryDirectory(prefix="deepgap-") as folder:
        found = find_folder(unpack(sent, Path(folder) / "sent") if sent.is_file() else sent)
        # Alone below a folder of results, so that nothing else is looked at.
        results = Path(folder) / "results"
        results.mkdir()
        (results / found.name).symlink_to(found.resolve(), target_is_directory=True)
        report = check(results)
    print(describe(report))
    if report.refused or report.cells.is_empty():
        sys.exit("deep-gap: This cannot be taken in as it is; the list above says why.")
    print(f"\nAll is in order: copy it to results/{found.name}, or to results/{found.name.partition('@')[0]}@name/")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack what an archive may put below a folder, and nothing outside of it.

    Raises:
        DeepGapError: it is no tar archive, or would write elsewhere.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DeepGapError(f"{archive} cannot be unpacked ({error}); send a tar archive of results/KEY.") from None
    return folder


def find_folder(sent: Path) -> Path:
    """The one folder at or below `sent` that has cells.

    Raises:
        DeepGapError: there is none, or several.
    """
    found = sorted({path.parent for path in (sent / "cells", *sent.rglob("cells")) if path.is_dir()})
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DeepGapError(f"{sent} must hold one folder of one card with its cells, and holds {names}.")
    return found[0]


def check(results: Path) -> Report:
    """The report on the cells below `results`.

    Raises:
        ConfigError: what is told of the card there breaks the schema, or its folder is no platform's.
    """
    schema = ROOT / "workflow/schemas/gpus.schema.yaml"
    gpus = load_gpus(ROOT / "config/gpus.yaml", schema, find_cards(results))
    report = check_results(results, with_sites(gpus, find_platforms(results, gpus)))
    if not find_platforms(results, gpus):
        raise ConfigError(
            " ".join(report.refused) + " 'python tools/suggest_gpu.py FOLDER --save' writes what its cells tell."
        )
    return report


if __name__ == "__main__":
    try:
        main()
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")

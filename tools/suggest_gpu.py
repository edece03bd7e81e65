"""Draft an entry of config/gpus.yaml for a card without one: this machine's, or that of a folder of cells."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepgap.cells.cell_file import read_cell
from deepgap.errors import DeepGapError
from deepgap.measure.card import ask_card
from deepgap.measure.device import key_of, look_for_gpus
from deepgap.study.cards import describe_entry, draft_entry, make_key, note_card
from deepgap.study.gpus import Gpu, load_gpus, split_site

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="results/KEY; without it, this machine's card is asked")
    parser.add_argument("--save", action="store_true", help="write it to results/KEY/gpu.yaml, where a run finds it")
    options = parser.parse_args()
    gpus = load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")
    for key, facts in of_folder(options.folder) if options.folder else of_machine(gpus):
        entry = draft_entry(facts)
        print(describe_entry(key, entry))
        if options.save:
            results = options.folder.resolve().parent if options.folder else ROOT / "results"
            name = options.folder.resolve().name if options.folder else key
            print(f"Written to {note_card(results, name, entry)}.", file=sys.stderr)


def of_folder(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The folder's key, and what its first cell tells of its card.

    Raises:
        DeepGapError: there is no cell of a GPU.
    """
    file = next(iter(sorted((folder / "cells").glob("*.parquet"))), None)
    if file is None:
        raise DeepGapError(f"{folder} has no cells; give a folder such as results/RTX4080.")
    facts = read_cell(file)[1].provenance["device"]
    if facts.get("compute_capability") is None:
        raise DeepGapError(f"{file} was measured on a processor, which needs no entry but CPU.")
    yield split_site(folder.resolve().name)[0], facts


def of_machine(gpus: Mapping[str, Gpu]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first card of this machine that has no entry, with a key, and what it tells.

    Raises:
        DeepGapError: there is none.
    """
    seen = look_for_gpus()
    unknown = [device for device in seen.devices if key_of(device, gpus) is None]
    if not unknown:
        known = ", ".join(f"{device.name} is {key_of(device, gpus)}" for device in seen.devices)
        raise DeepGapError(f"This machine has {seen.absent or f'no card without an entry: {known}'}.")
    yield make_key(unknown[0].name, gpus), ask_card(unknown[0])


if __name__ == "__main__":
    try:
        main()
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")

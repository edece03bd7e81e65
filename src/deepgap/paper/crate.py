"""The measured cells as an RO-Crate: what was measured on what, by which software, in the words of schema.org.

The crate is the folder of results itself, so that nothing is copied; this makes its `ro-crate-metadata.json`. It
follows the Process Run Crate profile: a cell is an action, whose instrument is the software, whose objects are the
model's weights and the card or processor, and whose results are the cell's files. Who ran it is not in a cell, and so
not in the crate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.cells.cell_file import OK, read_cell
from deepgap.cells.footer import Footer
from deepgap.errors import MissingLibraryError

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

NAME = "ro-crate-metadata.json"
"""The file's name, which the specification fixes."""

SPECIFICATION = "1.1"
"""The version of RO-Crate on which the profile below is built."""

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
LICENCE = "https://spdx.org/licenses/MIT"
STATUS = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"
PARQUET = "application/vnd.apache.parquet"
AUTHORS, SOFTWARE = "#authors", "#deep-gap"


def describe_results(results: Path, cells: Iterable[Path], samples: Iterable[Path], version: str) -> dict[str, Any]:
    """The metadata of these files as JSON-LD; the same files give the same bytes.

    Args:
        results: the folder of results, which is the crate's root.
        cells, samples: cells and telemetry below it, the latter with the names of their cells.
        version: deep-gap's.

    Raises:
        MissingLibraryError: rocrate is not installed.
        CellError: a file is not what its name and footer say.
    """
    if find_spec("rocrate") is None:
        raise MissingLibraryError("An RO-Crate needs the package rocrate, which is not installed; run 'make setup'.")
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version=SPECIFICATION)
    _describe_root(crate, version)
    sampled = {(file.parent.parent.name, file.name): file for file in samples}
    actions, latest = [], datetime.fromtimestamp(0, UTC)
    for cell in sorted(cells):
        rows, footer = read_cell(cell)
        files = [cell, sampled.get((cell.parent.parent.name, cell.name))]
        action = _action(cell, rows["status"][0], rows["reason"][0], footer)
        latest = max(latest, datetime.fromisoformat(action["endTime"]))
        actions.append(
            crate.add_action(
                crate.get(SOFTWARE),
                f"#{cell.parent.parent.name}/{cell.stem}",
                object=[_add(crate, entity) for entity in (_weights(footer), _device(footer))],
                result=[_add_file(crate, results, file, action["name"]) for file in files if file is not None],
                properties=action,
            )
        )
    crate.root_dataset["mentions"] = actions
    crate.datePublished = latest
    return crate.metadata.generate()  # type: ignore[no-any-return]


def crate_text(metadata: Mapping[str, Any]) -> str:
    """The file's text."""
    return json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"


def _describe_root(crate: ROCrate, version: str) -> None:
    for entity in (
        {"@id": AUTHORS, "@type": "Organization", "name": "The deep-gap authors"},
        {"@id": LICENCE, "@type": "CreativeWork", "name": "MIT licence"},
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": PROFILE.rpartition("/")[2]},
        {
            "@id": SOFTWARE,
            "@type": "SoftwareApplication",
            "name": "deep-gap",
            "description": "Measures the inference of image models on GPUs",
            "softwareVersion": version,
        },
    ):
        _add(crate, entity)
    crate.name = "deep-gap: measured cells"
    crate.description = (
        "Times, energy, memory and fidelity of the inference of image models on GPUs, a file a cell: one process "
        "that runs one model in one mode at one batch size."
    )
    crate.license = {"@id": LICENCE}
    root = crate.root_dataset
    root["author"] = root["publisher"] = {"@id": AUTHORS}
    root["conformsTo"] = {"@id": PROFILE}


def _add(crate: ROCrate, entity: Mapping[str, Any]) -> Any:
    """A contextual entity of the crate; the one that is there where there is one of this name."""
    from rocrate.model.contextentity import ContextEntity

    name = entity["@id"]
    rest = {key: value for key, value in entity.items() if key != "@id"}
    return crate.get(name) or crate.add(ContextEntity(crate, name, properties=rest))


def _add_file(crate: ROCrate, results: Path, file: Path, name: str) -> Any:
    what = "samples of the device" if file.parent.name == "telemetry" else "timed calls"
    return crate.add_file(
        file,
        file.relative_to(results).as_posix(),
        properties={
            "name": f"{name}: {what}",
            "description": f"The {what}, with a footer that tells everything else",
            "encodingFormat": PARQUET,
            "contentSize": str(file.stat().st_size),
        },
    )


def _action(cell: Path, status: str, reason: str | None, footer: Footer) -> dict[str, Any]:
    recipe, observed = footer.recipe, footer.observed
    start_s, last_s = observed["clock_zero_unix_s"], observed.get("cell_s") or 0.0
    about = (
        f"{recipe['model']} in {recipe.get('mode', recipe['runtime'])} at batch size {recipe['batch_size']}, "
        f"sweep {recipe['sweep']}, on {cell.parent.parent.name}"
    )
    failure = {} if status == OK else {"error": f"{status}: {reason}"}
    return {
        "@type": "CreateAction",
        "name": about,
        "description": f"Measured with {_versions(footer)}; recipe {cell.stem.rpartition('.')[2]}",
        "startTime": _time(start_s),
        "endTime": _time(start_s + last_s),
        "actionStatus": STATUS[bool(failure)],
        **failure,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds), UTC).isoformat()


def _versions(footer: Footer) -> str:
    versions = {**footer.provenance["versions"], "driver": footer.provenance["device"].get("driver")}
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()) if version is not None)


def _weights(footer: Footer) -> dict[str, Any]:
    digest = footer.weights_sha256
    return {
        "@id": f"#weights-{digest[:12]}",
        "@type": "PropertyValue",
        "name": f"SHA-256 of the weights of {footer.recipe['model']}",
        "value": digest,
    }


def _device(footer: Footer) -> dict[str, Any]:
    """The card, or the processor; where it tells no identity, all of one name on one host are taken for one."""
    device, host = footer.provenance["device"], footer.provenance["host"]
    named = device.get("uuid_sha256") or hashlib.sha256(f"{device['name']} {host}".encode()).hexdigest()[:12]
    return {
        "@id": f"#device-{named}",
        "@type": "PropertyValue",
        "name": "device",
        "value": f"{device['name']}, host {host['cpu']} with {host['logical_cores']} logical cores, {host['os']}",
    }

"""Look for known vulnerabilities of the pinned packages, and for packages of this environment that are not pinned.

The package index is asked through pip-audit. Ends with 1 when something was found, with 0 when nothing was, and with
0 and a sentence when the index cannot be asked or has no data of vulnerabilities.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parent.parent / "envs/constraints.txt"
OWN = "deepgap"


def main() -> int:
    pins = read_pins(CONSTRAINTS.read_text(encoding="utf-8"))
    installed = {normalise(found.name): found.version for found in metadata.distributions()}
    problems = unpinned(pins, installed) + disagreements()
    answer = ask_index()
    if answer is None:
        print("The package index could not be asked for vulnerabilities; only the environment was looked at.")
    else:
        found, audited = vulnerabilities(answer)
        problems += found
        print(f"The package index told the vulnerabilities of {audited or 'none'} of {len(pins)} pinned packages.")
    print("\n".join(problems) or "Nothing was found.")
    return 1 if problems else 0


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """The version of each package, by its normalised name."""
    lines = [re.split("[#;]", line)[0].strip() for line in text.splitlines()]
    return {normalise(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def unpinned(pins: dict[str, str], installed: dict[str, str]) -> list[str]:
    """Each installed package that has no pin or another version than its pin, as a sentence."""
    return [
        f"{name} {version} is installed, but envs/constraints.txt has {pins.get(name, 'no pin of it')}."
        for name, version in sorted(installed.items())
        if name != OWN and pins.get(name) != version
    ]


def disagreements() -> list[str]:
    """What pip check says about packages that do not fit each other."""
    run = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, encoding="utf-8", check=False)
    return run.stdout.splitlines() if run.returncode else []


def ask_index() -> dict[str, Any] | None:
    """pip-audit's report on all pins; null when it could not make one."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "pypi", "--progress-spinner", "off"]
    command += ["--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--format", "json"]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    try:
        report: dict[str, Any] = json.loads(run.stdout)
    except ValueError:
        return None
    return report


def vulnerabilities(report: dict[str, Any]) -> tuple[list[str], int]:
    """Each vulnerability as a sentence, and how many packages the index told about."""
    audited = [package for package in report["dependencies"] if "skip_reason" not in package]
    found = []
    for package in audited:
        for known in package["vulns"]:
            mended = ", ".join(known["fix_versions"]) or "no version"
            found.append(f"{package['name']} {package['version']} has {known['id']}, mended in {mended}.")
    return found, len(audited)


if __name__ == "__main__":
    sys.exit(main())

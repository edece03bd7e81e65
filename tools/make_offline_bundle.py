"""Pack what an offline GPU node lacks: the wheels of the workflow, installed into one folder, as a tar.xz.

The node brings its own Python, PyTorch and torchvision; the bundle brings Snakemake, polars and what they need.
Unpack it there and put it on PYTHONPATH; see docs/offline.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ONLY = {"connection-pool"}
MEASURE_EXTRA = ("nvidia-cudnn-frontend",)
KERAS = ("keras", "absl-py", "h5py", "markdown-it-py", "mdurl", "namex", "optree", "pygments", "rich")
"""Keras and what it needs on a node that has JAX. They are not of this environment: their pins tell the versions."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
OTHER_SYSTEMS = re.compile(r"pulp/solverdir/cbc/(osx|win|linux/(arm64|i32))")
UNUSED = re.compile(r"(^|/)(tests?|__pycache__)/|\.pyc$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="3.12", help="the node's Python, as 3.12")
    parser.add_argument("--machine", default="x86_64", help="the node's processor")
    parser.add_argument(
        "--have",
        nargs="*",
        default=["numpy", "scipy", "jinja2", "markupsafe", "packaging", "psutil", "setuptools"],
        help="packages that the node has and the bundle leaves out",
    )
    parser.add_argument("--keras", action="store_true", help="pack Keras, for the second study on a node with JAX")
    parser.add_argument("--output", type=Path, default=ROOT / "build/offline/deepgap-node.tar.xz")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        wheels, site = Path(folder, "wheels"), Path(folder, "site")
        packages = closure({normalise(name) for name in options.have})
        packages = sorted({*packages, *(pinned(KERAS) if options.keras else ())})
        print(f"Packing {len(packages)} packages: {', '.join(packages)}", file=sys.stderr)
        download(packages, options.python, options.machine, wheels)
        for wheel in sorted(wheels.glob("*.whl")):
            unpack(wheel, site)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        partial = options.output.with_suffix(".tmp")
        with tarfile.open(partial, "w:xz", preset=9) as archive:
            archive.add(site, arcname="site")
        shutil.move(partial, options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(have: set[str]) -> list[str]:
    """The workflow's packages and all they need, as NAME==VERSION of this environment, without those in `have`."""
    pending = [Requirement(line) for line in requirement_lines()]
    pinned: dict[str, str] = {}
    while pending:
        name = normalise(pending.pop().name)
        if name in pinned or name in have:
            continue
        distribution = metadata.distribution(name)
        pinned[name] = distribution.version
        needs = map(Requirement, distribution.requires or [])
        pending += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return sorted(f"{name}=={version}" for name, version in pinned.items())


def pinned(names: Sequence[str]) -> list[str]:
    """NAME==VERSION of packages, from the pins."""
    lines = (ROOT / "envs/constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split("==")[0] in names]


def requirement_lines() -> list[str]:
    """All of the workflow's requirements, and those for measuring that a node with PyTorch and ONNX lacks."""
    workflow = (ROOT / "envs/workflow.txt").read_text(encoding="utf-8").splitlines()
    measure = (ROOT / "envs/measure.txt").read_text(encoding="utf-8").splitlines()
    lines = workflow + [line for line in measure if line.startswith(MEASURE_EXTRA)]
    return [line for line in lines if line and not line.startswith("#")]


def download(packages: list[str], python: str, machine: str, wheels: Path) -> None:
    """Fetch wheels for another Python; packages that have none are pure Python and are built here."""
    pip = [sys.executable, "-m", "pip"]
    binary = [package for package in packages if package.split("==")[0] not in SOURCE_ONLY]
    command = [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", python, "-d", str(wheels), *binary]
    for platform in PLATFORMS:
        command += ["--platform", f"{platform}_{machine}"]
    subprocess.run(command, check=True)
    source = [package for package in packages if package.split("==")[0] in SOURCE_ONLY]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(wheels), *source], check=True)


def unpack(wheel: Path, site: Path) -> None:
    """Install a wheel by unpacking it, without the parts for other systems and the tests of libraries.

    Wheels keep scripts and data in `NAME.data/purelib` and the like, which belong at the top.
    """
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", member.filename)
            if member.is_dir() or OTHER_SYSTEMS.search(name) or UNUSED.search(name) or ".data/" in name:
                continue
            target = site / name
            if not target.resolve().is_relative_to(site.resolve()):
                raise SystemExit(f"{wheel.name} holds the path {member.filename}, which leaves the bundle.")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
            target.chmod(0o755 if member.external_attr >> 16 & 0o111 else 0o644)


if __name__ == "__main__":
    main()

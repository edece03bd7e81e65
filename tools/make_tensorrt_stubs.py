"""Make what checks code against TensorRT where its libraries are missing, below build/tensorrt.

For each version there are then in its folder

- `site`: the real Python bindings beside a stand-in for the libraries, which lets them import and can build nothing;
- `stubs`: the types of the bindings' functions, for mypy;
- `surface.json`: the names that the bindings' classes have, and the members of their enums.

Needs the bindings' wheels (through pip) and gcc. What is there already is kept.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build/tensorrt"
STANDIN = ROOT / "tools/tensorrt_standin.c"
VERSIONS = ("10.16.1.11", "11.4.0.106")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
READY = "ready"

NULLABLE = {
    "build_serialized_network",
    "create_engine_inspector",
    "create_execution_context",
    "create_timing_cache",
    "deserialize_cuda_engine",
    "get_timing_cache",
}
"""Functions that return None when they fail, though their signatures do not say so."""
HIDDEN_TYPES = {"get_error": "ParserError", "nvtx_verbosity": "ProfilingVerbosity"}
"""Types that the bindings show under their C++ names."""
ADDITIONS = {
    "IHostMemory": "def __buffer__(self, flags: int, /) -> memoryview: ...",
    "Dims": "def __iter__(self) -> typing.Iterator[int]: ...",
}
"""Protocols that the bindings have without a Python method."""
SURFACE = """
import json, tensorrt as trt
classes = {name: value for name, value in vars(trt).items() if isinstance(value, type)}
print(json.dumps({
    "module": sorted(name for name in vars(trt) if not name.startswith("_")),
    "classes": {name: sorted(n for n in dir(value) if not n.startswith("_")) for name, value in classes.items()},
    "enums": {
        name: {member: int(flag) for member, flag in value.__members__.items()}
        for name, value in {**classes, "Severity": trt.ILogger.Severity}.items()
        if hasattr(value, "__members__")
    },
}))
"""


class Failed(Exception):
    """A step failed; the sentence says what to do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="versions of tensorrt-cu13-bindings")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(OUTPUT / ".lock"):
            for version in parser.parse_args().versions:
                make(version)
    except Failed as error:
        sys.exit(f"make_tensorrt_stubs: {error}")


def make(version: str) -> None:
    """Make the folder of one version in one step, unless it is there and made by these sources and this Python."""
    sources = (Path(__file__).read_bytes(), STANDIN.read_bytes(), sys.version.encode())
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()
    folder = OUTPUT / version
    ready = folder / READY
    if ready.exists() and ready.read_text(encoding="utf-8") == digest:
        print(f"TensorRT {version}: {folder.relative_to(ROOT)} is ready.")
        return
    with tempfile.TemporaryDirectory(dir=OUTPUT) as temporary:
        partial = Path(temporary, version)
        fetch(version, partial / "site")
        compile_standin(version, partial / "site/tensorrt_bindings")
        write_stubs(version, partial)
        (partial / READY).write_text(digest, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    print(f"TensorRT {version}: {folder.relative_to(ROOT)} is made.")


def fetch(version: str, site: Path) -> None:
    """Install the bindings alone, and the package `tensorrt` that shows them as the full installation does."""
    print(f"TensorRT {version}: fetching the bindings.", flush=True)
    requirement = f"tensorrt-cu13-bindings=={version}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [
        *pip,
        "--retries",
        "1",
        "--timeout",
        "20",
        "--only-binary",
        ":all:",
        "--target",
        str(site),
        requirement,
    ]
    run(command, f"pip cannot install {requirement}; a network and a wheel for this Python and platform are needed")
    package = site / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n", encoding="utf-8"
    )


def compile_standin(version: str, folder: Path) -> None:
    print(f"TensorRT {version}: compiling a stand-in for the libraries.", flush=True)
    major = version.split(".")[0]
    for library in LIBRARIES:
        # The bindings look for these names beside themselves (readelf -d: NEEDED, RUNPATH $ORIGIN).
        name = f"lib{library}.so.{major}"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(STANDIN)]
        run(command, "gcc cannot compile the stand-in; install gcc")


def write_stubs(version: str, folder: Path) -> None:
    print(f"TensorRT {version}: writing stubs.", flush=True)
    site, raw, stubs = folder / "site", folder / "raw", folder / "stubs/tensorrt"
    command = [sys.executable, "-m", "pybind11_stubgen", "tensorrt_bindings.tensorrt", "--output-dir", str(raw)]
    run(command, "pybind11-stubgen cannot read the bindings; run make setup", site)
    stubs.mkdir(parents=True)
    text = (raw / "tensorrt_bindings/tensorrt.pyi").read_text(encoding="utf-8")
    (stubs / "__init__.pyi").write_text(clean(text), encoding="utf-8")
    shutil.rmtree(raw)
    names = run([sys.executable, "-c", SURFACE], "the bindings do not import beside the stand-in", site)
    (folder / "surface.json").write_text(json.dumps(json.loads(names), indent=1), encoding="utf-8")


def clean(text: str) -> str:
    """The generated stubs as valid Python, with the types that the functions really take and return."""
    # An argument named as a keyword, and an argument without a default behind one that has it.
    text = re.sub(r"\bin: ", "in_: ", text)
    text = re.sub(r"\bchannel_axis: typing\.SupportsInt\)", "channel_axis: typing.SupportsInt = ...)", text)
    tree = Cleaner().visit(ast.parse(text))
    return f"import builtins\n{ast.unparse(ast.fix_missing_locations(tree))}\n__version__: str\n"


class Cleaner(ast.NodeTransformer):
    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = without_docstring(node.body) + ast.parse(ADDITIONS.get(node.name, "")).body
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body = without_docstring(node.body)
        if node.returns is None:
            node.returns = expression("typing.Any")
        if node.name in HIDDEN_TYPES:
            node.returns = expression(HIDDEN_TYPES[node.name])
        if node.name in NULLABLE:
            node.returns = expression(f"{ast.unparse(node.returns)} | None")
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        if node.arg not in ("self", "this") or node.annotation is not None:
            node.annotation = self.type(node.annotation)
            # TensorRT converts any sequence of numbers.
            if ast.unparse(node.annotation) == "Dims":
                node.annotation = expression("Dims | collections.abc.Sequence[int]")
        elif node.arg == "this":
            node.annotation = expression("typing.Any")
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        name = ast.unparse(node.target)
        node.annotation = expression(HIDDEN_TYPES[name]) if name in HIDDEN_TYPES else self.type(node.annotation)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        # The module has a data type of this name.
        return expression("builtins.bool") if node.id == "bool" and isinstance(node.ctx, ast.Load) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return expression("int") if ast.unparse(node) == "typing.SupportsInt" else node

    def type(self, annotation: ast.expr | None) -> ast.expr:
        if annotation is None or ast.unparse(annotation) == "...":
            return expression("typing.Any")
        visited: ast.expr = self.visit(annotation)
        return visited


def without_docstring(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    kept = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
    return kept or [ast.Expr(ast.Constant(...))]


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def run(command: Sequence[str], problem: str, path: Path | None = None) -> str:
    """The output of a command; `path` is where it imports from.

    Raises:
        Failed: with the problem and the last line of what the command said.
    """
    environment = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
    try:
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise Failed(f"{problem} ({command[0]} was not found).") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise Failed(f"{problem} ({said[-1]}).")
    return done.stdout


if __name__ == "__main__":
    main()

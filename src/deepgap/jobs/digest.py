"""Digests of code, for the rules whose results depend on modules that Snakemake does not see."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def code_digest(*modules: str, script: str | None = None) -> str:
    """Twelve hex digits over the meaning of these modules, of all of deepgap that they import, and of a script.

    Comments, docstrings and layout do not count, and the digest is the same on every supported Python.

    Args:
        modules: names of deepgap modules.
        script: path of the script that uses them; what it imports beside them does not count.

    Raises:
        ModuleNotFoundError: a name is none of deepgap's modules.
    """
    seen = import_closure(modules)
    return syntax_digest(seen if script is None else seen | {script})


def import_closure(modules: Iterable[str], leave_out: Collection[str] = ()) -> set[str]:
    """These modules and all of deepgap that they import, wherever in their code.

    Args:
        leave_out: modules that are neither counted nor followed.
    """
    seen: set[str] = set()
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module not in seen and module not in leave_out:
            seen.add(module)
            pending += _imports(module)
    return seen


def syntax_digest(modules: Iterable[str]) -> str:
    """Twelve hex digits over the meaning of exactly these modules; a name that ends in `.py` is a script's path.

    The folder of a script does not count: Snakemake copies those of a module from afar.
    """
    digest = hashlib.sha256()
    for name, module in sorted((_name(module), module) for module in modules):
        digest.update(f"{name}\n{_meaning(module)}\n".encode())
    return digest.hexdigest()[:12]


def _name(module: str) -> str:
    return f"workflow/scripts/{Path(module).name}" if module.endswith(".py") else module


@cache
def _source(module: str) -> Path | None:
    """The file of a deepgap module, found without importing anything."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


@cache
def _parse(module: str) -> ast.Module:
    path = Path(module) if module.endswith(".py") else _source(module)
    if path is None:
        raise ModuleNotFoundError(f"{module} is not a module of deepgap")
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _meaning(module: str) -> str:
    return _normal_form(_parse(module))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The deepgap modules that a module imports, wherever in its code."""
    found = set()
    for node in ast.walk(_parse(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return tuple(name for name in sorted(found) if name.split(".")[0] == PACKAGE.name and _source(name))


def _normal_form(node: object) -> str:
    """Names and values of a syntax tree, without positions, docstrings and empty fields."""
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list):
                value = [item for item in value if not _is_docstring(item)]
            if value is not None and value != []:
                fields.append(f"{name}={_normal_form(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_normal_form, node))}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

"""What no linter finds in this project's own code: data that is run, text in the locale's encoding, unquoted shell.

Run by `make check`: prints what it finds, a line each, and ends with 1 where there is anything.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("src", "workflow", "tools", "benchmarks")
"""Where nothing may run data."""
WITH_TESTS = (*CODE, "tests")
"""Where all text has an encoding."""
RULES = [ROOT / "Snakefile", ROOT / "workflow/Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]

UNPICKLERS = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
SAFE_YAML = ("SafeLoader", "CSafeLoader", "yaml.SafeLoader", "yaml.CSafeLoader")


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or an attribute; what is before the last dot is `?` for another expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def real_names(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: `np` is numpy, `run` of `from subprocess import run` is subprocess.run."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dangers(text: str) -> Iterator[str]:
    """What a file of code does that can run data as code or write outside its place."""
    tree = ast.parse(text)
    names = real_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno}: import {a.name}" for a in node.names if a.name.split(".")[0] in UNPICKLERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            yield f"{node.lineno}: from {node.module} import"
        elif isinstance(node, ast.Call):
            first, _, rest = dotted(node.func).partition(".")
            function = names.get(first, first) + (f".{rest}" if rest else "")
            if danger := call_danger(function, node):
                yield f"{node.lineno}: {danger}"


def call_danger(function: str, call: ast.Call) -> str | None:
    last = function.rpartition(".")[2]
    given = {keyword.arg: keyword.value for keyword in call.keywords}

    def is_constant(name: str, value: object) -> bool:
        return name in given and isinstance(given[name], ast.Constant) and given[name].value is value  # type: ignore[attr-defined]

    if function in ("eval", "exec", "compile", "builtins.eval", "builtins.exec", "os.system", "os.popen"):
        return function
    if function == "torch.load" and not is_constant("weights_only", True):
        return "torch.load without weights_only=True"
    if "allow_pickle" in given and not is_constant("allow_pickle", False):
        return f"{function} with allow_pickle"
    if function in ("numpy.load", "numpy.lib.format.read_array") and len(call.args) > 2:
        return f"{function} with allow_pickle"
    if function in ("pandas.read_pickle", "polars.LazyFrame.deserialize", "polars.DataFrame.deserialize"):
        return function
    loader = given.get("Loader") or (call.args[1] if len(call.args) > 1 else None)
    if function in ("yaml.load", "yaml.load_all") and (loader is None or dotted(loader) not in SAFE_YAML):
        return f"{function} without a safe loader"
    if function.startswith("yaml.") and last.startswith(("unsafe_load", "full_load")):
        return function
    if "shell" in given and not is_constant("shell", False):
        return f"{function} with shell"
    if function in ("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"):
        return function
    if last == "extractall" and not (
        isinstance(given.get("filter"), ast.Constant) and given["filter"].value in ("data", "tar")  # type: ignore[attr-defined]
    ):
        return f"{last} without filter='data'"
    if function == "shutil.unpack_archive":
        return function
    if last == "Environment" and not is_constant("autoescape", True) and dotted_or_none(given) != "_finalize":
        return "a jinja2 environment that escapes nothing"
    if function in ("jinja2.Template", "tempfile.mktemp"):
        return function
    return None


def dotted_or_none(given: dict[str | None, ast.expr]) -> str | None:
    return dotted(given["finalize"]) if "finalize" in given else None


SHELL = re.compile(r"^ +shell:\n((?: {8}.*\n|\n)+)", re.MULTILINE)
ALLOWED = re.compile(r"(input|output|log)(\.\w+)?(:q)?|params(\.\w+)?:q")


def unquoted(rules: str) -> list[str]:
    """What a rule file puts into a shell command without quoting: neither a file of the rule nor `:q`."""
    placed = [field for block in SHELL.findall(rules) for field in re.findall(r"(?<!\{)\{([^{}]+)\}", block)]
    direct = re.findall(r"\bshell\([^)]*|^ +run:|\bshell: *[\"'f].*", rules, re.MULTILINE)
    built = [block for block in SHELL.findall(rules) if re.search(r"\bf\"|\.format\(|\+ ?\w|%", block)]
    return [field for field in placed if not ALLOWED.fullmatch(field)] + direct + built


def without_encoding(text: str) -> list[int]:
    """Lines that read or write text in the locale's encoding, also where ruff does not know the type."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            given = {keyword.arg for keyword in node.keywords}
            # An archive is opened for writing and has no text.
            opens = name == "open" and dotted(node.func) != "tarfile.open"
            text_mode = opens and any(ast.unparse(value) in ("'r'", "'w'", "'a'") for value in node.args)
            reads = name in ("read_text", "write_text") and isinstance(node.func, ast.Attribute)
            pipes = any(keyword.arg == "text" and ast.unparse(keyword.value) == "True" for keyword in node.keywords)
            if (reads or text_mode or pipes) and "encoding" not in given:
                found.append(node.lineno)
    return found


def sources(folders: tuple[str, ...]) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def findings() -> Iterator[str]:
    """A line each for what is found in the files of the project."""
    for path in sources(CODE):
        yield from (f"{path.relative_to(ROOT)}:{danger}" for danger in dangers(path.read_text(encoding="utf-8")))
    for path in sources(WITH_TESTS):
        for line in without_encoding(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}:{line}: text in the locale's encoding"
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        if len(SHELL.findall(text)) != len(re.findall(r"^ +shell:", text, re.MULTILINE)):
            yield f"{path.relative_to(ROOT)}: a shell command that is written in another way than the others"
        yield from (f"{path.relative_to(ROOT)}: {field} is unquoted in a shell command" for field in unquoted(text))


if __name__ == "__main__":
    found = list(findings())
    print("\n".join(found) or "No code runs data, and all text has an encoding.")
    sys.exit(bool(found))

"""No code that runs data, and no name that leaves its place: in LaTeX, in HTML, on disk."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
import yaml

from deepgap.analyse.summary import Summary
from deepgap.errors import ConfigError
from deepgap.paper.latex import escape, render
from deepgap.paper.numbers import write_numbers
from deepgap.paper.report import write_page
from deepgap.paper.tables import TABLES, load_table
from deepgap.runtimes import load_runtimes
from deepgap.study.checks import load_study
from deepgap.study.gpus import Gpu, load_gpus
from tests.conftest import ROOT, read_yaml
from tests.unit.synthetic import full_summary
from tools.check_sources import dangers, unquoted


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(f)",
        "from torch import load as get\nget(f, weights_only=False)",
        "import torch as t\nt.load(f, weights_only=flag)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f, None, True)",
        "eval(text)",
        "exec(text)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "from yaml import unsafe_load\nunsafe_load(text)",
        "import subprocess as s\ns.run(text, shell=True)",
        "from subprocess import run\nrun(text, shell=flag)",
        "import os\nos.system(text)",
        "import tarfile\ntarfile.open(f).extractall(folder)",
        "import zipfile\nwith zipfile.ZipFile(f) as z: z.extractall(folder)",
        "import tarfile\ntarfile.open(f).extractall(folder, filter='fully_trusted')",
        "import jinja2\njinja2.Environment(autoescape=False)",
        "from jinja2 import Environment\nEnvironment()",
        "import jinja2\njinja2.Template(text)",
    ],
)
def test_what_runs_data_is_found(code: str) -> None:
    assert len(list(dangers(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(f, weights_only=True)",
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import numpy as np\nnp.load(f)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import subprocess\nsubprocess.run(['a'], shell=False)",
        "import tarfile\ntarfile.open(f).extractall(folder, filter='data')",
        "model.eval()",
        "import jinja2\njinja2.Environment(autoescape=True)",
    ],
)
def test_what_is_safe_is_not(code: str) -> None:
    assert list(dangers(code)) == []


@pytest.mark.parametrize(
    "command", ['"cat {params.name}"', '"cat {config[gpu]}"', '"cat {wildcards.model}"', 'f"cat {study.gpu}"']
)
def test_an_unquoted_value_in_a_shell_command_is_found(command: str) -> None:
    assert unquoted(f"rule x:\n    shell:\n        {command}\n\n") != []


HOSTILE = [
    r"\input{/etc/passwd}",
    r"\write18{touch owned}",
    r"}\end{tabular}\immediate\openout1=owned",
    "$x$ 100% #1 a_b ^ ~ {c} & \\\\",
    "^^5cinput{/etc/passwd}",
    "</script><script>alert(1)</script>",
    "two\n\nparagraphs\tand\x00nothing",
]
SPECIALS = "\\&%$#_{}~^"
COMMANDS = r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[&%$#_{}]"


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_text_holds_no_special(text: str) -> None:
    rest = re.sub(COMMANDS, "", escape(text))
    assert not set(rest) & set(SPECIALS)
    assert rest.isprintable()


def hostile_summary(text: str) -> Summary:
    """A full summary whose every free text is `text`: names of devices, processors, systems, files, and reasons."""
    summary = full_summary()
    sessions = summary.sessions.with_columns(
        *(pl.lit(text).alias(name) for name in ("device", "cpu", "os", "python", "torch")),
        pl.lit([text], pl.List(pl.String)).alias("versions"),
    )
    families = summary.families.with_columns(
        pl.when(pl.col("status") == "ok").then(None).otherwise(pl.lit(text)).alias("reason"),
        pl.when(pl.col("status") == "ok").then(pl.lit(text)).otherwise(None).alias("tail_note"),
    )
    families = families.with_columns(
        pl.lit(text).alias("energy_note"), pl.lit(None, pl.Float64).alias("images_per_joule")
    )
    fidelity = summary.fidelity.with_columns(
        pl.when(pl.col("calibration_images").is_null()).then(None).otherwise(pl.lit(text)).alias("calibration_images")
    )
    gpus = {key: Gpu(**{**vars(gpu), "architecture": text}) for key, gpu in summary.gpus.items()}
    return Summary(
        **{**vars(summary), "sessions": sessions, "families": families, "fidelity": fidelity, "gpus": gpus}
    )


def tables(summary: Summary) -> dict[str, str]:
    return {name: render(ROOT / f"paper/templates/{name}.tex.j2", load_table(name)(summary)) for name in TABLES}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_table_prints_a_hostile_name_as_latex(text: str) -> None:
    rendered = "".join(tables(hostile_summary(text)).values())
    assert str(escape(text)) in rendered
    assert text not in rendered.replace(str(escape(text)), "")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_numbers_of_the_prose_hold_no_free_text(text: str) -> None:
    assert text not in write_numbers(hostile_summary(text), {}, ())


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_holds_a_hostile_name_as_text(text: str, tmp_path: Path) -> None:
    summary = hostile_summary(text)
    page = write_page(summary, {}, {}, [], ROOT / "paper/templates/report.html.j2", root="../")
    held = re.search(r'id="content">(.*?)</script>', page, re.DOTALL)
    assert held is not None and "<" not in held[1]
    assert {row["device"] for row in json.loads(held[1])["sessions"]} == {text}
    assert text not in page.replace(held[1], "")


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="needs latexmk to compile the tables")
def test_latex_compiles_tables_with_hostile_names_and_reads_no_file_for_them(tmp_path: Path) -> None:
    secret = tmp_path / "secret.tex"
    secret.write_text("LEAKED", encoding="utf-8")
    text = rf"\input{{{secret}}} \write18{{touch owned}} $x 100% #1 a_b ^^5c ~ {{c & \\" + "\x00"
    bodies = "\n\n".join(tables(hostile_summary(text)).values())
    preamble = (ROOT / "paper/main.tex").read_text(encoding="utf-8").partition(r"\begin{document}")[0]
    preamble = re.sub(r"\\input\{[^}]*\}", "", preamble)
    work = tmp_path / "work"
    work.mkdir()
    (work / "t.tex").write_text(
        f"{preamble}\n\\begin{{document}}\n\\tiny\n{bodies}\n\\end{{document}}\n", encoding="utf-8"
    )
    command = ["latexmk", "-pdf", "-recorder", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    run = subprocess.run(command, cwd=work, capture_output=True, encoding="utf-8", errors="replace", check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "secret" not in (work / "t.fls").read_text(encoding="utf-8")
    assert not (work / "owned").exists()


PATHS = [
    "../../x",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "",
    "a\x00b",
    "T4\n",
    "T 4",
    "T4;rm -rf x",
    "$(touch x)",
    "<b>",
    "Ⅴ",
]


@pytest.mark.parametrize("key", [*PATHS, *HOSTILE])
def test_a_gpu_whose_key_is_a_path_is_refused(key: str, tmp_path: Path) -> None:
    entries = read_yaml(ROOT / "config/gpus.yaml")
    entries[key] = entries["T4"]
    file = tmp_path / "gpus.yaml"
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"gpus\.yaml: .*letter"):
        load_gpus(file, ROOT / "workflow/schemas/gpus.schema.yaml")


@pytest.mark.parametrize("value", [*PATHS, *HOSTILE])
@pytest.mark.parametrize(
    "change",
    [
        lambda config, value: config.update(gpu=value),
        lambda config, value: config.update(models=[value]),
        lambda config, value: config.update(modes=[f"{value}-fp32"]),
        lambda config, value: config.update(modes=[f"eager-{value}"]),
        lambda config, value: config["overrides"].update({value: {"models": ["resnet18"]}}),
        lambda config, value: config["weights"].update(source=value),
        lambda config, value: config["calibration"].update(method=value),
    ],
    ids=["gpu", "model", "runtime", "precision", "override", "weights", "method"],
)
def test_a_name_of_the_config_that_is_a_path_is_refused(change, value, config, config_schema, gpus) -> None:
    hostile = copy.deepcopy(config)
    change(hostile, value)
    with pytest.raises(ConfigError):
        load_study(hostile, config_schema, gpus, load_runtimes())


def test_every_file_of_a_cell_lies_in_the_folder_of_its_gpu(config, config_schema, gpus) -> None:
    hostile = copy.deepcopy(config)
    name = "../../x"
    hostile |= {"protocol": name, "protocols": {**config["protocols"], name: config["protocols"]["quick"]}}
    for axes in hostile["overrides"].values():
        axes.pop("protocol", None)
    study = load_study(hostile, config_schema, gpus, load_runtimes())
    cells = [cell for gpu in gpus for cell in study.cells(gpu)]
    assert len(cells) > 100
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", cell.stem) and not cell.stem.startswith(".") for cell in cells)
    assert all(cell.path == f"results/{cell.gpu}/cells/{cell.stem}.parquet" for cell in cells)

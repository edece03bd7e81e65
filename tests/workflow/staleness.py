"""The staleness matrix: what a user does, and which jobs must run again.

`python -m tests.workflow.staleness` writes the table of docs/staleness.md from these rows.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from subprocess import Popen
from typing import Any

import yaml

from deepgap.measure.device import list_devices
from deepgap.measure.locks import FOLDER_VARIABLE, FileLock
from deepgap.paper.figures import FIGURES
from deepgap.paper.figures import shown_devices as shown_by_figure
from deepgap.paper.tables import TABLES
from deepgap.paper.tables import shown_devices as shown_by_table
from tests.conftest import ROOT, read_yaml
from tests.workflow.conftest import CALIBRATION, CPU, Project, copy_study, own

DOCUMENT = ROOT / "docs/staleness.md"
COMMAND = "python -m tests.workflow.staleness"
MARK = f"<!-- The table below is written by: {COMMAND} -->\n"

FIGURE_FILES = ("paper/figures/throughput.png", "paper/figures/pareto.png")
TABLE_FILES = ("paper/tables/peaks.tex", "paper/tables/fidelity.tex")
PARTS = (*TABLE_FILES, *FIGURE_FILES, "paper/numbers.tex")
"""Two of a kind, so that one and all can be told apart; in place of the whole paper, which takes minutes."""
TARGETS = ("cells", *PARTS)

CELLS = 6
"""One model, three modes, two batch sizes, one sweep."""
INT8_CELLS = 2
PARTS_RENDERED = {"render_table": 2, "write_numbers": 1, "draw_figure": 2, "render_figure": 2}
"""All of `PARTS`."""
DESCRIBED = {"describe_study": 1, **PARTS_RENDERED}
"""What a change of what the study asks for renders, of `PARTS`."""
RENDERED = {"aggregate": 1, **PARTS_RENDERED}
"""What a change in the processor's cells renders."""
GROUPS = 2
"""The processor's cells and the H100's, of one model each."""
ALL_RENDERED = {"aggregate": GROUPS, **PARTS_RENDERED}
"""What a change of how cells are aggregated renders."""
EVERYTHING = {"aggregate": GROUPS, **DESCRIBED}
"""What must be made when nothing is there but cells."""


def of_paper(*devices: str) -> dict[str, int]:
    """The tables, figures and numbers of the whole paper that show cells of any of these kinds of device."""
    figures = sum(not {*devices}.isdisjoint(shown_by_figure(name)) for name in FIGURES)
    tables = sum(not {*devices}.isdisjoint(shown_by_table(name)) for name in TABLES)
    counts = {"render_table": tables, "draw_figure": figures, "render_figure": figures}
    return {"aggregate": 1, **counts, "write_numbers": 1, "write_report": 1}


WHOLE_PAPER = {
    "aggregate": GROUPS,
    "describe_study": 1,
    "render_table": len(TABLES),
    "write_numbers": 1,
    "draw_figure": len(FIGURES),
    "render_figure": len(FIGURES),
    "write_report": 1,
}
SCALES = {"calibrate": 1, "quantize": 1}
MODEL = {"build_weights": 1, "compute_reference": 1, "export_onnx": 1, "count_facts": 1, **SCALES}


def measured(cells: int) -> dict[str, int]:
    """Measure so many cells that the study did not name before, and render."""
    return {**measured_again(cells), "describe_study": 1}


def measured_again(cells: int) -> dict[str, int]:
    """Measure so many cells that were there before, and render."""
    return {"measure_cell": cells, "cells": 1, **RENDERED}


class Start(Enum):
    """What is there before the user does anything."""

    WORKED = auto()
    """The folder in which the study was measured: cells, build/, all that is rendered, Snakemake's records."""
    CARRIED = auto()
    """A fresh clone into which build/, all that is rendered and the records were copied: older than their inputs."""
    CLONED = auto()
    """A fresh clone: the cells, and nothing that was made from them or before them."""


@dataclass(frozen=True)
class Row:
    """What a user does and what follows.

    does: in words; change: the same, done.
    jobs: the jobs of the next run by rule; none is too many and none too few.
    stays: in words, what is used as it is.
    told: what happens while it is done, when the jobs afterwards are not all.
    gpu: of that run; None is reader mode.
    really: the run is made, too, and the run after it must have nothing to do.
    """

    does: str
    change: Callable[[Project], None]
    jobs: Mapping[str, int]
    stays: str
    told: str = ""
    start: Start = Start.WORKED
    targets: Sequence[str] = TARGETS
    gpu: str | None = "CPU"
    really: bool = False


# Ways to change a study


def nothing(project: Project) -> None:
    """The row is about where it runs."""


def config(**changes: Any) -> Callable[[Project], None]:
    """Replace keys of config.yaml."""
    return lambda project: project.change(**changes)


def reporting(**changes: Any) -> Callable[[Project], None]:
    """Replace keys of `reporting`."""

    def change(project: Project) -> None:
        before = read_yaml(project.root / "config/config.yaml")["reporting"]
        project.change(reporting={**before, **changes})

    return change


def counts(name: str, **changes: Any) -> Callable[[Project], None]:
    """Replace counts of a protocol."""

    def change(project: Project) -> None:
        protocols = read_yaml(project.root / "config/config.yaml")["protocols"]
        project.change(protocols={**protocols, name: {**protocols[name], **changes}})

    return change


def edit(file: str, old: str, new: str) -> Callable[[Project], None]:
    return lambda project: project.edit(file, old, new)


def append(file: str, text: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        with (project.root / file).open("a", encoding="utf-8") as opened:
            opened.write(text)

    return change


def delete(*patterns: str) -> Callable[[Project], None]:
    """Delete what matches; each pattern must match something."""

    def change(project: Project) -> None:
        for pattern in patterns:
            found = list(project.root.glob(pattern))
            assert found, pattern
            for path in found:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    return change


def both(*changes: Callable[[Project], None]) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        for one in changes:
            one(project)

    return change


def add_gpu(project: Project) -> None:
    """As a user would: its facts, and its axes."""
    path = project.root / "config/gpus.yaml"
    gpus = read_yaml(path)
    path.write_text(yaml.safe_dump({**gpus, "Bench": gpus["CPU"]}, sort_keys=False), encoding="utf-8")
    overrides = read_yaml(project.root / "config/config.yaml")["overrides"]
    project.change(overrides={**overrides, "Bench": {"batch_sizes": [1, 4]}})


def touch_every_file(project: Project) -> None:
    """In the worst order: what was made first is newest."""
    files = [path for path in project.root.rglob("*") if path.is_file()]
    latest = time.time()
    for age_s, path in enumerate(sorted(files, key=lambda path: path.stat().st_mtime_ns)):
        os.utime(own(path), (latest - age_s, latest - age_s))


def render_the_paper(project: Project) -> None:
    """Empty files stand in for what takes minutes to render; nothing is newer."""
    figures = [f"paper/figures/{name}.{ending}" for name in FIGURES for ending in ("vl.json", "pdf", "svg", "png")]
    for file in (*figures, *(f"paper/tables/{name}.tex" for name in TABLES), "paper/report.html"):
        (project.root / file).touch()
    (project.root / "paper/paper.pdf").touch()
    for ending in ("csv", "txt"):
        (project.root / f"results/recommendation.{ending}").touch()
    assert project.plan("all", "pdf", *CPU) == {}


def add_comments(project: Project) -> None:
    append("workflow/scripts/aggregate_cells.py", "\n# A comment.\n")(project)
    append("workflow/scripts/measure_cell.py", "\n# A comment.\n")(project)
    project.edit("src/deepgap/stats.py", "TAIL = 0.99", "# A comment.\nTAIL = 0.99")
    project.edit("src/deepgap/stats.py", '"""Statistics of', '"""Some statistics of')
    project.edit("src/deepgap/measure/subject.py", "INPUT_SEED = 0", "INPUT_SEED = 0  # A comment.")


def delete_one_telemetry_file(project: Project) -> None:
    next(iter(project.root.glob("results/*/telemetry/*.parquet"))).unlink()


def state(project: Project) -> dict[str, tuple[int, int]]:
    stats = {name: (project.root / name).stat() for name in project.files()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def ask_for_an_absent_gpu(project: Project) -> None:
    here = " ".join(device.name for device in list_devices())
    absent = next(key for key in ("T4", "H200") if key not in here)
    before = state(project)
    run = project.run("--config", f"gpu={absent}")
    assert run.returncode != 0
    (sentence,) = {line for line in run.stdout.splitlines() if "was asked for" in line}
    assert sentence.startswith(f"deep-gap: gpu={absent} was asked for, but this machine has ")
    assert "'snakemake --cores 1' renders" in sentence
    assert "Traceback" not in run.stdout
    assert "Finished jobid" not in run.stdout
    assert state(project) == before


def read_until(run: Popen[str], words: str) -> None:
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        said += line
        if words in line:
            return
    raise AssertionError(said)


def end_well(run: Popen[str]) -> None:
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said


def interrupt_at_the_third_of_four_cells(project: Project) -> None:
    for cell in project.cells()[:4]:
        cell.unlink()
    run = project.start(*TARGETS, *CPU)
    read_until(run, "[cell 3 of 4")
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert len(project.cells()) == CELLS - 2


@contextmanager
def waiting_runs(*projects: Project) -> Iterator[None]:
    """A run of each project that waits for the device; after the block they go on and must end well."""
    with tempfile.TemporaryDirectory() as folder:
        lock = FileLock(Path(folder) / "deepgap-host.lock")
        assert lock.try_take()
        # Temporary folders of their own, as under a batch system.
        runs = [
            project.start("cells", *CPU, TMPDIR=str(project.root), **{FOLDER_VARIABLE: folder})
            for project in projects
        ]
        for run in runs:
            read_until(run, "waiting until its processor is free.")
        yield
        lock.release()
        for run in runs:
            said, _ = run.communicate(timeout=120)
            assert run.returncode == 0, said


def run_twice_in_one_folder(project: Project) -> None:
    project.cells()[0].unlink()
    with waiting_runs(project):
        second = project.run("cells", *CPU)
    assert second.returncode != 0
    assert "Error: Directory cannot be locked." in second.stdout
    assert "Traceback" not in second.stdout
    assert "Finished jobid" not in second.stdout


def run_in_two_clones_of_one_machine(project: Project) -> None:
    project.cells()[0].unlink()
    other = copy_study(project, project.root.with_name("other"))
    with waiting_runs(project, other):
        pass
    assert len(project.cells()) == len(other.cells()) == CELLS


METHOD = "raise METHOD_VERSION in `src/deepgap/study/method.py`"
ALL_CELLS = "all cells"
READ = "all cells, and what they were aggregated into"
FILES = "all files"

ROWS = (
    Row("change nothing", nothing, {}, FILES),
    Row("go from `--config gpu=...` to reader mode", nothing, {}, FILES, gpu=None, targets=PARTS),
    # The study
    Row(
        "add a batch size",
        config(batch_sizes=[1, 2, 4]),
        measured(3),
        "the cells of the other batch sizes, weights, graphs, calibration",
        really=True,
    ),
    Row(
        "remove a batch size",
        config(batch_sizes=[1]),
        {**RENDERED, "describe_study": 1},
        "all cells; those of that size are counted as unlisted, and are there when it comes back",
    ),
    Row(
        "add a model",
        config(models=["resnet18", "resnet50"]),
        {**MODEL, **measured(CELLS)},
        "all that belongs to the other model; the held-out images",
    ),
    Row(
        "add a mode",
        config(modes=["eager-fp32", "ort-fp32", "ort-int8", "compile-fp32"]),
        measured(2),
        "the cells of the other modes, weights, graphs, calibration",
    ),
    Row(
        "add a GPU (`gpus.yaml` and an override) and measure another",
        add_gpu,
        DESCRIBED,
        READ,
    ),
    Row(
        "add a GPU and measure it (`gpu=Bench`, two batch sizes)",
        add_gpu,
        measured(CELLS),
        "all cells of the other GPUs and what they were aggregated into, weights, graphs, calibration",
        gpu="Bench",
    ),
    Row(
        "add a sweep to the protocol",
        counts("tiny", sweeps=2),
        measured(CELLS),
        "the cells of the first sweep",
    ),
    Row(
        "change the timed iterations of the protocol",
        counts("tiny", timed_iterations=3),
        measured(CELLS),
        "weights, graphs, calibration, held-out images; cells of other protocols",
    ),
    Row(
        "change the number of held-out images of the protocol",
        counts("tiny", fidelity_images=5),
        {"draw_held_out": 1, "compute_reference": 1, **measured(CELLS)},
        "weights, graphs, calibration; cells of other protocols",
    ),
    Row(
        "add the price of a GPU (`gpus.yaml`)",
        edit("config/gpus.yaml", "tdp_w: 700", "tdp_w: 700\n  price_eur_per_hour: 3.5"),
        PARTS_RENDERED,
        READ,
    ),
    Row("change a protocol that is not in use", counts("other", timed_iterations=9), {}, FILES),
    Row(
        "switch to another protocol",
        config(protocol="other"),
        measured(CELLS),
        "weights, graphs, calibration; the old cells, for when you switch back",
    ),
    Row(
        "change the calibration's method",
        config(calibration=CALIBRATION | {"method": "max"}),
        {**SCALES, **measured(INT8_CELLS)},
        "all cells but the INT8 ones; weights, FP32 graph",
    ),
    Row(
        "change the calibration's number of images",
        config(calibration=CALIBRATION | {"count": 5}),
        {**SCALES, **measured(INT8_CELLS)},
        "all cells but the INT8 ones; weights, FP32 graph",
    ),
    Row(
        "change the seed of the weights",
        config(weights={"source": "seeded", "seed": 1}),
        {**MODEL, **measured(CELLS)},
        "the held-out images",
    ),
    Row(
        "change an option of a runtime that is not used",
        config(runtime_options={"tensorrt": {"optimization_level": 5}, "cudnn": {"cuda_graph": False}}),
        {},
        FILES,
    ),
    Row(
        "change at which batch size the paper compares (`reporting`)",
        reporting(matched_batch_size=2),
        PARTS_RENDERED,
        "all cells, the summary",
    ),
    Row(
        "change from which fidelity on a cell is flagged (`reporting`)",
        reporting(fidelity_floor={"top1_agreement": 0.9, "centred_sqnr_db": 10}),
        ALL_RENDERED,
        ALL_CELLS,
    ),
    Row("correct a published number", append("data/published/deep_gap.csv", "\n"), DESCRIBED, READ),
    # The code
    Row("edit comments and docstrings, in scripts and modules, also measuring ones", add_comments, {}, FILES),
    Row(
        "edit what a script does that renders tables",
        edit("workflow/scripts/render_table.py", ", render(", ", '%\\n' + render("),
        {"render_table": 2},
        "all cells, the summary, numbers, figures",
        really=True,
    ),
    Row(
        "edit what the script does that aggregates cells",
        append("workflow/scripts/aggregate_cells.py", "\nprint('Done.')\n"),
        ALL_RENDERED,
        ALL_CELLS,
    ),
    Row(
        "edit what the script does that describes the study",
        append("workflow/scripts/describe_study.py", "\nprint('Done.')\n"),
        DESCRIBED,
        READ,
    ),
    Row(
        "edit what the script does that measures",
        append("workflow/scripts/measure_cell.py", "\nprint('Done.', file=sys.stderr)\n"),
        {},
        f"all files: a cell is named by its recipe; {METHOD} if the edit can change a number",
    ),
    Row(
        "edit the statistics (`stats.py`, imported by the aggregation)",
        edit("src/deepgap/stats.py", "TAIL = 0.99", "TAIL = 0.98"),
        ALL_RENDERED,
        ALL_CELLS,
        really=True,
    ),
    Row(
        "edit the LaTeX helper (`latex.py`, imported by tables and numbers)",
        edit("src/deepgap/paper/latex.py", 'r"\\textbackslash{}"', 'r"\\backslash{}"'),
        {"render_table": 2, "write_numbers": 1},
        "all cells, the summary, figures",
    ),
    Row(
        "edit the theme of the figures",
        edit("src/deepgap/paper/charts/theme.py", 'FONT = "STIX"', 'FONT = "STIX Two"'),
        {"draw_figure": 2, "render_figure": 2},
        "all cells, the summary, tables, numbers",
    ),
    Row(
        "edit one figure",
        edit("src/deepgap/paper/figures/throughput.py", "Throughput (img/s)", "Images a second"),
        {"draw_figure": 1, "render_figure": 1},
        "all cells, the summary, tables, numbers, the other figures",
    ),
    Row(
        "edit one table's template",
        append("paper/templates/peaks.tex.j2", "% Edited.\n"),
        {"render_table": 1},
        "all cells, the summary, the other tables, numbers, figures",
    ),
    Row(
        "edit the device lock (`measure/locks.py`)",
        append("src/deepgap/measure/locks.py", "\nANOTHER = 1\n"),
        {},
        FILES,
    ),
    Row(
        "edit measuring code and leave METHOD_VERSION",
        edit("src/deepgap/measure/subject.py", "INPUT_SEED = 0", "INPUT_SEED = 1"),
        {},
        "all files; `tests/unit/test_method.py` fails until you raise METHOD_VERSION or record why none can change",
    ),
    Row(
        "edit measuring code and raise METHOD_VERSION",
        both(
            edit("src/deepgap/measure/subject.py", "INPUT_SEED = 0", "INPUT_SEED = 1"),
            edit("src/deepgap/study/method.py", "METHOD_VERSION = ", "METHOD_VERSION = 1000 + "),
        ),
        {**MODEL, "draw_held_out": 1, **measured(CELLS)},
        "nothing; old cells are counted as unlisted",
    ),
    # The files
    Row("touch every file", touch_every_file, {}, FILES),
    Row(
        "touch every file and delete `.snakemake/`",
        both(delete(".snakemake"), touch_every_file),
        EVERYTHING,
        "all cells, weights, graphs, calibration",
    ),
    Row("delete `.snakemake/`", delete(".snakemake"), {}, FILES),
    Row("delete `build/`", delete("build"), {}, FILES),
    Row("delete an intermediate of `build/` (an INT8 graph)", delete("build/int8/*.onnx"), {}, FILES),
    Row(
        "delete one cell",
        delete("results/CPU/cells/*eager-fp32_b1_*"),
        measured_again(1),
        "the other cells, weights, graphs, calibration",
        really=True,
    ),
    Row(
        "delete one cell and `.snakemake/`, of a study whose whole paper is rendered",
        both(render_the_paper, delete("results/CPU/cells/*eager-fp32_b1_*", ".snakemake")),
        {"measure_cell": 1, "all": 1, **of_paper("cpu")},
        "the other cells, weights, graphs, calibration; tables and figures that show no processor's cells",
        targets=(),
    ),
    Row(
        "the same, and ask for `pdf`",
        both(render_the_paper, delete("results/CPU/cells/*eager-fp32_b1_*", ".snakemake")),
        {"measure_cell": 1, "write_claims": 1, "compile_paper": 1, "pdf": 1, **of_paper("cpu")},
        "the other cells, weights, graphs, calibration",
        targets=("pdf",),
    ),
    Row(
        "the same, and ask for `paper`",
        both(render_the_paper, delete("results/CPU/cells/*eager-fp32_b1_*", ".snakemake")),
        {"measure_cell": 1, "paper": 1, **of_paper("cpu")},
        "the other cells, weights, graphs, calibration",
        targets=("paper",),
    ),
    Row(
        "the same, and ask for `recommend`",
        both(render_the_paper, delete("results/CPU/cells/*eager-fp32_b1_*", ".snakemake")),
        {"measure_cell": 1, "aggregate": 1, "find_recommendation": 1, "recommend": 1},
        "the other cells, weights, graphs, calibration, the paper",
        targets=("recommend",),
    ),
    Row(
        "delete `.snakemake/` and edit the statistics",
        both(delete(".snakemake"), edit("src/deepgap/stats.py", "TAIL = 0.99", "TAIL = 0.98")),
        {},
        "all files, **also what is out of date now**: which code and settings made a file only the records tell",
    ),
    Row(
        "delete `.snakemake/` and remove a batch size",
        both(delete(".snakemake"), config(batch_sizes=[1])),
        {},
        "all files, **also what is out of date now**; `make clean` and run again",
    ),
    Row(
        "delete one cell and `build/weights`",
        both(delete("results/CPU/cells/*ort-fp32_b1_*"), delete("build/weights")),
        measured_again(1),
        "the other cells; the graph that the cell runs",
    ),
    Row(
        "delete an INT8 cell and the scales",
        delete("results/CPU/cells/*int8_b1_*", "build/int8/*.cache"),
        measured_again(1),
        "the other cells; the INT8 graph that the cell runs",
    ),
    Row(
        "delete the INT8 cells and the INT8 graph, and touch the FP32 graph",
        both(
            delete("results/CPU/cells/*int8*", "build/int8/*.onnx"),
            lambda project: os.utime(own(next(iter(project.root.glob("build/onnx/*.fp32.onnx"))))),
        ),
        {"quantize": 1, "count_facts": 1, **measured_again(INT8_CELLS)},
        "the other cells; the scales",
    ),
    Row(
        "delete an INT8 cell, the scales and the INT8 graph",
        delete("results/CPU/cells/*int8_b1_*", "build/int8/*"),
        {**SCALES, **measured_again(1)},
        "the other cells",
    ),
    Row(
        "delete one telemetry file",
        delete_one_telemetry_file,
        RENDERED,
        "all cells: one without its samples is a cell (the H100's; a CPU has no telemetry)",
    ),
    Row(
        "delete one telemetry file, of a study whose whole paper is rendered",
        both(render_the_paper, delete_one_telemetry_file),
        {"all": 1, **of_paper("cuda")},
        "all cells; tables and figures that show no GPU's cells",
        targets=(),
    ),
    Row(
        "delete one cell and run in reader mode",
        delete("results/CPU/cells/*eager-fp32_b1_*"),
        RENDERED,
        "the other cells; the missing one is not measured and counted as missing",
        gpu=None,
        targets=PARTS,
    ),
    # Clones
    Row(
        "make a fresh clone and run it with `gpu=`",
        nothing,
        {"all": 1, **WHOLE_PAPER},
        "all cells; weights and graphs are not made",
        start=Start.CLONED,
        targets=(),
    ),
    Row(
        "make a fresh clone and run it in reader mode",
        nothing,
        {"all": 1, **WHOLE_PAPER},
        ALL_CELLS,
        start=Start.CLONED,
        targets=(),
        gpu=None,
    ),
    Row("make a fresh clone and copy all other files there", nothing, {}, FILES, start=Start.CARRIED),
    Row(
        "make a fresh clone and copy all but `.snakemake/` there",
        delete(".snakemake"),
        EVERYTHING,
        "all cells, weights, graphs, calibration",
        start=Start.CARRIED,
    ),
    # Runs
    Row(
        "ask for a GPU that is not there",
        ask_for_an_absent_gpu,
        {},
        "all files",
        told="nothing: one sentence refuses it before any job",
    ),
    Row(
        "interrupt a run (Ctrl-C) at the third of four missing cells, then run again",
        interrupt_at_the_third_of_four_cells,
        measured_again(2),
        "the other cells, also the two that the interrupted run had measured",
        really=True,
    ),
    Row(
        "run twice at once in one folder",
        run_twice_in_one_folder,
        {},
        "all cells",
        told="the first run ends well; Snakemake's lock refuses the second (`Directory cannot be locked`)",
        targets=("cells",),
    ),
    Row(
        "run at once in two clones on one machine",
        run_in_two_clones_of_one_machine,
        {},
        "all cells",
        told="each measures its missing cells; one waits while the other has the device, says so, and both end well",
        targets=("cells",),
    ),
)


# The document


ONE_EACH = {
    "build_weights": "the weights",
    "export_onnx": "the ONNX graph",
    "count_facts": "its facts",
    "calibrate": "the scales",
    "quantize": "the INT8 graph",
    "draw_held_out": "the held-out images",
    "compute_reference": "the reference answers",
}
"""Rules of which the tiny study has one job at most."""


def describe(jobs: Mapping[str, int]) -> str:
    """The jobs of a plan in words: `3 cells; everything rendered`."""
    left = dict(jobs)
    said = [text for rule, text in ONE_EACH.items() if left.pop(rule, 0)]
    if cells := left.pop("measure_cell", 0):
        said.append("1 cell" if cells == 1 else f"{cells} cells")
    if groups := left.pop("aggregate", 0):
        said.append("all cells aggregated" if groups >= GROUPS else "the cells of that GPU and model aggregated")
    whole = left.keys() >= WHOLE_PAPER.keys() - {"aggregate"}
    if left.pop("describe_study", 0) and not whole:
        said.append("the study's description")
    if whole:
        said.append("the whole paper")
    elif "write_report" in left:
        said.append("all of the paper that shows such cells" + (", the PDF" if "pdf" in left else ""))
    elif "find_recommendation" in left:
        said.append("the recommendation")
    elif left.keys() >= PARTS_RENDERED.keys():
        said.append("everything rendered")
    else:
        assert left.keys() <= PARTS_RENDERED.keys(), left
        assert left.get("draw_figure") == left.get("render_figure")
        for rule, one, every in (
            ("render_table", "one table", "all tables"),
            ("draw_figure", "one figure", "all figures"),
        ):
            if count := left.get(rule, 0):
                said.append(one if count < PARTS_RENDERED[rule] else every)
        said += ["the numbers"] if "write_numbers" in left else []
    return "; ".join(said) or "nothing"


def write_document(text: str) -> str:
    """The document with its table written anew from the rows."""
    intro, _, _ = text.partition(MARK)
    lines = ["| what you do | what runs again | what stays |", "|---|---|---|"]
    done = [f"*{row.does}*" if row.really else row.does for row in ROWS]
    lines += [
        f"| {does} | {row.told or describe(row.jobs)} | {row.stays} |" for does, row in zip(done, ROWS, strict=True)
    ]
    return intro + MARK + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(write_document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")

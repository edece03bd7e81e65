"""Results of several machines in real Snakemake runs."""

from __future__ import annotations

import re
import shutil

import polars as pl

from deepgap.study.cards import draft_entry, note_card
from tests.unit.cells import write_study_cells


def test_results_of_a_second_site_are_measured_apart_aggregated_and_compared(project):
    before = {path: path.read_bytes() for path in project.cells()}
    plan = project.plan("cells", "--config", "gpu=CPU", "site=lab2")
    assert plan["measure_cell"] == len(before)
    shutil.copytree(project.root / "results/CPU", project.root / "results/CPU@lab2")
    assert project.plan("cells", "--config", "gpu=CPU", "site=lab2") == {}
    run = project.run("summary")
    assert run.returncode == 0, run.stdout
    assert set(pl.read_parquet(project.root / "results/summary/families")["gpu"]) == {"CPU", "CPU@lab2"}
    checked = project.run("check")
    assert checked.returncode == 0, checked.stdout
    compared = re.findall(r"CPU@lab2 over CPU, (\w+), (\d+) families of eager-fp32: median 1.000", checked.stdout)
    assert compared == [("latency_ms", "2"), ("images_per_s", "2")]
    assert {path: path.read_bytes() for path in project.cells()} == before
    shutil.rmtree(project.root / "results/CPU@lab2")
    assert project.run("summary").returncode == 0
    assert set(pl.read_parquet(project.root / "results/summary/families")["gpu"]) == {"CPU"}


def test_a_card_without_an_entry_is_read_by_what_its_driver_told(project):
    key = "RTX4080SUPER"
    facts = {"name": f"Synthetic {key}", "compute_capability": "8.9", "memory_bytes": 1 << 34}
    note_card(project.root / "results", key, draft_entry(facts))
    study = project.study()
    assert study.platforms == ["T4", "CPU", key]
    cells = write_study_cells(study, key, project.root)
    assert project.plan("cells", "--config", f"gpu={key}") == {}
    checked = project.run("check")
    assert checked.returncode == 0 and f"{key}: {len(cells)} cells in order" in checked.stdout, checked.stdout
    table = "paper/tables/hardware.tex"
    rendered = project.run(table)
    assert rendered.returncode == 0, rendered.stdout
    text = (project.root / table).read_text(encoding="utf-8")
    assert f"\n{key}: as the driver tells it, which tells no peak rate." in text and "None" not in text


def test_check_names_each_refused_file_and_fails(project):
    first, second, *rest = project.cells()
    first.write_bytes(first.read_bytes()[:1000])
    second.rename(second.with_name("renamed." + second.name.split(".")[-2] + ".parquet"))
    run = project.run("check")
    assert run.returncode == 1
    assert f"{len(rest)} cells in order" in run.stdout
    assert f"results/CPU/cells/{first.name} is damaged or not a cell" in run.stdout
    assert "give it that name before the dot" in run.stdout
    assert "Traceback" not in run.stdout


def test_the_sentence_of_a_failed_job_is_told_again_after_snakemakes_list_of_files(project):
    damaged = project.cells()[0]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    run = project.run("summary")
    assert run.returncode != 0
    last = run.stdout.split("Exiting because a job execution failed")[-1]
    assert f"deep-gap: results/CPU/cells/{damaged.name} is damaged" in last

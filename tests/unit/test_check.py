"""What `snakemake check` finds in a folder of results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepgap.analyse.check import Report, check_results, describe, mixtures
from deepgap.analyse.sites import compare_families
from deepgap.study.gpus import with_sites
from tests.unit.synthetic import GPUS, synthetic_footer, synthetic_recipe, synthetic_rows, write_synthetic_cell

AT_LAB2 = "H200@lab2"
SITES = with_sites(GPUS, [AT_LAB2])


def add(results: Path, folder: str = "H200", call_ms: float = 2.0, **changes) -> Path:
    recipe = synthetic_recipe(
        "H200",
        "resnet18",
        changes.pop("mode", "eager-fp16"),
        changes.pop("batch_size", 8),
        **changes.pop("recipe", {}),
    )
    footer = synthetic_footer(recipe, **changes.pop("observed", {}))
    footer.provenance["device"] |= {"driver": changes.pop("driver", "000.00")} | changes.pop("device", {})
    rows = synthetic_rows([[call_ms] * 3] * 2, [call_ms] * 2)
    return write_synthetic_cell(results / folder / "cells", rows, replace(footer, **changes))


def check(results: Path) -> Report:
    return check_results(results, SITES)


def test_good_cells_are_counted_and_nothing_is_refused(tmp_path):
    add(tmp_path)
    add(tmp_path, mode="eager-fp32")
    report = check(tmp_path)
    assert (report.cells.height, report.refused) == (2, [])
    assert report.cells["latency_ms"].to_list() == pytest.approx([2.0, 2.0])
    assert report.cells["images_per_s"].to_list() == pytest.approx([8000 / 2.001] * 2)
    assert "Refused: nothing" in describe(report)


def test_two_sites_are_compared_family_by_family(tmp_path):
    for sweep in range(1, 7):
        add(tmp_path, recipe={"sweep": sweep}, call_ms=2.0 + sweep / 1000)
        add(tmp_path, AT_LAB2, call_ms=2.2 + sweep / 1000, recipe={"sweep": sweep})
    add(tmp_path, mode="eager-fp32")
    add(tmp_path, AT_LAB2, mode="graph-fp16")
    latency, rate = compare_families(check(tmp_path).cells).iter_rows(named=True)
    assert (latency["gpu"], latency["other"], latency["quantity"]) == ("H200", AT_LAB2, "latency_ms")
    assert latency["ratio"] == pytest.approx(1.1, rel=1e-3)
    assert (latency["low"], latency["high"]) == pytest.approx((2.201 / 2.006, 2.206 / 2.001))
    assert rate["ratio"] == pytest.approx(1 / 1.1, rel=1e-3)
    text = describe(check(tmp_path))
    assert "H200@lab2 over H200, latency_ms, 1 families of eager-fp16: median 1.100" in text
    assert "1 of 1 intervals exclude 1" in text


def test_sites_with_few_sweeps_are_compared_without_an_interval(tmp_path):
    for mode, factor in (("eager-fp16", 1.2), ("graph-fp16", 1.01)):
        add(tmp_path, mode=mode)
        add(tmp_path, AT_LAB2, call_ms=2.0 * factor, mode=mode)
    compared = compare_families(check(tmp_path).cells).filter(quantity="latency_ms")
    assert compared["mode"].to_list() == ["eager-fp16", "graph-fp16"]
    assert compared["ratio"].to_list() == pytest.approx([1.2, 1.01]) and compared["low"].is_null().all()
    assert describe(check(tmp_path)).count("too few sweeps for intervals") == 4


def test_mixed_software_engines_and_weights_are_told(tmp_path):
    add(tmp_path, driver="1")
    add(tmp_path, driver="2", recipe={"sweep": 2})
    add(tmp_path, driver="2", recipe={"sweep": 3}, weights_sha256="1" * 64)
    for sweep in (4, 5):
        engine = {"build_s": float(sweep), "graph_sha256": "0"}
        add(tmp_path, driver="2", mode="cudnn-int8", recipe={"sweep": sweep}, observed={"engine": engine})
    add(tmp_path, driver="2", mode="cudnn-int8", batch_size=16, observed={"engine": {"build_s": 9.0}})
    stacks, engines, weights = mixtures(check(tmp_path).cells)
    assert stacks == "H200: 2 stacks of software are compared: 5 cells with driver 2; 1 cells with driver 1."
    assert engines == "H200: resnet18 cudnn-int8 ran several builds of its engine or graph at batch 8."
    assert weights == "H200: cells of resnet18 have 2 different weights (5, 1)."


def test_cells_of_another_device_are_refused_by_name(tmp_path):
    add(tmp_path)
    other = add(tmp_path, mode="eager-fp32", device={"sm_count": 114})
    add(tmp_path, mode="graph-fp16", device={"sm_count": 132})
    report = check(tmp_path)
    assert len(report.refused) == 1 and "sm_count" in report.refused[0] and "results/H200@name/" in report.refused[0]
    assert report.cells.height == 2 and other.exists()


def test_weights_that_differ_between_sites_are_told(tmp_path):
    add(tmp_path)
    add(tmp_path, AT_LAB2, weights_sha256="1" * 64)
    assert mixtures(check(tmp_path).cells) == ["H200: cells of resnet18 have 2 different weights (1, 1)."]


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:900]), "not a readable parquet file"),
        (lambda file: file.rename(file.with_name(file.name.replace("_b8_", "_b9_"))), "give it that name"),
        (lambda file: file.rename(file.with_name("x" + file.name[-20:])), "holds"),
        (
            lambda file: file.with_name("notes.txt").write_text("x", encoding="utf-8"),
            "notes.txt is not a cell; remove it",
        ),
        (
            lambda file: file.with_name(f".{file.name}.7.tmp").write_text("x", encoding="utf-8"),
            "is not a cell; remove it",
        ),
        (lambda file: _move(file, "L4"), "holds a cell of H200; move it to"),
        (lambda file: _move(file, "B999"), "config/gpus.yaml has no B999"),
        (lambda file: _telemetry(file, file.name), "is damaged or is not telemetry"),
        (lambda file: _telemetry(file, "other.0123456789ab.parquet"), "of a cell that is not there; remove it"),
    ],
)
def test_what_cannot_stay_is_refused_by_name_and_the_rest_is_checked(tmp_path, break_it, sentence):
    kept = add(tmp_path, mode="eager-fp32")
    break_it(add(tmp_path))
    report = check(tmp_path)
    assert len(report.refused) == 1 and sentence in report.refused[0] and str(tmp_path) in report.refused[0]
    assert kept.stem in report.cells["stem"].to_list()


def _move(file: Path, folder: str) -> None:
    (file.parents[2] / folder / "cells").mkdir(parents=True)
    file.rename(file.parents[2] / folder / "cells" / file.name)


def _telemetry(file: Path, name: str) -> None:
    (file.parents[1] / "telemetry").mkdir()
    (file.parents[1] / "telemetry" / name).write_bytes(b"PAR1")


def test_a_cell_at_a_site_of_its_kind_is_in_order(tmp_path):
    file = add(tmp_path)
    _move(file, AT_LAB2)
    report = check(tmp_path)
    assert report.refused == [] and report.cells["gpu"].to_list() == [AT_LAB2]


def test_no_results_are_no_error(tmp_path):
    report = check(tmp_path)
    assert report.cells.is_empty() and report.refused == [] and compare_families(report.cells).is_empty()
    assert "no family was timed at two sites" in describe(report)

"""Several machines of one kind of GPU: the folder tells the site, the recipe the kind."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from deepgap.analyse.aggregate import aggregate
from deepgap.analyse.design import describe_expected
from deepgap.errors import ConfigError
from deepgap.paper.numbers.macro import macro_name
from deepgap.runtimes import load_runtimes
from deepgap.study.checks import load_study
from deepgap.study.gpus import SITE_PATTERN, find_platforms, in_config, split_site, with_sites
from tests.unit.synthetic import synthetic_footer, synthetic_recipe, synthetic_rows, write_synthetic_cell

AT_LAB2 = "H200@lab2"


def test_a_site_changes_the_folder_of_a_cell_and_not_its_name(config, config_schema, gpus):
    here = load_study(config | {"gpu": "H200"}, config_schema, gpus, load_runtimes())
    there = load_study(config | {"gpu": "H200", "site": "lab2"}, config_schema, gpus, load_runtimes())
    assert there.gpu == AT_LAB2
    pairs = list(zip(here.cells("H200"), there.cells(AT_LAB2), strict=True))
    assert all(one.stem == other.stem and one.recipe == other.recipe for one, other in pairs)
    assert pairs[0][1].path == pairs[0][0].path.replace("results/H200/", f"results/{AT_LAB2}/")
    assert there.axes(AT_LAB2) == here.axes("H200"), "the overrides of the kind hold at every site"


def test_sites_with_results_are_in_the_study_without_being_asked_for(config, config_schema, gpus, tmp_path):
    for name in ("H200@lab2/cells", "Unknown9@lab2/cells", "L4/cells"):
        (tmp_path / name).mkdir(parents=True)
    found = find_platforms(tmp_path, gpus)
    assert found == [AT_LAB2, "L4"]
    study = load_study(config, config_schema, gpus, load_runtimes(), found)
    assert study.gpu is None
    order = list(study.gpus)
    assert order.index(AT_LAB2) == order.index("H200") + 1
    assert study.gpus[AT_LAB2].kind == "H200"
    assert study.gpus[AT_LAB2].peak_tops == study.gpus["H200"].peak_tops
    assert {row["gpu"] for row in study.expected_counts()} == {*config["overrides"], AT_LAB2}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gpu": None, "site": "lab2"}, "there is no gpu to measure there"),
        ({"gpu": "H200", "site": "../etc"}, "config.yaml: site"),
        ({"gpu": "H200", "site": "Lab_2"}, "config.yaml: site"),
        ({"gpu": "H200", "site": "lab2\n"}, "config.yaml: site"),
        ({"gpu": "H200@lab2"}, "H200@lab2"),
    ],
)
def test_what_is_no_site_is_refused(config, config_schema, gpus, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_study(copy.deepcopy(config) | changes, config_schema, gpus, load_runtimes())


def test_the_schema_and_the_folders_agree_on_what_a_site_is(config_schema):
    assert config_schema["properties"]["site"]["pattern"] == rf"^{SITE_PATTERN}$(?!\n)"


def test_a_folder_that_names_no_site_is_refused_with_what_to_do(gpus, tmp_path):
    (tmp_path / "H200@Lab 2").mkdir()
    with pytest.raises(ConfigError, match="rename the folder, for example to H200@lab2"):
        find_platforms(tmp_path, gpus)


def test_the_aggregation_knows_both_sites_of_one_cell(gpus, tmp_path):
    recipe = synthetic_recipe("H200", "resnet18", "eager-fp16", 8)
    files = [
        write_synthetic_cell(
            tmp_path / site / "cells",
            synthetic_rows([[latency_ms] * 3] * 2, [latency_ms] * 2),
            synthetic_footer(recipe),
        )
        for site, latency_ms in (("H200", 2.0), (AT_LAB2, 3.0))
    ]
    assert files[0].name == files[1].name
    known = with_sites(gpus, [AT_LAB2])
    families = aggregate(files, [], known, {})["families"]
    assert families["gpu"].to_list() == ["H200", AT_LAB2]
    assert families["median_ms"].to_list() == pytest.approx([2.0, 3.0], rel=0.2)
    assert families["median_ms"][0] < families["median_ms"][1]


def test_the_words_of_a_site():
    assert split_site("T4") == ("T4", None)
    assert in_config(AT_LAB2) == "gpu=H200 site=lab2"
    assert in_config("T4") == "gpu=T4"
    assert macro_name("Cells", AT_LAB2) == "CellsHTwoZeroZeroLabTwo"
    assert Path(describe_expected([], {AT_LAB2: 2})["gpu"][0]).name == AT_LAB2

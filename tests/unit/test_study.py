"""The study: what is refused, and what a recipe depends on."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepgap.errors import ConfigError
from deepgap.study import Study, load_study, present_and_missing, recipe_digest


@pytest.fixture
def load(config, config_schema, gpus):
    """Load the project's study with some keys replaced."""

    def load_changed(**changes: Any) -> Study:
        return load_study(copy.deepcopy(config) | changes, config_schema, gpus)

    return load_changed


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"models": ["resnet19"]}, ["models[0]", "'resnet19'", "'resnet18'", "resnet101"]),
        ({"batch_sizes": [1, 2, 1]}, ["batch_sizes", "1 twice"]),
        ({"batch_sizes": [0]}, ["batch_sizes[0]", "0", "at least 1"]),
        ({"batch_sizes": [True]}, ["batch_sizes[0]", "True", "integer"]),
        ({"batch_sizes": []}, ["batch_sizes", "empty"]),
        ({"gpu": "T5"}, ["gpu", "'T5'", "'T4'", "H200"]),
        ({"gpu": 4090}, ["gpu", "'4090'", "T4"]),
        ({"modes": ["eagr-fp32"]}, ["modes[0]", "'eagr-fp32'", "'eager-fp32'", "graph-fp16"]),
        ({"modes": ["eager-int8"]}, ["modes[0]", "'eager-int8'", "fp16, fp32, tf32"]),
        ({"gpu": "T4", "modes": ["eager-tf32"]}, ["modes[0]", "T4 has no tf32", "fp32, fp16, int8"]),
        ({"overrides": {"T4": {"modes": ["eager-tf32"]}}}, ["overrides.T4.modes[0]", "T4 has no tf32"]),
        ({"overrides": {"CPU": {"modes": ["graph-fp32"]}}}, ["overrides.CPU.modes[0]", "graph does not run on CPU"]),
        ({"overrides": {"T9": {}}}, ["overrides", "'T9'", "allowed"]),
        ({"protocol": "papr"}, ["protocol", "'papr'", "'paper'"]),
        ({"protocols": {"x": {"sweeps": 1}}, "protocol": "x"}, ["protocols.x", "lacks"]),
        ({"weights": {"source": "imagnet"}}, ["weights.source", "'imagnet'", "seeded, imagenet"]),
        ({"runtime_options": {"tensort": {}}}, ["runtime_options", "'tensort'"]),
        ({"batches": [1]}, ["unknown key 'batches'", "batch_sizes"]),
    ],
)
def test_bad_config_is_refused_in_one_sentence(load, changes, parts):
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence


def test_every_schema_key_is_described(config_schema):
    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, rule in schema.get("properties", {}).items():
            if "$ref" not in rule and not ({"description"} & rule.keys()):
                found.append(f"{path}{name}")
            found += undescribed(rule, f"{path}{name}.")
        return found

    assert undescribed(config_schema, "") == []


def test_missing_keys_take_their_defaults(config, config_schema, gpus):
    bare = {key: config[key] for key in ("models", "modes", "batch_sizes", "protocol", "protocols")}
    study = load_study(bare, config_schema, gpus)
    assert study.gpu is None
    assert study.config["weights"] == {"source": "seeded", "seed": 0}


def test_cell_count_is_the_product_of_the_axes(load):
    study = load(models=["resnet18"], modes=["eager-fp32", "eager-fp16"], batch_sizes=[1, 2, 4], protocol="paper")
    assert len(list(study.cells("T4"))) == 1 * 2 * 3 * 10


def test_recipes_name_cells_uniquely_and_hold_no_place(load):
    cells = [cell for gpu in ("T4", "CPU", "H200") for cell in load().cells(gpu)]
    assert len({recipe_digest(cell.recipe) for cell in cells}) == len(cells)
    assert set(cells[0].recipe) == {
        "method_version", "gpu", "model", "runtime", "precision", "batch_size", "sweep",
        "image_size", "weights", "options", "protocol",
    }  # fmt: skip


def test_protocol_counts_change_the_recipe_and_sweeps_do_not(load, config):
    def stems(**changes: int) -> set[str]:
        protocols = copy.deepcopy(config["protocols"])
        protocols["quick"] |= changes
        return {cell.stem for cell in load(protocols=protocols).cells("CPU")}

    base = stems()
    assert base.isdisjoint(stems(timed_iterations=7))
    assert base < stems(sweeps=4)


def test_one_protocol_does_not_touch_the_cells_of_another(load, config):
    protocols = copy.deepcopy(config["protocols"])
    protocols["paper"]["timed_iterations"] = 99
    changed = load(protocols=protocols)
    assert [c.stem for c in changed.cells("CPU")] == [c.stem for c in load().cells("CPU")]
    assert {c.stem for c in changed.cells("T4")}.isdisjoint(c.stem for c in load().cells("T4"))


def test_run_order_is_seeded_sweep_major_and_not_sorted(load):
    order = load().run_order("CPU")
    assert order == load().run_order("CPU")
    assert sorted(order, key=lambda c: c.stem) == sorted(load().cells("CPU"), key=lambda c: c.stem)
    assert [cell.sweep for cell in order] == sorted(cell.sweep for cell in order)
    first = [(c.model, c.batch_size) for c in order if c.sweep == 1]
    second = [(c.model, c.batch_size) for c in order if c.sweep == 2]
    assert first != second
    assert first != sorted(first)


def test_present_and_missing(load, tmp_path):
    cells = list(load().cells("CPU"))
    there = tmp_path / cells[3].path
    there.parent.mkdir(parents=True)
    there.touch()
    present, missing = present_and_missing(cells, tmp_path)
    assert present == [cells[3]]
    assert len(missing) == len(cells) - 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=5), st.randoms())
def test_recipe_digest_depends_on_content_and_not_on_order(recipe, random):
    keys = list(recipe)
    random.shuffle(keys)
    shuffled = json.loads(json.dumps({key: recipe[key] for key in keys}))
    assert recipe_digest(shuffled) == recipe_digest(recipe)
    assert len(recipe_digest(recipe)) == 12


@given(
    st.dictionaries(st.text(max_size=4), json_values, max_size=5),
    st.dictionaries(st.text(max_size=4), json_values, max_size=5),
)
def test_different_recipes_have_different_digests(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (recipe_digest(one) == recipe_digest(other)) == same


@given(json_values)
def test_any_value_anywhere_is_accepted_or_refused_in_one_sentence(config, config_schema, gpus, value):
    for key in config:
        try:
            load_study(copy.deepcopy(config) | {key: value}, config_schema, gpus)
        except ConfigError as error:
            assert "\n" not in str(error)

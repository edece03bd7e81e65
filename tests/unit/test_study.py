"""The study: what is refused, and what a recipe depends on."""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgap.errors import ConfigError
from deepgap.runtimes import load_runtimes
from deepgap.study.cell import recipe_digest
from deepgap.study.checks import load_study
from deepgap.study.study import Study, present_and_missing


@pytest.fixture
def load(config, config_schema, gpus):
    """Load the project's study with some keys replaced."""

    def load_changed(**changes: Any) -> Study:
        return load_study(copy.deepcopy(config) | changes, config_schema, gpus, load_runtimes())

    return load_changed


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"models": ["resnet19"]}, ["models[0]", "'resnet19'", "'resnet18'", "torchvision does not have"]),
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
        ({"weights": {"source": "imagnet"}}, ["weights.source", "'imagnet'", "seeded, pretrained, imagenet"]),
        ({"runtime_options": {"tensort": {}}}, ["runtime_options", "'tensort'"]),
        ({"batches": [1]}, ["unknown key 'batches'", "batch_sizes"]),
        ({"thread_counts": {"eager-fp32": [0]}}, ["thread_counts.eager-fp32[0]", "0"]),
        ({"thread_counts": {"eager-fp32": ["some"]}}, ["thread_counts.eager-fp32[0]", "'some'"]),
        ({"thread_counts": {"eager-fp32": []}}, ["thread_counts.eager-fp32", "empty"]),
    ],
)
def test_bad_config_is_refused_in_one_sentence(load, changes, parts):
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence


COUNTS = {"warmup_iterations": 2, "timed_iterations": 30, "runs": 1, "sweeps": 3, "fidelity_images": 16}
STOP = {"half_width": 0.01, "minimum_iterations": 20, "minimum_ms": 100, "maximum_s": 2}
CPU_AXES = {"modes": ["eager-fp32", "ort-fp32"], "batch_sizes": [1, 8], "protocol": "p"}


def changed(
    cpu: dict[str, Any] | None = None, protocol: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """A study of one model with a protocol `p`, which the CPU has."""
    return {
        "models": ["resnet18"],
        "modes": ["eager-fp32", "eager-fp16"],
        "batch_sizes": [1, 2, 8],
        "protocol": "p",
        "protocols": {"p": COUNTS | (protocol or {})},
        "overrides": {"CPU": CPU_AXES | (cpu or {})},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            changed(protocol={"stop": STOP | {"minimum_iterations": 31}}),
            ["protocols.p.stop.minimum_iterations", "31", "timed_iterations, 30"],
        ),
        (changed(gpu="CPU", protocol={"arms": ["cold"]}), ["protocols.p.arms", "'cold'", "CPU"]),
        (
            changed(gpu="T4", thread_counts={"eager-fp32": [1]}),
            ["config.yaml: thread_counts", "'eager-fp32'", "host's processor, not T4"],
        ),
        (
            changed(overrides={"CPU": CPU_AXES, "T4": {"thread_counts": {"eager-fp32": [1]}}}),
            ["config.yaml: overrides.T4.thread_counts", "'eager-fp32'", "host's processor, not T4"],
        ),
        (
            changed(cpu={"thread_counts": {"ort-int8": [1]}}),
            ["config.yaml: overrides.CPU.thread_counts", "'ort-int8'", "modes of CPU"],
        ),
        (changed(cpu={"protocol": "q"}), ["overrides.CPU.protocol", "'q'", "p"]),
    ],
    ids=["stop", "cold", "threads of a GPU", "threads of an override", "threads of no mode", "protocol"],
)
def test_what_a_gpu_cannot_have_is_refused_in_one_sentence_with_its_place(load, changes, parts):
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    for part in parts:
        assert part in sentence


def test_what_another_gpu_cannot_have_is_no_matter(load):
    """A protocol with cold calls and the host's threads, where neither is asked of a device that lacks it."""
    load(**changed(gpu="T4", protocol={"arms": ["cold"]}))
    load(**changed(gpu="CPU", thread_counts={"eager-fp32": [1]}))
    load(**changed(gpu="CPU", protocol={"stop": STOP | {"minimum_iterations": 30}}))


def test_thread_counts_multiply_the_cells_of_their_mode(load):
    study = load(**changed(cpu={"thread_counts": {"eager-fp32": [1, 4, "all"]}}))
    cells = list(study.cells("CPU"))
    assert len(cells) == (3 + 1) * 2 * 3
    names = sorted(cell.stem.split(".")[0] for cell in cells if cell.sweep == 1 and cell.batch_size == 8)
    assert names == [
        "resnet18_eager-fp32_b8_s1", "resnet18_eager-fp32_b8_t1_s1", "resnet18_eager-fp32_b8_t4_s1",
        "resnet18_ort-fp32_b8_s1",
    ]  # fmt: skip
    assert {cell.recipe["threads"] for cell in cells if "_t1_" in cell.path} == {1}
    assert {cell.recipe["threads"] for cell in cells if "_t" not in cell.path} == {0}
    assert len({cell.stem for cell in cells}) == len(cells)


def test_naming_all_threads_changes_no_cell(load):
    named = load(**changed(cpu={"thread_counts": {"eager-fp32": ["all"]}}))
    assert [c.stem for c in named.cells("CPU")] == [c.stem for c in load(**changed()).cells("CPU")]


@pytest.mark.parametrize("name", ["CPU", "T4", "H200"])
def test_expected_counts_are_those_of_the_cells(load, name):
    threads = changed(cpu={"thread_counts": {"eager-fp32": [1, "all"]}})
    for study in (load(gpu=name), load(**threads if name == "CPU" else changed(), gpu=name)):
        expected = {
            (row["model"], row["mode"]): row["expected"] for row in study.expected_counts() if row["gpu"] == name
        }
        counted = Counter((c.model, c.mode.name) for c in study.cells(name))
        assert counted == expected


@pytest.mark.parametrize("protocol", [{"arms": ["cold"]}, {"stop": STOP}], ids=["cold", "stop"])
def test_cold_calls_and_an_early_end_rename_the_cells(load, protocol):
    plain, other = load(**changed()), load(**changed(protocol=protocol))
    assert {c.stem for c in plain.cells("T4")}.isdisjoint(c.stem for c in other.cells("T4"))
    (name, value), recipe = next(iter(protocol.items())), other.cells("T4")[0].recipe
    assert recipe["protocol"][name] == value
    assert plain.cells("T4")[0].recipe["protocol"][name] in ([], None)


def test_their_absence_can_be_written_down(load):
    """The schema's defaults, given or not, are the same cells."""
    given = load(**changed(protocol={"arms": [], "throughput_s": 2}))
    assert [c.stem for c in given.cells("T4")] == [c.stem for c in load(**changed()).cells("T4")]


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
    study = load_study(bare, config_schema, gpus, load_runtimes())
    assert study.gpu is None
    assert study.config["weights"] == {"source": "seeded", "seed": 0}


def test_cell_count_is_the_product_of_the_axes(load):
    study = load(models=["resnet18"], modes=["eager-fp32", "eager-fp16"], batch_sizes=[1, 2, 4], protocol="paper")
    assert len(list(study.cells("T4"))) == 1 * 2 * 3 * 10


def test_recipes_name_cells_uniquely_and_hold_no_place(load):
    cells = [cell for gpu in ("T4", "CPU", "H200") for cell in load().cells(gpu)]
    assert len({recipe_digest(cell.recipe) for cell in cells}) == len(cells)
    assert set(cells[0].recipe) == {
        "method_version", "runtime_version", "gpu", "model", "mode", "runtime", "precision", "layout", "batch_size",
        "threads", "sweep", "image_size", "weights", "options", "protocol",
    }  # fmt: skip


def test_protocol_counts_change_the_recipe_and_sweeps_do_not(load):
    def stems(**counts: int) -> set[str]:
        return {cell.stem for cell in load(**changed(protocol=counts)).cells("CPU")}

    base = stems()
    assert base.isdisjoint(stems(timed_iterations=31))
    assert base < stems(sweeps=4)


def test_one_protocol_does_not_touch_the_cells_of_another(load):
    def stems(gpu: str, **counts: int) -> list[str]:
        protocols = {"p": COUNTS, "q": COUNTS | counts}
        overrides = {"CPU": CPU_AXES, "T4": {"protocol": "q"}}
        return [cell.stem for cell in load(**changed(protocols=protocols, overrides=overrides)).cells(gpu)]

    assert stems("CPU", timed_iterations=99) == stems("CPU")
    assert set(stems("T4", timed_iterations=99)).isdisjoint(stems("T4"))


def test_run_order_is_seeded_and_block_by_block(load):
    def study() -> Study:
        return load(**changed(cpu={"batch_sizes": [1, 2, 4, 8, 16]}))

    cells, order = study().cells("CPU"), study().run_order("CPU")
    assert order == study().run_order("CPU")
    assert sorted(order, key=lambda c: c.stem) == sorted(cells, key=lambda c: c.stem)
    assert [cell.sweep for cell in order] == sorted(cell.sweep for cell in order)
    blocks = [block for block, _ in itertools.groupby(order, key=lambda cell: cell.block)]
    assert len(blocks) == len(set(blocks)), "the modes of a block are neighbours"
    assert len({tuple(block[1:] for block in blocks if block[0] == sweep) for sweep in (1, 2, 3)}) > 1
    assert len({tuple(c.mode.name for c in order if c.block == block) for block in blocks}) > 1


def test_grids_are_the_union_of_their_products(load):
    grids = [
        {"models": ["resnet50"], "modes": ["eager-fp32", "eager-fp16-nchw"], "batch_sizes": [1, 8]},
        {"models": ["resnet50", "resnet18"], "modes": ["eager-fp32"], "batch_sizes": [8, 16]},
    ]
    study = load(**changed(overrides={"H100": {"grids": grids, "protocol": "p"}}))
    first = [cell for cell in study.cells("H100") if cell.sweep == 1]
    assert sorted((c.model, c.mode.name, c.batch_size) for c in first) == [
        ("resnet18", "eager-fp32", 8), ("resnet18", "eager-fp32", 16), ("resnet50", "eager-fp16-nchw", 1),
        ("resnet50", "eager-fp16-nchw", 8), ("resnet50", "eager-fp32", 1), ("resnet50", "eager-fp32", 8),
        ("resnet50", "eager-fp32", 16),
    ]  # fmt: skip
    assert {cell.recipe["layout"] for cell in first if cell.mode.name == "eager-fp16-nchw"} == {"nchw"}
    assert study.batch_sizes_of("H100") == [1, 8, 16]


def test_models_beside_grids_are_refused(load):
    grids = [{"models": ["resnet50"], "modes": ["eager-fp32"], "batch_sizes": [1]}]
    both = {"H100": {"grids": grids, "models": ["resnet18"], "protocol": "p"}}
    with pytest.raises(ConfigError, match=r"^overrides\.H100 has grids and models, but .*; put it into one of them"):
        load(**changed(overrides=both))
    assert load(**changed(overrides={"H100": both["H100"] | {"grids": None}})).cells("H100")


def test_only_leaves_names_alone(load):
    whole, part = load(**changed()), load(**changed(only={"batch_sizes": [8], "modes": ["eager-fp32"]}))
    assert [c.stem for c in whole.cells("T4")] == [c.stem for c in part.cells("T4")]
    asked = [cell for cell in part.cells("T4") if part.is_asked_for(cell)]
    assert {(cell.batch_size, cell.mode.name) for cell in asked} == {(8, "eager-fp32")}


@pytest.mark.parametrize(
    ("mode", "part"),
    [
        ("eager-fp16-nhwc", "called eager-fp16"),
        ("ort-fp32-nhwc", "runs in the layout nchw"),
        ("eager-fp16-nchw-x", "is not a mode"),
        ("eager-fp16-ncwh", "runs in the layout nchw, nhwc"),
    ],
)
def test_a_layout_is_named_only_where_it_is_not_the_usual_one(load, mode, part):
    with pytest.raises(ConfigError, match=part):
        load(modes=[mode])


def test_present_and_missing(load, tmp_path):
    cells = list(load(**changed()).cells("CPU"))
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


@settings(deadline=None)
@given(json_values)
def test_any_value_anywhere_is_accepted_or_refused_in_one_sentence(config, config_schema, gpus, value):
    for key in config:
        try:
            load_study(copy.deepcopy(config) | {key: value}, config_schema, gpus, load_runtimes())
        except ConfigError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("changes", "place", "value"),
    [
        ({"batch_sizes": ["1", "8"]}, ("batch_sizes",), [1, 8]),
        ({"slo_ms": "5e-3"}, ("slo_ms",), 0.005),
        ({"calibration": {"method": "max", "count": "64"}}, ("calibration", "count"), 64),
        ({"overrides": {"T4": {"batch_sizes": ["2"]}}}, ("overrides", "T4", "batch_sizes"), [2]),
        ({"overrides": {"CPU": {"thread_counts": {"eager-fp32": ["1", "all"]}}}},
         ("overrides", "CPU", "thread_counts", "eager-fp32"), [1, "all"]),
    ],
)  # fmt: skip
def test_numbers_that_arrive_as_text_are_read(load, changes, place, value):
    found = load(**changes).config
    for key in place:
        found = found[key]
    assert found == value


@pytest.mark.parametrize("text", ["x", "1.5", "[1]", "2020-01-01", ".nan", "1e2000"])
def test_text_that_is_no_such_number_is_refused(load, text):
    with pytest.raises(ConfigError, match=r"batch_sizes\[0\] is "):
        load(batch_sizes=[text])


def test_text_of_the_command_line_names_the_same_cells(load):
    cells = load(batch_sizes=[1, 8]).cells("T4")
    assert [cell.stem for cell in load(batch_sizes=["1", "8"]).cells("T4")] == [cell.stem for cell in cells]


def test_a_tilde_in_a_path_is_the_home(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    calibration = {"method": "max", "images": "~/photos", "count": 4}
    assert load(calibration=calibration).config["calibration"]["images"] == str(tmp_path / "photos")
    with pytest.raises(ConfigError, match="no home is known for the ~ in '~nobody-of-that-name/x'"):
        load(calibration=calibration | {"images": "~nobody-of-that-name/x"})

"""A bad config.yaml or gpus.yaml is refused in one sentence that names it, or it can be used; never a traceback."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from deepgap.build.images.imagesets import describe_calibration
from deepgap.build.images.labelled import describe_accuracy
from deepgap.errors import DeepGapError
from deepgap.measure.device import Sighting, detect_gpu
from deepgap.runtimes import load_runtimes
from deepgap.study.artifacts import Artifacts
from deepgap.study.checks import load_study
from deepgap.study.gpus import Gpu, load_gpus
from deepgap.study.schema import read_yaml
from deepgap.study.study import Study, present_and_missing
from tests.unit.bad_input import FACTOR, check_sentence
from tests.unit.synthetic import ROOT

CONFIG, GPUS = ROOT / "config/config.yaml", ROOT / "config/gpus.yaml"
CONFIG_SCHEMA = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
GPUS_SCHEMA = ROOT / "workflow/schemas/gpus.schema.yaml"


def cases(count: int) -> settings:
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )


# What a hand can write into a YAML file.
HOSTILE_TEXT = [
    "", " ", "../x", "../../etc/passwd", "/", "a/b", "~", "$(id)", "`id`", "; rm -rf x", "\\input{x}",
    "100 % & #1_{}", "a\nb", "T4\n", "\0", "é", "\U0001f600", "\ud7ff", "x" * 300, "x" * 5000, "null", "0", "-1",
    "1e3", "{wildcard}", "(", "[", "(?P<a>", "x{99999999999}", "(" * 200, "*", "eager-fp32", "cudnn-int8", "-fp32",
    "eager-", "paper", "CPU",
]  # fmt: skip
HOSTILE_NUMBERS = [
    0, -1, 1, 2, 10**9, 2**31, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 1.0, 3.0, 0.5, 5e-324, 1e308, math.inf,
    -math.inf, math.nan, True, False, None,
]  # fmt: skip
scalars = st.sampled_from(HOSTILE_TEXT) | st.sampled_from(HOSTILE_NUMBERS) | st.integers() | st.floats() | st.text()
keys = st.sampled_from([*HOSTILE_TEXT, 1, 0, -1, None, True, 1.5, math.nan]) | st.text(max_size=5)
values = st.recursive(
    scalars | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=6,
)


def places(document: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value of a document, its own included."""
    yield here
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield from places(value, (*here, key))


def at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Any]) -> Any:
    """A document with one to three values replaced, added, dropped, misspelt or swapped."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(document, dict | list) or not document:
            break
        *parent, key = draw(st.sampled_from([place for place in places(document) if place]))
        holder = at(document, tuple(parent))
        match draw(st.sampled_from(["replace", "replace", "scale", "drop", "misspell", "add", "swap", "whole"])):
            case "replace":
                holder[key] = draw(values)
            case "scale" if isinstance(holder[key], int | float):
                holder[key] = holder[key] * draw(st.sampled_from([-1, 0, 0.5, 1.0, 1e6, 10**6, math.inf, math.nan]))
            case "drop":
                del holder[key]
            case "misspell" if isinstance(holder, dict) and isinstance(key, str):
                holder[draw(st.sampled_from([key.upper(), key[:-1], f"{key}s", f" {key}", f"{key}\n"]))] = holder.pop(
                    key
                )
            case "add" if isinstance(holder, dict):
                holder[draw(keys)] = draw(values)
            case "add":
                holder.append(draw(values | st.sampled_from(holder)))
            case "swap":
                other = draw(st.sampled_from([place for place in places(document) if place]))
                if other[: len(parent) + 1] != (*parent, key) and (*parent, key)[: len(other)] != other:
                    there = at(document, other[:-1])
                    holder[key], there[other[-1]] = there[other[-1]], holder[key]
            case "whole" if draw(st.integers(0, 9)) == 0:
                document = draw(values)
    return document


def exercise(study: Study) -> None:
    """Derive everything that needs no measurement; no name may lead out of the project's own folders."""
    artifacts = Artifacts(study)
    counted: dict[str, int] = {}
    for row in study.expected_counts():
        counted[row["gpu"]] = counted.get(row["gpu"], 0) + row["expected"]
    paths: set[str] = set()
    for gpu in study.platforms:
        cells = study.run_order(gpu)
        assert counted[gpu] == len(cells)
        first = [cell for cell in cells if cell.sweep == 1]
        assert len({cell.stem for cell in first}) == len(first)
        paths |= {cell.path for cell in (*first, cells[-1])}
        for cell in cells[: 2 * len(study.modes_of(gpu))]:
            assert cell.recipe["gpu"] == gpu
            model = study.model(cell.model)
            paths |= {artifacts.source(cell), artifacts.reference(model, gpu), artifacts.weights(model)}
            paths |= {artifacts.calibration_cache(model), artifacts.held_out(model, gpu)}
        assert all(type(cell.batch_size) is int and type(cell.threads) is int for cell in cells)
    for path in paths:
        parts = PurePosixPath(path).parts
        assert parts[0] in ("results", "build") and ".." not in parts, path
        assert all(len(part.encode()) < 255 and part.isprintable() for part in parts), path
    present_and_missing([cell for gpu in study.platforms[:1] for cell in study.run_order(gpu)], ROOT)


def load_whole(config: Any, gpus: Mapping[str, Gpu]) -> Study:
    """A study with what describes its images, as the workflow has it."""
    runtimes = load_runtimes()
    return load_study(
        config,
        CONFIG_SCHEMA,
        gpus,
        runtimes,
        describe_calibration=describe_calibration,
        describe_accuracy=describe_accuracy,
    )


def load(config: Any, gpus_file: Path = GPUS) -> None:
    """What workflow/rules/common.smk does with the two files; refused with a sentence, or usable."""
    try:
        study = load_whole(config, load_gpus(gpus_file, GPUS_SCHEMA))
        study.calibration  # noqa: B018
    except DeepGapError as error:
        event("refused")
        check_sentence(error)
        said = str(error)
        assert any(name in said for name in ("config.yaml", "gpus.yaml", "image folder", "runtime_options")), said
        return
    event("accepted")
    exercise(study)


@pytest.fixture(scope="module")
def gpus_file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("config") / "gpus.yaml"


PROJECT_CONFIG, PROJECT_GPUS = read_yaml(CONFIG), read_yaml(GPUS)


@cases(80)
@given(
    config=mutated(PROJECT_CONFIG).filter(lambda config: isinstance(config, dict)),
    gpu=st.sampled_from([None, "CPU", "T4", "H200"]),
)
def test_a_mutated_config_is_refused_or_can_be_used(config, gpu):
    """Snakemake itself refuses a config that is no mapping."""
    load(config if "gpu" not in config or config["gpu"] is not None else config | {"gpu": gpu})


@cases(50)
@given(document=mutated(PROJECT_GPUS))
def test_a_mutated_list_of_gpus_is_refused_or_can_be_used(gpus_file, document):
    gpus_file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    load(PROJECT_CONFIG, gpus_file)


@st.composite
def broken_text(draw: st.DrawFn, text: str) -> bytes:
    """The text of a file with bytes flipped, cut, doubled or inserted."""
    content = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "double"])):
            case "flip":
                content[start] ^= draw(st.integers(1, 255))
            case "cut":
                del content[start + draw(st.integers(0, 30)) : start + draw(st.integers(0, 200))]
            case "insert":
                odd = [b"\0", b"\t", b"\xff\xfe", b"&a [*a]", b"<<: *x\n", b"!!python/object:os.system {}\n",
                       b"- ", b": ", b"{", b"]", b"2026-99-99", b"9" * 5000, b"!!binary x",
                       b"%YAML 9.9\n", b"---\n"]  # fmt: skip
                content[start:start] = draw(st.sampled_from(odd))
            case "double":
                lines = bytes(content).splitlines(keepends=True)
                number = draw(st.integers(0, len(lines) - 1))
                content = bytearray(b"".join([*lines[: number + 1], *lines[number:]]))
        if not content:
            break
    return bytes(content)


@cases(30)
@given(content=broken_text(GPUS.read_text(encoding="utf-8")))
def test_a_broken_text_of_gpus_is_refused_or_can_be_used(gpus_file, content):
    gpus_file.write_bytes(content)
    load(PROJECT_CONFIG, gpus_file)


COUNTS = {"warmup_iterations": 2, "timed_iterations": 6, "runs": 1, "sweeps": 3, "fidelity_images": 16}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        # These named other cells than 1 and 3, or ended in a traceback.
        ({"batch_sizes": [1.0, 2]}, ["batch_sizes[0] is 1.0", "integer"]),
        ({"protocols": {"paper": COUNTS | {"sweeps": 3.0}}}, ["protocols.paper.sweeps is 3.0", "integer"]),
        ({"protocols": {"paper": COUNTS | {"sweeps": 10**9}}}, ["protocols.paper.sweeps", "at most 1000"]),
        ({"weights": {"seed": 10**400}}, ["weights.seed is out of range"]),
        (
            {"protocols": {"paper": COUNTS | {"throughput_s": math.nan}}},
            ["protocols.paper.throughput_s is nan", "finite"],
        ),
        ({"slo_ms": math.inf}, ["slo_ms is inf", "finite"]),
        ({"thread_counts": {"eager-fp32": [10**300]}}, ["thread_counts", "out of range"]),
        ({"protocols": {1: COUNTS}}, ["protocols has the key 1,", "quotes"]),
        ({None: 1}, ["the top level has the key None"]),
        ({"runtime_options": {"cudnn": {1: 2, "a": 3}}}, ["runtime_options.cudnn has the key 1"]),
        ({"calibration": {"images": "x" * 300}}, ["image folder", "cannot be read"]),
        ({"calibration": {"images": "a\0b"}}, ["image folder"]),
        ({"calibration": {"images": "../../nowhere"}}, ["image folder ../../nowhere does not exist"]),
        ({"models": [PROJECT_CONFIG]}, ["models[0].weights", "string"]),
        ({"models": ["resnet17"]}, ["models[0]", "resnet18"]),
    ],
)
def test_values_that_no_schema_of_yaml_refuses_by_itself(changes, parts):
    with pytest.raises(DeepGapError) as caught:
        study = load_whole(copy.deepcopy(PROJECT_CONFIG) | changes, load_gpus(GPUS, GPUS_SCHEMA))
        study.calibration  # noqa: B018
    check_sentence(caught.value, *parts)


@pytest.mark.parametrize("value", ["", None, {}, {"y" * 3000: 1}])
def test_a_name_of_thousands_of_letters_does_not_fill_the_sentence(gpus_file, value):
    gpus_file.write_text(yaml.safe_dump(PROJECT_GPUS | {"x" * 5000: value}, sort_keys=False), encoding="utf-8")
    with pytest.raises(DeepGapError) as caught:
        load_gpus(gpus_file, GPUS_SCHEMA)
    check_sentence(caught.value, "gpus.yaml: xxx")


def test_values_that_hold_themselves_are_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(DeepGapError) as caught:
        load_study(PROJECT_CONFIG | {"models": endless}, CONFIG_SCHEMA, load_gpus(GPUS, GPUS_SCHEMA), load_runtimes())
    check_sentence(caught.value, "config.yaml", "nested too deeply")


TEXT = GPUS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["the top level is None"]),
        ("- T4\n", ["the top level is ['T4']"]),
        ("T4", ["the top level is 'T4'"]),
        ("T4: [\n", ["is not YAML"]),
        ("T4:\n\tyear: 1\n", ["is not YAML"]),
        ("T4: 2026-99-99\n", ["is not YAML", "month"]),
        (f"T4: {'9' * 5000}\n", ["is not YAML"]),
        ("? [a, {b: c}]\n: 1\n", ["is not YAML"]),
        ("[" * 5000, ["is not YAML"]),
        ("&a [*a]", ["nested too deeply"]),
        ("!!python/object/apply:os.system [ls]", ["is not YAML"]),
        ("a: 1\n---\nb: 2\n", ["is not YAML"]),
        ("\0", ["is not YAML"]),
        (TEXT.replace("L4:\n", "T4:\n"), ["names the key 'T4' twice", "line"]),
        (TEXT.replace("tdp_w: 70\n", "tdp_w: 70\n  tdp_w: 71\n"), ["names the key 'tdp_w' twice", "line"]),
        (TEXT.replace("T4:\n", '"T4\\n":\n'), ["'T4\\n'"]),
        (TEXT.replace("T4:\n", "../T4:\n"), ["'../T4'"]),
        (TEXT.replace("T4:\n", "1:\n"), ["has the key 1,", "quotes"]),
        (TEXT.replace("T4:\n", "on:\n"), ["has the key True,", "quotes"]),
        (TEXT.replace("T4:\n", f"{'T' * 300}:\n"), ["a key of the top level", "40"]),
        (TEXT.replace('"7.5"', '"7.5\\n"'), ["T4.compute_capability"]),
        (TEXT.replace('"NVIDIA L4"', '"x{99999999999}"'), ["L4.name_pattern is not a regular expression"]),
        (TEXT.replace('"NVIDIA L4"', '"("'), ["L4.name_pattern is not a regular expression"]),
        (TEXT.replace('"NVIDIA L4"', "null"), ["L4.name_pattern is null"]),
        (TEXT.replace("tdp_w: 70\n", "tdp_w: .nan\n"), ["T4.tdp_w is nan"]),
        (TEXT.replace("fp16: 65,", "fp16: .inf,"), ["T4.peak_tops.fp16 is inf"]),
    ],
)  # fmt: skip
def test_a_list_of_gpus_that_is_none_is_refused(gpus_file, text, parts):
    assert text != TEXT
    gpus_file.write_text(text, encoding="utf-8")
    with pytest.raises(DeepGapError) as caught:
        load_gpus(gpus_file, GPUS_SCHEMA)
    check_sentence(caught.value, "gpus.yaml", *parts)


def test_files_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"T4: \xe9\n")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("latin.yaml", "folder.yaml", "missing.yaml"):
        with pytest.raises(DeepGapError) as caught:
            load_gpus(tmp_path / name, GPUS_SCHEMA)
        check_sentence(caught.value, name)


def test_a_machine_that_no_entry_fits_is_told(monkeypatch):
    nothing = Sighting((), "no NVIDIA GPU", hardware=False)
    monkeypatch.setattr("deepgap.measure.device.look_for_gpus", lambda: nothing)
    with pytest.raises(DeepGapError) as caught:
        detect_gpu({})
    check_sentence(caught.value, "config/gpus.yaml", "add one")

"""The recommended operating points, against brute force on invented numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgap.analyse.recommend import BEST, RECOMMENDATION, TIED, UNITS, describe, recommend
from deepgap.analyse.summary import Summary
from deepgap.errors import ConfigError, DeepGapError
from deepgap.runtimes import load_runtimes
from deepgap.study.checks import load_study
from tests.unit.synthetic import GPUS, cpu_summary, empty_summary, full_summary, synthetic_family, synthetic_summary

PRICED = {key: replace(gpu, price_eur_per_hour={"H200": 4.0, "CPU": 0.2}.get(key)) for key, gpu in GPUS.items()}

# Few distinct values, so that equal ones are common.
VALUES = st.integers(1, 5).map(float)


@st.composite
def families(draw: st.DrawFn) -> list[dict[str, Any]]:
    keys = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["H200", "CPU"]),
                st.sampled_from(["resnet18", "resnet50"]),
                st.sampled_from([1, 8, 32]),
            ),
            min_size=1,
            unique=True,
        )
    )
    rows = []
    for gpu, model, batch_size in keys:
        changes = {"throughput_img_s": draw(VALUES | st.just(4.95)), "sweeps": draw(st.sampled_from([5, 6]))}
        changes |= {"median_ms": draw(VALUES), "images_per_joule": draw(st.none() | VALUES)}
        changes |= {"p99_ms": draw(st.none() | VALUES)}
        rows.append(synthetic_family(gpu, model, "eager-fp32", batch_size, **changes))
    return rows


def value_of(row: dict[str, Any], objective: str) -> float | None:
    if objective == "per_joule":
        value: float | None = row["images_per_joule"]
        return value
    price = {"H200": 4.0, "CPU": 0.2}[row["gpu"]] if objective == "per_euro" else 3600.0
    return float(row["throughput_img_s"]) * 3600 / price


def held(row: dict[str, Any]) -> float:
    return float(row["median_ms"] if row["p99_ms"] is None else row["p99_ms"])


@given(rows=families(), slo_ms=st.sampled_from([0.5, 2, 3.5, 9]), objective=st.sampled_from(sorted(UNITS)))
@settings(max_examples=150, deadline=None)
def test_the_best_is_what_brute_force_finds(rows: list[dict[str, Any]], slo_ms: float, objective: str) -> None:
    summary = replace(synthetic_summary(rows, published=False), gpus=PRICED)
    if all(value_of(row, objective) is None for row in rows):
        with pytest.raises(DeepGapError, match="No energy"):
            recommend(summary, slo_ms, objective)
        return
    found = recommend(summary, slo_ms, objective)
    assert found.rows.schema == RECOMMENDATION
    for model in {row["model"] for row in rows}:
        fit = [r for r in rows if r["model"] == model and value_of(r, objective) is not None and held(r) <= slo_ms]
        chosen = found.rows.filter(pl.col("model") == model).to_dicts()
        if not fit:
            assert not chosen and any(model in note for note in found.notes)
            continue
        top = max(value_of(row, objective) for row in fit)  # type: ignore[type-var]
        least = min(held(row) for row in fit if value_of(row, objective) == top)
        best = chosen[0]
        assert (best["place"], best["value"], best["latency_ms"]) == (BEST, pytest.approx(top), least)
        assert {row["place"] for row in chosen[1:]} <= {TIED}
        (own,) = [r for r in fit if (r["gpu"], r["batch_size"]) == (best["gpu"], best["batch_size"])]
        assert best["latency_statistic"] == ("median" if own["p99_ms"] is None else "p99")
        tied = {
            (r["gpu"], r["batch_size"])
            for r in fit
            if r is not own and (value_of(r, objective) == top or reaches(summary, r, own, objective))
        }
        assert {(row["gpu"], row["batch_size"]) for row in chosen[1:]} == tied


def reaches(summary: Summary, one: dict[str, Any], best: dict[str, Any], objective: str) -> bool:
    """Whether the interval of the ratio of two families reaches 1, from the runs."""
    if min(one["sweeps"], best["sweeps"]) < 6:
        return False
    name = "energy_j_per_image" if objective == "per_joule" else "throughput_img_s"
    values = []
    for row in (one, best):
        place = {key: row[key] for key in ("gpu", "model", "mode", "batch_size")}
        runs = summary.runs.filter(**place).sort("sweep")[name].to_numpy()
        price = {"H200": 4.0, "CPU": 0.2}[row["gpu"]] if objective == "per_euro" else 3600.0
        values.append(1 / runs if objective == "per_joule" else runs * 3600 / price)
    if one["gpu"] == best["gpu"]:
        return bool((values[0] / values[1]).max() >= 1)
    return bool(values[0].max() / values[1].min() >= 1)


def test_the_answer_tells_statistic_flags_and_ties() -> None:
    rows = [
        synthetic_family("H200", "resnet18", "eager-fp32", 8, throughput_img_s=100.0, median_ms=3.0, p99_ms=9.0),
        synthetic_family(
            "H200",
            "resnet18",
            "eager-fp16",
            8,
            throughput_img_s=101.0,
            median_ms=4.0,
            flags=["throttled", "variable"],
        ),
        synthetic_family("H200", "resnet18", "graph-fp16", 8, throughput_img_s=500.0, median_ms=3.0, p99_ms=11.0),
    ]
    found = recommend(synthetic_summary(rows, published=False), 10, "throughput")
    lines = describe(found.rows, found.notes).splitlines()
    assert len(lines) == 3
    assert (
        "best" in lines[1]
        and "eager-fp16" in lines[1]
        and "4.00 median" in lines[1]
        and "throttled, variable" in lines[1]
    )
    assert "tied" in lines[2] and "9.00 p99" in lines[2]
    assert "graph-fp16" not in "".join(lines)


def test_no_point_within_the_bound_names_the_fastest() -> None:
    found = recommend(full_summary(), 0.001, "throughput")
    assert found.rows.is_empty() and len(found.notes) == 3
    assert all("is within 0.001 ms; the fastest is H200" in note for note in found.notes)
    assert describe(found.rows, found.notes).splitlines() == list(found.notes)


@pytest.mark.parametrize(
    ("summary", "objective", "sentence"),
    [
        (empty_summary(), "throughput", "gpu=CPU"),
        (
            full_summary(),
            "per_euro",
            "No price is known for H200, CPU: add price_eur_per_hour to its entry in config/gpus.yaml",
        ),
        (cpu_summary(), "per_joule", "No energy is known for CPU"),
    ],
)
def test_what_is_not_known_is_one_sentence(summary: Summary, objective: str, sentence: str) -> None:
    with pytest.raises(DeepGapError, match=sentence):
        recommend(summary, 10, objective)


def test_a_gpu_without_a_price_is_left_out_and_told() -> None:
    gpus = {**GPUS, "CPU": PRICED["CPU"]}
    found = recommend(replace(full_summary(), gpus=gpus), 1000, "per_euro")
    assert set(found.rows["gpu"]) == {"CPU"}
    assert found.notes == ("No price is known for H200: add price_eur_per_hour to its entry in config/gpus.yaml.",)
    best = found.rows.row(0, named=True)
    (family,) = full_summary().measured.filter(gpu="CPU", model="resnet18", batch_size=best["batch_size"]).to_dicts()
    assert best["value"] == pytest.approx(family["throughput_img_s"] * 3600 / 0.2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"slo_ms": 0}, "slo_ms is 0; it must be more than 0"),
        ({"slo_ms": "fast"}, "slo_ms is 'fast'; it must be of type number"),
        ({"objective": "per_jule"}, r"objective is 'per_jule' \(did you mean 'per_joule'\?\)"),
    ],
)
def test_a_bad_value_is_one_sentence(config: Any, config_schema: Any, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_study(config | changes, config_schema, GPUS, load_runtimes())


def test_the_config_has_defaults_and_the_objectives_are_those_of_the_code(config: Any, config_schema: Any) -> None:
    study = load_study(config, config_schema, GPUS, load_runtimes())
    assert (study.config["slo_ms"], study.config["objective"]) == (10, "throughput")
    assert config_schema["properties"]["objective"]["enum"] == list(UNITS)

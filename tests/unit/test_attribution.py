"""Gains as products of steps: Table VI and Figure 14, on invented numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgap.analyse.attribution import (
    BOTH,
    CUDNN_CHAIN,
    PRECISION,
    RUNTIME,
    TENSORRT_CHAIN,
    Attribution,
    attribute,
    kind_of,
)
from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.figures.attribution import step_points
from deepgap.paper.latex import render
from deepgap.paper.tables.attribution import context
from tests.unit.synthetic import (
    ROOT,
    full_summary,
    synthetic_failure,
    synthetic_family,
    synthetic_summary,
)


def family(mode: str, throughput: float, gpu: str = "H200", batch_size: int = 8, **changes: Any) -> dict[str, Any]:
    # The synthetic law knows no INT8; only the throughput matters here.
    runtime, precision = mode.split("-")
    row = synthetic_family(gpu, "resnet18", "eager-fp32", batch_size, throughput_img_s=throughput)
    return row | {"mode": mode, "runtime": runtime, "precision": precision} | changes


def summary_of(speeds: dict[str, float], gpu: str = "H200", **changes: Any) -> Summary:
    return synthetic_summary([family(mode, v, gpu, **changes) for mode, v in speeds.items()], published=False)


def only(summary: Summary) -> Attribution:
    (found,) = attribute(summary)
    return found


@given(
    modes=st.sets(st.sampled_from([*CUDNN_CHAIN, *TENSORRT_CHAIN]), min_size=1),
    speeds=st.lists(st.floats(1, 1e6), min_size=8, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_the_product_of_the_steps_is_the_ratio_end_to_end(modes: set[str], speeds: list[float]) -> None:
    speed = dict(zip(sorted(modes), speeds, strict=False))
    for found in attribute(summary_of(speed)):
        measured = [mode for mode in found.chain if mode in speed]
        if len(measured) < 2:
            assert found.whole is None and not found.measured
            continue
        assert found.whole is not None
        assert (found.whole.start, found.whole.mode) == (measured[0], measured[-1])
        end_to_end = speed[measured[-1]] / speed[measured[0]]
        assert found.whole.ratio == pytest.approx(end_to_end)
        assert prod(step.ratio for step in found.measured if step.ratio) == pytest.approx(end_to_end)
        parts = [part for kind in (PRECISION, RUNTIME, BOTH) if (part := found.part(kind)) is not None]
        assert prod(parts) == pytest.approx(end_to_end)
        assert [step.present for step in found.steps] == [mode in speed for mode in found.chain[1:]]
        assert found.complete == (found.chain[0] in speed and found.chain[-1] in speed)
        assert step_points(found)[-1]["words"].endswith("*") != found.complete


def test_steps_know_what_changes() -> None:
    kinds = [kind_of(*pair) for pair in pairwise(CUDNN_CHAIN)]
    assert kinds == [PRECISION, PRECISION, RUNTIME, RUNTIME, BOTH]
    assert kind_of("tensorrt-fp16", "tensorrt-int8") == PRECISION


def test_a_missing_mode_is_a_missing_step_and_the_next_one_spans_it() -> None:
    found = only(summary_of({"eager-fp32": 10, "eager-tf32": 20, "compile-fp16": 60, "cudnn-int8": 120}))
    steps = {step.mode: step for step in found.steps}
    assert [mode for mode, step in steps.items() if not step.present] == ["eager-fp16", "graph-fp16"]
    spanning = steps["compile-fp16"]
    assert (spanning.start, spanning.ratio, spanning.neighbour, spanning.kind) == ("eager-tf32", 3, False, BOTH)
    assert found.complete and found.whole is not None and found.whole.ratio == 12
    (row,) = context(summary_of({"eager-fp32": 10, "eager-tf32": 20, "cudnn-int8": 120}))["blocks"][0]["rows"]
    assert row["ratios"][1:4] == ["---"] * 3 and r"\ddagger" in row["ratios"][4]
    assert row["spans"] == "all"


def test_modes_that_are_in_no_chain_are_named() -> None:
    speeds = {"eager-fp32": 10, "new-int8": 90, "graph-fp32": 20, "new-fp16": 40, "graph-fp16": 30}
    told = context(summary_of(speeds))
    assert told["outside"] == [{"platform": "H200", "modes": "graph-fp32, new-fp16, new-int8"}]
    assert told["blocks"][0]["rows"][0]["spans"] == "eager-fp32 to graph-fp16"
    text = render(ROOT / "paper/templates/attribution.tex.j2", told)
    assert "H200: measured, but in no chain of steps: graph-fp32, new-fp16, new-int8." in text
    known = context(summary_of({"eager-fp32": 10, "ort-fp32": 20}, "CPU"))
    assert known["outside"] == []
    assert "no chain" not in render(ROOT / "paper/templates/attribution.tex.j2", known)


@pytest.mark.parametrize("speeds", [{"eager-fp32": 10}, {"new-fp32": 10, "new-int8": 20}])
def test_without_two_modes_of_a_chain_there_is_no_whole(speeds: dict[str, float]) -> None:
    """However many other modes were measured."""
    (row,) = context(summary_of(speeds))["blocks"][0]["rows"]
    assert set(row["ratios"]) == {"---"}
    assert row["spans"] == "fewer than two of these modes measured"


def test_without_the_baseline_the_product_says_what_it_spans() -> None:
    rows = [
        family("eager-tf32", 20),
        family("eager-fp16", 50),
        synthetic_failure("H200", "resnet18", "eager-fp32", 8),
    ]
    (row,) = context(synthetic_summary(rows, published=False))["blocks"][0]["rows"]
    assert row["ratios"][0] == "start"
    assert row["spans"] == "eager-tf32 to eager-fp16"
    assert row["ratios"][-1] == r"\num{2.50}"


def test_intervals_and_cells_are_those_of_the_ratios_frame() -> None:
    summary = summary_of({"eager-fp32": 10, "eager-tf32": 20, "cudnn-int8": 120})
    for item in (only(summary).steps[0], only(summary).whole):
        assert item is not None
        (row,) = summary.ratios.filter(numerator=item.mode, denominator=item.start).to_dicts()
        assert (item.ratio, item.low, item.high) == (row["ratio"], row["low"], row["high"])
        assert set(item.cells) == {*row["numerator_cells"], *row["denominator_cells"]}


def test_either_operand_makes_a_step_launch_bound() -> None:
    rows = [family("eager-fp32", 10), family("eager-tf32", 20, flags=["launch_bound"]), family("eager-fp16", 30)]
    rows += [family("graph-fp16", 40), family("compile-fp16", 50, flags=["variable"])]
    found = only(synthetic_summary(rows, published=False))
    assert [step.launch_bound for step in found.steps] == [True, True, False, False, False]
    points = step_points(found)
    assert [point["launch_bound"] for point in points] == [True, True, False, False, False]


def test_the_operating_points_are_the_edges_and_the_matched_batch() -> None:
    found = [item for item in attribute(full_summary()) if item.source == MEASURED and item.model == "resnet50"]
    assert [(item.gpu, item.batch_size) for item in found] == [
        ("H200", 1),
        ("H200", 8),
        ("H200", 512),
        ("CPU", 1),
        ("CPU", 8),
    ]


def test_a_chain_is_taken_where_its_own_modes_are_and_has_no_precision_that_the_gpu_lacks() -> None:
    assert only(summary_of({"eager-fp32": 1, "tensorrt-int8": 2}, "L4")).chain == TENSORRT_CHAIN
    assert "eager-tf32" not in only(summary_of({"eager-fp32": 1, "tensorrt-int8": 2}, "T4")).chain
    both = attribute(summary_of({"eager-fp32": 1, "tensorrt-int8": 2, "graph-fp16": 3}))
    assert [item.chain for item in both] == [CUDNN_CHAIN, TENSORRT_CHAIN]
    assert only(summary_of({"eager-fp32": 1, "ort-int8": 2}, "CPU")).chain == ("eager-fp32", "ort-fp32", "ort-int8")


def test_published_steps_come_from_medians_and_never_from_bounds() -> None:
    found = {(item.gpu, item.model): item for item in attribute(synthetic_summary([])) if item.source == PUBLISHED}
    whole = found["T4", "resnet101"].whole
    assert whole is not None and whole.ratio == pytest.approx(2400 / 170) and whole.low is None
    # The L4's median of ResNet-18 in INT8 is printed as under 20 ms.
    assert not found["L4", "resnet18"].steps[-1].present
    assert context(replace(synthetic_summary([]), published=synthetic_summary([]).published.head(0)))["blocks"] == []


def test_levels_of_the_figure_multiply_up_to_the_whole() -> None:
    speeds = {"eager-fp32": 10.0, "eager-tf32": 20.0, "eager-fp16": 15.0, "cudnn-int8": 120.0}
    points = step_points(only(summary_of(speeds)))
    levels = [point["value"] for point in points]
    assert levels == [2.0, 1.5, None, None, 12.0]
    assert (points[-1]["words"], points[-1]["top"]) == ("12.0×", 12.0)
    assert pl.DataFrame(points)["before"].to_list() == [1.0, 2.0, 1.5, 1.5, 1.5]

"""One factor at a time, on invented families."""

from __future__ import annotations

from itertools import pairwise

import pytest

from deepgap.analyse.effects import (
    FACTORS,
    PATH,
    differing,
    find_effects,
    find_path,
    mode_factors,
    product,
    published_effects,
)
from deepgap.runtimes import load_runtimes
from tests.unit.synthetic import SPEED, about_mode, empty_summary, full_summary, synthetic_family, synthetic_summary

SPEEDS = dict(zip(PATH, (1.0, 2.0, 2.8, 4.4, 4.5, 7.0, 7.7, 15.0), strict=True))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """A summary of these modes of ResNet-50 at batch 256, with the throughputs of `SPEEDS`."""

    def make(*modes: str):
        for mode in modes:
            monkeypatch.setitem(SPEED, mode, 1e4)
        rows = [
            synthetic_family("H200", "resnet50", mode, 256, throughput_img_s=1000 * SPEEDS[mode]) for mode in modes
        ]
        return synthetic_summary(rows)

    return make


def changed(start: str, mode: str) -> tuple[str, ...]:
    return differing(*(mode_factors(**about_mode(name)) for name in (start, mode)))


def test_each_step_of_the_path_changes_one_factor() -> None:
    assert [changed(*pair) for pair in pairwise(PATH)] == [
        ("precision",),
        ("precision",),
        ("layout",),
        ("graph",),
        ("fusion",),
        ("engine",),
        ("precision",),
    ]


@pytest.mark.parametrize(
    ("start", "mode", "factors"),
    [
        ("eager-fp32", "eager-fp16", ("precision", "layout")),
        ("eager-fp16", "tensorrt-int8", ("precision", "fusion", "engine")),
        ("compile-fp16", "tensorrt-fp16", ("engine",)),
        ("tensorrt-fp16", "tensorrt-int8", ("precision",)),
        ("compile-fp16", "cudnn-fp16", ("graph", "engine")),
        ("ort-fp32", "ort-int8", ("precision",)),
    ],
)
def test_what_changes_between_two_modes(start: str, mode: str, factors: tuple[str, ...]) -> None:
    assert changed(start, mode) == factors


def test_only_pairs_with_the_other_factors_held_are_effects(measured) -> None:
    effects = find_effects(measured(*PATH))
    pairs = {(effect.start, effect.mode): effect for effect in effects}
    assert all(effect.is_pure and effect.ratio.paired and effect.ratio.values == 6 for effect in effects)
    assert [FACTORS.index(effect.factors[0]) for effect in effects] == sorted(
        FACTORS.index(effect.factors[0]) for effect in effects
    )
    assert ("eager-fp32", "eager-fp16") not in pairs, "it changes the layout too"
    layout = pairs["eager-fp16-nchw", "eager-fp16"]
    assert layout.factors == ("layout",)
    assert layout.ratio.low < 4.4 / 2.8 < layout.ratio.high and len(layout.cells) == 12
    assert ("eager-fp32", "eager-fp16-nchw") in pairs


def test_the_steps_of_a_path_multiply_to_the_whole(measured) -> None:
    steps = find_path(measured(*PATH), "H200", "resnet50", 256)
    assert [step.mode for step in steps] == list(PATH[1:])
    parts = [product(steps, factor) for factor in FACTORS]
    whole = 1.0
    for part in parts:
        whole *= part
    assert whole == pytest.approx(15.0, rel=0.05)
    assert product(steps, "layout") == pytest.approx(4.4 / 2.8, rel=0.03)


def test_a_step_over_a_missing_mode_says_what_it_confounds(measured) -> None:
    steps = find_path(measured("eager-fp32", "eager-fp16", "cudnn-int8"), "H200", "resnet50", 256)
    assert [(step.mode, step.factors) for step in steps] == [
        ("eager-fp16", ("precision", "layout")),
        ("cudnn-int8", ("precision", "graph", "fusion", "engine")),
    ]
    assert product(steps, "precision") is None and find_path(full_summary(), "L4", "resnet50", 8) == []


def test_the_published_int8_confounds_engine_and_precision() -> None:
    found = published_effects(full_summary())
    assert {effect.source for effect in found} == {"published"}
    kinds = {(effect.start, effect.mode): effect.factors for effect in found}
    assert kinds["eager-fp32", "eager-fp16"] == ("precision",)
    assert kinds["eager-fp16", "tensorrt-int8"] == ("precision", "fusion", "engine")
    assert published_effects(empty_summary()) == []


def test_every_runtime_has_a_way(measured) -> None:
    assert [name for name in load_runtimes() if mode_factors(name, "fp32", "nchw") is None] == []

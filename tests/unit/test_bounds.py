"""What no cell can hold is refused, and what is merely odd is not."""

from __future__ import annotations

import polars as pl
import pytest

from deepgap.cells.bounds import broken_bound, check_bounds, dense_peak, highest_share, peak_share
from deepgap.cells.cell_file import failure_row
from deepgap.errors import CellError
from deepgap.published.networks import GMAC_PER_IMAGE
from tests.unit.synthetic import GPUS, synthetic_recipe, synthetic_rows

PEAK_IMG_S = 989.5e12 / (2 * 4.09e9)
"""ResNet-50 in fp16 on an H200."""


def h200(mode: str = "eager-fp16", batch_size: int = 64, model: str = "resnet50") -> dict:
    return synthetic_recipe("H200", model, mode, batch_size)


def at_share(share: float, batch_size: int = 64) -> float:
    """Milliseconds a call at this share of the fp16 peak."""
    return 1000 * batch_size / (share * PEAK_IMG_S)


def facts(model: str) -> dict:
    return {"multiply_adds": 1e9 * GMAC_PER_IMAGE[model]} if model in GMAC_PER_IMAGE else {}


def check(rows: pl.DataFrame, recipe: dict | None = None, gpu: str = "H200") -> None:
    check_bounds(rows, recipe or h200(), facts((recipe or h200())["model"]), GPUS[gpu])


def test_a_share_is_two_operations_a_multiply_add_over_the_dense_peak() -> None:
    assert peak_share(4.09e9, "fp16", PEAK_IMG_S, GPUS["H200"]) == pytest.approx(1)
    assert peak_share(1.81e9, "fp32", 1e4, GPUS["T4"]) == pytest.approx(1e4 * 2 * 1.81e9 / 8.1e12)
    assert peak_share(None, "fp16", 1e9, GPUS["H200"]) is None
    assert peak_share(4.09e9, "fp32", 1e9, GPUS["CPU"]) is None


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_what_the_device_can_do_passes(share: float) -> None:
    time = at_share(share)
    check(synthetic_rows([[time, time], [time, time]], [time, time]))


def test_more_operations_than_the_peak_in_one_throughput_run_are_refused() -> None:
    time = at_share(0.9)
    with pytest.raises(CellError, match=r"throughput arm of run 2 reaches 120 % of H200's dense fp16 peak of 989\.5"):
        check(synthetic_rows([[time] * 3] * 2, [time, at_share(1.2)]))


def test_more_operations_than_the_peak_in_one_runs_latency_are_refused_but_not_in_one_call() -> None:
    time, fast = at_share(0.9), at_share(1.2)
    with pytest.raises(CellError, match=r"latency arm of run 1 reaches 120 %"):
        check(synthetic_rows([[fast, fast, time], [time] * 3], [time, time]))
    check(synthetic_rows([[fast, time, time], [time] * 3], [time, time]))


def test_fp32_may_exceed_the_peak_as_far_as_winograd_can() -> None:
    def rows(share: float) -> pl.DataFrame:
        time = at_share(share) * 989.5 / 67
        return synthetic_rows([[time, time]] * 2, [time, time])

    assert highest_share(rows(2.2), h200("eager-fp32"), facts("resnet50"), GPUS["H200"])[0] == pytest.approx(2.2)  # type: ignore[index]
    check(rows(2.2), h200("eager-fp32"))
    with pytest.raises(CellError, match=r"230 % of H200's dense fp32 peak of 67 Tops/s, and the limit is 225 %"):
        check(rows(2.3), h200("eager-fp32"))


@pytest.mark.parametrize(("gpu", "model"), [("CPU", "resnet50"), ("H200", "unknown")])
def test_without_a_known_peak_or_count_nothing_is_compared_with_it(gpu: str, model: str) -> None:
    recipe = synthetic_recipe(gpu, model, "eager-fp32", 512)
    check(synthetic_rows([[1e-3] * 2] * 2, [1e-3] * 2, wait_ms=0), recipe, gpu)


@pytest.mark.parametrize("column", ["device_ms", "enqueue_ms"])
def test_a_time_longer_than_the_one_around_it_is_refused(column: str) -> None:
    rows = synthetic_rows([[10.0, 10.0]] * 2, [10.0, 10.0])
    unawaited = pl.col("arm") == "throughput"
    check(rows.with_columns(pl.when(unawaited).then(pl.col("host_ms") + 0.04).otherwise(column).alias(column)))
    with pytest.raises(CellError, match=rf"throughput 1 of run 1 has a {column} of 200 "):
        check(rows.with_columns(pl.when(unawaited).then(200.0).otherwise(column).alias(column)))


@pytest.mark.parametrize("wait_ms", [0.0, 1.2])
def test_arms_that_launching_or_waiting_explains_pass(wait_ms: float) -> None:
    check(synthetic_rows([[1.9, 1.9]] * 2, [1.0, 1.0], wait_ms=wait_ms), h200(batch_size=1))


@pytest.mark.parametrize(
    ("latency_ms", "call_ms", "problem"),
    [(4.0, 10.0, r"host latency is 0\.40 .* least is 0\.5"), (21.0, 10.0, r"device latency is 2\.10 .* most is 2")],
)
def test_arms_that_contradict_each_other_are_refused_on_a_gpu_only(
    latency_ms: float, call_ms: float, problem: str
) -> None:
    rows = synthetic_rows([[latency_ms] * 2] * 2, [call_ms] * 2)
    with pytest.raises(CellError, match=problem):
        check(rows, h200(batch_size=1))
    check(rows, synthetic_recipe("CPU", "resnet50", "eager-fp32", 1), "CPU")


def test_a_precision_without_a_peak_of_its_own_has_that_of_the_same_tensor_cores() -> None:
    assert dense_peak("bf16", GPUS["H200"]) == GPUS["H200"].peak_tops["fp16"]
    assert dense_peak("fp8", GPUS["H200"]) == GPUS["H200"].peak_tops["int8"]
    assert dense_peak("tf32", GPUS["T4"]) is None


def test_a_broken_bound_is_told_without_raising() -> None:
    time = at_share(1.2)
    reason = broken_bound(synthetic_rows([[time] * 2] * 2, [time] * 2), h200(), facts("resnet50"), GPUS["H200"])
    assert reason is not None and "120 %" in reason


def test_a_failed_cell_passes() -> None:
    check(failure_row("out_of_memory", "synthetic"))

"""The timed loops, with calls of a known duration in real time."""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from deepgap.cells.cell_file import COLD, LATENCY, SCHEMA, THROUGHPUT
from deepgap.measure.timing import (
    CHECK_EVERY,
    CUDA,
    ENERGY,
    FEWEST_QUEUED,
    HOST,
    INPUT_BUFFERS,
    WARMUP_BLOCKS,
    WARMUP_MS,
    Phases,
    half_width,
    no_garbage_collection,
    time_cold,
    time_energy,
    time_repeats,
    warm_up,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def busy(duration_ms: float) -> None:
    """Take this time. Mostly asleep, because a process that spins is interrupted by others on a busy machine."""
    end = time.perf_counter_ns() + int(duration_ms * 1e6)
    time.sleep(max(0.0, duration_ms - 0.3) / 1000)
    while time.perf_counter_ns() < end:
        pass


class Calls:
    """A call that takes the next of some durations, and remembers which input it was given and when."""

    def __init__(self, durations_ms: float | Iterable[float]) -> None:
        constant = isinstance(durations_ms, float)
        self.durations_ms = itertools.repeat(durations_ms) if constant else iter(durations_ms)
        self.inputs: list[int] = []
        self.times_ns: list[int] = []

    def __call__(self, index: int) -> None:
        self.times_ns.append(time.perf_counter_ns())
        self.inputs.append(index)
        busy(next(self.durations_ms))


def protocol(**changes: Any) -> dict[str, Any]:
    counts = {"warmup_iterations": 2, "timed_iterations": 20, "repeats": 1, "cold_iterations": 0, "stop": None}
    return counts | changes


def repeats(call: Calls, **changes: Any) -> tuple[pl.DataFrame, dict[str, Any], Phases]:
    phases = Phases()
    zero_ns = time.perf_counter_ns()
    rows, about = time_repeats(call, HOST, protocol(**changes), zero_ns, phases)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row"), about, phases


def rows_of(rows: pl.DataFrame, arm: str) -> pl.DataFrame:
    return rows.filter(pl.col("arm") == arm)


@pytest.mark.parametrize(
    "timer", [pytest.param(HOST, id="host"), pytest.param(CUDA, marks=[pytest.mark.gpu, needs_gpu], id="cuda")]
)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_inputs_rotate(timer, count):
    each, run = Calls(0.0), Calls(0.0)
    assert len(timer.each(each, count, None)) == count
    assert timer.run(run, count).calls == count
    assert each.inputs == run.inputs == [i % INPUT_BUFFERS for i in range(count)]


def test_a_span_holds_its_call_and_nothing_else():
    """What runs before a call is outside of its span."""
    spans = HOST.each(Calls(2.0), 10, lambda: busy(4.0))
    assert all(span.host_ms >= 2 for span in spans)
    assert median(span.host_ms for span in spans) < 3
    starts = [span.began_ns for span in spans]
    assert all(later - earlier >= 6e6 for earlier, later in itertools.pairwise(starts))
    run = HOST.run(Calls(2.0), 10)
    assert run.host_ms >= 20
    assert run.device_ms == run.host_ms
    assert run.enqueued_ns is None


def test_every_repeat_has_its_rows_in_the_order_of_time():
    call = Calls(1.0)
    rows, about, phases = repeats(call, repeats=3)
    counts = rows.group_by("arm", "repeat").len().sort("arm", "repeat")
    assert counts.rows() == [(LATENCY, i, 20) for i in (1, 2, 3)] + [(THROUGHPUT, i, 1) for i in (1, 2, 3)]
    assert rows_of(rows, LATENCY)["iteration"].to_list() == [*range(1, 21)] * 3
    assert set(rows_of(rows, LATENCY)["calls"]) == {1}
    assert rows_of(rows, THROUGHPUT)["calls"].to_list() == [20] * 3
    assert rows_of(rows, THROUGHPUT)["iteration"].to_list() == [1] * 3
    assert rows["start_ms"].is_sorted()
    ends = rows["start_ms"] + rows["host_ms"]
    assert (rows["start_ms"][1:] >= ends[:-1]).all()
    # Every call is a warm-up or is in a row; so none was made twice or left out.
    assert len(call.inputs) == about["warmup_calls"] + rows["calls"].sum()
    assert set(phases.seconds) == {"warm_up", "latency", "throughput"}
    assert phases.seconds["latency"] == pytest.approx(rows_of(rows, LATENCY)["host_ms"].sum() / 1000, rel=0.2)


def test_starts_are_times_since_the_zero_of_the_cell():
    call = Calls(1.0)
    zero_ns = time.perf_counter_ns()
    busy(30.0)
    rows, about = time_repeats(call, HOST, protocol(), zero_ns, Phases())
    start_ms = pl.DataFrame(rows, schema=SCHEMA, orient="row")["start_ms"][0]
    assert start_ms == pytest.approx((call.times_ns[about["warmup_calls"]] - zero_ns) / 1e6, abs=1)


STOP = {"half_width": 0.1, "minimum_iterations": 11, "minimum_ms": 0}


def test_a_quiet_call_ends_at_the_fewest_iterations():
    rows, _, _ = repeats(Calls(2.0), timed_iterations=200, repeats=2, stop=STOP)
    latency = rows_of(rows, LATENCY).group_by("repeat").len().sort("repeat")
    # The first repeat may meet something else on this machine; the second has the samples of both.
    assert latency["len"][0] <= 11 + 3 * CHECK_EVERY
    assert latency["len"][1] == 11
    assert rows_of(rows, THROUGHPUT)["calls"].to_list() == [FEWEST_QUEUED] * 2


def test_a_noisy_call_runs_to_the_end():
    seeded = random.Random(0)
    noisy = Calls(seeded.choice((0.3, 3.0)) for _ in itertools.count())
    rows, _, _ = repeats(noisy, timed_iterations=60, stop=STOP)
    assert rows_of(rows, LATENCY).height == 60


def test_a_repeat_lasts_its_fewest_milliseconds():
    stop = STOP | {"half_width": 1.0, "minimum_ms": 80}
    rows, _, _ = repeats(Calls(1.0), timed_iterations=1000, stop=stop)
    latency = rows_of(rows, LATENCY)
    assert latency["host_ms"].sum() >= 80
    assert latency["host_ms"][:-CHECK_EVERY].sum() < 80
    assert rows_of(rows, THROUGHPUT)["host_ms"].item() >= 75
    assert rows_of(rows, THROUGHPUT)["calls"].item() < 1000


def test_an_interval_is_looked_at_again_until_it_is_narrow():
    """Noise first, quiet then: a repeat ends between the fewest and the most iterations, at the end of a block."""
    seeded = random.Random(0)
    phases = Phases()
    noise = [seeded.uniform(0.5, 4.0) for _ in range(11)]

    def call(index: int) -> None:
        timed = "warm_up" in phases.seconds
        busy(noise.pop() if timed and noise else 2.0)

    counts = protocol(timed_iterations=400, stop=STOP)
    rows, _ = time_repeats(call, HOST, counts, time.perf_counter_ns(), phases)
    timed = sum(row[2] == LATENCY for row in rows)
    assert 11 < timed < 400
    assert (timed - 11) % CHECK_EVERY == 0


def test_the_interval_is_that_of_the_cell_and_not_of_the_repeat():
    """The second repeat begins with noise that is wide in its own samples and not in those of both repeats."""
    seeded = random.Random(0)
    durations = itertools.chain(
        itertools.repeat(1.0, 74), (seeded.uniform(2.0, 8.0) for _ in range(32)), itertools.repeat(1.0)
    )
    arms: list[str] = []

    class Timed(Phases):
        """Tells the call which arm it is in."""

        @contextmanager
        def __call__(self, name: str) -> Iterator[None]:
            arms.append(name)
            with super().__call__(name):
                yield

    def call(index: int) -> None:
        busy(next(durations) if arms[-1] == "latency" else 1.0)

    counts = protocol(timed_iterations=300, repeats=2, stop=STOP | {"minimum_iterations": 74})
    rows, _ = time_repeats(call, HOST, counts, time.perf_counter_ns(), Timed())
    latency = pl.DataFrame(rows, schema=SCHEMA, orient="row").filter(pl.col("arm") == LATENCY)
    assert half_width(latency.filter(pl.col("repeat") == 2)["device_ms"].to_list()) > STOP["half_width"]
    assert latency.group_by("repeat").len().sort("repeat")["len"].to_list() == [74, 74]


def exact_ranks(count: int) -> tuple[int, int]:
    """Ranks of the order statistics between which the median lies at 95 % (sign test)."""
    low = int(binom.ppf(0.025, count, 0.5))
    if binom.cdf(low - 1, count, 0.5) > 0.025:
        low -= 1
    return low, count + 1 - low


@given(st.lists(st.floats(0.001, 1e6), min_size=8, max_size=400))
def test_half_width_is_that_of_the_sign_test_within_a_rank(samples):
    ordered, count = sorted(samples), len(samples)
    low, high = exact_ranks(count)

    def expected(shift: int) -> float:
        first, last = max(1, low - shift), min(count, high + shift)
        return (ordered[last - 1] - ordered[first - 1]) / 2 / median(ordered)

    assert expected(-1) - 1e-12 <= half_width(samples) <= expected(1) + 1e-12


@pytest.mark.parametrize("count", [8, 11, 74, 100, 222, 1000, 9999])
def test_the_ranks_are_those_of_the_binomial_distribution(count):
    low, high = exact_ranks(count)
    assert binom.cdf(low - 1, count, 0.5) <= 0.025 < binom.cdf(low, count, 0.5)
    middle = (count + 1) / 2
    reach = half_width([float(i) for i in range(1, count + 1)]) * 2 * middle
    assert abs(reach - (high - low)) < 2.001


def test_half_width_is_unknown_for_few_samples_and_none_for_equal_ones():
    assert math.isinf(half_width([1.0] * 7))
    assert half_width([3.0] * 8) == 0


@pytest.mark.parametrize("count", [11, 74, 222])
def test_about_95_of_100_intervals_hold_the_median(count):
    """Of a symmetric distribution, where half the interval reaches about as far to both sides."""
    generator = np.random.default_rng(0)
    draws = 10 + generator.normal(size=(2000, count))
    held = [abs(np.median(samples) - 10) <= half_width(samples) * np.median(samples) for samples in draws]
    assert 0.94 <= np.mean(held) <= 0.995


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 40))
def test_warm_up_lasts_its_calls_and_its_milliseconds(iterations):
    call = Calls(0.5)
    began = time.perf_counter()
    calls, _ = warm_up(call, HOST, iterations)
    assert (time.perf_counter() - began) * 1000 >= WARMUP_MS
    assert calls == len(call.inputs)
    assert calls % iterations == 0


def test_warm_up_makes_all_its_calls_when_they_take_long():
    call = Calls(1.0)
    calls, _ = warm_up(call, HOST, 150)
    assert calls >= 150


def test_a_call_of_constant_time_is_steady():
    # What else runs on this machine can disturb one warm-up, hardly three.
    found = [warm_up(Calls(2.0), HOST, 10) for _ in range(3)]
    assert any(steady for _, steady in found)
    assert min(calls for calls, _ in found) < WARMUP_BLOCKS * 10


def test_a_call_that_keeps_slowing_is_given_up():
    """A tenth slower with each call: the halves of a block of 6 lie a third apart."""
    call = Calls(0.1 * 1.1**i for i in itertools.count())
    assert warm_up(call, HOST, 6) == (WARMUP_BLOCKS * 6, False)


def test_one_unsteady_repeat_makes_the_cell_unsteady():
    slowing = Calls(0.1 * 1.1**i for i in itertools.count())
    _, about, _ = repeats(slowing, warmup_iterations=6, timed_iterations=1)
    assert about == {"warmup_calls": WARMUP_BLOCKS * 6, "steady": False}


def test_the_cold_arm_flushes_before_each_call_and_outside_its_span():
    flushes: list[int] = []

    def flush() -> None:
        busy(3.0)
        flushes.append(time.perf_counter_ns())

    call = Calls(1.0)
    zero_ns = time.perf_counter_ns()
    rows = time_cold(call, HOST, protocol(cold_iterations=5, repeats=2), flush, zero_ns)
    cold = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    assert cold.select("arm", "repeat", "iteration", "calls").rows() == [
        (COLD, repeat, i, 1) for repeat in (1, 2) for i in range(1, 6)
    ]
    starts_ns = cold["start_ms"] * 1e6 + zero_ns
    assert len(flushes) == len(call.times_ns) == 10
    # To the microsecond that a float of the times can have.
    assert all(a <= b + 1000 <= c + 2000 for a, b, c in zip(flushes, starts_ns, call.times_ns, strict=True))
    assert cold["host_ms"].median() < 2


@pytest.mark.parametrize("throughput_ms", [1.0, 0.9])
def test_the_energy_arm_lasts_its_seconds(throughput_ms):
    row = time_energy(Calls(1.0), HOST, 0.3, throughput_ms, time.perf_counter_ns())
    energy = pl.DataFrame([row], schema=SCHEMA, orient="row").row(0, named=True)
    assert (energy["arm"], energy["repeat"], energy["iteration"]) == (ENERGY, 1, 1)
    assert energy["host_ms"] >= 300
    assert energy["calls"] == math.ceil(306 / throughput_ms)


def test_the_energy_arm_lasts_its_seconds_when_calls_became_faster():
    """Clocks rise, and the throughput run may have been disturbed."""
    row = time_energy(Calls(1.0), HOST, 0.3, 1.5, time.perf_counter_ns())
    assert pl.DataFrame([row], schema=SCHEMA, orient="row")["host_ms"].item() >= 300


def test_garbage_is_not_collected_inside_and_is_again_after():
    assert gc.isenabled()
    with no_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), no_garbage_collection():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_garbage_made_before_does_not_wait_for_the_timed_calls():
    class Node:
        itself: object = None

    node = Node()
    node.itself = node
    gone = weakref.ref(node)
    gc.disable()
    del node
    assert gone() is not None
    gc.enable()
    with no_garbage_collection():
        assert gone() is None


def test_phases_add_up_and_count_what_failed():
    phases = Phases()
    with phases("load"):
        busy(20.0)
    with pytest.raises(ZeroDivisionError), phases("load"):
        busy(20.0)
        raise ZeroDivisionError
    with phases("context"):
        pass
    assert 0.04 <= phases.seconds["load"] < 0.2
    assert 0 <= phases.seconds["context"] < 0.01


# On a GPU. `torch.cuda._sleep` keeps one SM busy for a number of clock cycles and the host not at all.
CYCLES = 20_000_000


def sleeping(cycles: int) -> Callable[[int], None]:
    return lambda index: torch.cuda._sleep(cycles)


@pytest.fixture
def stream():
    """Calls are timed on the current stream, which in a cell is not the default one."""
    with torch.cuda.stream(torch.cuda.Stream()):
        CUDA.run(sleeping(CYCLES), 20)
        yield


@pytest.mark.gpu
@needs_gpu
def test_a_sleep_takes_its_cycles_on_the_device(stream):
    short = median(span.device_ms for span in CUDA.each(sleeping(CYCLES), 20, None))
    long = median(span.device_ms for span in CUDA.each(sleeping(2 * CYCLES), 20, None))
    assert long / short == pytest.approx(2, rel=0.05)
    # No clock of an NVIDIA GPU is outside of these.
    assert CYCLES / 4e6 <= short <= CYCLES / 0.2e6


@pytest.mark.gpu
@needs_gpu
def test_device_time_lies_within_host_time_and_enqueueing_does_not_wait(stream):
    for span in [*CUDA.each(sleeping(CYCLES), 20, None), CUDA.run(sleeping(CYCLES), 20)]:
        assert span.enqueued_ns is not None
        assert span.device_ms <= span.host_ms + 0.05
        assert (span.enqueued_ns - span.began_ns) / 1e6 < span.device_ms / 2
        assert span.host_ms < 1.5 * span.device_ms + 1


@pytest.mark.gpu
@needs_gpu
def test_a_queued_run_takes_the_sum_of_its_calls(stream):
    each = CUDA.each(sleeping(CYCLES), 20, None)
    run = CUDA.run(sleeping(CYCLES), 20)
    assert run.device_ms == pytest.approx(sum(span.device_ms for span in each), rel=0.05)


@pytest.mark.gpu
@needs_gpu
def test_a_matrix_product_is_timed_to_its_end(stream):
    """FP16 of 8192: its event time is possible on the device, and the host waits for it."""
    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
    out = torch.empty_like(left)
    CUDA.run(lambda index: torch.mm(left, right, out=out), 5)
    spans = CUDA.each(lambda index: torch.mm(left, right, out=out), 20, None)
    assert all(span.device_ms <= span.host_ms + 0.05 for span in spans)
    tflops = 2 * size**3 / median(span.device_ms for span in spans) / 1e9
    # Between a tenth of a T4's FP16 and twice an H200's.
    assert 6 < tflops < 2000


@pytest.mark.gpu
@needs_gpu
def test_cold_calls_are_slower_where_memory_is_the_limit(stream):
    from deepgap.measure.measure import _flush_l2

    # Half of the cache, as FP32.
    values = torch.randn(torch.cuda.get_device_properties().L2_cache_size // 8, device="cuda")
    total = torch.empty((), device="cuda")

    def call(index: int) -> None:
        torch.sum(values, dim=0, out=total)

    CUDA.run(call, 100)
    warm = [span.device_ms for span in CUDA.each(call, 50, None)]
    rows = time_cold(call, CUDA, protocol(cold_iterations=50), _flush_l2(), time.perf_counter_ns())
    cold = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    assert cold.height == 50
    assert cold["device_ms"].median() > 1.05 * median(warm)

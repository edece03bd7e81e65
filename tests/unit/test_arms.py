"""The arms and their parts in virtual time: on a host, and on a GPU with a queue."""

from __future__ import annotations

import gc
import itertools
import math
import random
import weakref
from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from deepgap.cells.cell_file import ARMS, BURST, COLD, END_TO_END, ENQUEUE, LATENCY, ROW_A_CALL, SCHEMA, THROUGHPUT
from deepgap.measure.arms.burst import BURST_MS, FEWEST_QUEUED
from deepgap.measure.arms.cold import flush_l2, time_cold
from deepgap.measure.arms.end_to_end import with_copies
from deepgap.measure.arms.enqueue import ENQUEUE_CALLS
from deepgap.measure.arms.stopping import CHECK_EVERY, Rule, half_width
from deepgap.measure.arms.timer import INPUT_BUFFERS, QUEUE_MS, CudaTimer, HostTimer
from deepgap.measure.arms.warm_up import WARMUP_BLOCKS, WARMUP_MS, warm_up
from deepgap.measure.runs import Phases, Subject, Timed, no_garbage_collection, time_runs
from tests.unit.fake_device import FakeGpu, FakeHost

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
STOP = {"half_width": 0.1, "minimum_iterations": 11, "minimum_ms": 0, "maximum_s": 2.0}


def protocol(**changes: Any) -> dict[str, Any]:
    counts = {"warmup_iterations": 2, "timed_iterations": 20, "runs": 1, "fidelity_images": 1}
    return counts | {"throughput_s": 0.5, "arms": [], "stop": None} | changes


def of(durations: Iterable[float]):
    """A duration a call, the next of these."""
    iterator = iter(durations)
    return lambda: next(iterator)


def rows_of(timed: Timed, arm: str | None = None) -> pl.DataFrame:
    rows = pl.DataFrame(timed.rows, schema=SCHEMA, orient="row")
    return rows if arm is None else rows.filter(pl.col("arm") == arm)


def subject_of(call, gpu: FakeGpu | None = None) -> Subject:
    flush = gpu.call(3.0) if gpu else (lambda index: None)
    return Subject(call, lambda: call, lambda: lambda: flush(0))


# Timers


@pytest.mark.parametrize("device", ["host", "gpu"])
def test_inputs_rotate_in_every_kind_of_span(device):
    host = FakeHost()
    gpu = FakeGpu(host)
    timer, call = (host.timer(), host.call(1.0)) if device == "host" else (gpu.timer(), gpu.call(1.0))
    seen: list[int] = []

    def noting(index: int) -> None:
        seen.append(index)
        call(index)

    spans = (timer.each, (7,)), (timer.queue, (7,)), (timer.sustain, (0.05, 1.0))
    for time_calls, arguments in spans:
        seen.clear()
        time_calls(noting, *arguments)
        assert len(seen) >= 7
        assert seen == [i % INPUT_BUFFERS for i in range(len(seen))]


def test_a_span_of_a_gpu_holds_its_call_and_nothing_else():
    gpu = FakeGpu()
    spans = gpu.timer().each(gpu.call(2.0, launch_ms=0.1), 10, lambda: gpu.host.take(4.0))
    for span in spans:
        assert span.calls == 1
        assert span.device_ms == pytest.approx(2.1, abs=0.01)
        assert span.enqueue_ms == pytest.approx(0.1, abs=0.01)
        assert span.device_ms <= span.host_ms + 0.001
        assert span.host_ms == pytest.approx(2.1, abs=0.02)
    assert all(later.began_ns - earlier.done_ns >= 4e6 for earlier, later in itertools.pairwise(spans))


def test_a_span_of_a_host_has_one_time():
    host = FakeHost()
    (span,) = host.timer().each(host.call(2.0), 1)
    assert span.host_ms == span.device_ms == pytest.approx(2.0, abs=0.001)
    assert span.enqueue_ms is None


@settings(deadline=None)
@given(call_ms=st.floats(0.05, 400), launch_ms=st.floats(0.001, 5), seconds=st.floats(0.05, 3))
def test_a_sustained_run_lasts_its_seconds_with_a_bounded_queue_that_never_runs_dry(call_ms, launch_ms, seconds):
    gpu = FakeGpu()
    span = gpu.timer().sustain(gpu.call(call_ms, launch_ms), seconds, max(call_ms, launch_ms))
    assert span.host_ms >= seconds * 1000
    depth_ms = max(QUEUE_MS * 1.15, 2 * call_ms, call_ms + launch_ms)
    assert span.host_ms <= seconds * 1000 + depth_ms + 2 * max(call_ms, launch_ms, QUEUE_MS / 8) + 1
    assert gpu.deepest_ms <= depth_ms + 1e-6
    if call_ms > 1.2 * launch_ms + 0.01:
        assert gpu.idle_ms <= 1e-6
        assert span.device_ms == pytest.approx(span.calls * call_ms, abs=launch_ms + 0.01)


def test_a_host_that_goes_away_for_a_moment_does_not_starve_the_device():
    gpu = FakeGpu()
    work, calls = gpu.call(1.0, 0.01), itertools.count()

    def call(index: int) -> None:
        if next(calls) == 500:
            gpu.host.take(0.7 * QUEUE_MS)
        work(index)

    gpu.timer().sustain(call, 1.0, 1.0)
    assert gpu.idle_ms == 0


def test_a_sustained_run_of_a_host_ends_after_the_call_that_passes_its_seconds():
    host = FakeHost()
    span = host.timer().sustain(host.call(30.0), 1.0, 30.0)
    assert (span.calls, span.enqueue_ms) == (34, None)
    slow = host.timer().sustain(host.call(5000.0), 1.0, 5000.0)
    assert slow.calls == 1


# Stopping


def collect(rule: Rule, durations: Iterable[float]):
    host = FakeHost()
    call, timer = host.call(of(durations)), host.timer()
    return rule.collect(lambda count: timer.each(call, count))


def test_without_a_rule_a_run_has_its_count_and_is_converged():
    spans, converged = collect(Rule.of(protocol()), itertools.cycle([1.0, 9.0]))
    assert (len(spans), converged) == (20, True)


def test_a_quiet_call_ends_at_the_fewest_iterations():
    spans, converged = collect(Rule.of(protocol(timed_iterations=200, stop=STOP)), itertools.repeat(2.0))
    assert (len(spans), converged) == (11, True)


def test_a_noisy_call_runs_to_the_end_and_is_told():
    noise = random.Random(0)
    rule = Rule.of(protocol(timed_iterations=60, stop=STOP))
    spans, converged = collect(rule, (noise.choice((0.3, 3.0)) for _ in itertools.count()))
    assert (len(spans), converged) == (60, False)


def test_noise_that_ends_is_waited_for():
    noise = random.Random(0)
    first = [noise.uniform(0.5, 4.0) for _ in range(11)]
    rule = Rule.of(protocol(timed_iterations=400, stop=STOP))
    spans, converged = collect(rule, itertools.chain(first, itertools.repeat(2.0)))
    assert converged and 11 < len(spans) < 400
    assert (len(spans) - 11) % CHECK_EVERY == 0


def test_a_run_lasts_its_fewest_milliseconds():
    rule = Rule.of(protocol(timed_iterations=1000, stop=STOP | {"minimum_ms": 80}))
    spans, converged = collect(rule, itertools.repeat(1.0))
    assert converged
    assert sum(span.host_ms for span in spans) >= 80
    assert sum(span.host_ms for span in spans[:-CHECK_EVERY]) < 80


@pytest.mark.parametrize("call_ms", [1.0, 30.0, 68.0, 300.0])
def test_the_time_cap_ends_a_noisy_run_soon_and_is_told(call_ms):
    noise = random.Random(0)
    rule = Rule.of(protocol(timed_iterations=10**6, stop=STOP | {"half_width": 1e-4}))
    spans, converged = collect(rule, (call_ms * noise.uniform(0.7, 1.3) for _ in itertools.count()))
    lasted_s = sum(span.host_ms for span in spans) / 1000
    assert not converged
    assert len(spans) == 11 or 2.0 <= lasted_s <= 2.0 + 2 * 1.3 * call_ms / 1000 + 0.02


def test_the_cap_does_not_cut_the_fewest_calls():
    rule = Rule.of(protocol(timed_iterations=100, stop=STOP))
    assert len(collect(rule, itertools.repeat(1000.0)).spans) == 11


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


# Warm-up


@given(st.integers(1, 40), st.floats(0.01, 200))
def test_warm_up_lasts_its_calls_and_its_milliseconds(iterations, call_ms):
    host = FakeHost()
    calls, steady = warm_up(host.call(call_ms), host.timer(), iterations)
    assert host.now_ns / 1e6 >= WARMUP_MS
    assert calls >= iterations and calls % iterations == 0
    assert steady


def test_a_call_that_keeps_slowing_is_given_up():
    """A tenth slower with each call: the halves of a block of 6 lie a third apart."""
    host = FakeHost()
    call = host.call(of(0.1 * 1.1**i for i in itertools.count()))
    assert warm_up(call, host.timer(), 6) == (WARMUP_BLOCKS * 6, False)


# Runs


def test_every_run_has_its_arms_in_the_order_of_time():
    gpu, phases = FakeGpu(), Phases()
    counts = protocol(runs=3, arms=[ENQUEUE, BURST, COLD, END_TO_END])
    timed = time_runs(subject_of(gpu.call(1.0), gpu), gpu.timer(), counts, 0, phases)
    rows = rows_of(timed)
    order = rows.select("run", "arm").unique(maintain_order=True).rows()
    assert order == [(run, arm) for run in (1, 2, 3) for arm in ARMS]
    for arm, run, count in rows.group_by("arm", "run").len().rows():
        assert count == (20 if arm in ROW_A_CALL else 1), (arm, run)
    assert rows["start_ms"].is_sorted()
    ends = rows["start_ms"] + rows["host_ms"]
    assert (rows["start_ms"][1:] >= ends[:-1]).all()
    calls = dict(rows.filter(pl.col("run") == 1, ~pl.col("arm").is_in(ROW_A_CALL)).select("arm", "calls").rows())
    assert calls[ENQUEUE] == ENQUEUE_CALLS
    assert calls[BURST] == pytest.approx(BURST_MS, rel=0.05)
    assert calls[THROUGHPUT] >= 480
    assert set(phases.seconds) == {"warm_up", *ARMS}
    assert timed.steady and timed.converged and timed.warmup_calls >= 6


def test_arms_that_are_not_asked_for_are_not_there():
    host = FakeHost()
    timed = time_runs(subject_of(host.call(1.0)), host.timer(), protocol(), 0, Phases())
    assert set(rows_of(timed)["arm"]) == {LATENCY, THROUGHPUT}


def test_every_call_is_a_warm_up_or_in_a_row():
    host = FakeHost()
    seen: list[int] = []
    call = host.call(1.0)
    timed = time_runs(
        subject_of(lambda index: (seen.append(index), call(index))), host.timer(), protocol(runs=2), 0, Phases()
    )
    assert len(seen) == timed.warmup_calls + rows_of(timed)["calls"].sum()


def test_starts_are_times_since_the_zero_of_the_cell():
    host = FakeHost(now_ns=10**9)
    timed = time_runs(subject_of(host.call(1.0)), host.timer(), protocol(), 10**9, Phases())
    assert WARMUP_MS <= rows_of(timed)["start_ms"][0] <= 2 * WARMUP_MS


def test_a_short_burst_has_a_few_calls_of_a_slow_one():
    gpu = FakeGpu()
    timed = time_runs(subject_of(gpu.call(90.0)), gpu.timer(), protocol(arms=[BURST]), 0, Phases())
    assert rows_of(timed, BURST)["calls"].item() == FEWEST_QUEUED


def test_one_unsteady_run_makes_the_cell_unsteady_and_one_not_converged_likewise():
    host = FakeHost()
    noise = random.Random(0)
    slowing = (0.1 * 1.1**i for i in range(WARMUP_BLOCKS * 6))
    call = host.call(of(itertools.chain(slowing, (noise.choice((0.3, 3.0)) for _ in itertools.count()))))
    counts = protocol(warmup_iterations=6, timed_iterations=30, stop=STOP)
    timed = time_runs(subject_of(call), host.timer(), counts, 0, Phases())
    assert (timed.steady, timed.converged) == (False, False)


def test_a_flush_runs_before_each_cold_call_and_outside_its_span():
    gpu = FakeGpu()
    events: list[str] = []
    work = gpu.call(1.0)

    def call(index: int) -> None:
        events.append("call")
        work(index)

    def flush() -> None:
        events.append("flush")
        gpu.host.take(5.0)

    spans, _ = time_cold(call, gpu.timer(), Rule(5, 5), flush)
    assert events == ["flush", "call"] * 5
    assert all(span.host_ms < 2 for span in spans)


def test_a_meter_is_read_at_both_ends_of_each_throughput_span():
    host = FakeHost()
    subject = Subject(host.call(1.0), lambda: host.call(1.0), lambda: lambda: None, lambda: host.now_ns / 1e9)
    timed = time_runs(subject, host.timer(), protocol(runs=2), 0, Phases())
    for (before, after), (start, lasted) in zip(
        timed.metered, rows_of(timed, THROUGHPUT).select("start_ms", "host_ms").rows(), strict=True
    ):
        assert before == pytest.approx(start / 1000, abs=1e-5)
        assert after == pytest.approx((start + lasted) / 1000, abs=1e-5)


def test_an_end_to_end_call_reads_the_hosts_batch_and_writes_the_hosts_logits():
    inputs = [torch.full((2, 3, 4, 4), float(i)).to(memory_format=torch.channels_last) for i in range(2)]
    call = with_copies(lambda index: inputs[index].mean(dim=(2, 3)), inputs)
    for buffer in inputs:
        buffer.fill_(-1)
    answers = [call(index).clone() for index in range(2)]
    assert [answer.mean().item() for answer in answers] == [0.0, 1.0]
    assert inputs[0].is_contiguous(memory_format=torch.channels_last)


def test_garbage_is_not_collected_inside_and_is_again_after():
    assert gc.isenabled()
    with no_garbage_collection():
        assert not gc.isenabled()
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
        pass
    first = phases.seconds["load"]
    with pytest.raises(ZeroDivisionError), phases("load"):
        raise ZeroDivisionError
    assert phases.seconds["load"] > first > 0


def test_the_real_clock_of_a_host_is_that_of_the_telemetry():
    (span,) = HostTimer().each(lambda index: None, 1)
    assert 0 < span.host_ms < 1000


# On a GPU. `torch.cuda._sleep` keeps one SM busy for a number of clock cycles and the host not at all.
CYCLES = 20_000_000


@pytest.fixture
def timer():
    """Calls are timed on the current stream, which in a cell is not the default one."""
    with torch.cuda.stream(torch.cuda.Stream()):
        CudaTimer().queue(lambda index: torch.cuda._sleep(CYCLES), 20)
        yield CudaTimer()


@pytest.mark.gpu
@needs_gpu
def test_device_time_lies_within_host_time_and_enqueueing_does_not_wait(timer):
    def sleep(index: int) -> None:
        torch.cuda._sleep(CYCLES)

    each, run = timer.each(sleep, 20), timer.queue(sleep, 20)
    assert run.device_ms == pytest.approx(sum(span.device_ms for span in each), rel=0.05)
    for span in [*each, run]:
        assert span.device_ms <= span.host_ms + 0.05
        assert span.enqueue_ms is not None and span.enqueue_ms < span.device_ms / 2
    sustained = timer.sustain(sleep, 0.5, each[0].device_ms)
    assert 500 <= sustained.host_ms < 800
    assert sustained.device_ms / sustained.calls == pytest.approx(run.device_ms / 20, rel=0.02)


@pytest.mark.gpu
@needs_gpu
def test_cold_calls_are_slower_where_memory_is_the_limit(timer):
    # Half of the cache, as FP32.
    values = torch.randn(torch.cuda.get_device_properties().L2_cache_size // 8, device="cuda")
    total = torch.empty((), device="cuda")

    def call(index: int) -> None:
        torch.sum(values, dim=0, out=total)

    timer.queue(call, 100)
    warm = median(span.device_ms for span in timer.each(call, 50))
    cold = median(span.device_ms for span in time_cold(call, timer, Rule(50, 50), flush_l2()).spans)
    assert cold > 1.2 * warm

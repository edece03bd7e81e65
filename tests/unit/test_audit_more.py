"""What the audit found later, recomputed by hand from the transcription."""

from __future__ import annotations

import pytest

from deepgap.published.audit.evidence import FAILS, HOLDS, OPEN, PARTLY
from deepgap.published.audit.procedure import DRAW_NS
from tests.unit.test_audit import CELLS, findings, peak, with_changes

FOUND = findings()


def test_int8_waits_for_the_host():
    finding = FOUND["int8_on_an_idle_gpu"]
    elements = 512 * 3 * 224 * 224
    assert f"{elements:,}" in finding.evidence and f"{elements * DRAW_NS / 1e9:.1f} s" in finding.evidence
    drawn_ms = elements * DRAW_NS / 1e6
    # By hand: 170 ms of ResNet-101 on the T4, under 20 ms of ResNet-18 on the L4.
    for call_ms in (170, 20):
        assert f"{100 * drawn_ms / (drawn_ms + call_ms):.0f} %" in finding.evidence
    assert finding.verdict == FAILS and any("INT8" in fact for fact in finding.facts)


def test_latencies_at_batch_one_are_of_other_batches():
    evidence = FOUND["latency_at_batch_one"].evidence
    assert "167 img/s" in evidence and f"batch {700 * 6 / 1000:.1f}" in evidence
    assert f"{1000 * 8 / 3483:.2f} ms at 8" in evidence


def test_the_l4_is_faster_by_more_than_its_rates():
    evidence = FOUND["ratios_follow_the_peaks"].evidence
    fp16 = [peak("L4", m, "fp16") / peak("T4", m, "fp16") for m in ("resnet18", "resnet50", "resnet101")]
    assert f"FP16 {min(fp16):.2f} to {max(fp16):.2f} against {121 / 65:.2f}" in evidence


def test_the_power_limits_contradict_a_competitive_t4():
    ratios = [peak("L4", *cell) / peak("T4", *cell) * 70 / 72 for cell in CELLS]
    assert f"{min(ratios):.1f} to {max(ratios):.1f} times as much a watt" in FOUND["t4_is_power_efficient"].evidence


def test_no_line_runs_through_the_latencies_of_the_l4():
    ends = []
    for (batch, speed), last in (((8, 3483), 220), ((16, 5923), 130), ((8, 1928), 430), ((16, 1206), 660)):
        call = 1000 * batch / speed
        ends.append(call - (batch - 1) * (last - call) / (512 - batch))
    low, high = (f"{end:.2g}".replace("-", "\N{MINUS SIGN}") for end in (min(ends), max(ends)))
    assert f"at {low} to {high} ms at batch size 1" in FOUND["latency_is_linear"].evidence


def test_reductions_of_the_tail_are_outside_the_stated_ranges():
    finding = FOUND["p99_reductions"]
    assert "ResNet-50 FP16 28 %" in finding.evidence and "ResNet-18 INT8 60 to 75 %" in finding.evidence
    assert finding.verdict == FAILS


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("gains_at_higher_batches", FAILS),
        ("fp16_latency_against_throughput", FAILS),
        ("fp16_on_the_t4_twice", FAILS),
        ("throughput_rises_to_32", FAILS),
        ("memory_allows_batches", FAILS),
        ("no_transfers", PARTLY),
        ("order_of_precisions", OPEN),
        ("int8_answers", OPEN),
        ("utilisation_as_occupancy", FAILS),
        ("half_is_mixed", FAILS),
        ("one_set_of_weights", FAILS),
        ("scripts_run", FAILS),
        ("cards_at_their_own_best", PARTLY),
        ("over_the_cpu_at_own_best", PARTLY),
    ],
)
def test_no_verdict_says_the_opposite_of_the_numbers(name, verdict):
    assert FOUND[name].verdict == verdict


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        ("fp16_latency_against_throughput", [("latency_reduction,1.5", "latency_reduction,2")] * 1, FAILS),
        ("fp16_on_the_t4_twice", [("speedup_vs_fp32,2.3", "speedup_vs_fp32,2.2")], HOLDS),
        ("throughput_rises_to_32", [("batch_range_of_rapid_growth,32", "batch_range_of_rapid_growth,8")], HOLDS),
        ("memory_allows_batches", [("nvml_memory,8.0", "nvml_memory,15.9")], FAILS),
        ("memory_allows_batches", [("nvml_memory,8.0", "nvml_memory,16.5")], HOLDS),
        ("ratios_follow_the_peaks", [("theoretical_peak,65", "theoretical_peak,12")], FAILS),
    ],
)
def test_a_verdict_follows_the_numbers(tmp_path, name, changes, verdict):
    assert with_changes(tmp_path, *changes)[name].verdict == verdict

"""The audit of the published study, recomputed here from the CSV in another way."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from deepgap.analyse.schemas import PUBLISHED_VALUES
from deepgap.paper.tables import load_table
from deepgap.published.audit import CHECKS, CONDUCT, RESULTS, audit
from deepgap.published.audit.evidence import FAILS, HOLDS, OPEN, PARTLY, Finding
from deepgap.published.values import read_published
from tests.unit.synthetic import GPUS, ROOT, empty_summary, synthetic_summary

FILE = ROOT / "data/published/deep_gap.csv"
ROWS = list(csv.DictReader(FILE.read_text(encoding="utf-8").splitlines()))
NAMES = [check.__name__ for check in CHECKS]


def findings(file: Path = FILE) -> dict[str, Finding]:
    return dict(zip(NAMES, audit(read_published(file), GPUS), strict=True))


@pytest.fixture(scope="module")
def found() -> dict[str, Finding]:
    return findings()


def printed(section: str, quantity: str, **equal: str) -> list[float]:
    return [
        float(row["value"])
        for row in ROWS
        if row["section"] == section
        and row["quantity"] == quantity
        and row["value"] != "NA"
        and all(row[name] == value for name, value in equal.items())
    ]


def peak(gpu: str, model: str, precision: str) -> float:
    (value,) = printed("Table I", "peak_throughput", gpu=gpu, model=model, precision=precision)
    return value


def with_changes(tmp_path: Path, *changes: tuple[str, str]) -> dict[str, Finding]:
    text = FILE.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "changed.csv").write_text(text, encoding="utf-8")
    return findings(tmp_path / "changed.csv")


CELLS = [
    (model, precision) for model in ("resnet18", "resnet50", "resnet101") for precision in ("fp32", "fp16", "int8")
]


def test_every_finding_has_a_verdict_and_named_rows(found: dict[str, Finding]) -> None:
    for name, finding in found.items():
        assert finding.verdict in (HOLDS, PARTLY, FAILS, OPEN)
        assert finding.rows or finding.facts, name
        assert all(row["section"] and row["quote"] for row in finding.rows)
        assert "lacks" not in finding.evidence


def test_pairs_of_throughput_and_latency(found: dict[str, Finding]) -> None:
    speeds, latencies = printed("V-F", "pareto_throughput"), printed("V-F", "pareto_latency")
    batches = {
        row["value"]: int(row["batch"])
        for row in ROWS
        if row["section"] == "Table I" and row["quantity"] == "peak_throughput"
    }
    near = beyond = 0
    for speed, latency in set(zip(speeds, latencies, strict=True)):
        if f"{speed:g}" in batches:
            implied = speed * latency / 1000
            near += abs(implied / batches[f"{speed:g}"] - 1) <= 0.1
            beyond += implied > 1.1 * 512
    evidence = found["pairs_of_one_batch"].evidence
    assert f"in {near} of 10 pairs" in evidence and f"in {beyond}." in evidence
    assert f"{38932 * 15 / 1000:.0f}" in evidence and "0.82 ms" in evidence
    assert found["pairs_of_one_batch"].verdict == FAILS


def test_the_headline_ratio_of_the_cards(found: dict[str, Finding]) -> None:
    ratios = sorted(peak("L4", *cell) / peak("T4", *cell) for cell in CELLS)
    own, matched = found["cards_at_their_own_best"], found["cards_at_one_batch"]
    assert "1 of 9 cells reaches it" in own.evidence
    assert f"{ratios[-1]:.2f}" in own.evidence and f"{ratios[0]:.1f} to {ratios[-2]:.1f}" in own.evidence
    assert "batch 32 over batch 512" in own.evidence
    assert own.verdict == PARTLY
    # By hand: 400 / 220, 200 / 130, 600 / 430, 1000 / 660, 110 / 65, 170 / 105; 60 over under 20.
    medians = [400 / 220, 200 / 130, 600 / 430, 1000 / 660, 110 / 65, 170 / 105]
    assert f"is {min(medians):.1f} to {max(medians):.1f} in 6 cells, over 3.0 in ResNet-18 INT8" in matched.evidence
    assert matched.verdict == OPEN


def test_the_headline_ratio_over_the_cpu(found: dict[str, Finding]) -> None:
    finding = found["over_the_cpu_at_own_best"]
    assert f"{38932 / 670:.1f} to {13388 / 230:.1f}" in finding.evidence and "2 of 12" in finding.evidence
    assert f"at most {5923 / 670:.1f}" in finding.evidence
    assert (finding.verdict, found["over_the_cpu_at_one_batch"].verdict) == (PARTLY, OPEN)
    steps = [peak("L4", model, "int8") / peak("L4", model, "fp16") for model in ("resnet18", "resnet50", "resnet101")]
    precision = found["precision_of_int8"]
    assert f"{min(steps):.1f} to {max(steps):.1f} on the L4" in precision.evidence
    assert precision.verdict == FAILS


def test_percentiles(found: dict[str, Finding]) -> None:
    below = found["p99_above_the_median"]
    assert below.verdict == FAILS
    assert (
        "1350 below 1400 ms" in below.evidence
        and "650 below 660 ms" in below.evidence
        and "in 2 of" in below.evidence
    )
    few = found["p99_of_few_calls"]
    assert f"{100 * 0.99**100:.0f} %" in few.evidence and "662" in few.evidence and few.verdict == OPEN


def test_peaks_and_the_edge_of_the_sweep(found: dict[str, Finding]) -> None:
    batches = [
        (row["gpu"], int(row["value"]))
        for row in ROWS
        if row["section"] == "Table I" and row["quantity"] == "peak_batch"
    ]
    edge = sum(batch == 512 for _, batch in batches)
    assert (
        f"{edge} of {sum(gpu != 'CPU-GNR24T' for gpu, _ in batches)} lie" in found["peaks_within_the_sweep"].evidence
    )
    assert found["peaks_within_the_sweep"].verdict == OPEN
    assert all(batch >= 256 for gpu, batch in batches if gpu == "T4") and found["t4_peaks_late"].verdict == HOLDS
    inside = sum(16 <= batch <= 32 for gpu, batch in batches if gpu == "L4")
    assert f"{inside} of 9" in found["l4_peaks_early"].evidence and found["l4_peaks_early"].verdict == FAILS


def test_the_l2_cache_of_the_l4(found: dict[str, Finding]) -> None:
    evidence = found["scheduling_of_the_l4"].evidence
    width = {"fp32": 4, "fp16": 2, "int8": 1}
    products = [
        int(row["value"]) * width[row["precision"]]
        for row in ROWS
        if row["section"] == "Table I" and row["quantity"] == "peak_batch" and row["gpu"] == "L4"
    ]
    assert f"In {products.count(32)} of 9" in evidence and products.count(32) == 8
    largest = 64 * 112 * 112
    for part in (
        f"{largest:,}",
        f"{32 * largest / 1e6:.1f} MB",
        f"{64 * largest / 1e6:.1f} MB",
        f"{48 * 2**20 / 1e6:.1f} MB",
    ):
        assert part in evidence


def test_memory(found: dict[str, Finding]) -> None:
    order = found["larger_model_more_memory"]
    assert order.verdict == FAILS and "in 2 of 8 pairs" in order.evidence and "6.1 below 7.6 GB" in order.evidence
    grown = 511 * (802_816 + 150_528) * 4 / 1e9
    assert f"{grown:.1f} GB in FP32" in found["memory_without_batch"].evidence
    assert found["memory_without_batch"].verdict == FAILS
    assert f"{512 * 150_528 * 4 / 1e6:.0f} MB" in found["growth_of_int8"].evidence
    assert "1 of 18 modes has more" in found["one_value_a_mode"].evidence
    assert "4.9 and 5.6 GB" in found["one_value_a_mode"].evidence
    assert "\N{MINUS SIGN}100 to 1800 MB" in found["difference_of_memory"].evidence


def test_bandwidth_is_that_of_the_datasheets(found: dict[str, Finding]) -> None:
    assert "300 against 320 GB/s" in found["bandwidth_of_the_l4"].evidence
    assert found["bandwidth_of_the_l4"].verdict == FAILS


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        (
            "p99_above_the_median",
            [("p99_latency,1350", "p99_latency,1450"), ("p99_latency,650", "p99_latency,670")],
            HOLDS,
        ),
        ("cards_at_their_own_best", [("peak_throughput,38932", "peak_throughput,18932")], FAILS),
        ("cards_at_one_batch", [("median_latency,20,ms,under", "median_latency,30,ms,approx")], FAILS),
        ("speedups_over_the_cpu", [("speedup_vs_cpu,58.11", "speedup_vs_cpu,60")], FAILS),
        ("bandwidth_of_the_l4", [], FAILS),
        ("batch_configurations", [("batch_configurations,10", "batch_configurations,11")], HOLDS),
        ("one_host", [("os_ubuntu_version,20.04", "os_ubuntu_version,22.04")], HOLDS),
        (
            "larger_model_more_memory",
            [("nvml_memory,6.1", "nvml_memory,7.7"), ("nvml_memory,7.9", "nvml_memory,8.1")],
            HOLDS,
        ),
        ("peaks_within_the_sweep", [("batch_size_in_sweep,512", "batch_size_in_sweep,768")], HOLDS),
        ("no_batch_above_the_peak", [("512,median_latency,170", "512,median_latency,70")], FAILS),
    ],
)
def test_a_verdict_follows_the_numbers(
    tmp_path: Path, name: str, changes: list[tuple[str, str]], verdict: str
) -> None:
    assert with_changes(tmp_path, *changes)[name].verdict == verdict


def test_values_that_are_not_printed_leave_it_open(tmp_path: Path) -> None:
    changed = with_changes(tmp_path, ("p99_latency", "p98_latency"), ("os_ubuntu_version", "os_version"))
    for name in ("p99_above_the_median", "p99_reductions", "one_host"):
        assert changed[name].verdict == OPEN and "lacks" in changed[name].evidence
    assert changed["pairs_of_one_batch"].verdict == FAILS


def test_an_error_in_a_check_is_none_of_the_transcription(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(values: object) -> Finding:
        return {}["no such key"]

    monkeypatch.setattr("deepgap.published.audit.CHECKS", (broken,))
    with pytest.raises(KeyError):
        audit(read_published(FILE), GPUS)


@pytest.mark.parametrize("quantity", sorted({row["quantity"] for row in ROWS}))
def test_every_quantity_may_be_missing_or_not_available(tmp_path: Path, quantity: str) -> None:
    """Each check that needs it is open, and none stops."""
    values = read_published(FILE)
    here = pl.col("quantity") == quantity
    for changed in (
        values.filter(~here),
        values.with_columns(
            value=pl.when(here).then(None).otherwise("value"),
            approx=pl.when(here).then(pl.lit("not_available")).otherwise("approx"),
        ),
    ):
        assert len(audit(changed, GPUS)) == len(CHECKS)


def test_nothing_published_is_no_finding() -> None:
    assert audit(pl.DataFrame(schema=PUBLISHED_VALUES), GPUS) == []
    for name, checks in (("audit", RESULTS), ("audit_conduct", CONDUCT)):
        assert load_table(name)(empty_summary())["findings"] == []
        assert len(load_table(name)(synthetic_summary([]))["findings"]) == len(checks)

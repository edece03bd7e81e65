"""Tables, numbers and their LaTeX, on synthetic numbers."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import pytest

from deepgap.analyse.schemas import CELL_TABLES, EXPECTED, FIDELITY, FOUND, STUDY_TABLES
from deepgap.analyse.store import load_summary
from deepgap.analyse.summary import Summary
from deepgap.analyse.variance import summarise_variance
from deepgap.cells.telemetry_file import INTERVAL_S
from deepgap.errors import DeepGapError
from deepgap.measure import energy
from deepgap.measure.arms import timer, warm_up
from deepgap.paper.figures import FIGURES, read_caption
from deepgap.paper.latex import Latex, escape, render, rounded
from deepgap.paper.numbers import FAMILY, write_numbers
from deepgap.paper.numbers.macro import macro_name
from deepgap.paper.parts import read_shown
from deepgap.paper.tables import TABLES, load_table
from deepgap.paper.tables.fidelity import rounded_down
from deepgap.stats import median_coverage, wilson
from deepgap.text import significant
from tests.unit.synthetic import (
    GPUS,
    REPORTING,
    ROOT,
    cpu_rows,
    cpu_summary,
    empty_summary,
    full_summary,
    h200_rows,
    synthetic_failure,
    synthetic_family,
    synthetic_fidelity,
    synthetic_summary,
)

CAPTIONS = {name: read_caption(name) for name in FIGURES}
SUMMARIES = {
    "full": full_summary,
    "CPU only": cpu_summary,
    "published only": lambda: synthetic_summary([]),
    "nothing": empty_summary,
}


def context(name: str, summary: Summary) -> dict[str, Any]:
    return load_table(name)(summary)


def tex(name: str, summary: Summary) -> str:
    return render(ROOT / f"paper/templates/{name}.tex.j2", context(name, summary))


def write_summary(summary: Summary, folder: Path) -> dict[str, list[Path]]:
    """Write the tables of a summary, those of cells in a file a GPU, and return their files."""
    files: dict[str, list[Path]] = {}
    coverage = {
        "expected": summary.coverage.select(EXPECTED.names()),
        "found": summary.coverage.select(FOUND.names()),
    }
    for name in (*CELL_TABLES, *STUDY_TABLES):
        table = coverage.get(name, getattr(summary, name, None))
        assert table is not None
        parts = table.partition_by("gpu", as_dict=True) if name in CELL_TABLES else {("",): table}
        for (gpu,), part in parts.items():
            files.setdefault(name, []).append(folder / f"{name}{gpu}.parquet")
            part.write_parquet(files[name][-1])
    return {name: sorted(files.get(name, [])) for name in (*CELL_TABLES, *STUDY_TABLES)}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("data", SUMMARIES)
def test_every_table_renders_with_equal_columns(name: str, data: str) -> None:
    text = tex(name, SUMMARIES[data]())
    for tabular in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.S):
        body = tabular.partition("\\toprule")[2].replace(r"\&", "")
        rows = [row for row in body.split(r"\\") if "&" in row and "multicolumn" not in row]
        assert len({row.count("&") for row in rows}) == 1


def test_table1_states_the_peak_its_ties_and_its_operating_points() -> None:
    rows = [
        synthetic_family("CPU", "resnet18", "eager-fp32", 1, throughput_img_s=50.0, median_ms=5.0),
        synthetic_family("CPU", "resnet18", "eager-fp32", 4, throughput_img_s=100.0, median_ms=9.0),
        synthetic_family("CPU", "resnet18", "eager-fp32", 8, throughput_img_s=101.0, median_ms=11.0),
        synthetic_family("H200", "resnet18", "eager-fp32", 8, throughput_img_s=400.0, median_ms=20.0),
    ]
    cpu, h200 = sorted(context("peaks", synthetic_summary(rows))["measured"], key=lambda r: r["platform"])
    # The smallest batch size that cannot be told from the best.
    assert (cpu["batch"], cpu["tied"], cpu["at_edge"], cpu["throughput"]) == (4, "4, 8", True, 100.0)
    assert (cpu["matched"], cpu["bounded"], cpu["bounded_batch"]) == (101.0, 100.0, 4)
    assert (cpu["saturated"], cpu["latency_ms"]) == (4, 9.0)
    assert (h200["bounded"], h200["bounded_batch"]) == (None, None)


def test_peaks_state_no_ratio_over_a_processor_and_keep_the_published_ones() -> None:
    table = context("peaks", full_summary())
    assert not any("speedup" in row for row in table["measured"])
    assert "over CPU" not in tex("peaks", full_summary())
    assert table["models"] == ["ResNet-18", "ResNet-50", "ResNet-101"]
    cells = {
        (row["platform"], row["mode"], model): cell
        for row in table["published"]
        for model, cell in zip(table["models"], row["cells"], strict=True)
    }
    assert cells["L4", "tensorrt-int8", "ResNet-18"]["throughput"] == 38932
    edge = {key for key, cell in cells.items() if cell is not None and cell["at_edge"]}
    assert edge == {("T4", "eager-fp16", "ResNet-18"), ("T4", "tensorrt-int8", "ResNet-18")}
    assert any(cell is None for cell in cells.values())


def test_table10_counts_families_by_flag_and_gpu() -> None:
    flags = {1: ["variable"], 8: ["launch_bound", "variable"]}
    rows = [synthetic_family("H200", "resnet18", "eager-fp16", b, flags=flags.get(b, [])) for b in (1, 8, 32)]
    rows += [synthetic_family("CPU", "resnet18", "eager-fp32", 1, threads=1, flags=["unsteady"])]
    rows += [synthetic_family("CPU", "resnet18", "eager-fp32", 1)]
    rows += [synthetic_failure("H200", "resnet50", "eager-fp32", 512)]
    table = context("flags", synthetic_summary(rows))
    assert table["platforms"] == ["H200", "CPU"]
    assert [(row["flag"], row["counts"]) for row in table["rows"]] == [
        ("variable", [2, 0]),
        ("launch_bound", [1, 0]),
        ("unsteady", [0, 1]),
    ]
    assert (table["flagged"], table["families"]) == ([2, 1], [3, 2])
    assert r"launch\_bound & \num{1} & \num{0} & " in tex("flags", synthetic_summary(rows))
    assert "No cells measured" in tex("flags", empty_summary())


def test_peaks_tell_failures_and_keep_published_rows_apart() -> None:
    text = tex("peaks", full_summary())
    before, _, after = text.partition("Published (arXiv")
    assert "H200" in before and "38932" in after and "38932" not in before
    assert "H200, ResNet-101: out of memory: eager-fp32 at 512." in before


def test_sessions_have_a_row_each_and_tell_once_what_they_share() -> None:
    table = context("sessions", full_summary())
    assert [row["platform"] for row in table["rows"]] == ["H200", "CPU"]
    assert "ECC memory on" in table["shared"][0]["text"] and "PCIe" not in table["shared"][0]["text"]
    assert "22.04 and 20.04 (two statements)" in table["published"]
    assert r"Synthetic H200 \& co\_1" in tex("sessions", full_summary())
    assert context("sessions", empty_summary())["published"] is None


def sessions_of(*changes: dict[str, Any]) -> Summary:
    """A summary with a session of the H200 for each of these changes."""
    summary = synthetic_summary(h200_rows((1,)), published=False)
    (session,) = summary.sessions.to_dicts()
    sessions = [session | change for change in changes]
    return replace(summary, sessions=pl.DataFrame(sessions, schema=summary.sessions.schema))


def test_sessions_have_the_load_the_sweeps_the_weights_and_the_threads() -> None:
    summary = sessions_of(
        {"intraop_threads": [1, 2], "l2_cache_bytes": 60 << 20, "sweeps": [1, 2]},
        {
            "session": "d" * 12,
            "first_measured_at": "2001-02-03T04:05:06+00:00",
            "weights": [f"resnet50 {c * 64}" for c in "01"],
            "launch_enqueue_least_ns": 3600.0,
            "launch_enqueue_most_ns": 21000.0,
        },
    )
    table = context("sessions", summary)
    (shared,) = table["shared"]
    assert "weights of ResNet-50 00000000, 11111111" in shared["text"] and "ResNet-18" not in shared["text"]
    assert "CPU threads used 1, 2" in shared["text"] and "L2 cache (MiB) 60" in shared["text"]
    first, second = (dict(zip(map(str, table["titles"]), row["values"], strict=True)) for row in table["rows"])
    assert (first["Sweeps"], second["Sweeps"]) == ("1, 2", "1, 2, 3, 4, 5, 6")
    assert first["Load"] == "0.5 to 1.5"
    assert (first[r"Launch ($\mu$s)"], second[r"Launch ($\mu$s)"]) == (None, "3.6 to 21.0")
    assert (first["First cell"], second["First cell"]) == ("2000-01-01 00:00", "2001-02-03 04:05")


def test_what_differs_between_sessions_names_them() -> None:
    summary = sessions_of({}, {"session": "d" * 12, "driver": "999.0", "first_measured_at": "2001-02-03T04:05:06"})
    (shared,) = context("sessions", summary)["shared"]
    assert re.search(r"GPU driver .+ \(\w{8}\) or 999\.0 \(dddddddd\)", shared["text"])


def test_records_stand_beside_what_is_measured_and_else_beside_what_is_published() -> None:
    made = synthetic_summary(
        [synthetic_family("H200", "resnet50", "cudnn-int8", 32, throughput_img_s=48_014.5, median_ms=0.7)]
    )
    rows = {(row["gpu"], row["round"], row["note"]): row for row in context("anchors", made)["rows"]}
    h200, t4 = rows["H200", "v4.1", "SXM"], rows["T4", "v3.0", ""]
    assert (h200["source"], h200["share"], h200["own_batch"]) == ("cudnn-int8", r"\num{50.0}", "32+")
    assert rows["H200", "v4.1", "SXM at 350 W"]["source"] is None
    assert (t4["source"], t4["own"], t4["share"]) == ("published", r"\num{5066}", r"\num{82.8}")
    assert t4["latencies"][0] == r"\num{0.812} / \num{0.825}"
    assert context("anchors", empty_summary())["rows"] == []


def test_predictions_are_pending_until_both_cards_are_measured() -> None:
    (row, *_) = context("predictions", synthetic_summary(h200_rows((1,))))["predictions"]
    assert row["verdict"] == "pending" and row["text"].startswith("cudnn-int8 ResNet-50 at 512")
    assert len(context("predictions", empty_summary())["predictions"]) == 6


@pytest.mark.parametrize(("ratio", "verdict"), [(1.2, "held"), (1.0, "refuted"), (1.13, "undecided")])
def test_the_first_prediction_is_judged_by_its_interval(ratio: float, verdict: str) -> None:
    rows = [
        synthetic_family(gpu, "resnet50", "cudnn-int8", 512, throughput_img_s=50_000.0 * of)
        for gpu, of in (("H100", 1.0), ("H200", ratio))
    ]
    table = context("predictions", synthetic_summary(rows))
    assert table["predictions"][0]["verdict"] == verdict and f"{ratio:.2f}" in table["predictions"][0]["evidence"]
    assert table["batch_sizes"] == [512] and len(table["rows"]) == 1
    assert {row["verdict"] for row in table["predictions"][1:]} == {"pending"}


def test_launch_bound_families_are_the_negative_control() -> None:
    bound = {"launch_bound": True, "throughput_img_s": 100.0}
    rows = [synthetic_family(gpu, "resnet50", "eager-fp16", 1, **bound) for gpu in ("H100", "H200")]
    assert context("predictions", synthetic_summary(rows))["predictions"][4]["verdict"] == "held"
    rows[1] |= {"throughput_img_s": 130.0}
    assert context("predictions", synthetic_summary(rows))["predictions"][4]["verdict"] == "refuted"


def test_variance_has_a_row_a_kind_and_quantity() -> None:
    runs = synthetic_summary([synthetic_family("H200", "resnet50", "eager-fp16", 8)]).runs
    key = ("H200", "resnet50", "eager-fp16", 8, 0)
    made = replace(empty_summary(), variance=summarise_variance(runs, {key: False}))
    rows = context("variance", made)["rows"]
    assert [(row["kind"], row["quantity"]) for row in rows] == [("device", "throughput"), ("device", "latency")]
    assert rows[0]["freedom"] == 5 and rows[0]["spreads"][0] == "---"
    assert "No cells measured" in tex("variance", empty_summary())


def test_table3_share_is_operations_over_the_dense_peak() -> None:
    rows = [synthetic_family("H200", "resnet50", "eager-fp16", 8, throughput_img_s=10_000.0)]
    shares = context("hardware", synthetic_summary(rows, published=False))["shares"]
    assert [(row["gpu"], row["precision"], row["model"]) for row in shares] == [("H200", "fp16", "ResNet-50")]
    assert shares[0]["achieved_tops"] == pytest.approx(10_000 * 2 * 4.09e9 / 1e12)
    assert shares[0]["share"] == pytest.approx(100 * 81.8 / 989.5)


def test_table3_labels_published_shares() -> None:
    shares = context("hardware", synthetic_summary([]))["shares"]
    assert {row["source"] for row in shares} == {"published"}
    assert {row["gpu"] for row in shares} == {"T4", "L4"}


def with_fidelity(*rows: dict[str, Any]) -> Summary:
    return replace(empty_summary(), fidelity=pl.DataFrame(list(rows), schema=FIDELITY))


def test_table4_lists_modes_by_gpu_model_and_precision() -> None:
    keys = [
        ("CPU", "resnet18", "ort-int8"),
        ("H200", "resnet50", "eager-tf32"),
        ("H200", "resnet18", "cudnn-int8"),
        ("H200", "resnet18", "eager-fp16"),
        ("H200", "resnet18", "eager-fp32"),
    ]
    summary = with_fidelity(*(synthetic_fidelity(*key) for key in keys))
    rows = context("fidelity", summary)["rows"]
    assert [(row["platform"], row["model"], row["mode"]) for row in rows] == [
        ("H200", "ResNet-18", "eager-fp32"),
        ("H200", "ResNet-18", "eager-fp16"),
        ("H200", "ResNet-18", "cudnn-int8"),
        ("H200", "ResNet-50", "eager-tf32"),
        ("CPU", "ResNet-18", "ort-int8"),
    ]
    text = tex("fidelity", summary)
    assert text.count("H200") == 1 and text.count("ResNet-18") == 2 and text.count(r"\addlinespace") == 2


def test_table4_says_how_many_of_the_compared_cells_a_row_rests_on() -> None:
    some = with_fidelity(synthetic_fidelity("H200", "resnet18", "eager-fp16", compared_cells=45, cells=39))
    assert r"\num{39} of \num{45} & \num{256}" in tex("fidelity", some)
    every = with_fidelity(synthetic_fidelity("H200", "resnet18", "eager-fp16"))
    assert r"\num{10} & \num{256}" in tex("fidelity", every)


def test_table4_says_exact_and_never_rounds_up_to_it() -> None:
    exact, short, int8 = context(
        "fidelity",
        with_fidelity(
            synthetic_fidelity("H200", "resnet18", "eager-fp32"),
            synthetic_fidelity("H200", "resnet18", "eager-fp16", top1_agreement=9999 / 10000),
            synthetic_fidelity("H200", "resnet18", "cudnn-int8"),
        ),
    )["rows"]
    assert (exact["sqnr"], exact["cosine"], exact["agreement"]) == ("exact", r"\num{1.00000}", r"\num{100.0}")
    assert (short["sqnr"], short["cosine"], short["agreement"]) == (r"\num{55.0}", r"\num{0.99999}", r"\num{99.9}")
    assert (int8["sqnr"], int8["cosine"], int8["agreement"]) == (r"\num{21.6}", r"\num{0.99652}", r"\num{99.2}")
    assert (exact["accuracy"], int8["accuracy"]) == (r"\num{90.6}", r"\num{89.8}")
    low, high = (100 * end for end in wilson(254, 256))
    assert int8["agreement_interval"] == rf"[\num{{{low:.1f}}}, \num{{{high:.1f}}}]"
    assert (exact["calibration"], int8["calibration"]) == (None, "entropy, 128 procedural images")


def test_table4_has_dashes_for_what_does_not_exist_and_says_what_is_not_finite() -> None:
    names = ("top1_accuracy", "top1_accuracy_low", "top1_accuracy_high", "reference_top1_accuracy")
    unknown = dict.fromkeys(names)
    lost = {"sqnr_db": None, "cosine": None, "all_finite": False}
    (row,) = context(
        "fidelity", with_fidelity(synthetic_fidelity("L4", "resnet18", "eager-fp16", **lost, **unknown))
    )["rows"]
    assert (row["sqnr"], row["cosine"], row["accuracy"], row["reference"]) == ("not finite", "---", "---", "---")
    assert "No cells measured" in tex("fidelity", empty_summary())


@pytest.mark.parametrize(
    ("share", "text"), [(0.29, "29.0"), (0.9999999999999999, "99.9"), (1.0, "100.0"), (2 / 3, "66.6")]
)
def test_a_share_is_rounded_down_exactly(share: float, text: str) -> None:
    assert rounded_down(share, 1, percent=True) == rf"\num{{{text}}}"


def test_macros_are_letters_unique_and_all_that_the_prose_uses() -> None:
    macros_of_text = read_shown(ROOT / "paper/main.tex").macros
    used = {name for name in macros_of_text if FAMILY.match(name)}
    assert len(used) > 20
    for make in (full_summary, cpu_summary, lambda: synthetic_summary([])):
        summary = make()
        others = replace(summary, reporting=summary.reporting | {"paper_gpus": ["T4"]})
        assert all(map(FAMILY.match, macros(summary)))
        lines = write_numbers(others, CAPTIONS, macros_of_text).splitlines()
        names = [re.fullmatch(r"\\newcommand\{\\([A-Za-z]+)\}\{.*\} % .+", line).group(1) for line in lines]  # type: ignore[union-attr]
        assert len(names) == len(set(names))
        assert used <= set(names)
        assert "Peak" + "HOneZeroZeroResnetFiveZeroEagerFpThreeTwo" in names, "the text uses it"


def test_what_the_text_uses_and_the_data_do_not_give_prints_as_not_measured() -> None:
    used = ("PeakHTwoZeroZeroResnetFiveZeroCompileFpOneSix", "CellsMeasured", "State", "ClaimTheCacheIsNoEdge")
    text = write_numbers(empty_summary(), {}, used)
    assert rf"\newcommand{{\{used[0]}}}{{\notmeasured}}" in text
    assert text.count("CellsMeasured") == 1 and "State" not in text and "Claim" not in text
    assert used[0] not in write_numbers(empty_summary(), {}, ())


def test_numbers_say_what_the_frames_say() -> None:
    rows = [
        synthetic_family("H200", "resnet50", "eager-fp16", 1, median_ms=3.6, throughput_img_s=270.0),
        synthetic_family("H200", "resnet50", "eager-fp16", 64, throughput_img_s=12_345.0),
        synthetic_family("H200", "resnet50", "graph-fp16", 1, median_ms=0.9, throughput_img_s=1100.0),
    ]
    numbers = macros(synthetic_summary(rows))
    key = "HTwoZeroZeroResnetFiveZero"
    assert numbers[f"Peak{key}EagerFpOneSix"] == r"\num{12340}"
    assert numbers[f"PeakBatch{key}EagerFpOneSix"] == r"\num{64}"
    assert numbers[f"Latency{key}GraphFpOneSix"] == r"\num{0.900}"
    assert f"Peak{key}CompileFpOneSix" not in numbers
    assert numbers["PublishedRatioOtherLow"] == r"\num{2.3}"
    assert numbers["PublishedRatioOtherHigh"] == r"\num{3.0}"
    assert numbers["PublishedImpliedBatch"] == r"\num{584}"
    # As Table VII has them.
    assert (numbers["PublishedRatioMatchedLow"], numbers["PublishedRatioMatchedHigh"]) == (r"\num{1.4}", r"\num{1.8}")
    assert (numbers["PublishedRatioMatchedCells"], numbers["PublishedRatioMatchedBatch"]) == (
        r"\num{6}",
        r"\num{512}",
    )
    cached = [numbers[f"PublishedCache{name}"] for name in ("Product", "Count", "Peaks")]
    assert cached == [r"\num{32}", r"\num{8}", r"\num{9}"]
    assert numbers["PublishedRatioMatchedBounds"] == "over 3.0 in ResNet-18 INT8"


def macros(summary: Summary) -> dict[str, str]:
    return dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\} %", write_numbers(summary, CAPTIONS, ())))


def test_numbers_of_flags_count_families() -> None:
    flags = {
        ("resnet18", 8): ["throttled"],
        ("resnet18", 1): ["launch_bound", "variable"],
        ("resnet50", 1): ["variable"],
    }
    flags |= {("resnet50", 64): ["throttled"]}
    rows = [
        synthetic_family("H200", model, "eager-fp16", size, flags=flags.get((model, size), []))
        for model in ("resnet18", "resnet50")
        for size in (1, 8, 64)
    ]
    numbers = macros(synthetic_summary(rows))
    h200 = "HTwoZeroZero"
    assert (numbers[f"Families{h200}"], numbers[f"Flagged{h200}"]) == (r"\num{6}", r"\num{4}")
    assert numbers[f"Flagged{h200}Variable"] == r"\num{2}"
    assert numbers[f"Flagged{h200}VariableLaunchBound"] == r"\num{1}"


def test_numbers_of_the_protocol_and_of_the_size_of_a_family() -> None:
    numbers = macros(full_summary())
    assert numbers["SweepsOfAFamily"] == r"\num{6} (H200), \num{6} (CPU)"
    assert numbers["CallsOfAFamily"] == r"\num{1200} (H200), \num{1200} (CPU)"
    assert numbers["DesignHTwoZeroZeroSweeps"] == r"\num{6}"
    assert macros(empty_summary())["SweepsOfAFamily"] == r"\notmeasured"


def test_a_ratio_has_its_interval_and_is_of_its_batch_size() -> None:
    rows = [synthetic_family("H200", "resnet50", "eager-fp32", 8, throughput_img_s=100.0)]
    rows += [synthetic_family("H200", "resnet50", "eager-tf32", 8, throughput_img_s=200.0)]
    made = synthetic_summary(rows)
    (row,) = made.ratios.to_dicts()
    text = macros(made)["RatioHTwoZeroZeroResnetFiveZeroBEightEagerTfThreeTwoOverEagerFpThreeTwo"]
    ends = ", ".join(rf"\num{{{significant(row[end], 3)}}}" for end in ("low", "high"))
    assert text == rf"\num{{{significant(row['ratio'], 3)}}}$\times$ [{ends}]"


def test_the_spread_between_processes_is_told_apart_by_what_bounds_them() -> None:
    level = {"gpu": "H200", "model": "resnet50", "quantity": "throughput", "level": "process"}
    level |= {"degrees_of_freedom": 5, "sum_of_squares": 1.0, "coefficients": [1.0]}
    told = [
        level | {"mode": m, "launch_bound": b, "spread": s} for m, b, s in (("a", True, 0.2), ("b", False, 0.005))
    ]
    told += [level | {"mode": "c", "launch_bound": False, "spread": None}]
    made = synthetic_summary(h200_rows((1,)))
    numbers = macros(replace(made, variance=pl.DataFrame(told, schema=made.variance.schema)))
    assert numbers["SpreadHTwoZeroZeroLaunchBoundLow"] == r"\num{20}"
    assert numbers["SpreadHTwoZeroZeroDeviceHigh"] == r"\num{0.50}"
    assert macros(made)["SpreadHTwoZeroZeroDeviceHigh"] == r"\notmeasured"


def test_the_sessions_are_counted_with_their_hosts_and_cards() -> None:
    made = sessions_of({"cards": ["a", "b"]}, {"cards": ["b"], "session": "d" * 12, "load_most": 9.0})
    numbers = macros(made)
    for name, count in (("Sessions", 2), ("Hosts", 1), ("Cards", 2)):
        assert numbers[f"{name}HTwoZeroZero"] == rf"\num{{{count}}}"
    assert (numbers["LoadHTwoZeroZeroLow"], numbers["LoadHTwoZeroZeroHigh"]) == (r"\num{0.50}", r"\num{9.0}")
    assert numbers["LaunchHTwoZeroZeroLow"] == r"\notmeasured"
    assert numbers["MeasuredBatchesHTwoZeroZero"] == "1"


def test_the_algorithm_has_the_constants_of_the_timed_loops() -> None:
    text = " ".join((ROOT / "paper/main.tex").read_text(encoding="utf-8").split())
    assert f"within {100 * warm_up.STEADY:g}\\,\\% and {warm_up.WARMUP_MS}\\,ms are over" in text
    assert warm_up.WARMUP_BLOCKS == 10 and warm_up.WARMUP_LIMIT_MS == 1000
    assert "ten blocks or 1\\,s" in text and "after ten blocks or a second" in text
    assert f"sample the device every {1000 * INTERVAL_S:g}\\,ms" in text
    assert timer.INPUT_BUFFERS == 2 and "two input buffers" in text
    assert f"over ${energy.ABOVE_IDLE:g}\\,P_" in text
    assert f"{100 * (median_coverage(6) or 0):.1f}\\,\\%" in text


def test_every_figure_has_a_caption_in_the_prose() -> None:
    prose = (ROOT / "paper/main.tex").read_text(encoding="utf-8")
    for name in read_shown(ROOT / "paper/main.tex").figures:
        assert f"{{{name}}}" in prose and f"\\{macro_name('Caption', name)}" in prose


def test_macro_names_spell_digits() -> None:
    assert macro_name("Peak", "H200", "eager-fp16") == "PeakHTwoZeroZeroEagerFpOneSix"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (38932, 3, "38900"),
        (2.0, 2, "2.0"),
        (9.96, 2, "10"),
        (0.000123, 2, "0.00012"),
        (0, 3, "0"),
        (58.66, 4, "58.66"),
    ],
)
def test_significant_digits(value: float, digits: int, text: str) -> None:
    assert significant(value, digits) == text
    assert rounded(value, digits) == rf"\num{{{text}}}"


def test_latex_is_escaped_once(tmp_path: Path) -> None:
    assert escape(r"a_b & 50 % \x {y}") == r"a\_b \& 50 \% \textbackslash{}x \{y\}"
    template = tmp_path / "t.tex.j2"
    template.write_text(r"\VAR{plain} \VAR{done}", encoding="utf-8")
    assert render(template, {"plain": "50%", "done": Latex(r"50\%")}) == r"50\% 50\%"


def test_a_template_may_not_name_what_is_missing(tmp_path: Path) -> None:
    template = tmp_path / "t.tex.j2"
    template.write_text(r"\VAR{missing}", encoding="utf-8")
    with pytest.raises(jinja2.UndefinedError):
        render(template, {})


def test_a_summary_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    summary = full_summary()
    again = load_summary(write_summary(summary, tmp_path), GPUS, REPORTING)
    for frame in [field.name for field in fields(Summary) if field.name not in ("gpus", "reporting")]:
        written, read = (getattr(side, frame) for side in (summary, again))
        assert read.sort(pl.all()).equals(written.sort(pl.all())), frame


def test_a_summary_with_another_schema_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    files = write_summary(synthetic_summary(cpu_rows()), tmp_path)
    (file,) = files["sessions"]
    pl.DataFrame({"gpu": ["CPU"]}).write_parquet(file)
    with pytest.raises(DeepGapError, match=rf"{file.name} does not have its columns"):
        load_summary(files, GPUS, REPORTING)
    file.unlink()
    with pytest.raises(DeepGapError, match="missing"):
        load_summary(files, GPUS, REPORTING)

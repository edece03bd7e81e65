"""Figures of the data sheets, the study, the telemetry, the tail and the energy; Tables II, III and V."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from functools import cache
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
import vl_convert

from deepgap.analyse.schemas import DESIGN, TELEMETRY
from deepgap.analyse.summary import Summary
from deepgap.cells.bounds import peak_share
from deepgap.paper.charts.picture import FONTS
from deepgap.paper.charts.theme import COLUMN_WIDTH
from deepgap.paper.figures import load_figure
from deepgap.paper.figures.p99_over_batch import left_out
from deepgap.paper.figures.precision import BITS, peak_ratios
from deepgap.paper.figures.telemetry import SPANS, chosen_session, power_limit, spans_of
from deepgap.paper.latex import render
from deepgap.paper.tables import load_table
from deepgap.study.words import model_label
from tests.unit.synthetic import (
    GPUS,
    ROOT,
    cpu_rows,
    cpu_summary,
    empty_summary,
    full_summary,
    h200_rows,
    synthetic_failure,
    synthetic_family,
    synthetic_second,
    synthetic_summary,
    two_kinds_summary,
)

WATT = "performance_per_watt"


def spec_of(name: str, summary: Summary) -> dict[str, Any]:
    spec: dict[str, Any] = load_figure(name)(summary).to_dict()
    return spec


@cache
def full_spec(name: str) -> dict[str, Any]:
    return spec_of(name, full_summary())


def rows_of(spec: dict[str, Any], *fields: str) -> list[dict[str, Any]]:
    """All rows of data that have these fields."""
    return [row for rows in spec["datasets"].values() for row in rows if set(fields) <= row.keys()]


def table(name: str, summary: Summary) -> tuple[dict[str, Any], str]:
    context = load_table(name)(summary)
    return context, render(ROOT / f"paper/templates/{name}.tex.j2", context)


def test_generations_are_the_data_sheets_in_order_of_year() -> None:
    spec = full_spec("generations")
    gpus = [gpu for gpu in GPUS.values() if gpu.device == "cuda" and gpu.year and any(gpu.peak_tops.values())]
    # Each panel has all of them.
    slots = rows_of(spec, "ground")[: len(gpus)]
    keys = [row["gpu"] for row in slots]
    years = [GPUS[key].year for key in keys]
    assert sorted(keys) == sorted(gpu.key for gpu in gpus) and years == sorted(years)
    assert {row["gpu"] for row in slots if row["kind"]} == {gpu.key for gpu in gpus if gpu.inference_card}
    assert [row["gpu"] for row in slots if row["state"] == "measured here"] == ["H200"]
    bars = {(row["gpu"], row["precision"]): row["rate"] for row in rows_of(spec, "rate")}
    assert bars == {(gpu.key, name): rate for gpu in gpus for name, rate in gpu.peak_tops.items() if rate}
    assert {row["source"] for row in rows_of(spec, "rate")} == {"data sheet"}


@pytest.mark.parametrize("length", [8, 18, 40, 400])
def test_long_keys_of_gpus_stay_in_the_column(length: int) -> None:
    summary = full_summary()
    keys = [f"{'RTXPRO6000BlackwellServerEdition' * 20}"[: length - 1] + str(number) for number in range(7)]
    summary = replace(summary, gpus=summary.gpus | {key: replace(GPUS["L4"], key=key) for key in keys})
    spec = spec_of("generations", summary)
    assert {*keys} <= {row["gpu"] for row in rows_of(spec, "ground")}
    vl_convert.register_font_directory(str(FONTS))
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert float(svg.partition('width="')[2].partition('"')[0]) <= COLUMN_WIDTH + 6


def test_bandwidth_is_a_mark_of_its_own() -> None:
    marks = {row["gpu"]: row["bandwidth"] for row in rows_of(full_spec("generations"), "bandwidth")}
    known = {gpu.key: gpu.memory_bandwidth_gb_s for gpu in GPUS.values() if gpu.year and gpu.device == "cuda"}
    assert marks == known


def test_no_gpu_is_said_to_be_measured_without_cells() -> None:
    for summary in (empty_summary(), cpu_summary()):
        states = {row["state"] for row in rows_of(spec_of("generations", summary), "state")}
        assert states == {"not measured here"}


def test_structure_states_the_axes_and_counts_of_each_device_with_cells() -> None:
    summary = full_summary()
    lost = summary.coverage.with_columns(found=pl.when(pl.col("gpu") == "H200").then(1).otherwise("found"))
    rows = [row["text"] for row in rows_of(spec_of("structure", replace(summary, coverage=lost)), "size")]
    assert "H200: 15 cells" in rows and "CPU: 12 cells" in rows
    assert {"3 models", "5 modes", "1 mode", "5 batch sizes", "4 batch sizes", "6 sweeps"} <= set(rows)
    assert {"1 host", "1 card"} <= set(rows) and "in 1 session" in " ".join(rows)
    assert sum("telemetry/" in text for text in rows) == 1
    assert not any("T4" in text for text in rows)


def test_devices_of_which_all_is_the_same_share_a_block() -> None:
    rows = [row["text"] for row in rows_of(spec_of("structure", two_kinds_summary()), "size")]
    assert "H100: 360 cells; H200: 360 cells" in rows and rows.count("9 modes") == 1


def test_the_files_of_each_device_flow_into_what_all_are_aggregated_to() -> None:
    spec = full_spec("structure")
    boxes = sorted(rows_of(spec, "fill"), key=lambda box: float(box["top"]))
    lines = [row for row in rows_of(spec, "left", "top", "right", "bottom") if "fill" not in row]
    (rail,) = (line for line in lines if line["bottom"] == boxes[-2]["top"])
    joined = [line for line in lines if line["right"] == rail["left"] and rail["top"] <= line["top"] < rail["bottom"]]
    out_of = [
        box
        for box in boxes
        for line in joined
        if line["left"] == box["right"] and box["top"] < line["top"] < box["bottom"]
    ]
    assert len(out_of) == full_summary().coverage["gpu"].n_unique() == 2


def test_structure_is_that_of_the_cells_found_and_not_of_what_is_asked() -> None:
    summary = full_summary()
    asked = summary.design.with_columns(sweeps=pl.lit(7, pl.Int64), batch_sizes=pl.lit([1, 2], pl.List(pl.Int64)))
    texts = [row["text"] for row in rows_of(spec_of("structure", replace(summary, design=asked)), "size")]
    assert "6 sweeps" in texts and "5 batch sizes" in texts and "7 sweeps" not in texts


@pytest.mark.parametrize("summary", [empty_summary(), synthetic_summary([])])
def test_structure_without_cells_is_a_sentence(summary: Summary) -> None:
    assert "No device has cells yet" in json.dumps(spec_of("structure", summary))


def test_bits_add_up_to_the_width() -> None:
    assert {name: bits.stored for name, bits in BITS.items()} == {
        **{"fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "int8": 8, "fp8": 8}
    }
    boxes = rows_of(full_spec("precision"), "part")
    for name in {row["precision"] for row in boxes}:
        own = sorted((row for row in boxes if row["precision"] == name), key=lambda row: row["left"])
        counts = [len([row for row in own if row["part"] == part]) for part in dict.fromkeys(r["part"] for r in own)]
        assert counts == [count for count in astuple(BITS[name]) if count]
        assert all(one["right"] == pytest.approx(two["left"]) for one, two in pairwise(own))


def test_a_precision_names_the_gpus_whose_data_sheets_rate_it() -> None:
    gpus = [gpu for gpu in full_summary().kinds if gpu.device == "cuda"]
    lines = rows_of(full_spec("precision"), "text", "y")
    for name in BITS:
        text = " ".join(row["text"] for row in lines if row["precision"] == name and row["text"] != name)
        having = [gpu.key for gpu in gpus if name in gpu.peak_tops]
        if not having:
            assert text == ""
            continue
        assert text.startswith(f"{BITS[name].used} ")
        assert text.endswith("; all GPUs" if len(having) == len(gpus) else f" {', '.join(having)}")


def test_the_ratios_are_those_of_the_dense_peaks_to_fp32() -> None:
    gpu = replace(GPUS["T4"], peak_tops={"fp32": 2.0, "tf32": None, "fp16": 4.0})
    assert [(row["precision"], row["ratio"]) for row in peak_ratios([gpu])] == [("fp16", 2.0)]
    assert peak_ratios([replace(gpu, peak_tops={"fp16": 4.0})]) == []
    drawn = {(row["gpu"], row["precision"]): row["ratio"] for row in rows_of(full_spec("precision"), "ratio", "gpu")}
    assert drawn["H200", "fp16"] == pytest.approx(989.5 / 67) and ("T4", "tf32") not in drawn


def seconds(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TELEMETRY)


def test_the_chosen_session_and_card_are_those_with_the_most_cells() -> None:
    frame = seconds(
        synthetic_second("H200", "resnet50", "eager-fp16", 1, session="a", card="x"),
        synthetic_second("H200", "resnet50", "eager-fp16", 1, session="a", card="x", time_s=3.0),
        synthetic_second("H200", "resnet50", "eager-fp16", 8, session="b", card="x"),
        synthetic_second("H200", "resnet50", "eager-fp16", 32, session="b", card="y"),
        synthetic_second("H200", "resnet18", "eager-fp16", 32, session="b", card="y", timed=False),
        synthetic_second("H200", "resnet18", "eager-fp16", 1, session="b", card="y"),
    )
    chosen = chosen_session(replace(full_summary(), telemetry=frame), "H200")
    assert set(chosen["session"]) == {"b"} and set(chosen["card"]) == {"y"} and chosen.height == 2
    assert chosen_session(full_summary(), "CPU").is_empty()


def test_a_span_of_the_session_has_the_medians_and_reasons_of_a_mode() -> None:
    rows = [
        synthetic_second("H200", "resnet18", mode, 1, time_s=time, power_w=watts, sm_clock_share=0.9, **more)
        for mode, time, watts, more in (
            ("eager-fp16", 0.0, 350.0, {"temperature_c": 40.0}),
            ("eager-fp16", 0.5, 350.0, {"temperature_c": 50.0, "throttle_reasons": ["sw_power_cap"]}),
            ("graph-fp16", 0.6, 700.0, {"temperature_c": 60.0}),
            ("graph-fp16", SPANS * 2.0, None, {"temperature_c": None}),
        )
    ]
    summary = replace(full_summary(), telemetry=seconds(*rows))
    first, second, last = spans_of(summary, "H200", chosen_session(summary, "H200"))
    assert (first["mode"], first["clock"], first["power"], first["temperature"]) == ("eager-fp16", 90.0, 50.0, 45.0)
    assert first["reasons"] == ["sw_power_cap"] and second["reasons"] == [] and second["power"] == 100.0
    assert last["power"] is last["temperature"] is None
    assert last["start_min"] == pytest.approx(SPANS * 2 / 60)


def test_a_power_limit_that_was_set_goes_before_the_tdp() -> None:
    summary = full_summary()
    lowered = replace(summary, sessions=summary.sessions.with_columns(power_limit_w=600.0))
    assert power_limit(lowered, "H200", summary.telemetry["session"][0]) == 600.0
    assert power_limit(summary, "H200", "another") == GPUS["H200"].tdp_w


def test_telemetry_has_a_panel_a_mode_and_untimed_seconds_are_not_drawn() -> None:
    spec = full_spec("telemetry")
    text = json.dumps(spec)
    assert all(f'"{mode}"' in text for mode in set(full_summary().telemetry["mode"]))
    assert "H200: one session, 74 cells of one card" in text and "clocks held down" in text
    assert min(row["power"] for row in rows_of(spec, "power", "start_min")) >= 100 * 150 / 700
    without = full_summary().telemetry.with_columns(power_w=pl.lit(None, pl.Float64))
    assert not rows_of(spec_of("telemetry", replace(full_summary(), telemetry=without)), "power", "start_min")


def test_published_temperatures_stand_in_the_panels_of_their_card() -> None:
    rows = [
        synthetic_family("T4", "resnet18", "eager-fp32", 8),
        synthetic_family("H200", "resnet18", "eager-fp32", 8),
    ]
    spec = spec_of("telemetry", synthetic_summary(rows))
    assert {(row["gpu"], row["low"], row["high"]) for row in rows_of(spec, "low", "high")} == {("T4", 65.0, 72.0)}
    assert "hollow: published temperatures" in json.dumps(spec)
    assert "published temperatures" not in json.dumps(full_spec("telemetry"))


def test_the_tail_is_a_mark_a_process() -> None:
    summary = full_summary()
    marks = {
        (row["gpu"], row["model"], row["mode"], row["batch_size"], row["sweep"]): row["value"]
        for row in rows_of(full_spec("p99_over_batch"), "at", "sweep")
    }
    runs = summary.runs.filter(pl.col("p99_ms").is_not_null())
    wanted = {
        (row["gpu"], row["model"], row["mode"], row["batch_size"], row["sweep"]): row["p99_ms"] / row["median_ms"]
        for row in runs.iter_rows(named=True)
    }
    assert marks == pytest.approx(wanted) and len(wanted) == 6 * summary.measured.height


def test_processes_without_a_p99_are_counted() -> None:
    summary = full_summary()
    few = summary.runs.with_columns(p99_ms=pl.when(pl.col("sweep") > 1).then("p99_ms"))
    text = json.dumps(spec_of("p99_over_batch", replace(summary, runs=few)))
    assert "4 of 24 processes: under 100 calls" in text
    assert left_out([{"value": 1.0}]) == "" and left_out([{"value": 1.0}, {"value": None}]).startswith("1 of 2")


def test_the_batch_sizes_of_a_mode_stand_side_by_side_and_apart_from_the_next_mode() -> None:
    for gpu in ("H200", "CPU"):
        rows = [row for row in rows_of(full_spec("p99_over_batch"), "at", "sweep") if row["gpu"] == gpu]
        places = sorted({(row["mode"], row["batch_size"]): row["at"] for row in rows}.items(), key=lambda i: i[1])
        modes = [mode for (mode, _), _ in places]
        assert modes == sorted(modes, key=modes.index) and len({at for _, at in places}) == len(places)
        for mode in modes:
            sizes = [size for (other, size), _ in places if other == mode]
            assert sizes == sorted(sizes)


def test_images_a_joule_stand_against_images_a_second() -> None:
    measured = full_summary().measured.filter(pl.col("gpu") == "H200")
    rows = rows_of(full_spec("performance_per_watt"), "images_per_joule_low", "value") or rows_of(
        full_spec("performance_per_watt"), "throughput_low_img_s", "value"
    )
    drawn = {(row["throughput_img_s"], row["value"]) for row in rows}
    assert drawn == set(measured.select("throughput_img_s", "images_per_joule").iter_rows())


def test_a_device_without_energy_says_why() -> None:
    text = json.dumps(full_spec("performance_per_watt"))
    assert "CPU: measured without energy; no counter of this processor can be read." in text


NO_ENERGY = dict.fromkeys(("energy_j_per_image", "energy_above_idle_j_per_image", "images_per_joule", "power_w"))


def test_table5_is_throughput_over_power_at_the_batch_sizes_with_a_window() -> None:
    rows = [
        synthetic_family("H200", "resnet18", "eager-fp32", 8, images_per_joule=4.0, power_w=300.0),
        synthetic_family("H200", "resnet18", "eager-fp16", 8, energy_above_idle_j_per_image=0.125),
        synthetic_family("H200", "resnet18", "eager-fp32", 2, **NO_ENERGY),
    ]
    context, text = table(WATT, synthetic_summary(rows))
    (block,) = context["gpus"]
    assert (block["batch_sizes"], block["reasons"]) == ([8], {})
    fp32, fp16 = block["rows"]
    assert (fp32["mode"], fp32["values"][0]["images_per_joule"], fp32["values"][0]["power_w"]) == (
        "eager-fp32",
        4,
        300,
    )
    assert fp16["values"][0]["above_idle"] == 8.0
    assert r"\num{4.00}" in text and r"\num{8.00}" in text and f"sweeps a value: {block['sweeps']}" in text


def test_table5_gives_the_reason_of_what_is_null() -> None:
    unknown = {"energy_above_idle_j_per_image": None}
    rows = [
        synthetic_family("H200", "resnet18", "eager-fp32", 8, **unknown),
        synthetic_family("H200", "resnet18", "eager-tf32", 8, **NO_ENERGY, energy_note="a window of 3.0 s"),
        synthetic_failure("H200", "resnet18", "eager-fp16", 8),
        synthetic_family("H200", "resnet18", "eager-fp16", 1),
    ]
    context, text = table(WATT, synthetic_summary(rows))
    (block,) = context["gpus"]
    letters = {row["mode"]: [value["letter"] for value in row["values"]] for row in block["rows"]}
    told = {mode: [block["reasons"].get(letter) for letter in own] for mode, own in letters.items()}
    assert told == {
        "eager-fp32": ["not measured", "power under 1.5 times that of the idle device"],
        "eager-tf32": ["not measured", "a window of 3.0 s"],
        "eager-fp16": [None, "out of memory"],
    }
    assert "a window of 3.0 s" in text


def test_table5_says_why_a_device_has_none() -> None:
    of_cpu = [row | NO_ENERGY | {"energy_note": "this host has no RAPL counters"} for row in cpu_rows()]
    _, text = table(WATT, synthetic_summary([*h200_rows(), *of_cpu]))
    assert "CPU: measured, without energy (this host has no RAPL counters)." in text
    assert "No cells measured" in table(WATT, empty_summary())[1]


def test_a_session_names_its_cards() -> None:
    summary = full_summary()
    cards = pl.when(pl.col("gpu") == "H200").then(pl.lit(list("abcd"))).cast(pl.List(pl.String))
    context, text = table("sessions", replace(summary, sessions=summary.sessions.with_columns(cards=cards)))
    place = context["titles"].index("Cards")
    assert [row["values"][place] for row in context["rows"]] == ["a, b, c, d", None]
    assert "a, b, c, d" in text


def test_table3_has_the_share_that_the_families_have_at_their_peak() -> None:
    summary = full_summary()
    multiply_adds = {model_label(row["model"]): row["multiply_adds"] for row in summary.facts.iter_rows(named=True)}
    context, text = table("hardware", summary)
    own = [row for row in context["shares"] if row["source"] == "measured"]
    assert {row["precision"] for row in own} == {"fp32", "tf32", "fp16"}
    for row in own:
        share = peak_share(multiply_adds[row["model"]], row["precision"], row["throughput"], GPUS["H200"])
        assert share is not None and row["share"] == pytest.approx(100 * share)
    assert r"Share of peak (\%)" in text
    assert [row["key"] for row in context["gpus"]] == ["T4", "L4", "H200"]


def test_the_design_of_a_synthetic_summary_has_its_schema() -> None:
    assert full_summary().design.schema == DESIGN and full_summary().telemetry.schema == TELEMETRY

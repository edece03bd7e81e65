"""Figures of the data sheets, the study, the telemetry, the tail and the energy; Tables II, III and V."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from functools import cache
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from PIL import ImageFont

from deepgap.analyse.schemas import DESIGN, TELEMETRY
from deepgap.analyse.summary import Summary
from deepgap.cells.bounds import peak_share
from deepgap.paper.charts.picture import FONTS
from deepgap.paper.charts.theme import FONT_SIZE
from deepgap.paper.figures import load_figure
from deepgap.paper.figures.operations import operations_per_cycle
from deepgap.paper.figures.p99_over_batch import left_out
from deepgap.paper.figures.precision import BITS
from deepgap.paper.figures.telemetry import BOTH, LIMIT, SPANS, TDP, course, power_levels, with_precision
from deepgap.paper.latex import render
from deepgap.paper.tables import load_table
from deepgap.study.words import model_label
from tests.unit.synthetic import (
    GPUS,
    RATE,
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
    gpus = [gpu for gpu in full_summary().kinds if gpu.device == "cuda" and gpu.year and any(gpu.peak_tops.values())]
    assert [gpu.key for gpu in gpus] == ["T4", "L4", "H200"], "measured or published, no other card of gpus.yaml"
    slots = rows_of(spec, "ground")
    keys = [row["gpu"] for row in slots]
    years = [GPUS[key].year for key in keys]
    assert sorted(keys) == sorted(gpu.key for gpu in gpus) and years == sorted(years)
    assert {row["gpu"] for row in slots if row["kind"]} == {gpu.key for gpu in gpus if gpu.inference_card}
    assert [row["gpu"] for row in slots if row["state"] == "measured here"] == ["H200"]
    bars = {(row["gpu"], row["precision"]): row["rate"] for row in rows_of(spec, "rate")}
    assert bars == {(gpu.key, name): rate for gpu in gpus for name, rate in gpu.peak_tops.items() if rate}
    assert {row["source"] for row in rows_of(spec, "rate")} == {"data sheet"}


@pytest.mark.parametrize("length", [8, 18, 40, 400])
def test_long_keys_of_gpus_do_not_overlap(length: int) -> None:
    summary = full_summary()
    keys = [f"{'RTXPRO6000BlackwellServerEdition' * 20}"[: length - 1] + str(number) for number in range(7)]
    others = sum(gpu.device == "cuda" for gpu in summary.kinds)
    asked = [summary.coverage.head(1).with_columns(gpu=pl.lit(key)) for key in keys]
    gpus = summary.gpus | {key: replace(GPUS["L4"], key=key) for key in keys}
    summary = replace(summary, gpus=gpus, coverage=pl.concat([summary.coverage, *asked]))
    slots = rows_of(spec_of("generations", summary), "ground")
    assert len(slots) == len(keys) + others
    font = ImageFont.truetype(FONTS / "STIX-Regular.otf", FONT_SIZE)
    for slot in slots:
        assert all(font.getlength(slot[words]) <= slot["right"] - slot["left"] for words in ("name", "about"))
        assert slot["name"].endswith(f"({summary.gpus[slot['gpu']].year})")


def test_no_gpu_is_said_to_be_measured_without_cells() -> None:
    for summary in (synthetic_summary([]), cpu_summary()):
        states = {row["state"] for row in rows_of(spec_of("generations", summary), "state")}
        assert states == {"not measured here"}


def test_structure_states_the_axes_and_counts_of_each_device_with_cells() -> None:
    summary = full_summary()
    lost = summary.coverage.with_columns(found=pl.when(pl.col("gpu") == "H200").then(1).otherwise("found"))
    modes = pl.lit(["1, all"], pl.List(pl.String))
    threads = pl.when(pl.col("gpu") == "CPU").then(modes).otherwise("threads").alias("threads")
    changed = replace(summary, coverage=lost, design=summary.design.with_columns(threads))
    texts = [row["text"] for row in rows_of(spec_of("structure", changed), "size")]
    assert "H200: 15 of 75 cells measured" in texts and "CPU: 12 of 12 cells measured" in texts
    assert {"3 models", "5 modes", "1 mode", "5 batch sizes", "4 batch sizes", "6 sweeps"} <= set(texts)
    assert "eager-fp32 (1, all threads)" in " ".join(texts)
    assert sum("telemetry/" in text for text in texts) == 1
    assert not any("T4" in text for text in texts)


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


def test_structure_is_that_of_the_study_and_not_of_the_cells_found() -> None:
    summary = full_summary()
    asked = summary.design.with_columns(sweeps=pl.lit(7, pl.Int64), batch_sizes=pl.lit([1, 2], pl.List(pl.Int64)))
    texts = [row["text"] for row in rows_of(spec_of("structure", replace(summary, design=asked)), "size")]
    assert "7 sweeps" in texts and "2 batch sizes" in texts and "5 batch sizes" not in texts


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


def test_operations_a_cycle_are_the_peak_over_multiprocessors_and_clock() -> None:
    gpu = replace(
        GPUS["T4"], sm_count=10, max_sm_clock_mhz=1000.0, peak_tops={"fp32": 1.0, "tf32": None, "fp16": 4.0}
    )
    assert operations_per_cycle(gpu) == {"fp32": pytest.approx(100), "fp16": pytest.approx(400)}
    assert operations_per_cycle(replace(gpu, sm_count=None)) == operations_per_cycle(GPUS["CPU"]) == {}
    drawn = {(row["gpu"], row["precision"]) for row in rows_of(full_spec("operations"), "value")}
    assert drawn == {(gpu.key, name) for gpu in full_summary().kinds for name in operations_per_cycle(gpu)}
    assert ("T4", "tf32") not in drawn


def seconds(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TELEMETRY)


def spans_of(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return course(with_precision(frame), list(RATE))


def test_cells_are_laid_end_to_end_model_by_model_in_the_order_of_their_start() -> None:
    frame = seconds(
        synthetic_second("H200", "resnet50", "eager-fp16", 1, started_unix_s=1.0, power_w=300.0),
        synthetic_second("H200", "resnet18", "eager-fp16", 1, started_unix_s=9.0, power_w=200.0, duration_s=1.5),
        synthetic_second("H200", "resnet18", "graph-fp16", 8, started_unix_s=2.0, power_w=100.0, duration_s=2.0),
    )
    spans = spans_of(frame)
    assert [span["power_w"] for span in spans] == [100.0, 200.0, 300.0]
    assert [(span["elapsed_s"], span["end_s"]) for span in spans] == [(0.0, 2.0), (2.0, 3.5), (3.5, 4.5)]
    assert [span["depth"] for span in spans] == ["18", "18", "50"]


def test_every_reason_has_a_mark_in_the_legend() -> None:
    names = [f"reason_{number}" for number in range(9)]
    summary = full_summary()
    seen = summary.telemetry.with_columns(throttle_reasons=pl.lit(names, pl.List(pl.String)))
    rows = rows_of(spec_of("telemetry", replace(summary, telemetry=seen)), "words")
    shapes = {row["label"]: row["shape"] for row in rows if row["label"].startswith("held down")}
    assert list(shapes) == [f"held down: reason {number}" for number in range(9)]
    assert len(set(shapes.values())) == 9


def test_a_span_keeps_the_extremes_and_all_reasons_of_its_seconds() -> None:
    rows = [
        synthetic_second(
            "H200",
            "resnet18",
            "eager-fp16",
            1,
            time_s=float(second),
            temperature_c=float(second % 10),
            sm_clock_min_mhz=900 if second == 3 else 1800,
            throttle_reasons=["sw_power_cap"] if second == 5 else [],
        )
        for second in range(10 * SPANS)
    ]
    spans = spans_of(seconds(*rows))
    assert SPANS - 1 <= len(spans) <= SPANS + 1
    first = spans[0]
    assert (first["temperature_c_low"], first["temperature_c_high"], first["sm_clock_mhz_low"]) == (0.0, 9.0, 900.0)
    assert [span["reasons"] for span in spans][:2] == [["sw_power_cap"], []]


def test_telemetry_shows_what_was_timed_and_where_the_clocks_were_held_down() -> None:
    spec = full_spec("telemetry")
    assert min(row["power_w"] for row in rows_of(spec, "power_w", "elapsed_s")) >= 150
    marks = rows_of(spec, "reason")
    assert marks and {row["reason"] for row in marks} == {"sw_power_cap"}
    text = json.dumps(spec)
    assert "held down: sw power cap" in text and "power limit as set, equal to the TDP (data sheet)" in text
    assert "samples of 74 of 75 cells" in text
    assert "NVML samples NVIDIA GPUs alone" in text
    assert {row["value"] for row in rows_of(spec, "value") if row.keys() == {"value"}} == {700.0}


def test_a_power_limit_is_told_from_the_tdp_where_they_differ() -> None:
    summary = full_summary()
    assert power_levels(summary, "H200") == [(700.0, BOTH)]
    lowered = replace(summary, sessions=summary.sessions.with_columns(power_limit_w=600.0))
    assert power_levels(lowered, "H200") == [(600.0, LIMIT), (700, TDP)]
    assert len({level.dash for level in (LIMIT, TDP, BOTH)}) == 3
    text = json.dumps(spec_of("telemetry", lowered))
    assert '"power limit as set"' in text and '"TDP (data sheet)"' in text and "equal to" not in text


def test_untimed_seconds_are_not_drawn() -> None:
    rows = [
        synthetic_second("H200", "resnet18", "eager-fp32", 8, time_s=0.0, timed=False, power_w=77.0),
        synthetic_second("H200", "resnet18", "eager-fp32", 8, time_s=1.0, power_w=400.0),
    ]
    spec = spec_of("telemetry", replace(full_summary(), telemetry=seconds(*rows)))
    assert {row["power_w"] for row in rows_of(spec, "power_w", "elapsed_s")} == {400.0}


def test_a_gpu_without_samples_says_so_and_published_temperatures_are_labelled() -> None:
    spec = spec_of("telemetry", replace(full_summary(), telemetry=seconds()))
    text = json.dumps(spec)
    assert "No samples of H200 lie beside its cells" in text
    ranges = {(row["gpu"], row["low"], row["high"], row["source"]) for row in rows_of(spec, "low", "high", "source")}
    assert ranges == {("T4", 65.0, 72.0, "published"), ("L4", 65.0, 72.0, "published")}
    assert "published: 65 to 72" in text


def test_a_quantity_that_the_device_does_not_tell_is_a_sentence() -> None:
    silent = full_summary().telemetry.with_columns(power_w=pl.lit(None, pl.Float64))
    spec = spec_of("telemetry", replace(full_summary(), telemetry=silent))
    assert "No samples of H200 in fp16." in json.dumps(spec)


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


def test_the_modes_of_a_batch_size_stand_side_by_side_and_apart_from_the_next() -> None:
    for gpu in ("H200", "CPU"):
        rows = [row for row in rows_of(full_spec("p99_over_batch"), "at", "sweep") if row["gpu"] == gpu]
        places = sorted({(row["batch_size"], row["mode"]): row["at"] for row in rows}.items(), key=lambda i: i[1])
        assert [size for (size, _), _ in places] == sorted(size for (size, _), _ in places)
        assert len({at for _, at in places}) == len(places)


def test_images_per_joule_are_drawn_with_and_without_the_idle_power() -> None:
    measured = full_summary().measured.filter(pl.col("gpu") == "H200")
    values = {row["value"] for row in rows_of(full_spec("performance_per_watt"), "energy_sweeps")}
    above = (1 / measured["energy_above_idle_j_per_image"]).to_list()
    assert values == {*measured["images_per_joule"], *above}


def test_energy_without_an_idle_power_is_counted() -> None:
    rows = [
        synthetic_family("H200", "resnet18", "eager-fp32", size, energy_above_idle_j_per_image=idle)
        for size, idle in ((1, None), (8, 0.01))
    ]
    text = json.dumps(spec_of("performance_per_watt", synthetic_summary(rows)))
    assert "1 point without, the idle power is not known" in text


def test_a_device_without_energy_says_why() -> None:
    text = json.dumps(full_spec("performance_per_watt"))
    assert "CPU: measured, without energy" in text and "no counter of this processor can be read." in text


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
    lines = {line["label"]: line["values"] for line in context["lines"]}
    assert lines["Cards"] == ["a, b, c, d", None, None]
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

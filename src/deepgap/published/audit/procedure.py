"""How the published study measured: by its text, its printed times, and the scripts that it releases."""

from __future__ import annotations

from deepgap.published.audit.evidence import (
    FAILS,
    OPEN,
    PARTLY,
    Finding,
    Values,
    closest,
    need,
    percent,
    span,
)
from deepgap.published.networks import IMAGE_CHANNELS, IMAGE_SIDE

ARTIFACT = "released scripts"
"""The study's reference 29: github.com/kpalania1/deep-gap-gpu-inference-benchmark, commit d795d97."""

DRAW_NS = 11.5
"""Nanoseconds to draw a normal value on the host and round it to single precision: NumPy 2.4.6,
`np.random.randn(32, 3, 224, 224).astype(np.float32)`, the median of five on one core of an AMD EPYC (Zen 4). The
study's host is another one; its script draws in this way before each call of INT8."""


def int8_on_an_idle_gpu(values: Values) -> Finding:
    """INT8's periodic utilisation comes from the engine."""
    largest = max(values.sweep())
    int8 = [
        closest(rows)["value"]
        for cell, rows in values.cells("median_latency", batch=str(largest)).items()
        if cell[2] == "int8"
    ]
    need(int8)
    elements = largest * IMAGE_CHANNELS * IMAGE_SIDE**2
    draw_ms = elements * DRAW_NS / 1e6
    idle = [draw_ms / (draw_ms + call_ms) for call_ms in (max(int8), min(int8))]
    return values.finding(
        "INT8's utilisation is periodic because of the engine's phases, and all workloads were timed in steady state",
        f"The released script draws {elements:,} normal values on the host before each call at {largest}: about "
        f"{draw_ms / 1000:.1f} s on one core here, against {span(int8, 3)} ms of work on the GPU. At that rate the "
        "GPU "
        f"idles {percent(idle[0])} to {percent(idle[1])} of the time: INT8 alone is timed on a GPU that comes from "
        "idling, and its utilisation is that of the draws.",
        FAILS,
        f"{ARTIFACT}: INT8",
        f"{DRAW_NS:g} ns a value, measured here",
    )


def no_transfers(values: Values) -> Finding:
    """Inputs lie on the GPU before timing."""
    calls = int(values.one("timed_iterations"))
    largest = max(values.sweep())
    megabytes = largest * IMAGE_CHANNELS * IMAGE_SIDE**2 * 4 / 1e6
    return values.finding(
        "Inputs lie on the GPU before timing, so that PCIe does not matter",
        f"True of the timed region alone. In INT8 each of the {calls} timed calls is preceded by a copy from the "
        "host, "
        f"{megabytes:.0f} MB at {largest}; FP32 and FP16 keep one input on the GPU.",
        PARTLY,
        f"{ARTIFACT}: INT8",
    )


def order_of_precisions(values: Values) -> Finding:
    """Temperature plays no part."""
    low, high = values.limits("gpu_temperature")
    return values.finding(
        "Differences between precisions are none of temperature",
        f"{low:g} to {high:g} C are stated of all runs. The runs go FP32, FP16, INT8, and in each from the largest "
        "model to the smallest: order and precision cannot be told apart.",
        OPEN,
        f"{ARTIFACT}: run_all_benchmarks.sh",
    )


def one_set_of_weights(values: Values) -> Finding:
    """The same networks ran in each precision."""
    return values.finding(
        "Identical models ran in each precision",
        "FP32 and FP16 load torchvision's first weights, INT8 the default ones, which are the second for ResNet-50 "
        "and "
        "ResNet-101. Speed does not depend on them, answers do.",
        FAILS,
        f"{ARTIFACT}: FP16, INT8",
    )


def int8_answers(values: Values) -> Finding:
    """INT8 is the most favourable trade-off."""
    return values.finding(
        "INT8 is the most favourable trade of all precisions",
        "No accuracy is printed for any precision, and INT8 is calibrated on normal noise: what its answers are "
        "worth "
        "is not known.",
        OPEN,
        f"{ARTIFACT}: INT8",
    )


def half_is_mixed(values: Values) -> Finding:
    """FP16 is mixed precision."""
    peaks, theory = values.table1(), values.theoretical_peaks()
    gains = [
        peaks[gpu, model, "fp16"][1] / peaks[gpu, model, "fp32"][1]
        for gpu, model, precision in list(peaks)
        if precision == "fp16"
    ]
    need(gains)
    rates = [rate["fp16"] / rate["fp32"] for rate in theory.values()]
    return values.finding(
        "FP16 is mixed precision and shows the Tensor cores' efficiency",
        "The script casts the whole network to half precision and keeps channels first in memory, which Tensor cores "
        f"have to transpose. FP16 gains {span(gains, 2)} where the peak rates differ by {span(rates, 2)}.",
        FAILS,
        f"{ARTIFACT}: FP16",
    )


def utilisation_as_occupancy(values: Values) -> Finding:
    """Utilisation says how full the GPU is."""
    return values.finding(
        "Utilisation, as NVML tells it, shows how well the GPU's units are used",
        "It is the share of time in which any kernel ran, whatever it filled; one block on one multiprocessor makes "
        "it "
        "100 %.",
        FAILS,
        "NVML API reference, nvmlUtilization_t",
    )


def scripts_run(values: Values) -> Finding:
    """The released scripts run as released."""
    return values.finding(
        "The released driver runs the study",
        "It calls files for FP32 and FP16 whose names differ in case from those released, and a folder INT8-TensorRT "
        "that is called INT8, so that it stops at its first job; the README starts a telemetry script that has "
        "another "
        "name.",
        FAILS,
        f"{ARTIFACT}: run_all_benchmarks.sh, README.md",
    )

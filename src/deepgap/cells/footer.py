"""What a cell's file says beside its rows, key by key, as a JSON schema whose descriptions are the documentation.

A key that is not required is absent where the cell did not come so far: a cell that could not be timed lacks what is
observed later. Null is what the device or the host does not tell. `absent` holds the reason why a part has no values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deepgap.errors import CellError, ConfigError
from deepgap.study.schema import check_schema

Schema = dict[str, Any]


@dataclass(frozen=True)
class Footer:
    """What is known of all rows of a cell; the values are those of `FOOTER_SCHEMA`."""

    recipe: dict[str, Any]
    weights_sha256: str
    provenance: dict[str, Any]
    """The software, the host and the device."""
    observed: dict[str, Any]
    """What was seen while measuring."""
    graph_sha256: str | None = None
    """The ONNX graph that was run or from which the engine was built; null where there is none."""


def _value(kind: str, text: str, **rules: Any) -> Schema:
    return {"type": kind, "description": text, **rules}


def _maybe(kind: str, text: str, **rules: Any) -> Schema:
    return {"type": [kind, "null"], "description": text, **rules}


def _list(kind: str, text: str) -> Schema:
    return {"type": "array", "items": {"type": kind}, "description": text}


def _object(text: str, required: Iterable[str] = (), **properties: Schema) -> Schema:
    return {"type": "object", "description": text, "required": list(required), "properties": properties}


def _map(text: str, *kinds: str) -> Schema:
    return {"type": "object", "description": text, "additionalProperties": {"type": list(kinds)}}


ABSENT = _value("string", "why there is nothing here; then the only key")

STOP = _object(
    "when the arms of a row a call may end before timed_iterations; null: never",
    ("half_width", "minimum_iterations", "minimum_ms", "maximum_s"),
    half_width=_value("number", "half of the 95 % interval of the median, over the median", exclusiveMinimum=0),
    minimum_iterations=_value("integer", "calls that are made in any case", minimum=1),
    minimum_ms=_value("number", "host time of the calls that are made in any case", minimum=0),
    maximum_s=_maybe("number", "host time after which a run ends, converged or not", exclusiveMinimum=0),
) | {"type": ["object", "null"]}

PROTOCOL = _object(
    "how often the cell is called",
    ("warmup_iterations", "timed_iterations", "runs", "throughput_s", "arms", "stop"),
    warmup_iterations=_value("integer", "calls of a warm-up block", minimum=1),
    timed_iterations=_value("integer", "the most calls of an arm of a row a call, in a run", minimum=1),
    runs=_value("integer", "warm-up and all arms, one after another in one process", minimum=1),
    fidelity_images=_value(
        "integer", "held-out images of which the answers are compared; none in training", minimum=1
    ),
    throughput_s=_value("number", "least seconds of the throughput arm", exclusiveMinimum=0),
    arms=_list("string", "the optional arms"),
    stop=STOP,
)

RECIPE = _object(
    "what names the cell: everything that gives it its meaning, nothing of where or when it was measured",
    ("method_version", "gpu", "model", "runtime", "precision", "batch_size", "threads", "sweep", "protocol"),
    method_version=_value("integer", "`study.method.METHOD_VERSION`"),
    runtime_version=_value("integer", "the version of the runtime's own code"),
    gpu=_value("string", "its key in config/gpus.yaml, without the site"),
    study=_value("string", "of the second study alone", enum=["training"]),
    model=_value("string", "the model's name in the config; in training the workload"),
    weights=_value("object", "where the weights come from"),
    image_size=_value("integer", "pixels of a side", minimum=1),
    mode=_value("string", "runtime-precision, with the layout where it is not the runtime's usual one"),
    runtime=_value("string", "a name in `runtimes`"),
    framework=_value("string", "of the second study alone", enum=["pytorch", "keras-tensorflow", "keras-jax"]),
    phase=_value("string", "of the second study alone", enum=["train", "inference"]),
    training_version=_value("integer", "`training.cell.TRAINING_VERSION`; of the second study alone"),
    workload_version=_value("integer", "the version of the workload's own code; of the second study alone"),
    optimizer=_value("object", "its name and numbers; of the phase train alone"),
    precision=_value("string", "fp32, tf32, fp16, bf16, int8 or fp8; in training also mixed_fp16 and mixed_bf16"),
    layout=_value("string", "of the images and of a module's weights", enum=["nchw", "nhwc"]),
    batch_size=_value("integer", "images a call", minimum=1),
    threads=_value("integer", "of the host's processor; 0 stands for all usable cores", minimum=0),
    sweep=_value("integer", "from 1", minimum=1),
    options=_value("object", "the runtime's options, defaults filled"),
    protocol=PROTOCOL,
    calibration=_object(
        "of a quantised graph alone",
        method=_maybe("string", "how the scales were chosen"),
        images=_maybe("string", "which images calibrated"),
        count=_maybe("integer", "how many"),
    ),
)

LIMITS = _object(
    "what the process may use of its host; null where there is no limit, or none that can be read",
    usable_cores=_maybe("number", "the less of the cores that it may run on and of the quota"),
    cpu_quota_cores=_maybe("number", "the control group's quota, in cores"),
    memory_limit_gib=_maybe("number", "the control group's limit"),
    nice=_maybe("integer", "the scheduling priority, 0 unless changed"),
    cpuset=_maybe("string", "the cores that it may run on, `0-3,8`, where not all"),
)

HOST = _object(
    "the machine; no name and no address",
    ("cpu", "logical_cores", "memory_gib", "os", "kernel"),
    cpu=_maybe("string", "the processor's own name"),
    logical_cores=_maybe("integer", "of the machine"),
    memory_gib=_maybe("number", "of the machine"),
    os=_maybe("string", "name and version"),
    kernel=_maybe("string", "release"),
    host_sha256=_maybe(
        "string",
        "of the hash of the kernel's boot id, 12 hex digits: which cells share a started host",
    ),
    limits=LIMITS,
)

DEVICE = _object(
    "the card, or the processor where that is measured; on a processor all but the name is null or absent",
    ("name",),
    name=_maybe("string", "its own name"),
    uuid_sha256=_maybe("string", "12 hex digits of the hash of its UUID: which cells share a card"),
    compute_capability=_maybe("string", "CUDA's"),
    sm_count=_maybe("integer", "streaming multiprocessors"),
    l2_cache_bytes=_maybe("integer", "as CUDA tells it"),
    memory_bytes=_maybe("integer", "as CUDA tells it"),
    driver=_maybe("string", "version"),
    max_sm_clock_mhz=_maybe("integer", "the most that the card may run at"),
    max_memory_clock_mhz=_maybe("integer", "the most that its memory may run at"),
    default_sm_clock_mhz=_maybe("integer", "the default application clock"),
    power_limit_w=_maybe("number", "enforced"),
    ecc=_maybe("boolean", "whether memory errors are corrected"),
    pcie_generation=_maybe("integer", "of the link now"),
    pcie_lanes=_maybe("integer", "of the link now"),
)

PROVENANCE = _object(
    "the software, the host and the device",
    ("measured_at", "versions", "host", "device"),
    measured_at=_value("string", "when the cell was written, ISO 8601 in UTC"),
    versions=_map("Python's, CUDA's, cuDNN's and those of the packages", "string", "null")
    | {"required": ["python", "torch", "torchvision", "cuda_runtime", "cudnn"]},
    host=HOST,
    device=DEVICE,
    session=_object(
        "one call of Snakemake on one host",
        id=_maybe("string", "12 hex digits; null for a cell that was measured by hand"),
        place=_maybe("integer", "where the cell stood in the order of the session, from 1", minimum=1),
        cells=_maybe("integer", "cells that the session was to measure", minimum=1),
    ),
    libraries=_map("versions of the cell's own runtime's libraries", "string", "null"),
)

MEMORY = _object(
    "bytes; device memory is as NVML tells it, less what was in use before the context",
    context_bytes=_maybe("integer", "device memory of the bare context"),
    device_peak_bytes=_maybe("integer", "the most device memory that a sample of the telemetry saw in the cell"),
    device_after_bytes=_maybe("integer", "device memory after the last timed arm"),
    allocated_peak_bytes=_maybe("integer", "peak of PyTorch's allocations"),
    reserved_peak_bytes=_maybe("integer", "peak of what PyTorch's allocator held"),
    host_peak_bytes=_maybe("integer", "on a processor, growth of the resident set over that before the model"),
)

ARM_TELEMETRY = _object(
    "the samples within the spans of one arm",
    samples=_maybe("integer", "how many"),
    sm_clock_median_mhz=_maybe("number", "median"),
    sm_clock_min_mhz=_maybe("number", "minimum"),
    sm_clock_mean_share=_maybe("number", "mean over the most that the card may run at"),
    temperature_max_c=_maybe("number", "maximum"),
    power_mean_w=_maybe("number", "mean"),
    power_semantics=_maybe("string", "what NVML averages for a reading of power_mean_w"),
    throttle_shares=_map("part of the arm's samples at which a reason held the clocks, by its name", "number"),
)

TELEMETRY = _object(
    "what the device's samples say, by arm, or why there are none",
    absent=ABSENT,
    samples=_maybe("integer", "of the whole cell"),
    interval_ms=_maybe("number", "median time between two samples"),
    other_processes=_maybe("integer", "the most compute processes beside this one"),
    arms={
        "type": "object",
        "description": "by the arm's name; an arm that was not measured is absent",
        "additionalProperties": ARM_TELEMETRY,
    },
)

ENERGY = _object(
    "energy between two of the counter's own updates within the throughput arm, or why there is none",
    absent=ABSENT,
    window_s=_value("number", "between the two updates", exclusiveMinimum=0),
    images=_value(
        "number", "throughput x window: so throughput over power is images over joules", exclusiveMinimum=0
    ),
    joules=_value("number", "what the counter rose by", exclusiveMinimum=0),
    joules_per_image=_value("number", "joules over images", exclusiveMinimum=0),
    idle_power_w=_maybe("number", "mean power with a context and nothing to do"),
    joules_per_image_above_idle=_maybe("number", "less idle power; null unless power is over 1.5 of it"),
    integral_over_counter=_maybe("number", "integral of the power readings over the counter's joules"),
    source=_value("string", "the counter", enum=["nvml", "rapl"]),
)

FIDELITY = _object(
    "the answers to held-out images through the timed call, against FP32's (`measure.fidelity.Fidelity`)",
    absent=ABSENT,
    images=_maybe("integer", "compared"),
    all_finite=_maybe("boolean", "whether every answer and every reference is finite"),
    centred_cosine=_maybe("number", "of all logits, each class less the reference's mean"),
    centred_sqnr_db=_maybe("number", "decibels; null also where nothing differs"),
    top1_agreeing=_maybe("integer", "images with the reference's first class"),
    top1_agreement=_maybe("number", "their part"),
    top1_right=_maybe("integer", "images whose first class is the label; null without labels"),
    top1_accuracy=_maybe("number", "their part"),
    reference_top1_accuracy=_maybe("number", "the reference's"),
    top5_right=_maybe("integer", "images whose label is among the first five classes"),
    top5_accuracy=_maybe("number", "their part"),
    reference_top5_accuracy=_maybe("number", "the reference's"),
)

FACTS = _object(
    "of the model at the cell's image size, an image, from its exported graph",
    multiply_adds=_maybe("number", "of convolutions and matrix products", exclusiveMinimum=0),
    weight_elements=_maybe("number", "of all weights"),
    activation_elements=_maybe("number", "read and written, summed over fused groups"),
    largest_activation_elements=_maybe("number", "of one tensor"),
    classes=_maybe("integer", "logits"),
    blocks=_maybe("integer", "residual additions"),
)

OBSERVED = _object(
    "what was seen while measuring",
    clock_zero_unix_s=_value("number", "the cell's start, from which all times count, as seconds since 1970"),
    host_load=_maybe("number", "the host's load average over a minute when the cell began"),
    cell_s=_maybe(
        "number", "from the cell's start until its file was to be written, waiting for the device included"
    ),
    phases_s=_map(
        "seconds of its parts: wait, load, context, idle, prepare, first_call, launch, warm_up, the arms, fidelity, "
        "telemetry",
        "number",
    ),
    intraop_threads=_maybe("integer", "threads of PyTorch and ONNX Runtime"),
    interop_threads=_maybe("integer", "always 1"),
    pinned_cores=_list("integer", "the cores that the measuring process kept to"),
    prepare_ms=_maybe("number", "the runtime's preparation on the device: loading, selecting algorithms, capturing"),
    first_call_ms=_maybe("number", "the first call: selecting algorithms, compiling"),
    warmup_calls=_maybe("integer", "untimed calls of all runs"),
    steady=_maybe("boolean", "whether warm-up became steady in every run"),
    converged=_maybe("boolean", "whether the latency arm of every run met its stopping rule; true without a rule"),
    launch={
        "type": ["object", "null"],
        "description": "a kernel that does nothing, in a queue (`measure.launch`); null on a processor",
        "properties": {
            "enqueue_ns": _maybe("number", "median host time of a launch"),
            "device_ns": _maybe("number", "device time from one launch to the next"),
        },
    },
    memory=MEMORY,
    telemetry=TELEMETRY,
    energy=ENERGY,
    fidelity=FIDELITY,
    facts=FACTS,
    training=_object(
        "of the second study alone; multiply-adds of a sample by PyTorch's FlopCounterMode",
        parameters=_maybe("integer", "of all networks", minimum=1),
        forward_multiply_adds=_maybe("number", "of a forward pass of the phase", exclusiveMinimum=0),
        step_multiply_adds=_maybe("number", "of a whole call of the phase", exclusiveMinimum=0),
        steps=_maybe("integer", "calls that changed the weights", minimum=0),
        loss_first=_maybe("number", "of the first step; null where nothing is trained"),
        loss_last=_maybe("number", "of a step after the last timed one"),
    ),
    engine=_object(
        "what the engine tells of itself, where the runtime builds one",
        identity=_maybe("string", "digest of the device, the libraries and what it was built for"),
        graph_sha256=_maybe("string", "the graph that it was built from"),
        build_s=_maybe("number", "seconds of its building"),
    ),
)

FOOTER_SCHEMA = _object(
    "the footer of a cell's file",
    ("recipe", "weights_sha256", "provenance", "observed"),
    recipe=RECIPE,
    weights_sha256=_value("string", "the hash of the model's weights before any change of their type"),
    graph_sha256=_maybe("string", "the ONNX graph that was run or built from; null where there is none"),
    provenance=PROVENANCE,
    observed=OBSERVED,
)


def check_footer(footer: Footer | Mapping[str, Any], file: str) -> None:
    """Refuse a footer that lacks what every cell has, or a value of another type.

    Raises:
        CellError: names the file, the key and the value.
    """
    values = vars(footer) if isinstance(footer, Footer) else footer
    try:
        check_schema(values, FOOTER_SCHEMA, "its footer")
    except ConfigError as error:
        raise CellError(f"{file} was not written by deepgap or was edited ({error}); remove it.") from None

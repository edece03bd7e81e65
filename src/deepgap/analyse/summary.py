"""The tidy tables between the cells and the paper: their columns and units.

All tables and figures read these files of results/summary/ and config/gpus.yaml, and nothing else. Tables that are
made of cells are folders with a file a GPU and model, so that a changed cell changes those of its own alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.errors import DeepGapError
from deepgap.files import put_in_place, read_parquet, write_parquet
from deepgap.jobs.arguments import list_paths, run_script
from deepgap.study.gpus import Gpu, load_gpus, with_sites
from deepgap.study.words import Place, mode_order, place

MEASURED, PUBLISHED = "measured", "published"
HOST = "CPU"
"""The key of a machine's own processor in gpus.yaml."""
ALL_THREADS = 0
"""As in `deepgap.study.study`, which nothing that renders needs otherwise."""
STRINGS: Any = pl.List(pl.String)

KEY = {
    "gpu": pl.String,
    "model": pl.String,
    "runtime": pl.String,
    "precision": pl.String,
    "batch_size": pl.Int64,
    "threads": pl.Int64,
}
"""What names a cell family: all sweeps and repeats of it. threads: of the host's processor; 0 is all of its cores."""

RUNS = pl.Schema(
    {
        **KEY,
        "sweep": pl.Int64,
        "repeat": pl.Int64,
        "samples": pl.Int64,
        "median_ms": pl.Float64,
        "mean_ms": pl.Float64,
        "std_ms": pl.Float64,
        "min_ms": pl.Float64,
        "max_ms": pl.Float64,
        "host_median_ms": pl.Float64,
        "enqueue_median_ms": pl.Float64,
        "throughput_img_s": pl.Float64,
        "memory_bytes": pl.Int64,
        "first_call_ms": pl.Float64,
        "sm_clock_median_mhz": pl.Float64,
        "temperature_max_c": pl.Float64,
        "power_mean_w": pl.Float64,
        "flags": STRINGS,
        "measured_at": pl.String,
        "device_sha256": pl.String,
        "weights_sha256": pl.String,
        "cell_file": pl.String,
    }
)
"""One row a run (a repeat of a sweep) of every cell that was timed.

Latencies are device times. All from memory_bytes on are of the run's cell, null where the device does not tell.
first_call_ms: preparing the model on the device and the first call.
sm_clock, temperature, power: over all timed spans of the cell.
flags: those of the cell (`deepgap.analyse.flags`). device_sha256: which device of its kind it was; null for a
    processor.
"""

FAMILIES = pl.Schema(
    {
        **KEY,
        "status": pl.String,
        "reason": pl.String,
        "sweeps": pl.Int64,
        "runs": pl.Int64,
        "samples": pl.Int64,
        "first_call_ms": pl.Float64,
        "intraop_threads": pl.Int64,
        "median_ms": pl.Float64,
        "median_low_ms": pl.Float64,
        "median_high_ms": pl.Float64,
        "enqueue_median_ms": pl.Float64,
        "cold_median_ms": pl.Float64,
        "p90_ms": pl.Float64,
        "p95_ms": pl.Float64,
        "p99_ms": pl.Float64,
        "p99_bound_ms": pl.Float64,
        "percentile_note": pl.String,
        "variation": pl.Float64,
        "throughput_img_s": pl.Float64,
        "throughput_low_img_s": pl.Float64,
        "throughput_high_img_s": pl.Float64,
        "share_of_peak": pl.Float64,
        "memory_bytes": pl.Int64,
        "memory_allocated_bytes": pl.Int64,
        "energy_j_per_image": pl.Float64,
        "energy_above_idle_j_per_image": pl.Float64,
        "images_per_joule": pl.Float64,
        "power_w": pl.Float64,
        "energy_windows": pl.Int64,
        "energy_note": pl.String,
        "speedup_fp32": pl.Float64,
        "speedup_fp32_low": pl.Float64,
        "speedup_fp32_high": pl.Float64,
        "flags": STRINGS,
        "flagged_cells": pl.Int64,
    }
)
"""One row a cell family: all sweeps and repeats of a gpu, model, mode, batch size and number of threads.

status: ok, out_of_memory or unsupported (then the reason, no sweeps, and all that was to be measured null).
sweeps: cells that were timed, each in a process of its own.
first_call_ms: preparing the model on the device and the first call; the median over cells.
intraop_threads: the number of threads that the host's part really had; the most of any cell.
median, percentiles: device latency over the pooled samples; a percentile that the samples cannot carry is
    null, and percentile_note says why.
enqueue_median: host time until a call returned, of the same calls; null on a CPU.
cold_median: device latency after the L2 cache was overwritten; null where that was not measured.
p99_bound: at 99 % confidence the 99th percentile is no higher, if calls are independent; null with too few samples.
low, high: 95 % bootstrap interval over runs; null with fewer than three runs.
variation: standard deviation over mean of the pooled latencies.
throughput: images over wall time of runs that keep the device fed; the median over runs.
share_of_peak: operations a second at that throughput over the dense peak of the precision; null without a peak.
memory: most device memory of the family's cells above the baseline (NVML); on a CPU the growth of the
resident set over that before the model was loaded. memory_allocated: the most that PyTorch allocated.
energy, power: from the device's energy counter over a steady window, the median over the energy_windows cells that
    have one; above idle: less the power of the idle device. energy_note says why one of them is null.
speedup_fp32: throughput over that of eager-fp32 at the same gpu, model, batch size and threads; null without it.
flags: those of any cell and of the family (`deepgap.analyse.flags`), sorted; flagged_cells: cells with a flag of
    their own.
"""

RATIOS = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "batch_size": pl.Int64,
        "threads": pl.Int64,
        "numerator": pl.String,
        "denominator": pl.String,
        "ratio": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "numerator_runs": pl.Int64,
        "denominator_runs": pl.Int64,
        "numerator_cells": STRINGS,
        "denominator_cells": STRINGS,
    }
)
"""One row a pair of modes at one gpu, model, batch size and number of threads: the ratio of their throughputs.

numerator, denominator: modes; the numerator is the later one of `words.mode_order`.
ratio: of the medians over runs. low, high: its 95 % bootstrap interval over runs; null with fewer than three.
runs, cells: what each operand was computed from; cells are file names without their ending.
"""

PUBLISHED_VALUES = pl.Schema(
    {
        "section": pl.String,
        "gpu": pl.String,
        "model": pl.String,
        "precision": pl.String,
        "runtime": pl.String,
        "batch": pl.String,
        "quantity": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "approx": pl.String,
        "quote": pl.String,
        "source": pl.String,
    }
)
"""The numbers that the published paper prints, as transcribed; source is always `published`."""

COVERAGE_KEY = {"gpu": pl.String, "model": pl.String, "runtime": pl.String, "precision": pl.String}
EXPECTED = pl.Schema({**COVERAGE_KEY, "expected": pl.Int64, "unlisted": pl.Int64})
"""Cells that the study asks for, cells or not. `unlisted` counts files of a gpu that the study does not name, in one
row a gpu with null model and mode."""

FOUND = pl.Schema({**COVERAGE_KEY, "found": pl.Int64})
"""Cells that are there, of those that the study asks for."""

COVERAGE = pl.Schema({**COVERAGE_KEY, "expected": pl.Int64, "found": pl.Int64, "unlisted": pl.Int64})
"""`EXPECTED` and `FOUND` together."""

HOSTS = pl.Schema(
    {
        "gpu": pl.String,
        "cells": pl.Int64,
        "first_measured_at": pl.String,
        "last_measured_at": pl.String,
        "device": pl.String,
        "driver": pl.String,
        "cpu": pl.String,
        "logical_cores": pl.Int64,
        "memory_gib": pl.Float64,
        "os": pl.String,
        "kernel": pl.String,
        "python": pl.String,
        "torch": pl.String,
        "torchvision": pl.String,
        "cuda_runtime": pl.String,
        "cudnn": pl.String,
        "cudnn_frontend": pl.String,
        "triton": pl.String,
        "onnx": pl.String,
        "onnxruntime": pl.String,
        "tensorrt": pl.String,
        "max_sm_clock_mhz": pl.Int64,
        "power_limit_w": pl.Float64,
        "ecc": pl.Boolean,
        "l2_cache_bytes": pl.Int64,
        "intraop_threads": pl.List(pl.Int64),
        "device_sha256": STRINGS,
        "modes": STRINGS,
        "weights": STRINGS,
    }
)
"""One row a distinct stack and kind of device that cells were measured with.

Versions are of what was installed, in use by `modes`, those of its cells, or not.
intraop_threads: the numbers of threads that cells had, ascending. device_sha256: which devices of the kind; none for
    a processor. l2_cache_bytes: as the driver tells it.
weights: for each model and each of its weights `<model> <SHA-256>`, sorted.
"""

STACK_KEY = ["gpu", *HOSTS.names()[HOSTS.names().index("device") : HOSTS.names().index("intraop_threads")]]
"""The columns that make a stack: all of `HOSTS` that are not counted or listed over its cells."""

OVERHEAD = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "cells": pl.Int64,
        "cell_s": pl.Float64,
        "wait_s": pl.Float64,
        "work_s": pl.Float64,
        "overhead_s_per_cell": pl.Float64,
    }
)
"""One row a gpu and model: seconds in all of its cells that say how long they took.

cell_s: the cells' processes from start to file. wait_s: for the device, while another cell had it.
work_s: preparing, first calls, warm-up, all timed arms and the idle time before an energy window.
overhead_s_per_cell: the rest (cell_s less wait_s and work_s) over the number of cells.
"""

FIDELITY = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "runtime": pl.String,
        "precision": pl.String,
        "calibration_method": pl.String,
        "calibration_images": pl.String,
        "calibration_count": pl.Int64,
        "compared_cells": pl.Int64,
        "cells": pl.Int64,
        "images": pl.Int64,
        "sqnr_db": pl.Float64,
        "cosine": pl.Float64,
        "top1_agreement": pl.Float64,
        "top1_accuracy_low": pl.Float64,
        "top1_accuracy_high": pl.Float64,
        "reference_top1_accuracy": pl.Float64,
        "identical": pl.Boolean,
        "all_finite": pl.Boolean,
    }
)
"""One row a gpu, model and mode: how its answers compare with those of FP32.

calibration: of int8, else null. `images`: procedural or folder; `count`: the most images that were used.
compared_cells: those whose answers were compared, on however many images. cells: of them those that were compared on
    `images`, the most held-out images of any. All figures below but all_finite are of these cells.
sqnr_db, cosine: the smallest centred figure of any cell (`deepgap.measure.fidelity`). A cell that equals the
    reference has no decibels and does not count in sqnr_db; both are null when an answer of any compared cell is not
    finite.
top1_agreement: the smallest part of the images with the reference's first class.
top1_accuracy, reference_top1_accuracy: part of the images whose first class is the label, the lowest and the highest
    of any cell, and FP32's on the same images; null without labels.
identical: every cell gave the reference's values. all_finite: of all compared cells.
"""

TELEMETRY = pl.Schema(
    {
        "gpu": pl.String,
        "model": pl.String,
        "runtime": pl.String,
        "precision": pl.String,
        "batch_size": pl.Int64,
        "sweep": pl.Int64,
        "time_s": pl.Float64,
        "duration_s": pl.Float64,
        "timed": pl.Boolean,
        "started_unix_s": pl.Float64,
        "samples": pl.Int64,
        "temperature_c": pl.Float64,
        "power_w": pl.Float64,
        "power_semantics": pl.String,
        "utilisation_percent": pl.Float64,
        "sm_clock_mhz": pl.Float64,
        "sm_clock_min_mhz": pl.Int64,
        "sm_clock_max_mhz": pl.Int64,
        "throttle_reasons": STRINGS,
    }
)
"""What the device did: one row a second at most of each cell whose samples are there; a processor has none.

time_s: of the row's first sample, since the cell's start, which was at started_unix_s. duration_s: what the row's
    samples span, the time until a next one included.
timed: between the cell's first timed call and the end of its last, the warm-up of later repeats included; the other
    rows are of loading, preparing, the first warm-up and the held-out images.
temperature, power, utilisation, sm_clock: medians over the row's samples; min and max of the clock beside it.
power_semantics: the name of NVML's query, of which power_w is the value.
throttle_reasons: names of the clock event reasons that held the clocks down in any sample, sorted.
"""

TELEMETRY_ORDER = ["gpu", "started_unix_s", "model", "runtime", "precision", "batch_size", "sweep", "time_s"]

DESIGN = pl.Schema(
    {
        "gpu": pl.String,
        "models": STRINGS,
        "modes": STRINGS,
        "threads": STRINGS,
        "batch_sizes": pl.List(pl.Int64),
        "protocol": pl.String,
        "sweeps": pl.Int64,
        "repeats": pl.Int64,
        "warmup_iterations": pl.Int64,
        "timed_iterations": pl.Int64,
        "minimum_iterations": pl.Int64,
        "minimum_ms": pl.Float64,
        "half_width": pl.Float64,
        "cold_iterations": pl.Int64,
        "fidelity_images": pl.Int64,
        "energy_s": pl.Float64,
        "energy_sweeps": pl.Int64,
        "energy_batch_sizes": pl.List(pl.Int64),
    }
)
"""What the study asks for: one row a gpu, cells or not.

threads: for each of `modes` the numbers of threads that it runs with, as words; `all` on a GPU.
protocol: its name, and after it its counts (`study.Protocol`); minimum_iterations, minimum_ms and half_width are null
    where a repeat never ends before its timed_iterations.
energy: seconds of an energy window, and the sweeps and batch sizes that have one; null on a processor.
"""

CELL_TABLES: dict[str, pl.Schema] = {
    "runs": RUNS,
    "families": FAMILIES,
    "ratios": RATIOS,
    "fidelity": FIDELITY,
    "telemetry": TELEMETRY,
    "hosts": HOSTS,
    "found": FOUND,
    "overhead": OVERHEAD,
}
"""The folders of results/summary/, in each of which is a file `<gpu>/<model>.parquet` of this schema."""

STUDY_TABLES: dict[str, pl.Schema] = {"published": PUBLISHED_VALUES, "expected": EXPECTED, "design": DESIGN}
"""The files of results/summary/, by stem: what no cell changes."""


@dataclass(frozen=True)
class Summary:
    """All that a table, a figure or a number of the paper is made from."""

    runs: pl.DataFrame
    families: pl.DataFrame
    published: pl.DataFrame
    coverage: pl.DataFrame
    hosts: pl.DataFrame
    fidelity: pl.DataFrame
    ratios: pl.DataFrame
    overhead: pl.DataFrame
    telemetry: pl.DataFrame
    design: pl.DataFrame
    gpus: dict[str, Gpu]
    reporting: Mapping[str, Any]

    @property
    def kinds(self) -> list[Gpu]:
        """The GPUs of gpus.yaml; `gpus` has each of them again for every further site."""
        return [gpu for gpu in self.gpus.values() if gpu.key == gpu.kind]

    @cached_property
    def measured(self) -> pl.DataFrame:
        """The families with all threads that have numbers, with their `mode`, in the order of gpus.yaml, the study's
        models, `words.mode_order` and batch."""
        return self._ordered(self.families.filter(pl.col("status") == "ok", pl.col("threads") == ALL_THREADS))

    @cached_property
    def processor(self) -> str:
        """The processor that GPUs are compared with and the published one stands beside: this machine's own where it
        was measured, or a committed one."""
        measured = set(self.measured["gpu"])
        processors = [key for key, gpu in self.gpus.items() if gpu.device == "cpu"]
        return next((key for key in processors if key in measured), processors[0] if processors else HOST)

    def is_processor(self, key: str) -> bool:
        """Whether a key is that of a processor; the published one, which gpus.yaml does not have, is one, too."""
        return key not in self.gpus or self.gpus[key].device == "cpu"

    def cores(self, gpu: str) -> str | None:
        """The logical cores of a device's hosts in words, several numbers where they differ; None where they are not
        known."""
        cores = self.hosts.filter(gpu=gpu)["logical_cores"].drop_nulls().unique().sort()
        return " or ".join(map(str, cores)) or None

    @cached_property
    def failed(self) -> pl.DataFrame:
        """The families with all threads that were tried and have no numbers, with their `mode`, status and reason."""
        return self._ordered(self.families.filter(pl.col("status") != "ok", pl.col("threads") == ALL_THREADS))

    @cached_property
    def thread_scaling(self) -> pl.DataFrame:
        """The families that have numbers, of each gpu, model and mode that has them at several numbers of threads, in
        the order of `measured` and then by threads, all cores last."""
        timed = self.families.filter(pl.col("status") == "ok")
        several = pl.col("threads").n_unique().over("gpu", "model", "runtime", "precision") > 1
        return self._ordered(timed.filter(several))

    def order_gpus(self, keys: set[str]) -> list[str]:
        """These GPUs in the order of gpus.yaml; others (a published host) after them, by name."""
        return [key for key in self.gpus if key in keys] + sorted(keys - self.gpus.keys())

    def order_models(self, keys: Iterable[str]) -> list[str]:
        """These models as `place_model` sorts them."""
        return sorted(set(keys), key=self.place_model)

    def place_model(self, model: str) -> Place:
        """Sorts models as the study names them, of its lists the longest first; others by name."""
        return place(model, self._models)

    @cached_property
    def _models(self) -> list[str]:
        lists = [models or [] for models in self.design["models"].to_list()]
        lists.append(list(dict.fromkeys(self.published["model"].drop_nulls())))
        return list(dict.fromkeys(model for models in sorted(lists, key=len, reverse=True) for model in models))

    def _ordered(self, families: pl.DataFrame) -> pl.DataFrame:
        gpus = pl.Enum(self.order_gpus(set(families["gpu"])))
        known = sorted(set(families.select("runtime", "precision").iter_rows()), key=lambda mode: mode_order(*mode))
        modes = pl.Enum(["-".join(mode) for mode in known])
        models = pl.Enum(self.order_models(families["model"]))
        return (
            families.with_columns(mode=pl.format("{}-{}", "runtime", "precision"))
            .with_columns(_gpu=pl.col("gpu").cast(gpus), _model=pl.col("model").cast(models))
            .with_columns(_mode=pl.col("mode").cast(modes), _all=pl.col("threads") == ALL_THREADS)
            .sort("_gpu", "_model", "_mode", "batch_size", "_all", "threads")
            .drop("_gpu", "_model", "_mode", "_all")
        )


def load_summary(files: Mapping[str, Iterable[Path]], gpus: dict[str, Gpu], reporting: Mapping[str, Any]) -> Summary:
    """Read the summary's tables.

    Args:
        files: the files of each table of `CELL_TABLES` and `STUDY_TABLES`, the former in the order of their names; of
            cells that do not matter there may be none.
        gpus: the hardware facts.
        reporting: the operating points at which the paper compares, `reporting` of the config.

    Raises:
        DeepGapError: a file is missing or does not have its schema.
    """
    frames = {
        name: pl.concat([schema.to_frame(), *(read_frame(file, schema) for file in files[name])])
        for name, schema in (CELL_TABLES | STUDY_TABLES).items()
    }
    expected, found = frames.pop("expected"), frames.pop("found")
    frames |= {
        "coverage": cover(expected, found),
        "hosts": merge_hosts(frames["hosts"]),
        "telemetry": frames["telemetry"].sort(TELEMETRY_ORDER),
    }
    return Summary(**frames, gpus=with_sites(gpus, expected["gpu"]), reporting=reporting)


def merge_hosts(hosts: pl.DataFrame) -> pl.DataFrame:
    """The rows of `HOSTS` of each stack and kind of device as one."""
    lists = ("intraop_threads", "device_sha256", "modes", "weights")
    return (
        hosts.group_by(STACK_KEY)
        .agg(
            pl.col("cells").sum(),
            pl.col("first_measured_at").min(),
            pl.col("last_measured_at").max(),
            pl.col(lists).explode().drop_nulls().unique().sort(),
        )
        .select(HOSTS.names())
        .sort("gpu", "first_measured_at", *STACK_KEY[1:], nulls_last=True)
    )


def cover(expected: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """`COVERAGE` from `EXPECTED` and `FOUND`."""
    joined = expected.join(found, on=list(COVERAGE_KEY), how="left", maintain_order="left")
    return joined.with_columns(pl.col("found").fill_null(0)).select(COVERAGE.names())


def cell_table_file(table: str, gpu: str, model: str) -> str:
    """The file of a table of `CELL_TABLES` with the rows of a GPU, its site included, and a model."""
    return f"results/summary/{table}/{gpu}/{model}.parquet"


def study_table_file(table: str) -> str:
    """The file of a table of `STUDY_TABLES`."""
    return f"results/summary/{table}.parquet"


def keep_tables(root: Path, groups: Iterable[tuple[str, str]]) -> None:
    """Remove the tables of cells in a project that are of other GPUs and models than these."""
    kept = {root / study_table_file(name) for name in STUDY_TABLES}
    kept |= {root / cell_table_file(name, *group) for name, group in product(CELL_TABLES, groups)}
    for file in (root / "results/summary").rglob("*.parquet"):
        if file not in kept:
            file.unlink(missing_ok=True)


def run_summary_script(
    main: Callable[[Any, Summary], None],
    namespace: Mapping[str, Any],
    outputs: Sequence[str],
    params: Sequence[str] = (),
    inputs: Sequence[str] = (),
    optional_inputs: Sequence[str] = (),
) -> None:
    """Call `main(job, summary)` of a script that reads the summary; see `job.run_script`.

    Args:
        main, namespace: see `run_script`.
        outputs, params, inputs, optional_inputs: the names that the rule gives beside those of the summary, which are
            the tables of `STUDY_TABLES` and `CELL_TABLES`, `gpus` and `schema`, and the parameter `reporting`.
    """

    def read_and_run(job: Any) -> None:
        files = {name: list_paths(getattr(job, name)) for name in (*CELL_TABLES, *STUDY_TABLES)}
        main(job, load_summary(files, load_gpus(Path(job.gpus), Path(job.schema)), job.reporting))

    run_script(
        read_and_run,
        namespace,
        inputs=[*STUDY_TABLES, "gpus", "schema", *inputs],
        optional_inputs=[*CELL_TABLES, *optional_inputs],
        outputs=outputs,
        params=["reporting", *params],
    )


def write_tables(tables: Mapping[str, pl.DataFrame], files: Mapping[str, Path]) -> None:
    """Write each table into the file of its name; an interrupted write leaves none."""
    for name, table in tables.items():
        with put_in_place(files[name]) as partial:
            write_parquet(partial, table)


def read_frame(file: Path, schema: pl.Schema) -> pl.DataFrame:
    try:
        frame, _ = read_parquet(file)
    except FileNotFoundError:
        raise DeepGapError(f"{file} is missing; 'snakemake --cores 1' builds it from the cells.") from None
    except ValueError as error:
        raise DeepGapError(f"{file} is damaged ({error}); delete it and run 'snakemake --cores 1' again.") from None
    if frame.schema != schema:
        wrong = sorted(set(frame.schema.items()) ^ set(schema.items()), key=str)
        raise DeepGapError(
            f"{file} does not have its columns: {', '.join(sorted({name for name, _ in wrong}))} differ."
        )
    return frame

"""The sampling process, with readers of the test's own, and what is made of samples."""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import torch
from filelock import FileLock, Timeout
from hypothesis import given
from hypothesis import strategies as st

from deepgap.errors import DiskError, TelemetryError
from deepgap.measure.telemetry import (
    CLOCK_EVENT_REASONS,
    INTERVAL_S,
    MINIMUM_ENERGY_S,
    SAMPLES,
    Reader,
    Telemetry,
    energy_per_image,
    mean_power_w,
    open_nvml,
    read_telemetry,
    summarise_samples,
    write_telemetry,
)


def constant(**values: int | float | None) -> Callable[[], Reader]:
    return lambda: lambda: dict(values)


def samplers() -> list[psutil.Process]:
    """The sampling processes of this one."""
    return [psutil.Process(child.pid) for child in multiprocessing.active_children() if child.pid is not None]


def runs(process: psutil.Process) -> bool:
    """Whether a process is there and not only its exit status, which waits for its parent, or for a slow init."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_samples_have_the_clock_of_the_process_that_asked_for_them():
    zero_ns = time.perf_counter_ns()
    telemetry = Telemetry(constant(power_w=70.5, energy_mj=3), zero_ns)
    time.sleep(1.5)
    samples = telemetry.stop()
    end_ms = (time.perf_counter_ns() - zero_ns) / 1e6
    assert samples.schema == SAMPLES
    times = samples["time_ms"]
    assert times.is_sorted()
    assert 0 < times[0] < 500
    assert times[-1] < end_ms
    assert times[-1] > 1500 - 3 * INTERVAL_S * 1000
    assert times.diff().median() == pytest.approx(INTERVAL_S * 1000, rel=0.1)
    assert 20 <= samples.height <= 32
    assert set(samples["power_w"]) == {70.5}
    assert set(samples["energy_mj"]) == {3}
    assert samples["sm_clock_mhz"].null_count() == samples.height


def test_a_slow_reader_lowers_the_rate_and_no_more():
    def open_slow() -> Reader:
        def read() -> dict[str, int | float | None]:
            time.sleep(0.12)
            return {"temperature_c": 40}

        return read

    telemetry = Telemetry(open_slow, time.perf_counter_ns())
    time.sleep(1)
    samples = telemetry.stop()
    assert 4 <= samples.height <= 9
    assert samples["time_ms"].diff().min() >= 120


def test_a_process_stopped_at_once_gives_what_it_has():
    assert Telemetry(constant(power_w=1.0), time.perf_counter_ns()).stop().schema == SAMPLES


def test_a_process_that_was_killed_is_told_and_nothing_is_invented():
    telemetry = Telemetry(constant(power_w=1.0), time.perf_counter_ns())
    (sampler,) = samplers()
    time.sleep(0.2)
    sampler.kill()
    with pytest.raises(TelemetryError, match="ended before the cell did") as caught:
        telemetry.stop()
    assert "run Snakemake again" in str(caught.value)
    assert samplers() == []


def test_a_killed_process_that_nobody_has_noticed_is_told_too():
    """Killed so late that the question still reaches its end of the pipe."""
    telemetry = Telemetry(constant(power_w=1.0), time.perf_counter_ns())
    (sampler,) = samplers()
    sampler.suspend()
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -KILL {sampler.pid}"])
    with pytest.raises(TelemetryError, match="ended before the cell did"):
        telemetry.stop()
    killer.wait()


class Broken:
    """Opens or reads what cannot be."""

    @staticmethod
    def opening() -> Reader:
        raise RuntimeError("no such device")

    @staticmethod
    def reading() -> Reader:
        def read() -> dict[str, int | float | None]:
            raise RuntimeError("no such device")

        return read

    @staticmethod
    def reading_later() -> Reader:
        left = [3]

        def read() -> dict[str, int | float | None]:
            left[0] -= 1
            if not left[0]:
                raise RuntimeError("no such device")
            return {"power_w": 1.0}

        return read


@pytest.mark.parametrize("name", ["opening", "reading", "reading_later"])
def test_a_reader_that_fails_is_told_with_its_reason(name):
    telemetry = Telemetry(getattr(Broken, name), time.perf_counter_ns())
    time.sleep(0.4)
    with pytest.raises(TelemetryError, match="RuntimeError: no such device"):
        telemetry.stop()
    assert samplers() == []


def test_a_reader_that_fails_while_the_samples_are_asked_for_is_told_with_its_reason():
    def open_slowly() -> Reader:
        time.sleep(0.4)
        raise RuntimeError("no such device")

    with pytest.raises(TelemetryError, match="RuntimeError: no such device"):
        Telemetry(open_slowly, time.perf_counter_ns()).stop()


def test_closing_ends_the_process_and_can_be_done_twice():
    telemetry = Telemetry(constant(power_w=1.0), time.perf_counter_ns())
    (sampler,) = samplers()
    time.sleep(0.2)
    began = time.perf_counter()
    telemetry.close()
    telemetry.close()
    assert time.perf_counter() - began < 1
    assert not runs(sampler)
    stopped = Telemetry(constant(power_w=1.0), time.perf_counter_ns())
    stopped.stop()
    stopped.close()


PARENT = """
import os, sys, time
from deepgap.measure.telemetry import Telemetry

telemetry = Telemetry(lambda: lambda: {"power_w": float(os.getpid())}, time.perf_counter_ns())
print(telemetry._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_sampler_ends_when_its_parent_does(killer):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    assert parent.stdout is not None
    sampler = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.2)
    assert runs(sampler)
    parent.send_signal(killer)
    try:
        assert parent.wait(timeout=5) != 0
    finally:
        parent.kill()
    deadline = time.monotonic() + 1
    while runs(sampler) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(sampler)


def test_a_lock_of_the_parent_outlives_the_sampler(tmp_path):
    """As of the device: its lock is inherited by the sampler, and must stay with the cell."""
    path = tmp_path / "device.lock"
    held = FileLock(path)
    held.acquire()
    try:
        for end in (Telemetry.stop, Telemetry.close):
            end(Telemetry(constant(power_w=1.0), time.perf_counter_ns()))
            # Asked by another process: this one's own second lock could be the first.
            ask = f"from filelock import FileLock; FileLock({str(path)!r}).acquire(timeout=0)"
            other = subprocess.run([sys.executable, "-c", ask], capture_output=True, encoding="utf-8")
            assert Timeout.__name__ in other.stderr
    finally:
        held.release()


def test_the_sampler_of_a_killed_cell_does_not_keep_its_lock(tmp_path):
    path = tmp_path / "device.lock"
    lock = f"from filelock import FileLock\nlock = FileLock({str(path)!r})\nlock.acquire()\n"
    parent = subprocess.Popen([sys.executable, "-c", lock + PARENT], stdout=subprocess.PIPE, encoding="utf-8")
    assert parent.stdout is not None
    parent.stdout.readline()
    with pytest.raises(Timeout):
        FileLock(path).acquire(timeout=0)
    parent.kill()
    parent.wait()
    FileLock(path).acquire(timeout=1)


def samples_of(**columns: list[Any]) -> pl.DataFrame:
    """Samples of some columns every 50 ms from 0, null elsewhere."""
    count = len(next(iter(columns.values())))
    times = columns.pop("time_ms", [50.0 * i for i in range(count)])
    empty = {name: [None] * count for name in SAMPLES if name not in columns}
    return pl.DataFrame({**empty, **columns, "time_ms": times}, schema=SAMPLES)


def test_a_summary_is_of_the_samples_within():
    reasons = CLOCK_EVENT_REASONS["gpu_idle"], CLOCK_EVENT_REASONS["sw_power_cap"], CLOCK_EVENT_REASONS["hw_slowdown"]
    samples = samples_of(
        power_w=[1.0, 10.0, 20.0, 60.0, 500.0],
        sm_clock_mhz=[210, 1500, 1200, 1400, 300],
        temperature_c=[90, 40, 44, 42, 95],
        clock_event_reasons=[reasons[0], reasons[1], reasons[1] | reasons[2], 0, reasons[0]],
        compute_processes=[9, 1, 3, 2, 9],
    )
    assert summarise_samples(samples, 50.0, 150.0) == {
        "samples": 3,
        "interval_ms": 50.0,
        "sm_clock_median_mhz": 1400.0,
        "sm_clock_min_mhz": 1200,
        "temperature_max_c": 44,
        "power_mean_w": 30.0,
        "power_semantics": "nvmlDeviceGetPowerUsage",
        "throttle_reasons": ["sw_power_cap", "hw_slowdown"],
        "other_processes": 2,
    }


def test_instantaneous_power_is_preferred_where_it_is_always_known():
    known = samples_of(power_w=[10.0, 10.0], power_instant_w=[30.0, 50.0])
    about = summarise_samples(known, 0.0, 50.0)
    assert (about["power_mean_w"], about["power_semantics"]) == (40.0, "NVML_FI_DEV_POWER_INSTANT")
    partly = samples_of(power_w=[10.0, 14.0], power_instant_w=[30.0, None])
    about = summarise_samples(partly, 0.0, 50.0)
    assert (about["power_mean_w"], about["power_semantics"]) == (12.0, "nvmlDeviceGetPowerUsage")


@pytest.mark.parametrize("span", [(0.0, 1000.0), (5000.0, 6000.0)], ids=["nothing known", "no samples"])
def test_what_is_not_known_is_null_and_plain(span):
    about = summarise_samples(samples_of(power_w=[None] * 3), *span)
    assert json.loads(json.dumps(about)) == about
    assert about["samples"] in (0, 3)
    assert about["throttle_reasons"] == []
    known = {"samples", "interval_ms", "power_semantics", "throttle_reasons"}
    assert {name for name, value in about.items() if value is not None} <= known


def test_a_process_that_is_hidden_is_not_counted_below_zero():
    assert summarise_samples(samples_of(compute_processes=[0, 0]), 0.0, 50.0)["other_processes"] == 0


def counter(
    seconds: float, watts: float, update_ms: float = 100.0, interval_ms: float = 50.0, phase_ms: float = 0.0
) -> pl.DataFrame:
    """Samples of a counter that moves every `update_ms`, of a constant load."""
    times = [phase_ms + interval_ms * i for i in range(int(seconds * 1000 / interval_ms) + 1)]
    moved = [time_ms // update_ms * update_ms for time_ms in times]
    return samples_of(time_ms=times, energy_mj=[int(watts * value) for value in moved])


@given(
    watts=st.floats(20, 1000),
    update_ms=st.floats(20, 100),
    phase_ms=st.floats(0, 50),
    start_ms=st.floats(0, 900),
)
def test_the_mean_power_of_a_constant_load(watts, update_ms, phase_ms, start_ms):
    samples = counter(7, watts, update_ms, phase_ms=phase_ms)
    assert mean_power_w(samples, start_ms, start_ms + 5000) == pytest.approx(watts, rel=0.03)


@given(st.lists(st.floats(0, 20), min_size=120, max_size=120), st.floats(50, 700))
def test_the_mean_power_when_samples_are_late(late_ms, watts):
    times = [50.0 * i + late for i, late in enumerate(late_ms)]
    energy = [int(watts * (time_ms // 100 * 100)) for time_ms in times]
    samples = samples_of(time_ms=times, energy_mj=energy)
    assert mean_power_w(samples, 200, 5300) == pytest.approx(watts, rel=0.03)


def test_the_mean_power_is_of_the_window_and_not_of_what_surrounds_it():
    times = [50.0 * i for i in range(240)]
    watts = [30 if time_ms < 3000 or time_ms >= 9000 else 300 for time_ms in times]
    energy = [0]
    for power in watts[:-1]:
        energy.append(energy[-1] + power * 50)
    samples = samples_of(time_ms=times, energy_mj=energy)
    assert mean_power_w(samples, 3200, 8800) == pytest.approx(300, rel=0.01)
    assert mean_power_w(samples, 0, 2900) == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize(
    "samples",
    [
        samples_of(power_w=[100.0] * 200),
        counter(10, 0.0),
        counter(10, 100.0, update_ms=2500),
        counter(3, 100.0),
        samples_of(energy_mj=[]),
    ],
    ids=["no counter", "still", "rarely", "ended early", "no samples"],
)
def test_no_mean_power_without_a_counter_that_moves(samples):
    assert mean_power_w(samples, 500, 5500) is None


def test_energy_of_an_image_with_and_without_the_idle_power():
    idle, load = counter(2, 40.0), counter(8, 240.0)
    offset_ms, offset_mj = idle["time_ms"][-1] + 100.0, idle["energy_mj"][-1]
    shifted = load.with_columns(pl.col("time_ms") + offset_ms, pl.col("energy_mj") + offset_mj)
    samples = pl.concat([idle, shifted])
    window = (offset_ms + 500, offset_ms + 6500)
    about = energy_per_image(samples, window, (200.0, 1800.0), images=1000)
    assert json.loads(json.dumps(about)) == about
    assert about["window_s"] == pytest.approx(6)
    assert about["images"] == 1000
    assert about["joules"] == pytest.approx(240 * 6, rel=0.03)
    assert about["idle_power_w"] == pytest.approx(40, rel=0.1)
    assert about["joules_per_image"] == pytest.approx(1.44, rel=0.03)
    assert about["joules_per_image_above_idle"] == pytest.approx(1.2, rel=0.03)
    unknown = energy_per_image(samples, window, None, images=1000)
    assert unknown["joules_per_image"] == about["joules_per_image"]
    assert unknown["idle_power_w"] is None
    assert unknown["joules_per_image_above_idle"] is None


def test_no_energy_without_a_reason():
    samples = counter(10, 100.0)
    short = energy_per_image(samples, (0.0, MINIMUM_ENERGY_S * 1000 - 100), None, images=10)
    assert short == {"absent": "a window of 4.9 s; 5 s are needed"}
    still = energy_per_image(samples_of(power_w=[1.0] * 200), (0.0, 6000.0), None, images=10)
    assert set(still) == {"absent"}
    assert "energy counter" in still["absent"]


def test_samples_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "telemetry" / "cell.parquet"
    samples, about = counter(1, 100.0), {"recipe": {"gpu": "T4"}, "clock_zero_unix_s": 1.5}
    write_telemetry(path, samples, about)
    found, told = read_telemetry(path)
    assert found.equals(samples)
    assert found.schema == SAMPLES
    assert told == about
    assert [file.name for file in path.parent.iterdir()] == ["cell.parquet"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        write_telemetry(tmp_path / "cell.parquet", counter(1, 100.0), {"clock_zero_unix_s": float("nan")})
    assert list(tmp_path.iterdir()) == []


def foreign(path: Path) -> None:
    counter(1, 1.0).write_parquet(path)


def of_another_version(path: Path) -> None:
    counter(1, 1.0).write_parquet(path, metadata={"deepgap": json.dumps({"format": 99})})


def of_other_columns(path: Path) -> None:
    counter(1, 1.0).drop("energy_mj").write_parquet(path, metadata={"deepgap": json.dumps({"format": 1})})


def with_a_list_for_a_footer(path: Path) -> None:
    counter(1, 1.0).write_parquet(path, metadata={"deepgap": "[1]"})


def truncated(path: Path) -> None:
    write_telemetry(path, counter(60, 1.0), {})
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_middle(path: Path) -> None:
    write_telemetry(path, counter(60, 1.0), {})
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    "make",
    [
        foreign,
        of_another_version,
        of_other_columns,
        with_a_list_for_a_footer,
        truncated,
        cut_in_the_middle,
        empty,
    ],
)
def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path, make):
    path = tmp_path / "cell.parquet"
    make(path)
    with pytest.raises(TelemetryError, match=r"cell\.parquet is damaged or .* this version; remove"):
        read_telemetry(path)


def test_a_folder_in_a_files_place_is_no_damage(tmp_path):
    with pytest.raises(DiskError, match=r"cannot be read \(Is a directory\); a folder stands in its place"):
        read_telemetry(tmp_path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(TelemetryError, match=r"cell\.parquet does not exist"):
        read_telemetry(tmp_path / "cell.parquet")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_tells_every_column_or_null():
    """Through the process that samples, as a cell does it, while the device works."""
    telemetry = Telemetry(lambda: open_nvml(0), time.perf_counter_ns())
    values = torch.randn(8192, 8192, device="cuda")
    for _ in range(40):
        values @ values
        torch.cuda.synchronize()
    time.sleep(1)
    samples = telemetry.stop()
    assert samples.schema == SAMPLES
    assert samples.height >= 15
    assert set(open_nvml(0)()) == set(SAMPLES) - {"time_ms"}
    last = samples.row(-1, named=True)
    known = {name: value for name, value in last.items() if value is not None}
    # These every data-centre GPU tells.
    assert {"temperature_c", "power_w", "sm_clock_mhz", "memory_clock_mhz", "memory_used_bytes"} <= set(known)
    assert 10 < last["temperature_c"] < 110
    assert 5 < last["power_w"] < 1500
    assert 100 < last["sm_clock_mhz"] < 4000
    assert last["memory_used_bytes"] >= values.nbytes
    for column in ("power_average_w", "power_instant_w"):
        assert last[column] is None or 5 < last[column] < 1500
    assert last["utilisation_percent"] is None or 0 <= last["utilisation_percent"] <= 100
    assert last["performance_state"] is None or 0 <= last["performance_state"] <= 15
    if last["energy_mj"] is not None:
        assert samples["energy_mj"].is_sorted()
        assert samples["energy_mj"][-1] > samples["energy_mj"][0]
        power = mean_power_w(samples, samples["time_ms"][0], samples["time_ms"][-1])
        assert power is not None
        assert 5 < power < 1500
    if last["clock_event_reasons"] is not None:
        assert last["clock_event_reasons"] < 2 * max(CLOCK_EVENT_REASONS.values())

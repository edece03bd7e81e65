"""The sampling process, with readers of the test's own, and what is made of samples."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pynvml
import pytest
import torch

from deepgap.cells.telemetry_file import (
    CLOCK_EVENT_REASONS,
    FORMAT,
    INTERVAL_S,
    SAMPLES,
    read_telemetry,
    write_telemetry,
)
from deepgap.errors import DiskError, TelemetryError
from deepgap.measure import telemetry as telemetry_module
from deepgap.measure.energy import aligned_window
from deepgap.measure.locks import FileLock, lock_folder, release_all, take_host
from deepgap.measure.telemetry import (
    Reader,
    Samples,
    Telemetry,
    _without_odd_energy,
    open_nvml,
)
from tests.conftest import eventually, runs
from tests.unit.fake_device import counter_samples, samples_of


def constant(**values: int | float | None) -> Callable[[], Reader]:
    return lambda: lambda: dict(values)


def sampling(
    open_reader: Callable[[], Reader],
    reads: int = 2,
    zero_ns: int | None = None,
    core: int | None = None,
    **more: Any,
) -> Telemetry:
    """A sampling process that has read the device so often, however long that takes it on a busy machine."""
    done = multiprocessing.get_context("fork").Value("i", 0)

    def open_counted() -> Reader:
        read = open_reader()

        def counted() -> dict[str, int | float | None]:
            done.value += 1
            return dict(read())

        return counted

    telemetry = Telemetry(open_counted, time.perf_counter_ns() if zero_ns is None else zero_ns, core, **more)
    assert eventually(lambda: done.value >= reads)
    return telemetry


def samplers() -> list[psutil.Process]:
    """The sampling processes of this one."""
    return [psutil.Process(child.pid) for child in multiprocessing.active_children() if child.pid is not None]


def check_absent(samples: Samples, reason: str) -> None:
    """Nothing was invented, and the reason is told."""
    assert samples.frame.schema == SAMPLES
    assert samples.frame.is_empty()
    assert reason in (samples.absent or "")


def test_samples_have_the_clock_of_the_process_that_asked_for_them():
    zero_ns = time.perf_counter_ns()
    samples = sampling(constant(power_w=70.5, energy_mj=3), 20, zero_ns).stop().frame
    end_ms = (time.perf_counter_ns() - zero_ns) / 1e6
    assert samples.schema == SAMPLES
    times = samples["time_ms"]
    assert times.is_sorted()
    assert times[0] > 0 and times[-1] < end_ms
    # A busy machine makes it slower and never faster, and one interval of so many is as long as it should be.
    assert 20 <= samples.height <= end_ms / (1000 * INTERVAL_S) + 1
    assert times.diff().min() < 1.5 * 1000 * INTERVAL_S
    assert set(samples["power_w"]) == {70.5}
    assert set(samples["energy_mj"]) == {3}
    assert samples["sm_clock_mhz"].null_count() == samples.height


def test_steps_of_the_energy_counter_are_seen_between_samples():
    """A counter that steps every 100 ms of the clock."""
    zero_ns = time.perf_counter_ns()

    def steps() -> int:
        return (time.perf_counter_ns() - zero_ns) // 100_000_000

    def open_reader() -> Reader:
        return lambda: {"energy_mj": 1000 * steps()}

    telemetry = sampling(open_reader, 25, zero_ns, open_counter=lambda: lambda: 1000 * steps())
    moved = telemetry.stop().frame.filter(pl.col("energy_mj").diff() > 0)
    assert not moved.is_empty()
    late_ms = (moved["energy_since_ms"] - moved["energy_mj"] / 10).to_list()
    # A busy machine sees some steps late, and none before they are made.
    assert 0 <= min(late_ms) < 15
    assert (moved["energy_since_ms"] <= moved["time_ms"]).all()
    assert (moved["energy_since_ms"] < moved["time_ms"]).any()


def test_without_a_counter_of_its_own_a_step_has_the_time_of_a_sample():
    samples = sampling(constant(energy_mj=3), 3).stop().frame
    assert set(samples["energy_since_ms"]) == {samples["time_ms"][0]}


def test_a_slow_reader_lowers_the_rate_and_no_more():
    def open_slow() -> Reader:
        def read() -> dict[str, int | float | None]:
            time.sleep(0.12)
            return {"temperature_c": 40}

        return read

    samples = sampling(open_slow, 5).stop().frame
    assert samples.height >= 4
    assert samples["time_ms"].diff().min() >= 120


def test_a_process_stopped_at_once_gives_what_it_has():
    assert Telemetry(constant(power_w=1.0), time.perf_counter_ns()).stop().frame.schema == SAMPLES


def test_a_process_that_was_killed_is_told_and_nothing_is_invented():
    telemetry = sampling(constant(power_w=1.0))
    (sampler,) = samplers()
    sampler.kill()
    check_absent(telemetry.stop(), "ended before the cell did")
    assert samplers() == []


def test_a_killed_process_that_nobody_has_noticed_is_told_too():
    """Killed so late that the question still reaches its end of the pipe."""
    telemetry = Telemetry(constant(power_w=1.0), time.perf_counter_ns())
    (sampler,) = samplers()
    sampler.suspend()
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -KILL {sampler.pid}"])
    check_absent(telemetry.stop(), "ended before the cell did")
    killer.wait()


def test_a_reader_that_hangs_is_given_up_and_the_cell_goes_on(monkeypatch):
    monkeypatch.setattr(telemetry_module, "ANSWER_S", 0.5)

    def open_hanging() -> Reader:
        left = [3]

        def read() -> dict[str, int | float | None]:
            left[0] -= 1
            if not left[0]:
                # Nothing but a kill ends it, as a call of a driver.
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                time.sleep(600)
            return {"power_w": 1.0}

        return read

    telemetry = sampling(open_hanging, 3)
    (sampler,) = samplers()
    check_absent(telemetry.stop(), "did not answer for 0.5 s")
    assert eventually(lambda: not runs(sampler))


def test_a_sampler_that_hangs_keeps_no_lock():
    take_host()
    telemetry = sampling(constant(power_w=1.0))
    try:
        asked = FileLock(lock_folder() / "deepgap-host.lock")
        assert not asked.try_take()
        release_all()
        assert asked.try_take()
        asked.release()
    finally:
        telemetry.close()


def test_the_sampler_runs_on_the_core_it_is_given():
    core = max(os.sched_getaffinity(0))
    telemetry = sampling(
        lambda: (
            lambda: {"performance_state": len(os.sched_getaffinity(0)), "temperature_c": min(os.sched_getaffinity(0))}
        ),
        core=core,
    )
    frame = telemetry.stop().frame
    assert set(frame["performance_state"]) == {1}
    assert set(frame["temperature_c"]) == {core}
    # A core that is not there is no reason to sample nothing.
    assert sampling(constant(power_w=1.0), core=100_000).stop().frame.height


@pytest.mark.parametrize(
    ("column", "value", "kept"),
    [
        ("power_w", 31_175.0, None),
        ("power_w", -1.0, None),
        ("power_w", 700.0, 700.0),
        ("temperature_c", 255, None),
        ("temperature_c", -3, None),
        ("temperature_c", 83, 83),
        ("sm_clock_mhz", 4_294_967, None),
        ("memory_clock_mhz", 2619, 2619),
        ("utilisation_percent", 101, None),
        ("performance_state", 32, None),
        ("memory_used_bytes", -1, None),
        ("energy_mj", 2**64 - 1, None),
    ],
)
def test_a_reading_outside_physical_limits_is_absent(column, value, kept):
    samples = sampling(constant(**{column: value})).stop()
    assert samples.absent is None
    assert set(samples.frame[column]) == {kept}


@pytest.mark.parametrize("odd", [0, 3, 9])
@pytest.mark.parametrize("value", [0, 2**60])
def test_one_odd_value_of_the_energy_counter_is_absent(odd, value):
    counter = [10_000_000 + 20_000 * i for i in range(10)]
    frame = samples_of(energy_mj=[value if i == odd else mj for i, mj in enumerate(counter)])
    kept = _without_odd_energy(frame)["energy_mj"].to_list()
    assert kept == [None if i == odd else mj for i, mj in enumerate(counter)]
    assert _without_odd_energy(samples_of(energy_mj=counter))["energy_mj"].to_list() == counter


def fake_nvml(monkeypatch, **answers: Any) -> None:
    """A GPU that answers these questions and fails at all others, each in a way of its own."""

    def fail(*arguments: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    def break_down(*arguments: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "nonsense")

    for number, name in enumerate(sorted(vars(pynvml))):
        if name.startswith("nvmlDeviceGet"):
            monkeypatch.setattr(pynvml, name, fail if number % 2 else break_down)
    for name, answer in {"nvmlInit": None, "nvmlDeviceGetHandleByIndex": 0, **answers}.items():
        monkeypatch.setattr(pynvml, name, lambda *arguments, answer=answer: answer)


def test_a_gpu_that_tells_little_is_sampled_with_what_it_tells(monkeypatch):
    fake_nvml(monkeypatch, nvmlDeviceGetTemperature=40)
    reading = open_nvml(0)()
    assert set(reading) == set(SAMPLES) - {"time_ms", "energy_since_ms"}
    assert {name for name, value in reading.items() if value is not None} == {"temperature_c"}


@pytest.mark.parametrize(("milliwatts", "watts"), [(349_000, 349.0), (351_000, None)])
def test_no_card_takes_five_times_what_it_is_held_to(monkeypatch, milliwatts, watts):
    fake_nvml(monkeypatch, nvmlDeviceGetEnforcedPowerLimit=70_000, nvmlDeviceGetPowerUsage=milliwatts)
    assert open_nvml(0)()["power_w"] == watts


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
    assert eventually(lambda: not any(map(runs, samplers())))
    check_absent(telemetry.stop(), "RuntimeError: no such device")
    assert samplers() == []


def test_a_reader_that_fails_while_the_samples_are_asked_for_is_told_with_its_reason():
    def open_slowly() -> Reader:
        time.sleep(0.4)
        raise RuntimeError("no such device")

    check_absent(Telemetry(open_slowly, time.perf_counter_ns()).stop(), "RuntimeError: no such device")


def test_closing_ends_the_process_and_can_be_done_twice():
    telemetry = sampling(constant(power_w=1.0))
    (sampler,) = samplers()
    telemetry.close()
    telemetry.close()
    assert eventually(lambda: not runs(sampler))
    stopped = Telemetry(constant(power_w=1.0), time.perf_counter_ns())
    stopped.stop()
    stopped.close()


PARENT = """
import os, sys, time
from deepgap.measure.telemetry import Telemetry

telemetry = Telemetry(lambda: lambda: {"power_w": float(os.getpid())}, time.perf_counter_ns())
print(telemetry._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_sampler_ends_when_its_parent_does(killer):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    )
    assert parent.stdout is not None
    sampler = psutil.Process(int(parent.stdout.readline()))
    assert runs(sampler)
    parent.send_signal(killer)
    try:
        assert parent.wait(timeout=60) != 0
    finally:
        parent.kill()
    assert eventually(lambda: not runs(sampler))


def test_a_lock_of_the_parent_outlives_the_sampler(tmp_path):
    """As of the device: its lock is inherited by the sampler, and must stay with the cell."""
    path = tmp_path / "device.lock"
    held = FileLock(path)
    assert held.try_take()
    try:
        for end in (Telemetry.stop, Telemetry.close):
            end(Telemetry(constant(power_w=1.0), time.perf_counter_ns()))
            assert not FileLock(path).try_take()
    finally:
        held.release()


def test_the_sampler_of_a_killed_cell_does_not_keep_its_lock(tmp_path):
    path = tmp_path / "device.lock"
    lock = f"""
from pathlib import Path
from deepgap.measure import telemetry as telemetry_module
from deepgap.measure.locks import FileLock, lock_folder, release_all, take_host

lock = FileLock(Path({str(path)!r}))
assert lock.try_take()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", lock + PARENT], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    asked = FileLock(path)
    assert not asked.try_take()
    parent.kill()
    parent.wait()
    assert eventually(asked.try_take)
    asked.release()


def counter(seconds: float, watts: float) -> pl.DataFrame:
    """Samples of a constant load."""
    return counter_samples(lambda at_ms: watts * at_ms / 1000, 1000 * seconds)


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
    counter(1, 1.0).drop("energy_mj").write_parquet(path, metadata={"deepgap": json.dumps({"format": FORMAT})})


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
    samples = telemetry.stop().frame
    assert samples.schema == SAMPLES
    assert samples.height >= 15
    assert set(open_nvml(0)()) == set(SAMPLES) - {"time_ms", "energy_since_ms"}
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
        window = aligned_window(samples, samples["time_ms"][0], samples["time_ms"][-1])
        assert window is not None
        assert 5 < window.joules / window.seconds < 1500
    if last["clock_event_reasons"] is not None:
        assert last["clock_event_reasons"] < 2 * max(CLOCK_EVENT_REASONS.values())

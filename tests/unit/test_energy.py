"""Energy between two updates of a counter: exact in its identity, and within a percent of what was used."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepgap.measure.energy import Rapl, Sustained, aligned_window, energy_of_meter, energy_of_samples, open_rapl
from tests.unit.fake_device import counter_samples, samples_of

IDLE_MS, BEGIN_MS, END_MS = (600.0, 1000.0), 1500.0, 3500.0


def load(watts: float, idle_w: float = 70.0, begin_ms: float = BEGIN_MS) -> Callable[[float], float]:
    """Joules until a time of a device that idles and works from `begin_ms` on."""
    return lambda at_ms: (idle_w * min(at_ms, begin_ms) + watts * max(0.0, at_ms - begin_ms)) / 1000


@given(
    watts=st.floats(80, 700),
    phase_ms=st.floats(0, 100),
    start_ms=st.floats(BEGIN_MS, BEGIN_MS + 100),
    late=st.lists(st.floats(0, 4), min_size=7, max_size=7),
)
def test_the_energy_of_two_seconds_is_known_within_a_percent(watts, phase_ms, start_ms, late):
    """A counter that steps every 100 ms at any phase, looked at every 5 ms and up to 4 ms late."""
    delays = iter(late * 1000)
    samples = counter_samples(load(watts), 5000, phase_ms=phase_ms, delay_ms=lambda: next(delays))
    span = Sustained(start_ms, start_ms + 2000, 1234.5)
    found = energy_of_samples(samples, [span], IDLE_MS)
    assert found["joules"] / found["window_s"] == pytest.approx(watts, rel=0.01)
    assert found["joules_per_image"] == pytest.approx(watts / 1234.5, rel=0.01)
    assert 1.75 <= found["window_s"] <= 2.0
    assert found["source"] == "nvml"
    assert found["integral_over_counter"] == pytest.approx(1, abs=0.02)


@given(
    watts=st.floats(80, 700),
    images_per_s=st.lists(st.floats(0.1, 1e5), min_size=1, max_size=4),
    phase_ms=st.floats(0, 99),
)
def test_throughput_over_power_is_images_over_joules(watts, images_per_s, phase_ms):
    spans = [Sustained(BEGIN_MS + 2100 * i, BEGIN_MS + 2100 * i + 2000, rate) for i, rate in enumerate(images_per_s)]
    samples = counter_samples(load(watts), spans[-1].end_ms + 300, phase_ms=phase_ms)
    found = energy_of_samples(samples, spans, IDLE_MS)
    throughput, power = found["images"] / found["window_s"], found["joules"] / found["window_s"]
    assert throughput / power == pytest.approx(found["images"] / found["joules"], rel=1e-9)
    assert found["joules_per_image"] == pytest.approx(1 / (throughput / power), rel=1e-9)
    if len(spans) == 1:
        assert throughput == pytest.approx(images_per_s[0], rel=1e-9)


def test_without_looks_between_samples_the_times_are_those_of_the_samples():
    samples = counter_samples(load(300.0), 5000, poll_ms=None)
    window = aligned_window(samples, BEGIN_MS, END_MS)
    assert window is not None
    assert window.joules / window.seconds == pytest.approx(300, rel=0.06)


def test_the_window_is_of_the_span_and_not_of_what_surrounds_it():
    samples = counter_samples(lambda at_ms: load(300.0)(min(at_ms, END_MS)) + 0.07 * max(0.0, at_ms - END_MS), 6000)
    for (start, end), watts in (((BEGIN_MS, END_MS), 300), ((100.0, 1400.0), 70), ((4000.0, 6000.0), 70)):
        window = aligned_window(samples, start, end)
        assert window is not None and start <= window.began_ms < window.ended_ms <= end
        assert window.joules / window.seconds == pytest.approx(watts, rel=0.01)


def test_energy_above_idle_is_stated_only_well_above_it():
    spans = [Sustained(BEGIN_MS, END_MS, 1000.0)]
    clear = energy_of_samples(counter_samples(load(240.0), 5000), spans, IDLE_MS)
    assert clear["idle_power_w"] == pytest.approx(70, rel=0.03)
    assert clear["joules_per_image_above_idle"] == pytest.approx(0.17, rel=0.02)
    near = energy_of_samples(counter_samples(load(100.0), 5000), spans, IDLE_MS)
    assert near["idle_power_w"] is not None and near["joules_per_image_above_idle"] is None
    unknown = energy_of_samples(counter_samples(load(240.0), 5000), spans, None)
    assert unknown["idle_power_w"] is None and unknown["joules_per_image_above_idle"] is None
    assert unknown["joules_per_image"] == clear["joules_per_image"]


def test_readings_that_do_not_fit_the_counter_are_told():
    samples = counter_samples(load(200.0), 5000)
    doubled = samples.with_columns(power_instant_w=2 * samples["power_instant_w"])
    found = energy_of_samples(doubled, [Sustained(BEGIN_MS, END_MS, 1.0)], None)
    assert found["integral_over_counter"] == pytest.approx(2, rel=0.01)
    silent = samples.with_columns(power_instant_w=None)
    assert energy_of_samples(silent, [Sustained(BEGIN_MS, END_MS, 1.0)], None)["integral_over_counter"] is None


@pytest.mark.parametrize(
    "samples",
    [
        samples_of(power_w=[100.0] * 200),
        counter_samples(lambda at_ms: 0.0, 5000),
        counter_samples(load(100.0), 5000, step_ms=2500),
        counter_samples(load(100.0), 2000),
        samples_of(energy_mj=[]),
    ],
    ids=["no counter", "still", "rarely", "ended early", "no samples"],
)
def test_no_energy_without_a_counter_that_moves(samples):
    found = energy_of_samples(samples, [Sustained(BEGIN_MS, END_MS, 1.0)], IDLE_MS)
    assert set(found) == {"absent"} and "energy counter" in found["absent"]


# The processor's counter


def powercap(root: Path, **microjoules: int) -> None:
    """A package a name, with a part of it and the platform, which must not be counted."""
    for number, (name, value) in enumerate(microjoules.items()):
        write_zone(root, f"intel-rapl:{number}", name.replace("_", "-"), value)
        write_zone(root, f"intel-rapl:{number}:0", "core", 10**9)
    write_zone(root, "intel-rapl:7", "psys", 10**9)


def write_zone(root: Path, zone: str, name: str, value: int) -> None:
    folder = root / "sys/class/powercap" / zone
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (("name", name), ("energy_uj", str(value)), ("max_energy_range_uj", "999999999")):
        (folder / file).write_text(f"{text}\n", encoding="utf-8")


def test_all_packages_are_counted_and_their_parts_are_not(tmp_path):
    powercap(tmp_path, package_0=100, package_1=50)
    meter, reason = open_rapl(tmp_path)
    assert meter is not None and reason is None
    assert meter() == 0
    powercap(tmp_path, package_0=3_000_100, package_1=1_000_050)
    assert meter() == pytest.approx(4.0)


@given(st.integers(0, 999_999_999), st.integers(0, 999_999_999))
def test_a_counter_that_wraps_goes_on(tmp_path_factory, before, used):
    root = tmp_path_factory.mktemp("host")
    powercap(root, package_0=before)
    meter = Rapl([root / "sys/class/powercap/intel-rapl:0"]).joules
    powercap(root, package_0=(before + used) % 10**9)
    assert meter() == pytest.approx(used / 1e6)


def test_a_host_without_a_counter_says_so(tmp_path):
    meter, reason = open_rapl(tmp_path)
    assert meter is None and reason is not None and "no package" in reason
    powercap(tmp_path, package_0=1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    meter, reason = open_rapl(tmp_path)
    assert meter is None and reason is not None and "No such file" in reason


def test_a_meters_energy_is_of_its_spans():
    spans = [Sustained(0.0, 2000.0, 10.0), Sustained(3000.0, 5000.0, 20.0)]
    found = energy_of_meter([(1.0, 101.0), (150.0, 350.0)], spans, 40.0)
    assert (found["joules"], found["window_s"], found["images"]) == (300.0, 4.0, 60.0)
    assert found["joules_per_image_above_idle"] == pytest.approx((300 - 160) / 60)
    assert math.isclose(found["joules_per_image"], 5.0) and found["source"] == "rapl"
    assert set(energy_of_meter([(1.0, 1.0)], spans[:1], None)) == {"absent"}

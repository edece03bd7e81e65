"""Energy of an image from a counter of the device, within the sustained run.

NVML's counter moves in steps, about every 100 ms. Between two of its own updates it has no error of resolution, so a
window begins and ends with one, inside the throughput arm. Throughput and power are then those of one span, and
throughput over power is images over joules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepgap.measure.samples import power_readings

LEAST_COVERED = 0.5
"""The window must cover at least this part of the time that it is looked for in."""
ABOVE_IDLE = 1.5
"""Power over idle power from which the energy above idle is stated: below, it is a difference of two like numbers."""
POWERCAP = Path("sys/class/powercap")
JOULES_PER_UJ = 1e-6


@dataclass(frozen=True)
class Window:
    """Time and energy between two updates of a counter."""

    began_ms: float
    ended_ms: float
    joules: float

    @property
    def seconds(self) -> float:
        return (self.ended_ms - self.began_ms) / 1000


@dataclass(frozen=True)
class Sustained:
    """A throughput span: its times since the cell's start, and its images a second of wall time."""

    start_ms: float
    end_ms: float
    images_per_s: float


def sustained_spans(throughput: pl.DataFrame, batch_size: int) -> list[Sustained]:
    """The spans of a cell's rows of the throughput arm."""
    return [
        Sustained(start_ms, start_ms + host_ms, 1000 * batch_size * calls / host_ms)
        for start_ms, host_ms, calls in throughput.select("start_ms", "host_ms", "calls").iter_rows()
    ]


def aligned_window(samples: pl.DataFrame, start_ms: float, end_ms: float) -> Window | None:
    """The longest window between two updates of the energy counter that lies within these times.

    Null where the counter is not known, or its updates cover less than `LEAST_COVERED` of the time.

    Args:
        samples: in `telemetry_file.SAMPLES`.
    """
    moved = (
        samples.filter(pl.col("energy_mj").is_not_null())
        .with_columns(at_ms=pl.coalesce("energy_since_ms", "time_ms"))
        .filter(pl.col("energy_mj").diff() > 0, pl.col("at_ms").is_between(start_ms, end_ms))
    )
    if moved.height < 2:
        return None
    window = Window(moved["at_ms"][0], moved["at_ms"][-1], (moved["energy_mj"][-1] - moved["energy_mj"][0]) / 1000)
    return window if window.ended_ms - window.began_ms >= LEAST_COVERED * (end_ms - start_ms) else None


def energy_of_samples(
    samples: pl.DataFrame, spans: Sequence[Sustained], idle_ms: tuple[float, float] | None
) -> dict[str, Any]:
    """`observed.energy` of a footer by NVML's counter.

    Args:
        samples: of the cell, in `telemetry_file.SAMPLES`.
        spans: of the throughput arm, one a run.
        idle_ms: when the device had a context and nothing to do.
    """
    windows = [aligned_window(samples, span.start_ms, span.end_ms) for span in spans]
    found = [window for window in windows if window is not None]
    if len(found) < len(spans) or not found:
        return {"absent": "the device has no energy counter, or it moved too seldom during the throughput arm"}
    idle = None if idle_ms is None else aligned_window(samples, *idle_ms)
    energy = _energy(found, spans, None if idle is None else idle.joules / idle.seconds, "nvml")
    integral = sum(_integral_j(samples, window) for window in found)
    return energy | {"integral_over_counter": integral / energy["joules"] if integral else None}


def energy_of_meter(
    metered: Sequence[tuple[float, float]], spans: Sequence[Sustained], idle_power_w: float | None
) -> dict[str, Any]:
    """`observed.energy` of a footer by a counter that was read at both ends of each span.

    Args:
        metered: joules before and after each of `spans`.
    """
    windows = [
        Window(span.start_ms, span.end_ms, after - before)
        for span, (before, after) in zip(spans, metered, strict=True)
    ]
    if sum(window.joules for window in windows) <= 0:
        return {"absent": "the processor's energy counter did not move during the throughput arm"}
    return _energy(windows, spans, idle_power_w, "rapl") | {"integral_over_counter": None}


def _energy(
    windows: Sequence[Window], spans: Sequence[Sustained], idle_power_w: float | None, source: str
) -> dict[str, Any]:
    joules = sum(window.joules for window in windows)
    window_s = sum(window.seconds for window in windows)
    images = sum(span.images_per_s * window.seconds for span, window in zip(spans, windows, strict=True))
    clear = idle_power_w is not None and joules / window_s > ABOVE_IDLE * idle_power_w
    return {
        "window_s": window_s,
        "images": images,
        "joules": joules,
        "joules_per_image": joules / images,
        "idle_power_w": idle_power_w,
        "joules_per_image_above_idle": (joules - idle_power_w * window_s) / images
        if clear and idle_power_w is not None
        else None,
        "source": source,
    }


def _integral_j(samples: pl.DataFrame, window: Window) -> float:
    """The integral of the power readings over a window by trapezoids; 0 where there are none."""
    column, _ = power_readings(samples)
    known = samples.filter(pl.col(column).is_not_null())
    times_ms, watts = known["time_ms"].to_numpy(), known[column].to_numpy()
    inside = (times_ms > window.began_ms) & (times_ms < window.ended_ms)
    if not inside.any():
        return 0.0
    ends_ms = np.array([window.began_ms, window.ended_ms])
    first, last = np.interp(ends_ms, times_ms, watts)
    at_ms = np.concatenate([ends_ms[:1], times_ms[inside], ends_ms[1:]])
    return float(np.trapezoid(np.concatenate([[first], watts[inside], [last]]), at_ms) / 1000)


class Rapl:
    """The energy counters of a host's processor packages (Linux powercap, RAPL)."""

    def __init__(self, zones: Iterable[Path]) -> None:
        self._ranges = {zone: int((zone / "max_energy_range_uj").read_text(encoding="utf-8")) for zone in zones}
        self._last = {zone: self._read(zone) for zone in self._ranges}
        self._total_uj = 0

    def joules(self) -> float:
        """Joules of all packages since the object was made. A counter may wrap once between two calls."""
        for zone, size in self._ranges.items():
            now = self._read(zone)
            self._total_uj += (now - self._last[zone]) % (size + 1)
            self._last[zone] = now
        return self._total_uj * JOULES_PER_UJ

    @staticmethod
    def _read(zone: Path) -> int:
        return int((zone / "energy_uj").read_text(encoding="utf-8"))


def open_rapl(root: Path = Path("/")) -> tuple[Callable[[], float] | None, str | None]:
    """A reader of the processor's energy in joules, or why there is none.

    Args:
        root: where /sys is.
    """
    # Packages alone: their parts and the whole platform would be counted twice.
    zones = [zone for zone in sorted((root / POWERCAP).glob("*-rapl:*")) if zone.name.count(":") == 1]
    try:
        packages = [zone for zone in zones if (zone / "name").read_text(encoding="utf-8").startswith("package")]
        if packages:
            return Rapl(packages).joules, None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "what it says is no number"
        return None, f"the processor's energy counter cannot be read ({reason})"
    return None, "the host tells no energy of its processor (no package in /sys/class/powercap)"

"""Operating points against brute force, on invented numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepgap.analyse.peaks import Point, best_within_latency, find_peak, non_dominated, saturation

# Few distinct values, so that equal ones are common.
VALUES = st.integers(1, 6).map(float)
PLANE = st.lists(st.tuples(VALUES, VALUES), max_size=12)


@st.composite
def curves(draw: st.DrawFn) -> list[Point]:
    sizes = draw(st.lists(st.sampled_from([1, 2, 4, 8, 16, 32]), min_size=1, max_size=6, unique=True))
    return [Point(size, draw(VALUES), draw(VALUES), tied=draw(st.booleans())) for size in sizes]


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(PLANE)
def test_non_dominated_is_what_no_other_point_beats(plane: list[tuple[float, float]]) -> None:
    expected = [not any(beats(other, point) for other in plane) for point in plane]
    assert non_dominated([x for x, _ in plane], [y for _, y in plane]) == expected


@given(curves())
def test_a_peak_is_the_smallest_batch_size_that_cannot_be_told_from_the_best(points: list[Point]) -> None:
    peak = find_peak(points)
    assert all(point.throughput <= peak.best.throughput for point in points)
    equal = [point for point in points if point.throughput == peak.best.throughput]
    assert peak.best.batch_size == min(point.batch_size for point in equal)
    tied = {peak.best.batch_size} | {point.batch_size for point in points if point.tied}
    assert peak.tied == tuple(sorted(tied)) and peak.point.batch_size == min(tied)
    assert peak.at_edge == (max(point.batch_size for point in points) in tied)


@given(curves(), st.integers(0, 7).map(float))
def test_best_within_latency_is_the_highest_of_those_allowed(points: list[Point], limit: float) -> None:
    best = best_within_latency(points, limit)
    allowed = [point.throughput for point in points if point.latency_ms <= limit]
    if best is None:
        assert not allowed
    else:
        assert best.latency_ms <= limit and best.throughput == max(allowed)


@given(curves(), st.floats(0.9, 1))
def test_saturation_is_the_first_batch_size_with_95_percent_of_the_peak(points: list[Point], part: float) -> None:
    top = max(point.throughput for point in points)
    points = [*points, Point(3, part * top, 1.0)]
    smallest = min(point.batch_size for point in points if point.throughput >= 0.95 * top)
    assert saturation(points).batch_size == smallest


def test_a_peak_without_an_interval_ties_with_nothing() -> None:
    peak = find_peak([Point(8, 100.0, 1.0), Point(16, 100.0, 2.0)])
    assert (peak.point.batch_size, peak.tied, peak.at_edge) == (8, (8,), False)

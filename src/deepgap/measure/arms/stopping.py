"""When an arm of a row a call has calls enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from deepgap.measure.arms.timer import Span

CHECK_EVERY = 13
"""The most calls between two looks at the interval of the median."""
FEWEST_FOR_INTERVAL = 8


class Collected(NamedTuple):
    """The spans of a run's arm, and whether its stopping rule was met."""

    spans: list[Span]
    converged: bool


@dataclass(frozen=True)
class Rule:
    """How many calls a run has, from the protocol.

    most: the protocol's timed_iterations, which is the count where there is no rule.
    half_width: the interval of the run's median that is narrow enough, null without a rule. fewest, minimum_ms: what
    is made in any case. maximum_s: host time of all calls after which the run ends in any case.
    """

    most: int
    fewest: int
    half_width: float | None = None
    minimum_ms: float = 0.0
    maximum_s: float = math.inf

    @classmethod
    def of(cls, protocol: Mapping[str, Any]) -> Rule:
        """The rule of a recipe's protocol."""
        most, stop = protocol["timed_iterations"], protocol["stop"]
        if not stop:
            return cls(most, most)
        maximum_s = math.inf if stop["maximum_s"] is None else stop["maximum_s"]
        return cls(most, min(most, stop["minimum_iterations"]), stop["half_width"], stop["minimum_ms"], maximum_s)

    def collect(self, time_calls: Callable[[int], list[Span]]) -> Collected:
        """Time calls, some at once, until the rule is met or may not be waited for any longer."""
        spans = time_calls(self.fewest)
        while not self._met(spans) and len(spans) < self.most:
            left_ms = self.maximum_s * 1000 - sum(span.host_ms for span in spans)
            if left_ms <= 0:
                break
            affordable = min(CHECK_EVERY, 1 + left_ms / median(span.host_ms for span in spans))
            spans += time_calls(min(int(affordable), self.most - len(spans)))
        return Collected(spans, self._met(spans))

    def _met(self, spans: Sequence[Span]) -> bool:
        if self.half_width is None:
            return len(spans) == self.most
        lasted = sum(span.host_ms for span in spans) >= self.minimum_ms
        return lasted and half_width([span.device_ms for span in spans]) <= self.half_width


def half_width(samples: Sequence[float]) -> float:
    """Half of the 95 % interval of the median of `samples`, as a part of the median.

    The interval of order statistics by the normal approximation of the sign test (Conover, Practical Nonparametric
    Statistics, 3rd ed., section 3.2); infinite for fewer than eight samples. It takes calls as independent, which
    they are not: it decides how many are made and is stated nowhere.
    """
    count = len(samples)
    if count < FEWEST_FOR_INTERVAL:
        return math.inf
    ordered = sorted(samples)
    reach = 1.96 * math.sqrt(count) / 2
    low = max(1, math.floor(count / 2 - reach))
    high = min(count, math.ceil(count / 2 + reach) + 1)
    return (ordered[high - 1] - ordered[low - 1]) / 2 / median(ordered)

"""How the largest memory of a GPU grows with the years: five forms, and what each foretold of years it had not seen.

Polynomials of degree 2, 3 and 4 are fitted to GB by least squares, as the published study does; the exponential
and the logistic to the logarithm of GB, because growth is a factor. Years are centred and scaled before any power is
taken. All likelihoods are of GB, so that AICc can be compared (Burnham and Anderson, Model Selection and Multimodel
Inference, 2nd ed.). Intervals are of a new value, at 95 %: exact for the forms that are linear in their coefficients
if errors are normal and independent (Seber and Lee, Linear Regression Analysis, 2nd ed.).

The logistic is y = 1 / (1 / C + exp(-(a + b t))): C is its ceiling, and without one it is the exponential. For a
given C it has two coefficients, so its profile is a row of fits; the ceilings that the data do not refuse are those
whose sum of squares is below a bound by the F distribution (Bates and Watts, Nonlinear Regression Analysis). Its
interval is the envelope of those of these fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log, pi
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from deepgap.stats import CONFIDENCE

Floats: TypeAlias = NDArray[np.float64]

CEILINGS = 48
HIGHEST_CEILING = 1e4
"""Ceilings of the profile, evenly on a logarithm, up to this many times the largest value; after them none at all."""

FEWEST = 8
"""The fewest values that a form is fitted to: degree 4 and its error have six parameters."""


@dataclass(frozen=True)
class Forecast:
    """A form's value in GB for a year, and the interval of a new value at 95 %; low may be below zero."""

    middle: float
    low: float
    high: float


class Fit(Protocol):
    """A form with its coefficients."""

    @property
    def parameters(self) -> int:
        """The coefficients, and the spread of the errors."""

    @property
    def log_likelihood(self) -> float:
        """Of the values in GB, at its maximum."""

    def at(self, year: float) -> Forecast:
        """What it says of a year."""


@dataclass(frozen=True)
class Scale:
    """Years as numbers about zero."""

    centre: float
    half: float

    @classmethod
    def of(cls, years: Floats) -> Scale:
        return cls(float(np.mean(years)), float(np.ptp(years)) / 2)

    def __call__(self, years: ArrayLike) -> Floats:
        return np.asarray((np.asarray(years, float) - self.centre) / self.half)


@dataclass(frozen=True)
class LinearFit:
    """A polynomial in the years, of GB or of their logarithm."""

    years: Floats
    gb: Floats
    degree: int
    logarithmic: bool

    @cached_property
    def _scale(self) -> Scale:
        return Scale.of(self.years)

    def _powers(self, years: ArrayLike) -> Floats:
        return np.vander(np.atleast_1d(self._scale(years)), self.degree + 1, increasing=True)

    @cached_property
    def _solved(self) -> tuple[Floats, Floats, float]:
        """The coefficients, the inverse of X'X, and the sum of squared residuals."""
        rows = self._powers(self.years)
        values = np.log(self.gb) if self.logarithmic else self.gb
        inverse = np.asarray(np.linalg.pinv(rows.T @ rows), np.float64)
        coefficients = np.asarray(np.linalg.lstsq(rows, values, rcond=None)[0], np.float64)
        return coefficients, inverse, float(np.sum((values - rows @ coefficients) ** 2))

    @property
    def parameters(self) -> int:
        return self.degree + 2

    @property
    def log_likelihood(self) -> float:
        return _log_likelihood(self._solved[2], self.gb, self.logarithmic)

    @property
    def slope(self) -> tuple[float, float, float]:
        """The coefficient of a year, and its interval at 95 %; of degree 1."""
        coefficients, inverse, squares = self._solved
        free = len(self.gb) - self.degree - 1
        half = stats.t.ppf((1 + CONFIDENCE) / 2, free) * (squares / free * inverse[1, 1]) ** 0.5
        low, middle, high = (
            float(value) / self._scale.half
            for value in (coefficients[1] - half, coefficients[1], coefficients[1] + half)
        )
        return middle, low, high

    def at(self, year: float) -> Forecast:
        coefficients, inverse, squares = self._solved
        row = self._powers(year)[0]
        return _forecast(
            float(row @ coefficients),
            float(row @ inverse @ row),
            squares,
            len(self.gb) - self.degree - 1,
            self.logarithmic,
        )


@dataclass(frozen=True)
class Profile:
    """The logistic's fits by ceiling, infinite last: a row each with the ceiling, two coefficients and squares."""

    ceilings: Floats
    coefficients: Floats
    squares: Floats


@dataclass(frozen=True)
class LogisticFit:
    """The logistic, fitted to the logarithm of GB."""

    years: Floats
    gb: Floats

    @property
    def parameters(self) -> int:
        return 4

    @cached_property
    def _scale(self) -> Scale:
        return Scale.of(self.years)

    @cached_property
    def profile(self) -> Profile:
        """Fits at all ceilings of the grid, each begun from its neighbour, from the exponential downwards."""
        high = HIGHEST_CEILING * float(np.max(self.gb))
        ceilings = np.append(np.geomspace(float(np.median(self.gb)), high, CEILINGS), inf)
        start = np.asarray(np.polynomial.polynomial.polyfit(self._scale(self.years), np.log(self.gb), 1), np.float64)
        found = []
        for ceiling in ceilings[::-1]:
            start, squares = self._fit(ceiling, start)
            found.append((*start, squares))
        table = np.array(found[::-1])
        return Profile(ceilings, table[:, :2], table[:, 2])

    def _fit(self, ceiling: float, start: Floats) -> tuple[Floats, float]:
        """The two coefficients at a ceiling, and the sum of squares of the logarithms."""
        times, logs = self._scale(self.years), np.log(self.gb)

        def residuals(coefficients: Floats) -> Floats:
            return _log_logistic(coefficients, times, ceiling)[0] - logs

        def slopes(coefficients: Floats) -> Floats:
            return _log_logistic(coefficients, times, ceiling)[1]

        solved = optimize.least_squares(residuals, start, jac=slopes, method="lm")
        return np.asarray(solved.x), float(2 * solved.cost)

    @cached_property
    def best(self) -> tuple[float, Floats, float]:
        """The most likely ceiling, infinite where the exponential is as good, its coefficients and squares."""
        profile = self.profile
        place = int(np.argmin(profile.squares))
        if place == len(profile.ceilings) - 1:
            return inf, profile.coefficients[place], float(profile.squares[place])
        below, above = (profile.ceilings[max(place - 1, 0)], profile.ceilings[min(place + 1, CEILINGS - 1)])
        start = profile.coefficients[place]
        found = optimize.minimize_scalar(
            lambda logarithm: self._fit(exp(logarithm), start)[1], bounds=(log(below), log(above)), method="bounded"
        )
        coefficients, squares = self._fit(exp(found.x), start)
        if squares < profile.squares[place]:
            return exp(found.x), coefficients, squares
        return float(profile.ceilings[place]), start, float(profile.squares[place])

    @cached_property
    def _bound(self) -> float:
        """The largest sum of squares of a ceiling that the data do not refuse at 95 %."""
        free = len(self.gb) - 3
        return self.best[2] * (1 + float(stats.f.ppf(CONFIDENCE, 1, free)) / free)

    @cached_property
    def ceiling(self) -> tuple[float, float, float]:
        """The most likely ceiling in GB, and the interval at 95 % by its profile; infinite where none is."""
        best, grid = self.best[0], self.profile.ceilings
        refused = grid[self.profile.squares > self._bound]
        below, above = refused[refused < best], refused[refused > best]
        low, high = float(grid[0]), inf
        if len(below):
            kept = grid[(grid > below[-1]) & np.isfinite(grid)]
            low = self._crossing(float(below[-1]), min([best, *kept])) if len(kept) else float(below[-1])
        if len(above):
            high = (
                self._crossing(float(above[0]), max([best, *grid[grid < above[0]]]))
                if above[0] < inf
                else float(grid[-2])
            )
        return best, low, high

    def _crossing(self, refused: float, kept: float) -> float:
        """The ceiling between two at which the sum of squares reaches its bound."""
        start = self.best[1]

        def beyond(logarithm: float) -> float:
            return self._fit(exp(logarithm), start)[1] - self._bound

        return exp(optimize.brentq(beyond, log(refused), log(kept)))

    @cached_property
    def _kept(self) -> list[tuple[float, Floats, float]]:
        """The most likely fit, those of the grid that the data do not refuse, and those at the interval's ends."""
        best, low, high = self.ceiling
        profile = self.profile
        places = np.flatnonzero(profile.squares <= self._bound)
        rows = [(float(profile.ceilings[k]), profile.coefficients[k], float(profile.squares[k])) for k in places]
        ends = [(end, *self._fit(end, self.best[1])) for end in (low, high) if end != best]
        return [self.best, *rows, *ends]

    @property
    def log_likelihood(self) -> float:
        return _log_likelihood(self.best[2], self.gb, logarithmic=True)

    def at(self, year: float) -> Forecast:
        all_of = [self._at(year, *row) for row in self._kept]
        return Forecast(all_of[0].middle, min(one.low for one in all_of), max(one.high for one in all_of))

    def _at(self, year: float, ceiling: float, coefficients: Floats, squares: float) -> Forecast:
        """By the fit at one ceiling, linear in its coefficients near it."""
        slopes = _log_logistic(coefficients, self._scale(self.years), ceiling)[1]
        middle, row = _log_logistic(coefficients, self._scale([year]), ceiling)
        leverage = float(row[0] @ np.linalg.pinv(slopes.T @ slopes) @ row[0])
        return _forecast(float(middle[0]), leverage, squares, len(self.gb) - 3, logarithmic=True)


def _log_logistic(coefficients: Floats, times: Floats, ceiling: float) -> tuple[Floats, Floats]:
    """The logarithm of the logistic, and its slopes by the two coefficients: shapes (n,) and (n, 2)."""
    line = coefficients[0] + coefficients[1] * times
    values = -np.logaddexp(-np.log(ceiling), -line)
    share = np.exp(values - line)
    return values, np.column_stack([share, share * times])


def _forecast(middle: float, leverage: float, squares: float, free: int, logarithmic: bool) -> Forecast:
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, free)) * (squares / free * (1 + leverage)) ** 0.5
    ends = (middle, middle - half, middle + half)
    # A factor that no number holds is infinite.
    return Forecast(*(exp(end) if end < 700 else inf for end in ends)) if logarithmic else Forecast(*ends)


def _log_likelihood(squares: float, gb: Floats, logarithmic: bool) -> float:
    """Of GB under normal errors, or of GB under normal errors of their logarithm."""
    count = len(gb)
    normal = -count / 2 * (log(2 * pi * max(squares, 1e-300) / count) + 1)
    return normal - float(np.sum(np.log(gb))) if logarithmic else normal


FORMS: dict[str, Callable[[Floats, Floats], Fit]] = {
    "degree 2": lambda years, gb: LinearFit(years, gb, 2, logarithmic=False),
    "degree 3": lambda years, gb: LinearFit(years, gb, 3, logarithmic=False),
    "degree 4": lambda years, gb: LinearFit(years, gb, 4, logarithmic=False),
    "exponential": lambda years, gb: LinearFit(years, gb, 1, logarithmic=True),
    "logistic": LogisticFit,
}
"""By name: of years and GB of equal shape, at least `FEWEST`."""


def aicc(fit: Fit, count: int) -> float:
    """Akaike's criterion, corrected for few values (Hurvich and Tsai, Biometrika 76, 1989)."""
    k = fit.parameters
    return 2 * k - 2 * fit.log_likelihood + 2 * k * (k + 1) / (count - k - 1)


def doubling_years(fit: LinearFit) -> tuple[float, float, float]:
    """The years in which an exponential doubles, and their interval; infinite where its slope may be zero or less."""
    slope, low, high = fit.slope
    one, least, most = (log(2) / value if value > 0 else inf for value in (slope, high, low))
    return one, least, most


def first_fall(fit: Fit, first: int, last: int) -> int | None:
    """The first year whose value is below that of the year before; none where the form rises throughout."""
    values = [fit.at(year).middle for year in range(first, last + 1)]
    return next((first + place for place in range(1, len(values)) if values[place] < values[place - 1]), None)


def year_of(fit: Fit, gb: float, first: int, last: int) -> int | None:
    """The first year, in this range, in which the form reaches a size."""
    return next((year for year in range(first, last + 1) if fit.at(year).middle >= gb), None)


@dataclass(frozen=True)
class Foretold:
    """What a form, fitted to the years up to `origin`, says of a later year, beside what was listed for it."""

    form: str
    origin: int
    year: int
    listed_gb: float
    forecast: Forecast

    @property
    def factor(self) -> float:
        """How many times too large it is; zero or less where the form foretells no memory at all."""
        return self.forecast.middle / self.listed_gb

    @property
    def error(self) -> float:
        """By what factor it is off, either way; infinite where it foretells no memory at all."""
        return max(self.factor, 1 / self.factor) if self.factor > 0 else inf

    @property
    def covered(self) -> bool:
        return self.forecast.low <= self.listed_gb <= self.forecast.high


def back_test(years: Floats, gb: Floats, forms: Sequence[str] = tuple(FORMS)) -> list[Foretold]:
    """Each form fitted to the first `FEWEST` years, and again with each further one, and asked for all that follow.

    Args:
        years, gb: shape (years,), years ascending.
    """
    found = []
    for form in forms:
        for count in range(FEWEST, len(years)):
            fit = FORMS[form](years[:count], gb[:count])
            found += [
                Foretold(form, int(years[count - 1]), int(year), float(listed), fit.at(float(year)))
                for year, listed in zip(years[count:], gb[count:], strict=True)
            ]
    return found

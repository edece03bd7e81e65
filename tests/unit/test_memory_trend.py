"""The memory trend: known curves are found again, intervals cover, and no forecast sees what it foretells."""

from __future__ import annotations

from dataclasses import replace
from math import inf, log
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import vl_convert

from deepgap.analyse.memory_trend import (
    FEWEST,
    FORMS,
    Floats,
    LinearFit,
    LogisticFit,
    aicc,
    back_test,
    doubling_years,
    first_fall,
    year_of,
)
from deepgap.analyse.training.cells import TRAINING_CELLS
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.errors import DeepGapError
from deepgap.paper.charts.picture import FONTS
from deepgap.paper.charts.theme import PAGE_WIDTH
from deepgap.paper.latex import render
from deepgap.paper.training import load_figure, load_table
from deepgap.published.democratizing import DEMOCRATIZING
from deepgap.published.gpu_memory import read_gpu_memory, yearly_maxima
from tests.unit.synthetic import GPUS, ROOT

FILE = ROOT / "data/published/gpu_memory_epoch.csv"
YEARS = np.arange(2008.0, 2026.0)
EXPONENTIAL = 2.0 ** ((YEARS - 2008) / 2.5)


def summary() -> TrainingSummary:
    published = DEMOCRATIZING.to_frame()
    cells = TRAINING_CELLS.to_frame()
    return TrainingSummary(cells=cells, published=published, gpu_memory=read_gpu_memory(FILE, GPUS), gpus=GPUS)


def largest() -> tuple[Floats, Floats]:
    found = summary().largest_memory
    years, gb = (found[name].to_numpy().astype(float) for name in ("year", "memory_gb"))
    return years, gb


def logistic(years: Floats, ceiling: float) -> Floats:
    return np.asarray(ceiling / (1 + np.exp(-(years - 2016) / 1.5)))


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_a_polynomial_is_found_again(degree: int) -> None:
    def curve(year: float) -> float:
        return 5 + sum(((year - 2000) / 10) ** power for power in range(1, degree + 1))

    fit = FORMS[f"degree {degree}"](YEARS, np.array([curve(year) for year in YEARS]))
    forecast = fit.at(2035)
    assert forecast.middle == pytest.approx(curve(2035), rel=1e-6)
    assert forecast.low == pytest.approx(forecast.high, rel=1e-4)


def test_an_exponential_is_found_again_and_the_logistic_sees_no_ceiling() -> None:
    fit = FORMS["exponential"](YEARS, EXPONENTIAL)
    assert fit.at(2040).middle == pytest.approx(2.0 ** (32 / 2.5))
    assert isinstance(fit, LinearFit)
    assert doubling_years(fit) == pytest.approx((2.5, 2.5, 2.5))
    noise = np.exp(np.random.default_rng(1).normal(0, 0.3, len(YEARS)))
    logistic_fit = LogisticFit(YEARS, EXPONENTIAL * noise)
    assert logistic_fit.ceiling[2] == inf
    assert logistic_fit.at(2030).high >= FORMS["exponential"](YEARS, EXPONENTIAL * noise).at(2030).middle


def test_a_ceiling_is_found_where_the_data_reach_it() -> None:
    random, hits = np.random.default_rng(2), []
    for _ in range(40):
        fit = LogisticFit(YEARS, logistic(YEARS, 100) * np.exp(random.normal(0, 0.05, len(YEARS))))
        best, low, high = fit.ceiling
        hits.append(low <= 100 <= high)
        assert low < best < high < 130
        assert fit.at(2060).middle == pytest.approx(best, rel=0.01)
    assert np.mean(hits) > 0.85


def covered(form: str, curve: Floats, ahead: Floats, truth: Floats, trials: int, logarithmic: bool) -> float:
    """The part of new values that lie in the interval, over trials with new errors each."""
    random = np.random.default_rng(3)
    hits = []
    for _ in range(trials):
        errors, later = (random.normal(0, 0.4, len(values)) for values in (curve, truth))
        gb = curve * np.exp(errors) if logarithmic else curve + errors
        new = truth * np.exp(later) if logarithmic else truth + later
        fit = FORMS[form](YEARS, gb)
        hits += [fit.at(year).low <= value <= fit.at(year).high for year, value in zip(ahead, new, strict=True)]
    return float(np.mean(hits))


AHEAD = np.array([2026.0, 2030.0])


@pytest.mark.parametrize("degree", [2, 4])
def test_intervals_of_polynomials_cover(degree: int) -> None:
    curve, truth = (50 + 3 * (years - 2008) + 0.2 * (years - 2012) ** 2 for years in (YEARS, AHEAD))
    assert 0.93 < covered(f"degree {degree}", curve, AHEAD, truth, 500, logarithmic=False) < 0.97


def test_intervals_of_the_exponential_cover() -> None:
    truth = 2.0 ** ((AHEAD - 2008) / 2.5)
    assert 0.93 < covered("exponential", EXPONENTIAL, AHEAD, truth, 500, logarithmic=True) < 0.97


@pytest.mark.parametrize("ceiling", [300.0, 1e5])
def test_intervals_of_the_logistic_cover_at_least(ceiling: float) -> None:
    """The envelope over ceilings may cover more."""
    curve, truth = logistic(YEARS, ceiling), logistic(AHEAD, ceiling)
    assert covered("logistic", curve, AHEAD, truth, 60, logarithmic=True) > 0.91


@pytest.mark.parametrize("form", FORMS)
def test_neither_the_zero_of_years_nor_the_unit_matters(form: str) -> None:
    years, gb = largest()
    fit, moved, smaller = FORMS[form](years, gb), FORMS[form](years - 2000, gb), FORMS[form](years, gb * 1000)
    assert moved.at(30).middle == pytest.approx(fit.at(2030).middle, rel=1e-3)
    assert smaller.at(2030).middle == pytest.approx(1000 * fit.at(2030).middle, rel=1e-3)
    # The density of values a thousand times as large is a thousandth, whatever the form.
    assert aicc(smaller, len(gb)) - aicc(fit, len(gb)) == pytest.approx(2 * len(gb) * log(1000), rel=1e-6)


def test_aicc_prefers_the_form_that_made_the_data() -> None:
    gb = EXPONENTIAL * np.exp(np.random.default_rng(4).normal(0, 0.2, len(YEARS)))
    scores = {form: aicc(fit(YEARS, gb), len(gb)) for form, fit in FORMS.items()}
    assert min(scores, key=lambda form: scores[form]) == "exponential"


def test_no_forecast_sees_what_it_foretells() -> None:
    years, gb = largest()
    changed = gb.copy()
    changed[-1] *= 7
    for one, other in zip(back_test(years, gb), back_test(years, changed), strict=True):
        assert (one.form, one.origin, one.year) == (other.form, other.origin, other.year)
        assert one.forecast == other.forecast and one.year > one.origin
    count = len(years) - FEWEST
    assert len(back_test(years, gb, ["degree 2"])) == count * (count + 1) / 2


def test_a_parabola_falls_before_it_rises() -> None:
    fit = FORMS["degree 2"](YEARS, (YEARS - 2012) ** 2 + 1)
    assert first_fall(fit, 2008, 2030) == 2009
    assert first_fall(fit, 2012, 2030) is None
    assert year_of(fit, 101, 2012, 2030) == 2022
    assert year_of(fit, 1e6, 2012, 2030) is None


def test_what_the_back_test_says_of_the_published_projection() -> None:
    """The sentences of the paper: polynomials foretell no memory at all, and the data have no ceiling."""
    years, gb = largest()
    foretold = back_test(years, gb)
    assert any(one.factor <= 0 for one in foretold if one.form == "degree 4")
    assert not any(one.factor <= 0 for one in foretold if one.form == "exponential")
    _, low, high = LogisticFit(years, gb).ceiling
    assert low < 287.5 and high == inf
    fit = FORMS["exponential"](years, gb)
    assert isinstance(fit, LinearFit)
    middle, least, most = doubling_years(fit)
    assert least < 2.4 < most and middle == pytest.approx(2.3, abs=0.05)


def test_known_defects_of_the_list_are_put_right() -> None:
    found = read_gpu_memory(FILE, GPUS)
    sizes = dict(found.select("gpu", "memory_gb").iter_rows())
    assert found.height == FILE.read_text(encoding="utf-8").count("\n") - 1 - 3 + 1
    assert not {"A100", "P100", "Tesla K40t"} & set(sizes)
    assert (sizes["Tesla K80"], sizes["TESLA M60"], sizes["H200"]) == (12, 8, 141)
    years = yearly_maxima(found)["year"].to_list()
    assert years == sorted(set(years)) and {2009, 2011}.isdisjoint(years)
    without = read_gpu_memory(FILE, {key: gpu for key, gpu in GPUS.items() if key != "H200"})
    assert set(found["gpu"]) - set(without["gpu"]) == {"H200"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("2016-04-05", "soon"), "line 19"),
        (("2016-04-05,16", "2016-04-05,-16"), "line 19"),
        (("memory_gb,", "size,"), "no column memory_gb"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "list.csv").write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(DeepGapError, match=said):
        read_gpu_memory(tmp_path / "list.csv", GPUS)
    with pytest.raises(DeepGapError, match="missing"):
        read_gpu_memory(tmp_path / "none.csv", GPUS)


def test_the_table_and_the_figure_show_every_form() -> None:
    context = load_table("memory_trend")(summary())
    assert [row["form"] for row in context["rows"]] == list(FORMS)
    text = render(ROOT / "paper/templates/training/memory_trend.tex.j2", context)
    assert all(form in text for form in FORMS) and "None" not in text
    spec = load_figure("memory_trend")(summary()).to_dict()
    vl_convert.register_font_directory(str(FONTS))
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert all(form in svg for form in FORMS) and "NaN" not in svg
    assert float(svg.partition('width="')[2].partition('"')[0]) <= PAGE_WIDTH


def test_few_years_are_a_sentence() -> None:
    few = replace(summary(), gpu_memory=summary().gpu_memory.filter(pl.col("year") < 2015))
    assert "has 5 years" in str(load_figure("memory_trend")(few).to_dict())
    template = ROOT / "paper/templates/training/memory_trend.tex.j2"
    assert "too few years" in render(template, load_table("memory_trend")(few))

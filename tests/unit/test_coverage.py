"""How often the printed intervals hold the truth, in simulated families with the effects that real ones have.

Times are e to the sum of an effect of the card, one of the block (card and moment, shared by its modes), one of the
process, and one of each run within it. Processes spread four times as much as the runs in one, as in the first set.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference

from deepgap.stats import median_coverage, median_interval, paired_ends, unpaired_ends, wilson

DRAWS = 20_000
ALLOWANCE = 0.015
SWEEPS = (6, 9, 10)
PROCESS, RUN, CARD, BLOCK = 0.0076, 0.002, 0.005, 0.02
DISTRIBUTIONS = {
    "normal": reference.norm(),
    "t3": reference.t(3),
    "lognormal": reference.lognorm(1.0, loc=-1.0),
}
"""All with a median of zero."""

cases = pytest.mark.parametrize(("name", "sweeps"), [(name, sweeps) for name in DISTRIBUTIONS for sweeps in SWEEPS])


def draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    generator = np.random.default_rng([seed, *name.encode()])
    values = DISTRIBUTIONS[name].ppf(generator.random(shape))
    return np.asarray(values)


def processes(name: str, sweeps: int, seed: int = 0, runs: int = 1, spread: float = PROCESS) -> np.ndarray:
    """Logarithms of one value a sweep, shape (DRAWS, sweeps), of median zero: a process's median over its runs."""
    within = np.median(RUN * np.random.default_rng(seed).normal(size=(DRAWS, sweeps, runs)), axis=-1)
    return spread * draw(name, (DRAWS, sweeps), seed) + within


def covered(ends: tuple[np.ndarray, np.ndarray], truth: np.ndarray | float) -> float:
    return float(np.mean((ends[0] <= truth) & (truth <= ends[1])))


def mixture_median(name: str, cards: np.ndarray, spread: float) -> np.ndarray:
    """The median of the equal mixture of the processes of each draw's cards, shape (DRAWS, cards), by bisection."""
    low, high = cards.min(axis=1), cards.max(axis=1)
    for _ in range(40):
        middle = (low + high) / 2
        below = DISTRIBUTIONS[name].cdf((middle[:, None] - cards) / spread).mean(axis=1) < 0.5
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


@cases
@pytest.mark.parametrize("runs", [1, 3])
def test_a_family_on_one_card_and_on_as_many_as_sweeps(name, sweeps, runs):
    """On one card the truth is that card's median; where each sweep has a card of its own it is that of all cards."""
    nominal = median_coverage(sweeps)
    values = processes(name, sweeps, runs=runs) + CARD * draw(name, (DRAWS, 1), 1)
    # The noise of the runs is symmetric and small, but moves a skewed distribution's median a little.
    truth = np.median(processes(name, sweeps, 2, runs))
    assert covered(median_interval(np.exp(values)), np.exp(truth + CARD * draw(name, (DRAWS, 1), 1)[:, 0])) >= (
        nominal - ALLOWANCE
    )
    many = processes(name, sweeps, runs=runs) + CARD * np.random.default_rng(3).normal(size=(DRAWS, sweeps))
    truth = np.median(processes(name, sweeps, 4, runs) + CARD * np.random.default_rng(5).normal(size=(DRAWS, sweeps)))
    assert covered(median_interval(np.exp(many)), np.exp(truth)) >= nominal - ALLOWANCE


@cases
def test_a_family_on_two_cards_covers_the_median_of_these_two(name, sweeps):
    cards = CARD * np.random.default_rng(6).normal(size=(DRAWS, 2)) * 2
    values = PROCESS * draw(name, (DRAWS, sweeps), 7) + cards[:, np.arange(sweeps) % 2]
    weights = np.bincount(np.arange(sweeps) % 2)
    repeated = np.repeat(cards, weights, axis=1)
    truth = mixture_median(name, repeated, PROCESS)
    assert covered(median_interval(np.exp(values)), np.exp(truth)) >= median_coverage(sweeps) - ALLOWANCE


@cases
def test_a_paired_ratio(name, sweeps):
    """Blocks move both modes by far more than the processes differ, and a card suits one mode more than the other."""
    block = BLOCK * draw(name, (DRAWS, sweeps), 8)

    def modes(seed: int) -> tuple[np.ndarray, np.ndarray]:
        suits = 0.3 * CARD * np.random.default_rng(seed).normal(size=(DRAWS, sweeps))
        return processes(name, sweeps, seed, spread=2 * PROCESS) + suits, processes(name, sweeps, seed + 1)

    top, bottom = modes(9)
    other_top, other_bottom = modes(20)
    truth = np.median(other_top - other_bottom)
    ends = paired_ends(np.exp(0.5 + block + top), np.exp(block + bottom))
    assert covered(ends, np.exp(0.5 + truth)) >= median_coverage(sweeps) - ALLOWANCE
    unpaired = unpaired_ends(np.exp(0.5 + block + top), np.exp(block + bottom))
    assert np.median(ends[1] - ends[0]) < np.median(unpaired[1] - unpaired[0])


@cases
@pytest.mark.parametrize("other", list(DISTRIBUTIONS))
@pytest.mark.parametrize("spread", [1, 10])
def test_an_unpaired_ratio_of_two_kinds_of_device(name, sweeps, other, spread):
    top, bottom = PROCESS * spread * draw(name, (DRAWS, sweeps), 11), PROCESS * draw(other, (DRAWS, 6), 12)
    ends = unpaired_ends(np.exp(0.3 + top), np.exp(bottom))
    assert covered(ends, np.exp(0.3)) >= median_coverage(sweeps) - ALLOWANCE


def test_a_share_of_images_on_the_average_over_shares():
    generator = np.random.default_rng(13)
    for count in (256, 1000):
        shares = generator.uniform(0.9, 1.0, 4000)
        intervals = {k: wilson(k, count) for k in range(count + 1)}
        ends = np.array([intervals[int(k)] for k in generator.binomial(count, shares)])
        assert covered((ends[:, 0], ends[:, 1]), shares) >= 0.95 - ALLOWANCE


@cases
def test_the_tie_set_of_a_peak_holds_the_best_batch_size(name, sweeps):
    """Of eight batch sizes three are equally good, and each of them should be among the tied."""
    curve = np.log([0.5, 0.7, 0.9, 0.97, 1.0, 1.0, 1.0, 0.98])
    values = np.stack([processes(name, sweeps, 30 + i) + level for i, level in enumerate(curve)], axis=1)
    best = np.argmax(np.median(values, axis=-1), axis=1)
    against = np.take_along_axis(values, best[:, None, None], axis=1)
    _, high = paired_ends(np.exp(values), np.exp(against))
    for place in (4, 5, 6):
        assert np.mean(high[:, place] >= 1) >= 0.95 - ALLOWANCE

# SPDX-License-Identifier: Apache-2.0
"""p-values that look for one kind of fault each, where it is most visible."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tests.draw.models import Sampler

Ints = NDArray[np.int64]


def chi_square(counts: NDArray, probs: NDArray) -> float:
    """Return the p-value of counts whose cells with less than five expected are put together."""
    expected = probs * counts.sum()
    order = np.argsort(-expected)
    counts, expected = counts[order], expected[order]
    large = max(1, int(np.count_nonzero(expected >= 5)))
    if large < counts.size and expected[large:].sum() < 5 and large > 1:
        large -= 1
    edges = np.arange(min(large + 1, counts.size))
    counts, expected = np.add.reduceat(counts, edges), np.add.reduceat(expected, edges)
    return float(stats.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue)


def lattice(sampler: Sampler, draws: int, seed: int) -> float:
    """Compare tokens that own one point of a 24-bit lattice with tokens that own two.

    All light tokens have a share of 1.5 points, so half own one point and half own two: a sampler of 24 bits
    gives the second half twice as many draws. With so light tokens a few hundred hits decide it.
    """
    light = 4096
    row = np.full(light + 1, np.log(1.5 * 2.0**-24 / (1 - light * 1.5 * 2.0**-24)), dtype=np.float32)
    row[-1] = 0
    weights = np.exp(row.astype(np.float64))
    points = np.diff(np.ceil(np.cumsum(weights) / weights.sum() * 2.0**24), prepend=0)[:-1]
    tokens = sampler(row, seed, 0, np.arange(draws))
    owned = points[tokens[tokens < light]]
    share = float(np.mean(points == points.max()))
    hits = stats.binomtest(int(np.count_nonzero(owned == points.max())), owned.size, share).pvalue
    rate = stats.binomtest(owned.size, draws, float(weights[:-1].sum() / weights.sum())).pvalue
    return _smallest(hits, rate)


def folded_borders(sampler: Sampler, draws: int, seed: int, period: int = 1024) -> float:
    """Fold the tokens onto one period; contrast its first place with its last.

    Both together have a third of the mass, so that a fault at few borders is seen in few draws.
    """
    fold = np.zeros(period, dtype=np.float32)
    fold[[0, -1]] = np.log(period / 4)
    tokens = sampler(np.tile(fold, 4096 // period), seed, 3, np.arange(draws))
    counts = np.bincount(tokens % period, minlength=period)
    whole = chi_square(counts, np.exp(fold, dtype=np.float64) / np.exp(fold, dtype=np.float64).sum())
    contrast = stats.binomtest(int(counts[0]), int(counts[0] + counts[-1])).pvalue
    return _smallest(whole, contrast)


PAIR_VOCAB, PAIR_BINS = 256, 16
LAGS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))


def pairs(sampler: Sampler, rows: int, steps: int, seed: int) -> float:
    """Tabulate neighbouring draws over six lags of row and step, and count where they are equal."""
    grid = _grid(sampler, rows, steps, seed)
    return _smallest(*(value for lag in LAGS for value in _pair(grid, *lag)))


def _grid(sampler: Sampler, rows: int, steps: int, seed: int) -> Ints:
    return sampler(np.zeros(PAIR_VOCAB, dtype=np.float32), seed, np.arange(rows)[:, None], np.arange(steps))


def _pair(grid: Ints, row_lag: int, step_lag: int) -> tuple[float, float]:
    rows, steps = grid.shape
    here = grid[: rows - row_lag, max(0, -step_lag) : steps - max(0, step_lag)]
    there = grid[row_lag:, max(0, step_lag) : steps + min(0, step_lag)]
    bins = (here * PAIR_BINS // PAIR_VOCAB) * PAIR_BINS + there * PAIR_BINS // PAIR_VOCAB
    table = np.bincount(bins.ravel(), minlength=PAIR_BINS**2)
    equal = int(np.count_nonzero(here == there))
    return stats.chisquare(table).pvalue, stats.binomtest(equal, here.size, 1 / PAIR_VOCAB).pvalue


def gaps(sampler: Sampler, rows: int, steps: int, seed: int) -> float:
    """Compare how long one sixteenth of the tokens stays away with a geometric law, rows read first."""
    sequence = _grid(sampler, rows, steps, seed).T.ravel()
    visits = np.flatnonzero(sequence < PAIR_VOCAB // PAIR_BINS)
    longest = 64
    counts = np.bincount(np.minimum(np.diff(visits) - 1, longest), minlength=longest + 1)
    chance = 1 / PAIR_BINS
    probs = chance * (1 - chance) ** np.arange(longest + 1)
    probs[-1] /= chance
    return chi_square(counts, probs)


def shifted_coincidences(sampler: Sampler, seed: int) -> float:
    """Count equal draws between neighbouring seeds and rows, over all shifts by one of either."""
    seeds, rows, steps, vocab = 4, 64, 512, 4096
    place = np.arange(seeds)[:, None, None] + seed, np.arange(rows)[:, None], np.arange(steps)
    cube = sampler(np.zeros(vocab, dtype=np.float32), *place)
    values = []
    for row_lag in (-1, 0, 1):
        low, high = max(0, -row_lag), rows - max(0, row_lag)
        equal = cube[:-1, low:high] == cube[1:, low + row_lag : high + row_lag]
        values.append(stats.binomtest(int(np.count_nonzero(equal)), equal.size, 1 / vocab).pvalue)
    return _smallest(*values)


def fit(sampler: Sampler, row: NDArray[np.float32], draws: int, seed: int) -> float:
    """Compare draws of one row with its probabilities."""
    weights = np.exp(row.astype(np.float64) - row.max())
    counts = np.bincount(sampler(row, seed, 1, np.arange(draws)), minlength=row.size)
    assert counts[weights == 0].sum() == 0
    return chi_square(counts, weights / weights.sum())


def _smallest(*values: float) -> float:
    """Return the smallest of several p-values, corrected for their number."""
    return min(1.0, len(values) * min(values))

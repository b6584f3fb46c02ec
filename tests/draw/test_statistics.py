# SPDX-License-Identifier: Apache-2.0
"""The core passes each statistic, and a sampler with the fault it looks for does not.

Seeds are fixed, so no run fails by chance. A p-value below ALARM fails: under new seeds each statistic would
raise a false alarm once in a million runs, all of this file together less than once in 50,000.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from tests.draw import models, statistics

ALARM = 1e-6

Statistic = Callable[[models.Sampler], float]

# As many draws as the weakest planted fault needs.
STATISTICS: dict[str, Statistic] = {
    "lattice": lambda sampler: statistics.lattice(sampler, 1_500_000, seed=101),
    "tile borders": lambda sampler: statistics.folded_borders(sampler, 200_000, seed=102),
    "lane borders": lambda sampler: statistics.folded_borders(sampler, 600_000, seed=103, period=32),
    "pairs": lambda sampler: statistics.pairs(sampler, 512, 1024, seed=104),
    "gaps": lambda sampler: statistics.gaps(sampler, 16, 30_000, seed=105),
    "seeds": lambda sampler: statistics.shifted_coincidences(sampler, seed=106),
    "levels": lambda sampler: statistics.fit(sampler, np.zeros(4096, dtype=np.float32), 200_000, seed=107),
}

FAULTS: dict[str, tuple[str, models.Sampler]] = {
    "24-bit uniform": ("lattice", models.flat(models.coarse(24))),
    "every tile border off by one": ("tile borders", models.off_by_one(1024, 1.0)),
    "a fifth of the tile borders off by one": ("tile borders", models.off_by_one(1024, 0.2)),
    "a tenth of the tile borders off by one": ("tile borders", models.off_by_one(1024, 0.1)),
    "a fiftieth of the lane borders off by one": ("lane borders", models.off_by_one(32, 0.02)),
    "no row in the counter": ("pairs", models.nested(models.without_stream)),
    "counter of row plus step": ("pairs", models.nested(models.stream_plus_step)),
    "a hundredth copied from the row above": ("pairs", models.nested(models.copied_from_the_row_above(0.01))),
    "rows correlated by 0.02": ("pairs", models.nested(models.correlated_with_the_row_above(0.02))),
    "counter of row plus step, seen by gaps": ("gaps", models.nested(models.stream_plus_step)),
    "key of seed plus row": ("seeds", models.nested(models.stream_in_the_seed)),
    "one block for all levels": ("levels", models.nested(models.one_block_for_all_levels)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_the_core_passes(name: str) -> None:
    assert STATISTICS[name](models.core) > ALARM


@pytest.mark.parametrize("name", STATISTICS)
def test_the_right_model_passes(name: str) -> None:
    assert STATISTICS[name](models.nested()) > ALARM


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    name, sampler = FAULTS[fault]
    assert STATISTICS[name](sampler) < ALARM


ROWS = {
    "normal": np.random.default_rng(1).normal(0, 2, 2049).astype(np.float32),
    "peaked": np.random.default_rng(2).normal(0, 5, 1025).astype(np.float32),
    "small": np.float32([0.3, -1.0, 2.0]),
    "holes": np.where(np.arange(3000) % 7 < 3, -np.inf, np.linspace(-3, 3, 3000)).astype(np.float32),
    "uneven tiles": np.repeat(np.float32([-6, 2, -9, 0.5]), 1024),
}


@pytest.mark.parametrize("name", ROWS)
def test_draws_fit_the_probabilities(name: str) -> None:
    assert statistics.fit(models.core, ROWS[name], 200_000, seed=108) > ALARM


FITS, DRAWS_PER_FIT = 400, 2000


def p_values(sampler: models.Sampler) -> list[float]:
    row = np.random.default_rng(3).normal(0, 0.7, 60).astype(np.float32)
    return [statistics.fit(sampler, row, DRAWS_PER_FIT, seed) for seed in range(FITS)]


def test_p_values_of_the_core_are_uniform() -> None:
    """A test whose p-values are not uniform where nothing is wrong would be blind or cry wolf."""
    assert stats.kstest(p_values(models.core), "uniform").pvalue > ALARM


def test_p_values_of_too_even_draws_are_not_uniform() -> None:
    """Steps spaced evenly over the unit interval fit too well: chi-square alone never objects."""

    def even(seeds: np.ndarray, streams: np.ndarray, steps: np.ndarray, index: int) -> np.ndarray:
        return (steps * 0.6180339887498949 + 0.1 * index + seeds * 0.37) % 1.0

    values = p_values(models.flat(even))
    assert min(values) > ALARM
    assert stats.kstest(values, "uniform").pvalue < ALARM

# SPDX-License-Identifier: Apache-2.0
"""Intervals for means and shares of a few observations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tokendraw.lab.extras import extra

__all__ = ["Interval", "bootstrap_interval", "mean_interval", "share_interval"]

Observation = TypeVar("Observation")


class Interval(NamedTuple):
    """An estimate with its interval of confidence.

    Attributes
    ----------
    low, value, high : float
        The estimate between its bounds; NaN bounds where one observation allows none.
    """

    low: float
    value: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside; an interval without bounds excludes nothing."""
        return self.low > 0 or self.high < 0


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of independent observations with Student's interval.

    For paired observations, `values` are the differences of the pairs.

    Parameters
    ----------
    values : array_like of shape [n]
        Observations, n >= 1.
    confidence : float, default 0.95
        How often such an interval holds the true mean, were the observations normal.

    Returns
    -------
    Interval
        Without bounds (NaN) for one observation.

    References
    ----------
    Student (1908). The probable error of a mean. Biometrika 6.

    Examples
    --------
    >>> print(mean_interval([1.0, 2.0, 3.0]))
    2.0000 [-0.4841, 4.4841]
    """
    observed = _observations(values)
    mean = float(observed.mean())
    if observed.size == 1:
        return Interval(math.nan, mean, math.nan)
    error = float(observed.std(ddof=1)) / math.sqrt(observed.size)
    reach = error * float(_stats().t.ppf((1 + confidence) / 2, observed.size - 1))
    return Interval(mean - reach, mean, mean + reach)


def share_interval(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Return the share of successes with Wilson's interval.

    Parameters
    ----------
    successes : float
        How often it was so. A trial may be a success in part: such trials vary less than whole ones, so the
        interval is not too narrow for them.
    trials : int
        Of how many times.
    confidence : float, default 0.95
        How often such an interval holds the true share, nearly.

    Returns
    -------
    Interval
        Within [0, 1].

    References
    ----------
    Wilson (1927). Probable inference, the law of succession, and statistical inference. JASA 22.

    Examples
    --------
    >>> print(share_interval(8, 10))
    0.8000 [0.4902, 0.9433]
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"successes must be in [0, trials] and trials >= 1, got {successes} of {trials}")
    share = float(successes / trials)
    deviate = float(_stats().norm.ppf((1 + confidence) / 2))
    weight = deviate**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    reach = deviate * math.sqrt(share * (1 - share) / trials + weight / trials / 4) / (1 + weight)
    # At 0 and 1 a bound equals the share but for rounding.
    return Interval(min(max(centre - reach, 0.0), share), share, max(min(centre + reach, 1.0), share))


def bootstrap_interval(
    observations: Sequence[Observation],
    statistic: Callable[[Sequence[Observation]], float],
    confidence: float = 0.95,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of independent observations with the percentile interval of its bootstrap.

    Parameters
    ----------
    observations : sequence
        At least one, of any kind.
    statistic : callable
        Takes observations, returns a number.
    confidence : float, default 0.95
        How often such an interval holds the true value, nearly, for many observations.
    resamples : int, default 1000
        How many samples to draw from the observations, with replacement.
    seed : int, default 0
        Of the samples.

    Returns
    -------
    Interval
        Without bounds (NaN) for one observation.

    References
    ----------
    Efron (1979). Bootstrap methods: another look at the jackknife. Annals of Statistics 7.

    Examples
    --------
    >>> low, value, high = bootstrap_interval(range(100), max)
    >>> value, low < high
    (99.0, True)
    """
    count = len(observations)
    if count == 0 or resamples < 1:
        raise ValueError(f"observations and resamples must be >= 1, got {count} and {resamples}")
    value = float(statistic(observations))
    if count == 1:
        return Interval(math.nan, value, math.nan)
    source = np.random.default_rng(seed)
    drawn = [
        statistic([observations[place] for place in source.integers(count, size=count)])
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), value, float(high))


def _observations(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    observed = np.asarray(values, dtype=np.float64)
    if observed.ndim != 1 or observed.size == 0:
        raise ValueError(f"values must have the shape [n] with n >= 1, got {list(observed.shape)}")
    return observed


def _stats() -> Any:
    return extra("scipy.stats", "intervals")

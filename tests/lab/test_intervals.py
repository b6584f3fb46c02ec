# SPDX-License-Identifier: Apache-2.0
"""Intervals, against scipy's own and by how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from tokendraw.lab.intervals import Interval, bootstrap_interval, mean_interval, share_interval


@pytest.mark.parametrize("size", [2, 3, 59])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_mean_has_students_interval(size, confidence):
    values = np.random.default_rng(size).normal(3, 2, size)
    low, value, high = mean_interval(values, confidence)
    expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 40), (3, 7), (40, 40), (499, 1000)])
def test_a_share_has_wilsons_interval(successes, trials):
    low, value, high = share_interval(successes, trials)
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert value == successes / trials
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= value <= high <= 1


def test_one_observation_has_no_bounds():
    low, value, high = mean_interval([0.5])
    assert value == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    assert not mean_interval([0.5]).excludes_zero


def test_what_excludes_zero():
    assert Interval(0.1, 0.2, 0.3).excludes_zero
    assert Interval(-0.3, -0.2, -0.1).excludes_zero
    assert not Interval(-0.1, 0.2, 0.5).excludes_zero


@pytest.mark.parametrize(("values", "shape"), [([], r"\[0\]"), (1.0, r"\[\]"), ([[1.0, 2.0]], r"\[1, 2\]")])
def test_observations_are_a_list(values, shape):
    with pytest.raises(ValueError, match=rf"values must have the shape \[n\] with n >= 1, got {shape}$"):
        mean_interval(values)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_successes_are_among_trials(successes, trials):
    message = rf"successes must be in \[0, trials\] and trials >= 1, got {successes} of {trials}$"
    with pytest.raises(ValueError, match=message):
        share_interval(successes, trials)


def test_a_bootstrap_of_a_mean_is_students_interval_nearly():
    values = np.random.default_rng(4).normal(3, 2, 400).tolist()
    low, value, high = bootstrap_interval(values, np.mean, resamples=4000)
    expected = mean_interval(values)
    assert value == pytest.approx(expected.value)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert bootstrap_interval(values, np.mean, seed=1) == bootstrap_interval(values, np.mean, seed=1)
    assert bootstrap_interval(values, np.mean, seed=1) != bootstrap_interval(values, np.mean, seed=2)
    narrow = bootstrap_interval(values, np.mean, 0.5)
    assert low < narrow.low < narrow.high < high


def test_a_bootstrap_of_one_has_no_bounds():
    low, value, high = bootstrap_interval(["a"], len)
    assert value == 1.0
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(("observations", "resamples"), [([], 10), ([1], 0)])
def test_a_bootstrap_needs_observations(observations, resamples):
    message = f"observations and resamples must be >= 1, got {len(observations)} and {resamples}"
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(observations, len, resamples=resamples)


def test_a_share_of_parts_has_the_interval_of_as_many_successes():
    assert share_interval(2.0, 5) == share_interval(2, 5)
    assert share_interval(1.9, 5).value < share_interval(2, 5).value

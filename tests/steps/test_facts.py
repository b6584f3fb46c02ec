# SPDX-License-Identifier: Apache-2.0
"""The examples of the contract, and those that other systems publish, each on every instruction set."""

from typing import Any

import numpy as np
import pytest

import tokendraw as td

pytestmark = pytest.mark.usefixtures("isa")


def kept(logits: Any, **filters: Any) -> list[int]:
    return sorted(td.kept_set(np.asarray(logits, dtype=np.float32), **filters).tokens.tolist())


def log(*probs: float) -> np.ndarray:
    return np.log(np.array(probs, dtype=np.float32))


@pytest.mark.parametrize(
    ("probs", "top_p", "tokens"),
    [
        ([0.5, 0.5], 0.5, [0]),
        ([0.25] * 4, 0.5, [0, 1]),
        ([0.25] * 4, 0.6, [0, 1, 2]),
        ([0.4, 0.3, 0.2, 0.1], 0.7, [0, 1]),
        ([0.4, 0.3, 0.2, 0.1], 1e-8, [0]),
        ([0.1, 0.2, 0.3, 0.4], 0.7, [2, 3]),
        ([0.5, 0.25, 0.125, 0.125], 0.75, [0, 1]),
        ([0.4, 0.3, 0.2, 0.1], 1.0, [0, 1, 2, 3]),
        ([0.9, 0.1], 0.9, [0]),
        ([0.1] * 10, 0.3, [0, 1, 2]),
    ],
)
def test_top_p_keeps_the_token_that_reaches_it(probs: list[float], top_p: float, tokens: list[int]) -> None:
    assert kept(log(*probs), top_p=top_p) == tokens


@pytest.mark.parametrize("offset", [-15.0, -3.0, 0.0, 11.0, 15.0])
@pytest.mark.parametrize("count", [2, 4, 8, 1024, 4096])
def test_equal_logits_are_split_exactly(count: int, offset: float) -> None:
    assert kept(np.full(count, offset), top_p=0.5) == list(range(count // 2))


def test_temperature_comes_before_top_p() -> None:
    assert kept([3, 2, 1], temperature=0.5, top_p=0.8) == [0]
    assert kept([3, 2, 1], top_p=0.8) == [0, 1]


def test_top_p_measures_what_top_k_left() -> None:
    assert kept(log(0.4, 0.3, 0.2, 0.1), top_k=2, top_p=0.5) == [0]
    assert kept(log(0.4, 0.3, 0.2, 0.1), top_p=0.5) == [0, 1]


def test_min_p_comes_after_top_p() -> None:
    assert kept(log(0.5, 0.3, 0.1, 0.06, 0.04), min_p=0.3, top_p=0.6) == [0, 1]


@pytest.mark.parametrize(
    ("filters", "probs"),
    [
        ({"temperature": 1.0}, [0.1, 0.2, 0.3, 0.4]),
        ({"temperature": 0.0}, [0, 0, 0, 1.0]),
        ({"top_k": 1}, [0, 0, 0, 1]),
        ({"top_k": 3}, [0, 0.222222, 0.333333, 0.444444]),
        ({"top_k": 4}, [0.1, 0.2, 0.3, 0.4]),
        ({"top_k": 0}, [0.1, 0.2, 0.3, 0.4]),
        ({"top_p": 0.7}, [0, 0, 0.428571, 0.571429]),
        ({"top_p": 0.8}, [0, 0.222222, 0.333333, 0.444444]),
        ({"top_p": 1.0}, [0.1, 0.2, 0.3, 0.4]),
        ({"min_p": 0.0}, [0.1, 0.2, 0.3, 0.4]),
        ({"min_p": 0.24}, [0.1, 0.2, 0.3, 0.4]),
        ({"min_p": 0.26}, [0, 0.222222, 0.333333, 0.444444]),
        ({"min_p": 0.49}, [0, 0.222222, 0.333333, 0.444444]),
        ({"min_p": 0.51}, [0, 0, 0.428571, 0.571429]),
        ({"min_p": 0.74}, [0, 0, 0.428571, 0.571429]),
        ({"min_p": 0.76}, [0, 0, 0, 1]),
        ({"min_p": 1.0}, [0, 0, 0, 1]),
    ],
)
def test_public_cases_of_llama_cpp(filters: dict[str, Any], probs: list[float]) -> None:
    """The cases of tests/test-sampling.cpp of llama.cpp for these four steps, to its tolerance."""
    np.testing.assert_allclose(td.softmax(log(0.1, 0.2, 0.3, 0.4), **filters), probs, atol=1e-5)


@pytest.mark.parametrize("min_p", [0.1, 9997.9 / 9999])
@pytest.mark.parametrize("top_p", [0.8, 0.0003])
def test_logarithms_of_integers(top_p: float, min_p: float) -> None:
    """Probabilities in proportion to 1 .. 10000, as llama.cpp's queue tests: the survivors in closed form."""
    size, top_k = 10000, 100
    logits = np.log(np.arange(1, size + 1, dtype=np.float32))
    masses = np.cumsum(np.arange(size, size - top_k, -1, dtype=np.float64))
    by_top_p = 1 + int(np.count_nonzero(masses < top_p * masses[-1]))
    by_min_p = size - int(np.ceil(min_p * size)) + 1
    survivors = min(by_top_p, by_min_p)
    assert kept(logits, top_k=top_k, top_p=top_p, min_p=min_p) == list(range(size - survivors, size))


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
def test_min_p_keeps_what_equals_it_but_for_rounding(shift: int) -> None:
    """A token at the threshold stays while it is within 2^-20 below it, and is gone 2^-18 below."""
    threshold = np.exp(np.float64(np.float32(-2.5)))
    assert kept([0, -2.5], min_p=threshold * (1 + shift * 2.0**-22)) == [0, 1]
    assert kept([0, -2.5], min_p=threshold * (1 + 2.0**-18)) == [0]


def test_top_k_ties_go_to_the_lower_token() -> None:
    assert kept([1, 2, 2, 2, 0], top_k=2) == [1, 2]
    assert kept([0.0, -0.0, 0.0, -0.0], top_k=3) == [0, 1, 2]
    assert kept([-0.0, 0.0], temperature=0) == [0]


@pytest.mark.parametrize("top_k", [0, None, 4, 5, 2**31, 2**40])
def test_top_k_beyond_the_vocab_keeps_all(top_k: int | None) -> None:
    assert kept([1, 2, 3, 4], top_k=top_k) == [0, 1, 2, 3]


def test_top_k_counts_finite_tokens() -> None:
    row = [-np.inf, 3, -np.inf, 1]
    assert kept(row, top_k=3) == [1, 3]
    assert kept(row) == [1, 3]
    values, tokens = td.top_k(np.float32(row), 2)
    assert (values.tolist(), tokens.tolist()) == ([3, 1], [1, 3])


def test_order_is_of_logits_and_not_of_scores() -> None:
    """At this temperature all scores underflow to equal weights, and still the higher logit ranks first."""
    row = np.float32([1, 1 + 2.0**-23, 1])
    assert kept(row, temperature=1e30, top_k=1) == [1]
    assert kept(row, temperature=1e30, top_p=0.5) == [0, 1]


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-38, 1e-30, 1e-10])
def test_a_tiny_temperature_does_not_overflow(temperature: float) -> None:
    row = np.float32([5, 4000, 4000, -3e38, 3999])
    assert td.softmax(row, temperature=temperature).tolist() == [0, 0.5, 0.5, 0, 0]
    assert kept(row, temperature=temperature) == [0, 1, 2, 3, 4]
    assert kept(row, temperature=temperature, min_p=1e-6) == [1, 2]
    assert kept(row, temperature=temperature, top_p=0.9) == [1, 2]
    scores = td.filter_logits(row, temperature=temperature)
    assert np.isfinite(scores).all()
    assert scores[1] == scores[2] == 0 > scores.min() >= -np.finfo(np.float32).max


@pytest.mark.parametrize("temperature", [1e30, 1e300, np.finfo(np.float64).max])
def test_a_huge_temperature_is_uniform(temperature: float) -> None:
    row = np.float32([5, 4000, -4000, 0])
    np.testing.assert_allclose(td.softmax(row, temperature=temperature), 0.25, rtol=2.0**-22)


@pytest.mark.parametrize("largest", [1e30, 3e38, float(np.finfo(np.float32).max)])
def test_logits_of_any_size(largest: float) -> None:
    row = np.float32([-largest, 0, largest, largest])
    assert td.softmax(row).tolist() == [0, 0, 0.5, 0.5]
    assert kept(row, top_p=0.75) == [2, 3]
    spread = td.softmax(row, temperature=largest)
    exact = np.exp([-2, -1, 0, 0.0])
    np.testing.assert_allclose(spread, exact / exact.sum(), rtol=2e-6)


def test_temperature_zero_ignores_later_filters() -> None:
    row = np.float32([1, 3, 3, 2])
    draws = td.draw(row, temperature=0, top_k=3, top_p=0.2, min_p=1.0, seed=0)
    assert (draws.tokens, draws.logprobs, draws.kept) == (1, 0.0, 1)
    assert td.softmax(row, temperature=0).tolist() == [0, 1, 0, 0]
    assert td.log_softmax(row, temperature=0).tolist() == [-np.inf, 0, -np.inf, -np.inf]


def test_temperature_zero_comes_after_mask_and_bias() -> None:
    row = np.float32([1, 3, 3, 2])
    mask = np.array([True, False, False, True])
    assert td.sample(row, temperature=0, mask=mask, seed=0) == 3
    assert td.sample(row, temperature=0, mask=mask, bias={0: 1.5}, seed=0) == 0
    assert td.sample(row, temperature=0, bias={1: -np.inf}, seed=0) == 2


def test_bias_is_added_in_float32() -> None:
    """1 + 2^-25 is 1: the two tie, and the lower token wins."""
    assert td.sample(np.float32([1, 1]), temperature=0, bias={1: 2.0**-25}, seed=0) == 0
    assert td.sample(np.float32([1, 1]), temperature=0, bias={1: 2.0**-23}, seed=0) == 1


def test_a_biased_score_stays_finite() -> None:
    """A sum beyond float32 is its largest value, and not the +inf that makes a row invalid."""
    row = np.float32([0, 3e38, -3e38])
    draws = td.draw(row, bias={1: 3e38, 2: -3e38}, seed=0)
    assert (draws.tokens, draws.kept) == (1, 2)
    assert td.filter_logits(row, bias=np.float32([3e38, 3e38, 0]), top_k=2).tolist()[1] == 0


def test_an_array_bias_serves_all_rows_or_each_its_own() -> None:
    rows = np.zeros((2, 3), dtype=np.float32)
    assert td.sample(rows, temperature=0, bias=np.float32([0, 0, 1]), seed=0).tolist() == [2, 2]
    assert td.sample(rows, temperature=0, bias=np.float32([[0, 0, 1], [0, 2, 1]]), seed=0).tolist() == [2, 1]
    assert td.sample(rows, temperature=0, bias={1: 0.5}, seed=0).tolist() == [1, 1]


def test_mixed_rows_run_in_one_call() -> None:
    rows = np.tile(log(0.4, 0.3, 0.2, 0.1), (5, 1))
    sets = td.kept_set(
        rows,
        temperature=[0, 1, 1, 1, 2],
        top_k=[0, 3, 0, 0, 0],
        top_p=[1, 1, 0.5, 1, 1],
        min_p=[0, 0, 0, 0.6, 0],
    )
    assert np.diff(sets.offsets).tolist() == [1, 3, 2, 2, 4]


def test_every_prefix_of_the_order_is_reachable() -> None:
    """Each cutoff just under a cumulated share keeps exactly that many tokens."""
    row = np.random.default_rng(5).normal(0, 2, 200).astype(np.float32)
    weights = np.sort(np.exp(row.astype(np.float64)))[::-1]
    shares = np.cumsum(weights) / weights.sum()
    apart = np.flatnonzero(np.diff(shares, prepend=0.0) > 1e-5)
    assert apart.size > 150
    for place in apart[apart < shares.size - 1]:
        assert len(kept(row, top_p=float(shares[place] - 4e-6))) == place + 1
        assert len(kept(row, top_p=float(shares[place] + 4e-6))) == place + 2

# SPDX-License-Identifier: Apache-2.0
"""typical, epsilon, eta and top_n_sigma: worked examples, borders, and what other systems publish."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Kept = Callable[..., list[int]]


def log(*probs: float) -> np.ndarray:
    return np.log(np.array(probs, dtype=np.float32))


@pytest.mark.parametrize(
    ("probs", "tokens"), [([0.97, 0.01, 0.01, 0.01], [0]), ([0.4, 0.2, 0.2, 0.2], [1, 2, 3])]
)
def test_typical_as_llama_cpp_tests_it(probs: list[float], tokens: list[int], kept: Kept) -> None:
    assert kept(log(*probs), typical_p=0.5) == tokens


def test_typical_removes_the_most_probable_token(kept: Kept) -> None:
    """Entropy 1.055; surprises 0.598, 1.386, 1.609: the second is nearest, then the first, then the third."""
    row = log(0.55, 0.25, 0.2)
    assert kept(row, typical_p=0.2) == [1]
    assert kept(row, typical_p=0.5) == [0, 1]
    assert kept(row, typical_p=0.81) == [0, 1, 2]


def test_typical_counts_a_share_that_is_reached_but_for_rounding(kept: Kept) -> None:
    for count in (2, 4, 64, 4096):
        assert kept(np.zeros(count), typical_p=0.5) == list(range(count)), "equal tokens are equally near"
    assert kept(log(0.5, 0.25, 0.25), typical_p=0.5) in ([0], [0, 1, 2])
    assert kept(log(0.97, 0.03), typical_p=float(np.float32(0.97))) == [0]


def test_typical_holds_equal_logits_together(kept: Kept) -> None:
    row = np.repeat(np.float32([2, 1, 0, -3]), [1, 40, 300, 2000])
    tokens = kept(row, typical_p=0.6)
    levels = {float(level) for level in row[tokens]}
    assert tokens == [token for token in range(row.size) if float(row[token]) in levels]


def test_typical_keeps_whole_tails(kept: Kept) -> None:
    """A head of 0.4 and 60000 tokens of 1e-5 each: the tail is typical, the head is not."""
    row = np.full(60001, np.log(1e-5), dtype=np.float32)
    row[777] = np.log(0.4)
    assert kept(row, typical_p=0.5) == [token for token in range(60001) if token != 777]


@pytest.mark.parametrize(
    ("filters", "tokens"),
    [
        ({"epsilon_cutoff": 0.05}, [0, 1, 2]),
        ({"epsilon_cutoff": 0.06}, [0, 1, 2]),
        ({"epsilon_cutoff": 0.061}, [0, 1]),
        ({"epsilon_cutoff": 0.3}, [0, 1]),
        ({"epsilon_cutoff": 0.999}, [0]),
        ({"eta_cutoff": 0.9}, [0]),
        ({"eta_cutoff": 0.5}, [0, 1]),
        ({"eta_cutoff": 0.04}, [0, 1, 2, 3]),
        ({"eta_cutoff": 0.06}, [0, 1, 2]),
    ],
)
def test_epsilon_and_eta(filters: dict[str, Any], tokens: list[int], kept: Kept) -> None:
    """Entropy 0.966: the eta threshold is 0.381 sqrt(eta) from eta = 0.145 on, and eta itself below."""
    assert kept(log(0.6, 0.3, 0.06, 0.04), **filters) == tokens


def test_eta_follows_the_entropy(kept: Kept) -> None:
    """Among 1000 equal tokens the threshold is sqrt(0.01) / 1000, and not 0.01; beside a lone peak it is."""
    row = np.zeros(1000)
    assert kept(row, eta_cutoff=0.01) == list(range(1000))
    assert kept(row, epsilon_cutoff=0.01) == list(range(1000)), "all are the highest"
    row[0] = 1e-3
    assert kept(row, epsilon_cutoff=0.01) == [0]
    assert kept(row, eta_cutoff=0.01) == list(range(1000))
    assert kept(log(0.98, 0.011, 0.009), eta_cutoff=0.01) == [0, 1]


def test_the_highest_stay_together(kept: Kept) -> None:
    """As in transformers: whatever equals the highest logit is kept."""
    assert kept([1, 5, 5, 2, 5], epsilon_cutoff=0.9) == [1, 2, 4]
    assert kept([1, 5, 5, 2, 5], eta_cutoff=0.99) == [1, 2, 4]


@pytest.mark.parametrize("name", ["epsilon_cutoff", "eta_cutoff"])
@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
def test_a_token_at_the_threshold_stays(name: str, shift: int, kept: Kept) -> None:
    """Within 2^-20 below it stays, and 2^-18 below it is gone."""
    row = np.float32([0, -6.5])
    prob = np.exp(-6.5) / (1 + np.exp(-6.5))
    assert kept(row, **{name: prob * (1 + shift * 2.0**-22)}) == [0, 1]
    assert kept(row, **{name: prob * (1 + 2.0**-18)}) == [0]


@pytest.mark.parametrize(("sigmas", "tokens"), [(1.0, [2, 3]), (0.0, [0, 1, 2, 3]), (3.0, [0, 1, 2, 3])])
def test_top_n_sigma_as_llama_cpp_tests_it(sigmas: float, tokens: list[int], kept: Kept) -> None:
    assert kept(log(0.1, 0.2, 0.3, 0.4), top_n_sigma=sigmas) == tokens


def test_top_n_sigma_in_closed_form(kept: Kept) -> None:
    """Of 1 and 0 in equal numbers the deviation is one half: twice that reaches the lower ones exactly."""
    row = np.tile(np.float32([1, 0]), 500)
    assert kept(row, top_n_sigma=2.0) == list(range(1000))
    assert kept(row, top_n_sigma=1.9999) == list(range(0, 1000, 2))
    assert kept(row, top_n_sigma=2.0, temperature=0.01) == list(range(1000)), "temperature scales both sides"
    assert kept(row + 4096, top_n_sigma=1.9999) == list(range(0, 1000, 2)), "far from zero as well"


def test_top_n_sigma_of_what_is_left(kept: Kept) -> None:
    """Tokens at -inf and those that top_k removed have no part in the deviation."""
    row = np.float32([3, 2, -np.inf, -100, -200])
    assert kept(row, top_n_sigma=1.0) == [0, 1]
    assert kept(row, top_k=2, top_n_sigma=1.0) == [0]
    assert kept(row, top_k=2, top_n_sigma=2.0) == [0, 1]
    assert kept(row, top_k=1, top_n_sigma=1e-9) == [0]


@pytest.mark.parametrize("sigmas", [1e-300, 1e-6, 0.5, 1e30, 1.7e308])
def test_top_n_sigma_of_equal_and_of_huge_logits(sigmas: float, kept: Kept) -> None:
    assert kept(np.full(70, -7.25), top_n_sigma=sigmas) == list(range(70))
    tokens = kept(np.float32([3e38, -3e38, 3e38]), top_n_sigma=sigmas)
    assert tokens == ([0, 1, 2] if sigmas > 3 else [0, 2])


NEUTRAL = {
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_n_sigma": 0.0,
    "xtc_probability": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "dry_multiplier": 0.0,
    "min_tokens": 0,
    "steps": None,
}


def test_neutral_values_change_no_bit(library: Any) -> None:
    row = np.random.default_rng(1).normal(0, 3, 3000).astype(np.float32)
    for name in ("softmax", "log_softmax", "filter_logits"):
        plain = getattr(library, name)(row, temperature=0.7, top_p=0.9)
        neutral = getattr(library, name)(row, temperature=0.7, top_p=0.9, history=[[1, 2]], **NEUTRAL)
        assert np.array_equal(plain, neutral)


def test_scores_are_relative_to_the_highest_logit_though_it_was_removed(library: Any) -> None:
    row = log(0.4, 0.2, 0.2, 0.2)
    scores = library.filter_logits(row, typical_p=0.5, temperature=1.0)
    np.testing.assert_allclose(scores, [-np.inf, *[np.log(0.5)] * 3], rtol=1e-6)
    np.testing.assert_allclose(library.softmax(row, typical_p=0.5), [0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)

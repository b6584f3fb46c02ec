# SPDX-License-Identifier: Apache-2.0
"""XTC: what it removes, and when its coin falls."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import tokendraw as td
from tokendraw import reference

Kept = Callable[..., list[int]]
ROW = np.log(np.float32([0.4, 0.3, 0.2, 0.1]))


@pytest.mark.parametrize(
    ("threshold", "tokens"),
    [
        (0.09, [3]),
        (0.19, [2, 3]),
        (0.29, [1, 2, 3]),
        (0.39, [0, 1, 2, 3]),
        (0.0, [3]),
        (0.5, [0, 1, 2, 3]),
    ],
)
def test_what_it_removes(threshold: float, tokens: list[int], kept: Kept) -> None:
    """The first four are cases of llama.cpp."""
    assert kept(ROW, xtc_probability=1.0, xtc_threshold=threshold) == tokens


def test_its_default_threshold_is_a_tenth(kept: Kept) -> None:
    assert kept(np.log(np.float32([0.5, 0.3, 0.101, 0.099])), xtc_probability=1.0) == [2, 3]


def test_of_equal_tokens_the_last_stays(kept: Kept) -> None:
    assert kept([1, 1, 1, 1], xtc_probability=1.0, xtc_threshold=0.25) == [3]
    assert kept([1, 1, 1, -9], xtc_probability=1.0, xtc_threshold=0.25) == [2, 3]


def test_two_halves_are_reached_at_one_half_and_not_above(kept: Kept) -> None:
    assert kept([2, 2], xtc_probability=1.0, xtc_threshold=0.5) == [1]
    assert kept([2, 2], xtc_probability=1.0, xtc_threshold=0.5000001) == [0, 1]
    assert kept([2, 2], xtc_probability=1.0, xtc_threshold=1.0) == [0, 1]


@pytest.mark.parametrize("size", [3, 1025, 40000])
def test_at_threshold_zero_the_last_token_alone_stays(size: int, library: Any) -> None:
    """However far below the others it is: its weight must not vanish beside theirs."""
    row = np.linspace(0, -700, size, dtype=np.float32)[np.random.default_rng(3).permutation(size)]
    last = int(row.argmin())
    draws = library.draw(row, xtc_probability=1.0, xtc_threshold=0.0, seed=1)
    assert (draws.tokens, draws.logprobs, draws.kept) == (last, 0.0, 1)
    assert library.filter_logits(row, xtc_probability=1.0, xtc_threshold=0.0)[last] == pytest.approx(-700)


def test_its_probabilities_are_of_what_is_left_at_the_present_temperature(kept: Kept) -> None:
    row = np.log(np.float32([0.3, 0.25, 0.25, 0.2]))
    xtc = {"xtc_probability": 1.0, "xtc_threshold": 0.4}
    assert kept(row, **xtc) == [0, 1, 2, 3]
    assert kept(row, top_k=2, **xtc) == [1]
    cold = {"temperature": 0.1, "xtc_probability": 1.0, "xtc_threshold": 0.1}
    assert kept(row, **cold) == [1, 2, 3] or kept(row, **cold) == [2, 3]
    last = ("top_k", "xtc", "temperature")
    assert kept(row, steps=last, temperature=0.1, xtc_probability=1.0, xtc_threshold=0.2) == [3]


@pytest.mark.parametrize("probability", [0.0, 0.05, 0.5, 0.9, 1.0])
def test_the_coin_falls_at_its_rate(probability: float) -> None:
    count = 20_000
    rows = np.broadcast_to(np.float32([0, 0, 0]), (count, 3))
    place = {"seed": 12345, "stream": 7, "step": np.arange(count)}
    filters = {"xtc_probability": probability, "xtc_threshold": 0.3}
    removed = np.diff(td.kept_set(rows, **place, **filters).offsets) == 1
    if probability in (0.0, 1.0):
        assert removed.sum() == probability * count
    else:
        assert stats.binomtest(int(removed.sum()), count, probability).pvalue > 1e-6
    own = [reference.xtc_applies(probability, 12345, 7, step) for step in range(2000)]
    assert removed[:2000].tolist() == own


def test_the_coin_depends_on_seed_stream_and_step_alone(isa: str) -> None:
    rows = np.random.default_rng(5).normal(0, 1, (64, 700)).astype(np.float32)
    filters = {"xtc_probability": 0.5, "xtc_threshold": 0.001, "temperature": 0.5}
    place = {"seed": 3, "stream": np.arange(64) + 2**41, "step": 9}
    together = td.kept_set(rows, **place, **filters)
    sets = np.split(together.tokens, together.offsets[1:-1])
    for index, row in enumerate(rows):
        alone = td.kept_set(row, seed=3, stream=index + 2**41, step=9, **filters)
        assert np.array_equal(alone.tokens, sets[index])
        applies = reference.xtc_applies(0.5, 3, index + 2**41, 9)
        assert (alone.tokens.size < 700) == applies
    tokens = td.sample(rows, **place, **filters)
    assert all(token in kept for token, kept in zip(tokens, sets, strict=True))
    assert np.array_equal(td.draw(rows, **place, **filters).kept, np.diff(together.offsets))


def test_the_coin_takes_nothing_from_the_draw(isa: str) -> None:
    """Where it does not fall, tokens are those of the same call without XTC."""
    rows = np.random.default_rng(6).normal(0, 2, (200, 900)).astype(np.float32)
    filters = {"top_p": 0.9, "seed": 11}
    plain = td.sample(rows, **filters)
    mixed = td.sample(rows, xtc_probability=0.5, xtc_threshold=0.01, **filters)
    falls = np.array([reference.xtc_applies(0.5, 11, row, 0) for row in range(200)])
    assert 60 < falls.sum() < 140
    assert np.array_equal(plain[~falls], mixed[~falls])


def test_streams_of_the_reference_are_those_of_the_core(isa: str) -> None:
    rows = np.random.default_rng(8).normal(0, 1, (50, 300)).astype(np.float32)
    filters = {"xtc_probability": 0.5, "xtc_threshold": 0.005, "seed": 2**63 + 5, "step": 77}
    ours, theirs = (library.kept_set(rows, **filters) for library in (td, reference))
    assert np.array_equal(ours.offsets, theirs.offsets)
    assert np.array_equal(ours.tokens, theirs.tokens)


def test_a_seed_is_needed_for_a_coin(library: Any) -> None:
    for name in ("softmax", "log_softmax", "filter_logits", "kept_set"):
        function = getattr(library, name)
        with pytest.raises(ValueError, match="seed must be given where 0 < xtc_probability < 1"):
            function(ROW, xtc_probability=0.5)
        function(ROW, xtc_probability=1.0)
        function(ROW, xtc_probability=0.5, seed=4)

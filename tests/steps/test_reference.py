# SPDX-License-Identifier: Apache-2.0
"""The oracle itself: its examples run, its shortcuts agree, and it finds what is planted."""

import doctest

import numpy as np
import pytest

import tokendraw as td
from tests import oracle
from tokendraw import reference


def test_the_examples_run() -> None:
    result = doctest.testmod(reference)
    assert result.attempted > 20
    assert result.failed == 0


def test_public_names_are_those_of_the_package() -> None:
    shared = ("sample", "draw", "greedy", "top_k", "softmax", "log_softmax", "filter_logits", "kept_set")
    for name in shared:
        assert name in reference.__all__
        assert callable(getattr(td, name))


def test_the_bounds_enclose_the_kept_set() -> None:
    row = np.random.default_rng(1).normal(0, 3, 5000).astype(np.float32)
    for filters in ({"top_p": 0.9}, {"min_p": 0.01}, {"top_p": 0.999, "min_p": 0.001}):
        (expected,) = oracle.expect(row, **filters)
        count = int(expected.final.kept.sum())
        assert expected.fewest <= count <= expected.most <= expected.fewest + 2


def test_the_oracle_refuses_a_set_that_is_one_token_off() -> None:
    row = np.float32([3, 2, 1, 0])
    expected = oracle.expect(row, top_p=0.9)
    for wrong in ([0], [0, 1, 2], [0, 2]):
        kept = td.KeptSet(np.int32(wrong), np.zeros(len(wrong), np.float32), np.int64([0, len(wrong)]))
        with pytest.raises(AssertionError):
            oracle.check_kept(expected, kept)


def test_the_oracle_refuses_a_logprob_beyond_the_tolerance() -> None:
    oracle.check_logprobs([-1.0], [-1.0 - 1e-6])
    with pytest.raises(AssertionError):
        oracle.check_logprobs([-1.0], [-1.0 - 1.5e-6])
    with pytest.raises(AssertionError):
        oracle.check_logprobs([-np.inf], [-50.0])


def test_no_surprise_is_the_reference_draw() -> None:
    row = np.random.default_rng(2).normal(0, 2, 2500).astype(np.float32)
    for filters in ({}, {"top_p": 0.6}, {"top_k": 40, "top_p": 0.6}, {"top_k": 1500, "top_p": 0.8}):
        (expected,) = oracle.expect(row, **filters)
        for step in range(40):
            token = reference.sample(row, seed=5, step=step, **filters)
            other = next(kept for kept in expected.final.order if kept != token)
            distances = oracle.surprises(expected, [token, other], [(5, 0, step)] * 2)
            assert distances[0] == 0
            assert distances[1] > oracle.ROUNDING

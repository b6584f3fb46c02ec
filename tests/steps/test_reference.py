# SPDX-License-Identifier: Apache-2.0
"""The oracle itself: its examples run, its shortcuts agree, and it finds what is planted."""

import doctest
from typing import Any

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


BOUNDED: dict[str, dict[str, Any]] = {
    "top_p": {"top_p": 0.9},
    "top_p exceed": {"top_p": 0.9, "top_p_boundary": "exceed"},
    "top_p highest": {"top_p": 0.9, "top_p_ties": "highest"},
    "top_p all": {"top_p": 0.9, "top_p_ties": "all"},
    "top_p original": {"top_p": 0.9, "top_p_mass": "original"},
    "top_k_top_p": {"top_p": 0.9, "top_k": 3000, "steps": ["top_k_top_p"]},
    "min_p": {"min_p": 0.01},
    "typical": {"typical_p": 0.8},
    "epsilon": {"epsilon_cutoff": 1e-3},
    "eta": {"eta_cutoff": 1e-4},
    "top_n_sigma": {"top_n_sigma": 1.5},
    "xtc": {"xtc_probability": 1.0, "xtc_threshold": 1e-3},
}


@pytest.mark.parametrize("name", BOUNDED)
def test_the_bounds_enclose_the_kept_set(name: str) -> None:
    """On generic rows they are at most a few tokens apart, on rows of ties one level."""
    step = name.split()[0]
    random = np.random.default_rng(1)
    for row in (random.normal(0, 3, 5000), random.integers(-3, 3, 5000)):
        (expected,) = oracle.expect(row.astype(np.float32), **BOUNDED[name])
        nominal, smallest, largest = (
            reference.STEPS[step](expected.edited, expected.parameters, within).kept
            for within in (reference.NOMINAL, reference.SMALLEST, reference.LARGEST)
        )
        assert nominal.any()
        assert not (smallest & ~nominal).any()
        assert not (nominal & ~largest).any()
        apart = np.unique(row[largest & ~smallest]).size
        assert apart <= (1 if row.dtype == np.int64 else 3)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_oracle_refuses_a_set_that_is_one_token_off(name: str) -> None:
    step = name.split()[0]
    row = np.random.default_rng(7).normal(0, 3, 200).astype(np.float32)
    (expected,) = oracle.expect(row, **BOUNDED[name])
    exact = np.flatnonzero(expected.states[step].kept)
    oracle.check_step(expected.edited, step, expected.parameters, exact)
    others = np.flatnonzero(~expected.states[step].kept)
    strangers = [np.sort(np.append(exact, other)) for other in others]
    for wrong in ([], *strangers, *(np.delete(exact, place) for place in range(exact.size))):
        with pytest.raises(AssertionError):
            oracle.check_step(expected.edited, step, expected.parameters, np.array(wrong, dtype=np.int64))


def test_the_oracle_tells_sets_within_the_tolerance_apart() -> None:
    """Tokens 1 to 4 lie within the tolerance of min_p: any number of levels may go, half a level may not."""
    row = np.float32([0, 0, 0, 0, 0])
    row[1:] = np.float32(np.log(0.5)) + np.float32([0, 0, 2.0**-24, 2.0**-24])
    (expected,) = oracle.expect(row, min_p=0.5)
    for tokens in ([0], [0, 3, 4], [0, 1, 2, 3, 4]):
        oracle.check_step(expected.edited, "min_p", expected.parameters, tokens)
    for tokens in ([0, 3], [0, 1, 2], [0, 1, 3, 4]):
        with pytest.raises(AssertionError):
            oracle.check_step(expected.edited, "min_p", expected.parameters, tokens)


def test_the_oracle_refuses_a_kept_set_of_other_tokens() -> None:
    expected = oracle.expect(np.float32([3, 2, 1, 0]), top_p=0.9)
    logprobs = expected[0].final.logprobs
    oracle.check_kept(expected, td.KeptSet(np.int32([0, 1, 2]), logprobs[:3], np.int64([0, 3])))
    for wrong in ([0, 1], [0, 1, 2, 3], [0, 1, 3]):
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

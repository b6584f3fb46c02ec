# SPDX-License-Identifier: Apache-2.0
"""Kept sets against the warpers of transformers themselves, alone and in a chain."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td

torch = pytest.importorskip("torch")
process = pytest.importorskip("transformers.generation.logits_process")

Kept = Callable[..., list[int]]


def rows() -> list[np.ndarray]:
    """Return rows of generic logits; shares lie far enough from thresholds for float32 sums to agree."""
    random = np.random.default_rng(17)
    sizes = random.integers(2, 600, 60)
    return [random.normal(0, random.uniform(0.1, 5), size).astype(np.float32) for size in sizes]


def tied_rows() -> list[np.ndarray]:
    random = np.random.default_rng(18)
    return [random.integers(-4, 4, size).astype(np.float32) for size in random.integers(2, 600, 60)]


def warped(row: np.ndarray, *warpers: Any, history: Any = None) -> np.ndarray:
    scores = torch.tensor(row)[None]
    ids = torch.tensor([history or [0]])
    for warper in warpers:
        scores = warper(ids, scores)
    return scores[0].numpy()


def finite(scores: np.ndarray) -> list[int]:
    return np.flatnonzero(np.isfinite(scores)).tolist()


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.61, 0.93])
def test_typical(threshold: float, kept: Kept) -> None:
    warper = process.TypicalLogitsWarper(threshold)
    for row in rows() + tied_rows():
        assert kept(row, typical_p=threshold) == finite(warped(row, warper))


@pytest.mark.parametrize("threshold", [3e-4, 2e-3, 0.031, 0.2, 0.93])
def test_epsilon(threshold: float, kept: Kept) -> None:
    for row in rows() + tied_rows():
        expected = finite(warped(row, process.EpsilonLogitsWarper(threshold)))
        assert kept(row, epsilon_cutoff=threshold) == expected


@pytest.mark.parametrize("threshold", [3e-4, 2e-3, 0.031, 0.2, 0.93])
def test_eta(threshold: float, kept: Kept) -> None:
    for row in rows() + tied_rows():
        assert kept(row, eta_cutoff=threshold) == finite(warped(row, process.EtaLogitsWarper(threshold)))


@pytest.mark.parametrize("count", [1, 2, 50, 599])
def test_top_k(count: int, kept: Kept) -> None:
    for row in rows() + tied_rows():
        expected = finite(warped(row, process.TopKLogitsWarper(count)))
        assert kept(row, top_k=count, top_k_ties="all") == expected


@pytest.mark.parametrize("penalty", [1.3, 0.7, 2.0])
def test_repetition_penalty(penalty: float, library: Any) -> None:
    """A token of logit 0 that was not seen is the highest, so that scores are the logits themselves."""
    random = np.random.default_rng(19)
    for row in rows():
        row[:] = -np.abs(row)
        row[-1] = 0
        history = random.integers(0, row.size - 1, 40).tolist() if row.size > 1 else [0]
        expected = warped(row, process.RepetitionPenaltyLogitsProcessor(penalty), history=history)
        found = library.filter_logits(row, repetition_penalty=penalty, history=[history])
        np.testing.assert_allclose(found, expected, rtol=2.0**-22)


CHAINS: list[dict[str, Any]] = [
    {"temperature": 0.7, "top_k": 20, "top_p": 0.83},
    {"temperature": 1.7, "top_p": 0.83, "min_p": 0.07},
    {"top_k": 100, "typical_p": 0.71, "epsilon_cutoff": 0.01},
    {"top_p": 0.97, "min_p": 0.013, "typical_p": 0.9, "epsilon_cutoff": 3e-4, "eta_cutoff": 2e-3},
    {"temperature": 0.9, "top_k": 33, "top_p": 0.9, "min_p": 0.01, "eta_cutoff": 0.02},
]


def chain(params: dict[str, Any]) -> list[Any]:
    """Return the warpers in the order in which `generate` puts them."""
    makers = {
        "temperature": process.TemperatureLogitsWarper,
        "top_k": process.TopKLogitsWarper,
        "top_p": process.TopPLogitsWarper,
        "min_p": process.MinPLogitsWarper,
        "typical_p": process.TypicalLogitsWarper,
        "epsilon_cutoff": process.EpsilonLogitsWarper,
        "eta_cutoff": process.EtaLogitsWarper,
    }
    return [make(params[name]) for name, make in makers.items() if name in params]


@pytest.mark.parametrize("params", CHAINS)
def test_the_preset_is_its_chain(params: dict[str, Any], kept: Kept) -> None:
    filters = td.SamplingParams.preset("transformers", **params).as_dict()
    for row in rows():
        assert kept(row, **filters) == finite(warped(row, *chain(params)))


@pytest.mark.parametrize("top_p", [0.11, 0.53, 0.9])
def test_the_preset_keeps_as_many_of_equal_tokens(top_p: float, kept: Kept) -> None:
    """Which ones a sort leaves last, it does not promise."""
    filters = td.SamplingParams.preset("transformers", top_p=top_p).as_dict()
    for row in tied_rows():
        theirs = finite(warped(row, process.TopPLogitsWarper(top_p)))
        ours = kept(row, **filters)
        assert len(ours) == len(theirs)
        assert np.array_equal(np.sort(row[ours]), np.sort(row[theirs]))

# SPDX-License-Identifier: Apache-2.0
"""Token by token, the core draws what the reference draws, but for targets on a border to rounding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tests import oracle

SEED, STREAM = 2**64 - 59, 2**40 + 3
TOKENS_READ, TOKENS_READ_BY_SLOW_TESTS = 2_000_000, 10_000_000

FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "hot": {"temperature": 3.0},
    "small top_k": {"top_k": 40},
    "large top_k": {"top_k": 2000},
    "top_p that seldom refuses": {"top_p": 0.97},
    "top_p that mostly refuses": {"top_p": 0.05, "temperature": 1.5},
    "small top_k, top_p": {"top_k": 1024, "top_p": 0.8},
    "large top_k, top_p": {"top_k": 1025, "top_p": 0.8},
    "top_p, min_p": {"top_p": 0.9, "min_p": 0.05},
    "min_p": {"min_p": 0.02},
    "min_p, top_p": {"min_p": 0.01, "top_p": 0.8, "steps": ["min_p", "top_p"]},
    "joint": {"top_k": 500, "top_p": 0.7, "steps": ["top_k_top_p"]},
    "top_p of the original mass": {"top_k": 2000, "top_p": 0.4, "top_p_mass": "original"},
    "top_p, temperature": {"top_p": 0.8, "temperature": 0.5, "steps": ["top_p", "temperature"]},
    "typical": {"typical_p": 0.6},
    "typical, top_p": {"typical_p": 0.9, "top_p": 0.7, "steps": ["typical", "top_p"]},
    "epsilon": {"epsilon_cutoff": 1e-4},
    "eta": {"eta_cutoff": 1e-3, "top_p": 0.95},
    "top_n_sigma": {"top_n_sigma": 2.0},
    "xtc": {"xtc_probability": 1.0, "xtc_threshold": 1e-3},
    "penalties": {"history": [[5, 6, 7, 5, 6]], "frequency_penalty": 2.0, "dry_multiplier": 3.0},
}

ROWS = {
    "vocab of a model": np.random.default_rng(1).normal(0, 2.5, 50257).astype(np.float32),
    "three tiles": np.random.default_rng(2).normal(0, 1, 2500).astype(np.float32),
    "part of a tile": np.random.default_rng(3).normal(0, 1, 700).astype(np.float32),
    "a spike over noise": np.where(
        np.arange(9000) == 8000, 9, np.random.default_rng(4).normal(0, 1, 9000)
    ).astype(np.float32),
}


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("name", ROWS)
def test_draws(name: str, filters: str, set_isa: Callable[[str], None]) -> None:
    check_draws(ROWS[name], FILTERS[filters], TOKENS_READ, set_isa)


@pytest.mark.slow
@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("name", ROWS)
def test_more_draws(name: str, filters: str, set_isa: Callable[[str], None]) -> None:
    check_draws(ROWS[name], FILTERS[filters], TOKENS_READ_BY_SLOW_TESTS, set_isa)


def check_draws(
    row: np.ndarray, chosen: dict[str, Any], tokens_read: int, set_isa: Callable[[str], None]
) -> None:
    count = min(1000, tokens_read // row.size)
    rows = np.broadcast_to(row, (count, row.size))
    steps = np.arange(count) + 2**32 - count
    place = {"seed": SEED, "stream": STREAM, "step": steps}
    batch = {**chosen, "history": chosen["history"] * count} if "history" in chosen else chosen
    draws = td.draw(rows, **place, **batch)
    for isa in td.build_info()["isas"]:
        set_isa(isa)
        assert np.array_equal(td.sample(rows, **place, **batch), draws.tokens), isa
    (expected,) = oracle.follow(row, **chosen)
    assert np.unique(draws.kept).tolist() == [expected.final.kept.sum()]
    places = [(SEED, STREAM, int(step)) for step in steps]
    assert oracle.count_differing(expected, draws.tokens, places) <= 1

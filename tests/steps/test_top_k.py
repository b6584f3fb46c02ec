# SPDX-License-Identifier: Apache-2.0
"""The sorted first tokens of every row, and the first alone, against the total order of the reference."""

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import DTYPES, LARGE_SIZES, SMALL_SIZES, matrix
from tokendraw import reference

pytestmark = pytest.mark.usefixtures("isa")

COUNTS = (0, 1, 2, 15, 50, 1024, 1025, 3000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_small_rows(size: int, dtype: str) -> None:
    logits = matrix(size, DTYPES[dtype])
    exact_values, exact_tokens = reference.top_k(logits, max(COUNTS))
    for count in COUNTS:
        values, tokens = td.top_k(logits, count)
        assert np.array_equal(tokens, exact_tokens[:, :count])
        assert np.array_equal(values, exact_values[:, :count])
    assert np.array_equal(td.greedy(logits), exact_tokens[:, 0])


@pytest.mark.parametrize("size", LARGE_SIZES)
def test_large_rows(size: int) -> None:
    logits = matrix(size, DTYPES["float32"])[::2]
    exact_values, exact_tokens = reference.top_k(logits, 3000)
    for count in (50, 3000):
        values, tokens = td.top_k(logits, count)
        assert np.array_equal(tokens, exact_tokens[:, :count])
        assert np.array_equal(values, exact_values[:, :count])
    assert np.array_equal(td.greedy(logits), exact_tokens[:, 0])


def test_past_the_finite_tokens() -> None:
    row = np.float32([-np.inf, 2, -np.inf, -0.0, 0.0])
    for count in (5, 6, 10**12):
        values, tokens = td.top_k(row, count)
        assert tokens.tolist() == [1, 3, 4, -1, -1]
        assert values.tolist() == [2, 0, 0, -np.inf, -np.inf]


def test_every_token_in_order() -> None:
    row = np.random.default_rng(4).integers(0, 50, 5000).astype(np.float32)
    _, tokens = td.top_k(row, 5000)
    assert np.array_equal(tokens, np.lexsort((np.arange(5000), -row)))


def narrowed_again(size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return rows whose best tokens change from tile to tile: few levels, rising, masked by a number."""
    rising = np.arange(size) // 37 + rng.integers(0, 3, size)
    masked = np.where(rng.random(size) < 0.8, -1e9, rng.integers(-40, 40, size))
    lowest = np.where(rng.random(size) < 0.5, np.finfo(np.float32).min, rng.normal(0, 3, size))
    huge = rng.normal(0, 1, size) * 2.0 ** rng.integers(-140, 120, size)
    levels = rng.integers(0, 4, size)
    named = {"levels": levels, "rising": rising, "masked": masked, "lowest": lowest, "huge": huge}
    return {name: row.astype(np.float32) for name, row in named.items()}


@pytest.mark.parametrize("size", [700, 2100, 9000])
def test_rows_that_are_narrowed_again_and_again(size: int) -> None:
    for name, row in narrowed_again(size, np.random.default_rng(size)).items():
        order = np.lexsort((np.arange(size), -row))
        for count in (1, 9, 60, 500, 2500):
            values, tokens = td.top_k(row, count)
            assert np.array_equal(tokens, order[:count]), (name, count)
            assert np.array_equal(values, row[order[:count]]), (name, count)

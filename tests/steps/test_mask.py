# SPDX-License-Identifier: Apache-2.0
"""Allowed tokens as booleans and as packed words: lengths, padding bits, rows of their own."""

import numpy as np
import pytest

import tokendraw as td

pytestmark = pytest.mark.usefixtures("isa")

SIZES = (1, 31, 32, 33, 64, 65, 1023, 1024, 1025, 5000)


def pack(mask: np.ndarray) -> np.ndarray:
    """Pack booleans into int32 words, least significant bit first."""
    padded = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, -mask.shape[-1] % 32)])
    return np.packbits(padded, axis=-1, bitorder="little").view(np.int32)


def kept(logits: np.ndarray, mask: np.ndarray) -> list[int]:
    return sorted(td.kept_set(logits, mask=mask).tokens.tolist())


@pytest.mark.parametrize("size", SIZES)
def test_words_and_booleans_agree(size: int) -> None:
    random = np.random.default_rng(size)
    logits = random.normal(0, 2, (3, size)).astype(np.float32)
    mask = random.random((3, size)) < 0.3
    mask[np.arange(3), random.integers(0, size, 3)] = True
    filters = {"top_p": 0.9, "temperature": 1.2}
    by_words = td.filter_logits(logits, mask=pack(mask), **filters)
    assert np.array_equal(by_words, td.filter_logits(logits, mask=mask, **filters))
    removed = np.where(mask, logits, np.float32(-np.inf))
    assert np.array_equal(by_words, td.filter_logits(removed, **filters))


@pytest.mark.parametrize("size", SIZES)
def test_one_allowed_token_is_always_drawn(size: int) -> None:
    for token in {0, size // 2, size - 1}:
        mask = np.zeros(size, dtype=bool)
        mask[token] = True
        assert td.sample(np.zeros(size, dtype=np.float32), mask=pack(mask), seed=1) == token
        assert td.sample(np.zeros(size, dtype=np.float32), mask=mask, seed=1) == token


def test_a_short_bitmask_forbids_the_tail() -> None:
    logits = np.zeros(100, dtype=np.float32)
    assert kept(logits, np.int32([-1])) == list(range(32))
    assert kept(logits, np.int32([-1, 1, -(2**31)])) == [*range(33), 95]


def test_a_long_bitmask_must_forbid_what_lies_past_the_vocab() -> None:
    logits = np.zeros(33, dtype=np.float32)
    assert kept(logits, np.int32([2, 1, 0])) == [1, 32]
    with pytest.raises(ValueError, match="mask"):
        td.kept_set(logits, mask=np.int32([2, 1, 4]))


def test_the_full_bitmask_is_all_ones() -> None:
    """Grammar libraries start from words of -1, which set bits past the vocab in the last word."""
    assert kept(np.zeros(40, dtype=np.float32), np.int32([-1, -1])) == list(range(40))


def test_each_row_has_its_own_words() -> None:
    logits = np.zeros((3, 64), dtype=np.float32)
    words = np.int32([[1, 0], [0, 1], [8, 8]])
    sets = td.kept_set(logits, mask=words)
    assert np.split(sets.tokens, sets.offsets[1:-1])[0].tolist() == [0]
    assert sets.offsets.tolist() == [0, 1, 2, 4]
    assert sorted(sets.tokens[2:].tolist()) == [3, 35]


def test_strided_words_and_booleans() -> None:
    logits = np.zeros((2, 64), dtype=np.float32)
    wide = np.zeros((4, 5), dtype=np.int32)
    wide[::2, :2] = [[1, 2], [4, 8]]
    assert td.kept_set(logits, mask=wide[::2, :2]).tokens.tolist() == [0, 33, 2, 35]
    boolean = np.zeros((2, 128), dtype=bool)
    boolean[:, [6, 126]] = True
    assert td.kept_set(logits, mask=boolean[:, ::2]).tokens.tolist() == [3, 63, 3, 63]

# SPDX-License-Identifier: Apache-2.0
"""Philox4x32-10 by Random123's known answers, in the core and in the reference, and the counter layout."""

import numpy as np
import pytest

import tokendraw as td
from tokendraw import _core, reference

# counter, key, answer: the philox4x32-10 lines of Random123's kat_vectors.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]) -> None:
    assert tuple(reference.philox4x32_10(counter, key).tolist()) == answer
    assert tuple(_core._philox(counter, key)) == answer


def test_core_and_reference_agree() -> None:
    words = np.random.default_rng(7).integers(0, 2**32, (500, 6), dtype=np.uint64)
    blocks = reference.philox4x32_10(words[:, :4], words[:, 4:])
    for word, block in zip(words.tolist(), blocks.tolist(), strict=True):
        assert list(_core._philox(tuple(word[:4]), tuple(word[4:]))) == block


def test_the_blocks_of_an_array_are_those_of_its_rows() -> None:
    counters = np.arange(12, dtype=np.uint32).reshape(3, 4)
    blocks = reference.philox4x32_10(counters, [5, 6])
    for counter, block in zip(counters, blocks, strict=True):
        assert np.array_equal(reference.philox4x32_10(counter, [5, 6]), block)


CORNERS = (0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**55, 2**56 - 1)


@pytest.mark.parametrize("stream", CORNERS)
@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_the_counter_layout_of_a_draw(seed: int, stream: int) -> None:
    """Which token falls tells which block was used: every bit of seed, stream and step has its place."""
    row = np.zeros(5 * 1024 + 77, dtype=np.float32)
    for step in (0, 1, 2**31, 2**32 - 1):
        token = td.sample(row, seed=seed, stream=stream, step=step)
        assert token == reference.sample(row, seed=seed, stream=stream, step=step)


@pytest.mark.parametrize("bit", range(64))
def test_every_bit_of_the_place_changes_the_draw(bit: int) -> None:
    row = np.zeros(262144, dtype=np.float32)
    token = td.sample(row, seed=0, stream=0, step=0)
    assert td.sample(row, seed=1 << bit, stream=0, step=0) != token
    if bit < 56:
        assert td.sample(row, seed=0, stream=1 << bit, step=0) != token
    if bit < 32:
        assert td.sample(row, seed=0, stream=0, step=1 << bit) != token


def test_the_stream_is_the_row_for_one_seed_and_zero_for_many() -> None:
    rows = np.zeros((2, 3, 4096), dtype=np.float32)
    flat = rows.reshape(6, -1)
    one = td.sample(rows, seed=9, step=4)
    assert np.array_equal(one, td.sample(rows, seed=9, step=4, stream=np.arange(6).reshape(2, 3)))
    assert np.array_equal(one.ravel(), td.sample(flat, seed=9, step=4))
    many = td.sample(flat, seed=[9] * 6, step=4)
    assert set(many.tolist()) == {one.ravel()[0]}

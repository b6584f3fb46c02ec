# SPDX-License-Identifier: Apache-2.0
"""Penalties by history, DRY and min_tokens: public cases, ragged histories, and the bits of the reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tokendraw import reference

Kept = Callable[..., list[int]]
UNIFORM = np.log(np.full(5, 0.2, dtype=np.float32))


@pytest.mark.parametrize(
    ("history", "filters", "probs"),
    [
        ([0], {"repetition_penalty": 50.0}, [0, 0.25, 0.25, 0.25, 0.25]),
        ([0, 1, 2], {"repetition_penalty": 50.0}, [0, 0, 0, 0.5, 0.5]),
        ([0, 1, 2, 0, 0], {"repetition_penalty": 50.0}, [0, 0, 0, 0.5, 0.5]),
        ([0], {"frequency_penalty": 5.0, "presence_penalty": 5.0}, [0.000011, *[0.249997] * 4]),
        (
            [0, 1, 2],
            {"frequency_penalty": 5.0, "presence_penalty": 5.0},
            [*[0.000023] * 3, *[0.499966] * 2],
        ),
        (
            [0, 1, 2, 0, 0],
            {"frequency_penalty": 5.0, "presence_penalty": 5.0},
            [0, 0.000023, 0.000023, 0.499977, 0.499977],
        ),
        (
            [0, 1, 2, 0, 1],
            {"dry_multiplier": 2.0, "dry_base": 1.1},
            [*[0.241818] * 2, 0.032727, *[0.241818] * 2],
        ),
        ([0, 1, 3, 4, 0, 1], {"dry_multiplier": 1.0, "dry_base": 1.1, "dry_breakers": [3]}, [0.2] * 5),
        ([0, 1, 2, 3, 4, 0, 1], {"dry_multiplier": 1.0, "dry_allowed_length": 4}, [0.2] * 5),
    ],
)
def test_public_cases_of_llama_cpp(
    history: list[int], filters: dict[str, Any], probs: list[float], library: Any
) -> None:
    """Cases of tests/test-sampling.cpp of llama.cpp, to its tolerance."""
    np.testing.assert_allclose(library.softmax(UNIFORM, history=[history], **filters), probs, atol=1e-5)


@pytest.mark.parametrize(
    ("history", "probs"),
    [([0, 1], [0.25] * 4), ([0, 1, 2, 0, 1], [0.296923, 0.296923, 0.109232, 0.296923])],
)
def test_public_cases_of_dry(history: list[int], probs: list[float], library: Any) -> None:
    row = np.log(np.full(4, 0.25, dtype=np.float32))
    filters = {"dry_multiplier": 1.0, "dry_base": 1.1, "dry_allowed_length": 2, "dry_last_n": len(history)}
    np.testing.assert_allclose(library.softmax(row, history=[history], **filters), probs, atol=1e-5)


# --- DRY, by its definition --------------------------------------------------------------------------------


def dry_by_definition(history: list[int], allowed: int, last_n: int, breakers: set[int]) -> dict[int, int]:
    """Return the longest repetition that each token would continue, from all pairs of equal sequences."""
    window = history if last_n < 0 else history[len(history) - min(last_n, len(history)) :]
    found: dict[int, int] = {}
    if len(window) <= allowed:
        return found
    for end in range(len(window) - 1):
        for length in range(allowed, end + 2):
            repeated = window[end + 1 - length : end + 1]
            is_end = length == 0 or repeated == window[len(window) - length :]
            if is_end and not breakers & set(repeated) and window[end + 1] not in breakers:
                found[window[end + 1]] = max(length, found.get(window[end + 1], 0))
    return found


@pytest.mark.parametrize("allowed", [0, 1, 2, 5])
@pytest.mark.parametrize("last_n", [-1, 0, 1, 7, 30])
def test_dry_by_its_definition(allowed: int, last_n: int) -> None:
    random = np.random.default_rng([allowed, last_n + 1])
    for _ in range(100):
        history = random.integers(0, 4, random.integers(0, 25)).tolist()
        breakers = set(random.integers(0, 9, 2).tolist())
        costs = reference.dry_penalties(
            history, multiplier=0.5, base=1.3, allowed_length=allowed, last_n=last_n, breakers=breakers
        )
        expected = dry_by_definition(history, allowed, last_n, breakers)
        assert costs.keys() == expected.keys()
        for token, length in expected.items():
            assert costs[token] == pytest.approx(0.5 * 1.3 ** (length - allowed))


def test_a_long_repetition_saturates(library: Any) -> None:
    """1.75^1000 is beyond float64, and the token stays, last of all."""
    history = [1, 2] * 1000
    scores = library.filter_logits(np.zeros(4, np.float32), history=[history], dry_multiplier=1.0)
    assert scores[1] == -np.finfo(np.float32).max
    assert scores[[0, 2, 3]].tolist() == [0, 0, 0] or scores[2] < 0


# --- The same bits as the reference ------------------------------------------------------------------------


def edited(rows: np.ndarray, filters: dict[str, Any]) -> np.ndarray:
    """Return the logits after all edits, by the reference."""
    parameters = reference.parameters_of(filters, *rows.shape)
    states = (reference.run_steps(row, {**of, "steps": ()}) for row, of in zip(rows, parameters, strict=True))
    return np.stack([state[reference.EDITED].logits for state in states])


def random_histories(rows: int, vocab: int, seed: int) -> list[list[int]]:
    """Return histories that end as they begin, so that they repeat themselves; one is empty."""
    random = np.random.default_rng(seed)
    found: list[list[int]] = [[]]
    for length in random.integers(8, 200, rows - 1):
        tokens = random.integers(0, min(vocab, 12), length)
        tokens = np.where(random.random(length) < 0.8, tokens, random.integers(0, vocab, length))
        found.append([*tokens.tolist(), *tokens[: random.integers(2, 8)].tolist()])
    return found


EDITS: dict[str, dict[str, Any]] = {
    "repetition": {"repetition_penalty": 1.3},
    "repetition below one": {"repetition_penalty": 0.7},
    "frequency": {"frequency_penalty": 0.37},
    "negative frequency": {"frequency_penalty": -0.11},
    "presence": {"presence_penalty": 1.7},
    "dry": {"dry_multiplier": 0.83},
    "dry, breakers": {
        "dry_multiplier": 0.83,
        "dry_base": 1.07,
        "dry_allowed_length": 1,
        "dry_breakers": [3, 5],
        "dry_last_n": 90,
    },
    "all": {
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.21,
        "presence_penalty": 0.3,
        "dry_multiplier": 0.8,
    },
    "by row": {
        "repetition_penalty": [1.0, 1.2, 0.9, 1.3, 2.0, 1.0],
        "frequency_penalty": [0.1, 0.0, -0.2, 0.3, 0.0, 0.0],
        "presence_penalty": [0.0, 1.0, 0.0, 0.5, 0.0, 0.0],
        "dry_multiplier": [0.0, 0.0, 1.0, 0.3, 0.0, 1.0],
        "dry_allowed_length": [2, 2, 0, 1, 2, 3],
        "dry_last_n": [-1, -1, 20, 0, -1, 64],
    },
    "of the output": {
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.21,
        "presence_penalty": 0.3,
        "dry_multiplier": 0.8,
        "penalty_history": "output",
        "prompt_lengths": [0, 3, 50, 1000, 1, 0],
    },
    "of both": {
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.21,
        "presence_penalty": 0.3,
        "penalty_history": {"frequency": "output", "presence": "output"},
        "prompt_lengths": 12,
    },
    "extreme": {
        "repetition_penalty": [1e308, 5e-324, 1e-308, 1.0, 1e308, 3e38],
        "frequency_penalty": [1e308, -1e308, 0.0, 1e308, 1e308, 1e38],
        "presence_penalty": [-1e308, 1e308, 1e300, -1e308, 0.0, 0.0],
        "dry_multiplier": [0.0, 1e308, 1e308, 1e308, 0.0, 1e-300],
    },
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("size", [13, 1025, 5000])
def test_edits_are_those_of_the_reference_to_the_bit(size: int, name: str, isa: str) -> None:
    rows = np.random.default_rng(size).normal(0, 3, (6, size)).astype(np.float32)
    rows[:, 4] = -np.inf
    rows[0, :3] = 0.0, -0.0, 3e38
    history = {"history": random_histories(6, size, size)}
    filters = {**EDITS[name], **history}
    mask = np.random.default_rng(1).random((6, size)) < 0.8
    mask[:, -1] = True
    bias = {1: 0.125, size - 1: -7.5}
    changed = edited(rows, {**filters, "mask": mask, "bias": bias})
    assert not np.array_equal(changed, edited(rows, {"mask": mask, "bias": bias}))
    for function in (td.softmax, td.log_softmax, td.filter_logits):
        ours = function(rows, top_p=0.9, mask=mask, bias=bias, **filters)
        assert np.array_equal(ours, function(changed, top_p=0.9)), function.__name__
    drawn = td.draw(rows, seed=4, logprobs=4, mask=mask, bias=bias, **filters)
    of_edited = td.draw(changed, seed=4, logprobs=4)
    for field in ("tokens", "logprobs", "kept", "top_tokens", "top_logprobs"):
        assert np.array_equal(getattr(drawn, field), getattr(of_edited, field)), field
    assert np.array_equal(
        td.greedy(changed), td.sample(rows, temperature=0, seed=0, mask=mask, bias=bias, **filters)
    )


# --- Histories ---------------------------------------------------------------------------------------------


def test_ragged_lists_and_padded_arrays_are_the_same_history(library: Any) -> None:
    rows = np.random.default_rng(2).normal(0, 1, (3, 50)).astype(np.float32)
    ragged = [[4, 4, 9], [], [0, 49, 0, 7, 0]]
    filters = {"frequency_penalty": 0.5, "repetition_penalty": 1.2, "dry_multiplier": 0.7}
    expected = library.filter_logits(rows, history=ragged, **filters)
    assert (expected != library.filter_logits(rows)).any(axis=1).tolist() == [True, False, True]
    for dtype in (np.int32, np.int64, np.int16):
        for side in ("left", "right"):
            padded = np.full((3, 7), -1, dtype=dtype)
            for row, tokens in zip(padded, ragged, strict=True):
                row[: len(tokens) or None] = (
                    (tokens or [-1]) if side == "right" else row[: len(tokens) or None]
                )
                if side == "left" and tokens:
                    row[-len(tokens) :] = tokens
                if not tokens:
                    row[:] = -1
            assert np.array_equal(library.filter_logits(rows, history=padded, **filters), expected)
    wide = np.full((3, 14), -1)
    wide[:, ::2] = padded
    assert np.array_equal(library.filter_logits(rows, history=wide[:, ::2], **filters), expected)


def test_one_row_takes_its_history_with_and_without_a_list_around_it(library: Any) -> None:
    row = np.zeros(9, dtype=np.float32)
    expected = [0, 0, 0, -2, 0, -1, 0, 0, 0]
    for history in ([[3, 5, 3]], [3, 5, 3], np.array([3, 5, 3]), np.array([[3, 5, 3, -1]])):
        assert library.filter_logits(row, history=history, frequency_penalty=1.0).tolist() == expected


def test_no_history_and_an_empty_one(library: Any) -> None:
    rows = np.random.default_rng(3).normal(0, 1, (2, 40)).astype(np.float32)
    filters = {
        "repetition_penalty": 2.0,
        "frequency_penalty": 1.0,
        "presence_penalty": 1.0,
        "dry_multiplier": 1.0,
    }
    for history in (None, [[], []], np.zeros((2, 0), dtype=np.int64), np.full((2, 3), -1)):
        assert np.array_equal(
            library.filter_logits(rows, history=history, **filters), library.filter_logits(rows)
        )


def test_each_penalty_sees_its_history(library: Any) -> None:
    """Token 1 in the prompt, 2 in the output, 3 in both."""
    row = np.zeros(5, dtype=np.float32)
    at = {"history": [[1, 3, 2, 3]], "prompt_lengths": 2}
    everywhere = library.filter_logits(row, frequency_penalty=1.0, **at)
    assert everywhere.tolist() == [0, -1, -1, -2, 0]
    output = library.filter_logits(row, frequency_penalty=1.0, penalty_history="output", **at)
    assert output.tolist() == [0, 0, -1, -1, 0]
    mixed = library.filter_logits(
        row, frequency_penalty=1.0, presence_penalty=4.0, penalty_history={"frequency": "output"}, **at
    )
    assert mixed.tolist() == [0, -4, -5, -5, 0]


def test_prompt_lengths_by_row(library: Any) -> None:
    rows = np.zeros((3, 4), dtype=np.float32)
    scores = library.filter_logits(
        rows,
        presence_penalty=1.0,
        penalty_history="output",
        history=[[1, 2], [1, 2], [1, 2]],
        prompt_lengths=[0, 1, 2],
    )
    assert scores.tolist() == [[0, -1, -1, 0], [0, 0, -1, 0], [0, 0, 0, 0]]


def test_a_removed_token_stays_removed(library: Any) -> None:
    row = np.float32([0, 1, -np.inf, 2])
    filters = {"repetition_penalty": 0.5, "frequency_penalty": -9.0, "history": [[2, 1]]}
    assert library.filter_logits(row, **filters).tolist() == [-11, 0, -np.inf, -9]
    masked = library.filter_logits(row, mask=np.array([True, False, True, True]), **filters)
    assert masked.tolist() == [-2, -np.inf, -np.inf, 0]


def test_penalties_come_before_the_order(kept: Kept) -> None:
    row = [3.0, 2.0, 1.0]
    assert kept(row, top_k=1, history=[[0]], presence_penalty=1.5) == [1]
    assert kept(row, temperature=0, history=[[0]], repetition_penalty=1.5) == [0], "a tie at 2"
    assert kept(row, temperature=0, history=[[0]], repetition_penalty=1.6) == [1]


# --- min_tokens --------------------------------------------------------------------------------------------


def test_min_tokens_forbids_the_end_until_enough_were_drawn(kept: Kept) -> None:
    row = np.zeros(5)
    assert kept(row, min_tokens=3, eos_token_id=2, step=2) == [0, 1, 3, 4]
    assert kept(row, min_tokens=3, eos_token_id=2, step=3) == [0, 1, 2, 3, 4]
    assert kept(row, min_tokens=1, eos_token_id=[4, 0, 4]) == [1, 2, 3]
    assert kept(row, eos_token_id=2) == [0, 1, 2, 3, 4]


def test_min_tokens_and_steps_by_row(library: Any) -> None:
    rows = np.zeros((4, 3), dtype=np.float32)
    sets = library.kept_set(rows, min_tokens=[0, 1, 2, 3], eos_token_id=1, step=[0, 0, 2, 2])
    assert np.diff(sets.offsets).tolist() == [3, 2, 3, 2]


def test_min_tokens_comes_after_all_other_edits(library: Any) -> None:
    row = np.float32([1, 9, 0])
    assert library.sample(row, temperature=0, seed=0, min_tokens=1, eos_token_id=1, bias={1: 5.0}) == 0
    with pytest.raises(ValueError, match="no finite score"):
        library.sample(row, seed=0, min_tokens=1, eos_token_id=1, mask=np.array([False, True, False]))


def test_a_sampler_counts_the_tokens() -> None:
    row = np.float32([0, 50, 0])
    sampler = td.Sampler(min_tokens=3, eos_token_id=1, seed=1)
    drawn = [sampler(row) for _ in range(5)]
    assert 1 not in drawn[:3]
    assert drawn[3:] == [1, 1]


def test_a_history_may_be_empty() -> None:
    logits = np.zeros((2, 3), np.float32)
    for history in ([[], []], np.zeros((2, 0), np.int64), np.full((2, 4), -1)):
        assert (
            td.softmax(logits, history=history, presence_penalty=9.0).tolist() == td.softmax(logits).tolist()
        )
    assert td.softmax(logits[0], history=[], presence_penalty=9.0).tolist() == td.softmax(logits[0]).tolist()
    assert td.sample(logits[:0], history=[], presence_penalty=9.0).shape == (0,)

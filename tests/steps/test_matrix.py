# SPDX-License-Identifier: Apache-2.0
"""Every step and combination on every adversarial row, size, input type and instruction set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tests import oracle
from tests.adversarial import DTYPES, LARGE_SIZES, SMALL_SIZES, generator, matrix
from tokendraw import reference

SetIsa = Callable[[str], None]

SEED, STEP = 0xC0FFEE0123456789, 41


def every_other(rows: int, size: int) -> dict[str, Any]:
    mask = generator(size, 9).random((rows, size)) < 0.5
    mask[:, -1] = True
    return {"mask": mask, "top_p": 0.8}


def packed(rows: int, size: int) -> dict[str, Any]:
    words = generator(size, 10).integers(-(2**31), 2**31, (rows, -(-size // 32)), dtype=np.int32)
    words[:, -1] |= np.int32(1) << np.int32((size - 1) % 32) if size % 32 else np.int32(-(2**31))
    return {"mask": words, "top_k": 40, "temperature": 0.8}


def biased(rows: int, size: int) -> dict[str, Any]:
    bias = generator(size, 11).normal(0, 1, (rows, size)).astype(np.float32)
    bias[:, : size // 3] = -np.inf
    return {"bias": bias, "min_p": 0.1}


def mixed(rows: int, size: int) -> dict[str, Any]:
    row = np.arange(rows)
    return {
        "temperature": np.choose(row % 4, [0.0, 0.6, 1.0, 1.9]),
        "top_k": np.choose(row % 5, [0, 3, 300, 1024, 5000]),
        "top_p": np.choose(row % 3, [1.0, 0.7, 0.97]),
        "min_p": np.choose(row % 2, [0.0, 0.02]),
        "bias": {0: 0.75, size - 1: -1.5},
    }


COMBINATIONS: dict[str, Any] = {
    "none": {},
    "cool": {"temperature": 0.31},
    "hot": {"temperature": 7.0},
    "greedy": {"temperature": 0.0, "top_k": 5, "top_p": 0.3, "min_p": 0.9},
    "top_k 1": {"top_k": 1},
    "top_k 16": {"top_k": 16},
    "top_k 50": {"top_k": 50, "temperature": 0.8},
    "top_k 1024": {"top_k": 1024},
    "top_k 1500": {"top_k": 1500, "top_p": 0.9},
    "top_p 0.01": {"top_p": 0.01},
    "top_p 0.5": {"top_p": 0.5, "temperature": 1.3},
    "top_p 0.95": {"top_p": 0.95},
    "top_p 0.9999": {"top_p": 0.9999},
    "min_p 0.05": {"min_p": 0.05},
    "min_p 1": {"min_p": 1.0},
    "top_k, top_p": {"top_k": 50, "top_p": 0.95, "temperature": 0.8},
    "top_k, top_p, min_p": {"top_k": 200, "top_p": 0.9, "min_p": 0.03, "temperature": 1.5},
    "top_p, min_p": {"top_p": 0.9, "min_p": 0.02},
    "every other": every_other,
    "packed": packed,
    "biased": biased,
    "mixed": mixed,
}
LARGE_COMBINATIONS = ("none", "top_k, top_p", "top_k 1500", "top_p 0.95", "min_p 0.05", "packed", "mixed")


def filters_of(name: str, logits: np.ndarray) -> dict[str, Any]:
    combination = COMBINATIONS[name]
    return dict(combination(*logits.shape)) if callable(combination) else combination


def check_report(row: oracle.Expected, draws: td.Draws, index: int) -> None:
    """Check everything that `draw` says about one row."""
    token = int(draws.tokens[index])
    assert draws.valid[index]
    assert draws.kept[index] == row.final.kept.sum()
    oracle.check_logprobs(draws.logprobs[index], row.final.logprobs[token])
    oracle.check_logprobs(draws.raw_logprobs[index], reference.start_row(row.raw).logprobs[token])
    above = (row.raw > row.raw[token]) | ((row.raw == row.raw[token]) & (np.arange(row.raw.size) < token))
    assert draws.ranks[index] == above.sum()
    width = draws.top_tokens.shape[1]
    highest = row.edited.order[:width]
    assert draws.top_tokens[index].tolist() == [*highest, *[-1] * (width - highest.size)]
    padding = [-np.inf] * (width - highest.size)
    oracle.check_logprobs(draws.top_logprobs[index], [*row.final.logprobs[highest], *padding])


def check(logits: np.ndarray, filters: dict[str, Any]) -> None:
    """Check every function against the reference."""
    placed = {"seed": SEED, "step": STEP, **filters}
    chosen = oracle.follow(logits, **placed)
    oracle.check_kept(chosen, td.kept_set(logits, **oracle.filters_of(placed)))
    oracle.check_distribution(chosen, logits, placed)
    draws = td.draw(logits, logprobs=6, **placed)
    for index, row in enumerate(chosen):
        oracle.count_differing(row, draws.tokens[index], [(SEED, index, STEP)])
        check_report(row, draws, index)


def drawn(logits: np.ndarray, filters: dict[str, Any]) -> list[np.ndarray]:
    placed = {"seed": SEED, "step": STEP, **filters}
    return [*td.draw(logits, logprobs=6, **placed), *td.kept_set(logits, **oracle.filters_of(placed))]


def answers(logits: np.ndarray, filters: dict[str, Any]) -> list[np.ndarray]:
    others = (td.softmax, td.log_softmax, td.filter_logits)
    placed = oracle.filters_of({"seed": SEED, "step": STEP, **filters})
    return [*drawn(logits, filters), *(other(logits, **placed) for other in others)]


def assert_same_bits(ours: list[np.ndarray], theirs: list[np.ndarray], where: str) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one, other), where


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_small_rows(size: int, name: str, set_isa: SetIsa) -> None:
    logits = matrix(size, DTYPES["float32"])
    filters = filters_of(name, logits)
    check(logits, filters)
    ours = answers(logits, filters)
    for isa in td.build_info()["isas"]:
        set_isa(isa)
        assert_same_bits(ours, answers(logits, filters), isa)


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "float32"])
@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_other_types_mean_their_float32_values(size: int, name: str, dtype: str, set_isa: SetIsa) -> None:
    logits = matrix(size, DTYPES[dtype])
    filters = filters_of(name, logits)
    widened = answers(logits.astype(np.float32), filters)
    for isa in td.build_info()["isas"]:
        set_isa(isa)
        assert_same_bits(answers(logits, filters), widened, isa)


@pytest.mark.parametrize("name", LARGE_COMBINATIONS)
@pytest.mark.parametrize("size", LARGE_SIZES)
def test_large_rows(size: int, name: str, set_isa: SetIsa) -> None:
    logits = matrix(size, DTYPES["float32"])[::2]
    filters = filters_of(name, logits)
    check(logits, filters)
    ours = drawn(logits, filters)
    for isa in td.build_info()["isas"]:
        set_isa(isa)
        assert_same_bits(ours, drawn(logits, filters), isa)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("size", LARGE_SIZES)
def test_every_combination_on_large_rows(size: int, name: str) -> None:
    logits = matrix(size, DTYPES["float32"])
    check(logits, filters_of(name, logits))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "float32"])
@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("size", LARGE_SIZES)
def test_large_rows_of_other_types(size: int, name: str, dtype: str) -> None:
    logits = matrix(size, DTYPES[dtype])
    filters = filters_of(name, logits)
    assert_same_bits(answers(logits, filters), answers(logits.astype(np.float32), filters), dtype)


def test_every_finite_half_is_widened_exactly(isa: str) -> None:
    for dtype in (DTYPES["float16"], DTYPES["bfloat16"]):
        values = np.arange(65536, dtype=np.uint16).view(dtype)
        values = values[np.isfinite(values.astype(np.float32))]
        ranked, tokens = td.top_k(values, values.size)
        order = reference.total_order(values.astype(np.float32))
        assert np.array_equal(tokens, order)
        assert np.array_equal(np.asarray(ranked, dtype=np.float32), values.astype(np.float32)[order])


def test_float64_is_rounded_to_nearest_even(isa: str) -> None:
    exact = 1 + np.array([0.5, 1.5, 2.5, 0.5 + 2**-20, -0.25]) * 2.0**-23
    _, tokens = td.top_k(exact, exact.size)
    assert np.array_equal(tokens, reference.total_order(exact.astype(np.float32)))
    assert tokens.tolist() == [1, 2, 3, 0, 4]

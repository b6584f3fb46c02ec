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


def penalised(rows: int, size: int) -> dict[str, Any]:
    random = generator(size, 12)
    tokens = random.integers(0, min(size, 9), (rows, 60))
    tokens[:, 40:] = tokens[:, :20]
    tokens[random.random(rows) < 0.5, -5:] = -1
    return {
        "history": tokens,
        "repetition_penalty": 1.2,
        "frequency_penalty": 0.3,
        "presence_penalty": np.linspace(0, 1, rows),
        "dry_multiplier": 0.8,
        "dry_breakers": [1],
        "top_p": 0.9,
    }


def too_short_to_end(rows: int, size: int) -> dict[str, Any]:
    """Every third row may not end with its last token yet; a row that holds nothing else may."""
    least = np.where(np.arange(rows) % 3 == 0, STEP + 1, STEP)
    least[12:] = 0
    return {
        "min_tokens": least if size > 1 else 0,
        "eos_token_id": [size // 2 + 1 if size > 2 else 0],
        "min_p": 0.01,
    }


def mixed_new(rows: int, size: int) -> dict[str, Any]:
    row = np.arange(rows)
    return {
        "temperature": np.choose(row % 3, [0.6, 1.0, 1.9]),
        "typical_p": np.choose(row % 4, [1.0, 0.5, 0.95, 1.0]),
        "epsilon_cutoff": np.choose(row % 5, [0.0, 1e-3, 0.0, 0.2, 0.0]),
        "eta_cutoff": np.choose(row % 2, [0.0, 3e-3]),
        "top_n_sigma": np.choose(row % 3, [0.0, 1.0, 2.5]),
        "xtc_probability": np.choose(row % 3, [0.5, 1.0, 0.0]),
        "xtc_threshold": np.choose(row % 4, [0.1, 0.01, 0.3, 0.0]),
        "top_k": np.choose(row % 5, [0, 0, 300, 0, 5000]),
        "top_p": np.choose(row % 3, [1.0, 0.9, 0.97]),
    }


def preset(name: str, **params: Any) -> dict[str, Any]:
    return td.SamplingParams.preset(name, **params).as_dict()


XTC = {"xtc_probability": 1.0, "xtc_threshold": 0.05}

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
    "typical 0.2": {"typical_p": 0.2},
    "typical 0.95": {"typical_p": 0.95, "temperature": 1.3},
    "typical of 100": {"typical_p": 0.5, "top_k": 100},
    "typical of 3000": {"typical_p": 0.5, "top_k": 3000},
    "epsilon": {"epsilon_cutoff": 3e-4},
    "epsilon 0.9": {"epsilon_cutoff": 0.9, "top_k": 20},
    "eta": {"eta_cutoff": 2e-3},
    "eta of a nucleus": {"eta_cutoff": 0.03, "top_p": 0.9},
    "top_n_sigma": {"top_n_sigma": 1.0},
    "top_n_sigma 3.5": {"top_n_sigma": 3.5, "temperature": 0.8, "top_p": 0.99},
    "xtc": XTC,
    "xtc of the last": {"xtc_probability": 1.0, "xtc_threshold": 0.0},
    "xtc at times": {"xtc_probability": 0.5, "xtc_threshold": 1e-3, "top_p": 0.9, "min_p": 0.01},
    "xtc, then more": {**XTC, "top_p": 0.8, "min_p": 0.1, "steps": ["xtc", "top_p", "temperature", "min_p"]},
    "every step": {
        "temperature": 1.4,
        "top_k": 2000,
        "top_p": 0.98,
        "min_p": 1e-3,
        "typical_p": 0.9,
        "epsilon_cutoff": 1e-5,
        "eta_cutoff": 1e-4,
        "top_n_sigma": 4.0,
        **XTC,
    },
    "joint": {"top_k": 60, "top_p": 0.7, "temperature": 1.5, "steps": ["temperature", "top_k_top_p"]},
    "joint, large": {"top_k": 1700, "top_p": 0.7, "steps": ["top_k_top_p"], "top_p_boundary": "exceed"},
    "joint, top_p alone": {"top_p": 0.7, "min_p": 0.01, "steps": ["top_k_top_p", "min_p"]},
    "top_p exceed": {"top_p": 0.9, "top_p_boundary": "exceed"},
    "top_p highest": {"top_p": 0.8, "top_p_ties": "highest"},
    "top_p all": {"top_p": 0.8, "top_p_ties": "all"},
    "top_p of 50, highest": {"top_k": 50, "top_p": 0.8, "top_p_ties": "highest"},
    "top_p of 1500, all": {"top_k": 1500, "top_p": 0.8, "top_p_ties": "all", "top_k_ties": "all"},
    "top_p of the original mass": {"top_k": 50, "top_p": 0.5, "top_p_mass": "original"},
    "top_k all": {"top_k": 50, "top_k_ties": "all", "min_p": 0.02},
    "top_k all, top_p": {"top_k": 1000, "top_k_ties": "all", "top_p": 0.9},
    "min_p, top_p": {"min_p": 0.02, "top_p": 0.9, "steps": ["min_p", "top_p"]},
    "top_p, top_k": {"top_p": 0.9, "top_k": 40, "steps": ["top_p", "top_k"]},
    "temperature last": {
        "temperature": 0.5,
        "top_p": 0.9,
        "min_p": 0.01,
        "steps": ["top_p", "min_p", "temperature"],
    },
    "zero last": {"temperature": 0.0, **XTC, "typical_p": 0.7, "steps": ["typical", "xtc", "temperature"]},
    "penalised": penalised,
    "too short to end": too_short_to_end,
    "mixed new": mixed_new,
    "as transformers": preset("transformers", temperature=0.7, top_k=50, top_p=0.9, typical_p=0.95),
    "as vllm": preset("vllm", temperature=1.2, top_k=400, top_p=0.9, min_p=0.01),
    "as sglang": preset("sglang", temperature=1.2, top_k=40, top_p=0.9, min_p=0.02),
    "as llama.cpp": preset("llama.cpp", temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, **XTC),
    "as mlx": preset("mlx", temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, **XTC),
    "as flashinfer": preset("flashinfer", temperature=0.8, top_k=2000, top_p=0.95),
}
LARGE_COMBINATIONS = (
    "none",
    "top_k, top_p",
    "top_k 1500",
    "top_p 0.95",
    "min_p 0.05",
    "packed",
    "mixed",
    "typical 0.95",
    "every step",
    "top_p highest",
    "mixed new",
    "as llama.cpp",
)


def a_third(name: str, size: int, dtype: str = "float32") -> np.ndarray:
    """Return every third adversarial row, for each combination others: all would take half an hour."""
    return matrix(size, DTYPES[dtype])[list(COMBINATIONS).index(name) % 3 :: 3]


def filters_of(name: str, logits: np.ndarray) -> dict[str, Any]:
    combination = COMBINATIONS[name]
    return dict(combination(*logits.shape)) if callable(combination) else combination


def check(logits: np.ndarray, filters: dict[str, Any]) -> None:
    oracle.check_call(logits, {"seed": SEED, "step": STEP, **filters})


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
    logits = a_third(name, size)
    check(logits, filters_of(name, logits))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "float32"])
@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("size", LARGE_SIZES)
def test_large_rows_of_other_types(size: int, name: str, dtype: str) -> None:
    logits = a_third(name, size, dtype)
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

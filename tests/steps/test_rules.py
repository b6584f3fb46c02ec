# SPDX-License-Identifier: Apache-2.0
"""Ties, boundaries, masses, the joint step, orders of steps, and the presets that put them together."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td

Kept = Callable[..., list[int]]


def log(*probs: float) -> np.ndarray:
    return np.log(np.array(probs, dtype=np.float32))


QUARTERS = log(0.25, 0.25, 0.25, 0.25)
STAIRS = log(0.5, 0.25, 0.125, 0.125)


@pytest.mark.parametrize(
    ("row", "top_p", "rules", "tokens"),
    [
        (QUARTERS, 0.5, {}, [0, 1]),
        (QUARTERS, 0.5, {"top_p_ties": "highest"}, [2, 3]),
        (QUARTERS, 0.6, {"top_p_ties": "highest"}, [1, 2, 3]),
        (QUARTERS, 0.5, {"top_p_ties": "all"}, [0, 1, 2, 3]),
        (QUARTERS, 0.5, {"top_p_boundary": "exceed"}, [0, 1, 2]),
        (QUARTERS, 0.49, {"top_p_boundary": "exceed"}, [0, 1]),
        (QUARTERS, 0.5, {"top_p_boundary": "exceed", "top_p_ties": "highest"}, [1, 2, 3]),
        (STAIRS, 0.75, {}, [0, 1]),
        (STAIRS, 0.75, {"top_p_ties": "all"}, [0, 1]),
        (STAIRS, 0.75, {"top_p_boundary": "exceed"}, [0, 1, 2]),
        (STAIRS, 0.75, {"top_p_boundary": "exceed", "top_p_ties": "highest"}, [0, 1, 3]),
        (STAIRS, 0.75, {"top_p_boundary": "exceed", "top_p_ties": "all"}, [0, 1, 2, 3]),
        (STAIRS, 0.8, {"top_p_ties": "highest"}, [0, 1, 3]),
        (STAIRS, 1e-9, {"top_p_ties": "highest", "top_p_boundary": "exceed"}, [0]),
        (log(0.5, 0.5), 1e-9, {"top_p_ties": "highest"}, [1]),
        (log(0.5, 0.5), 1.0, {"top_p_ties": "highest", "top_p_boundary": "exceed"}, [0, 1]),
    ],
)
def test_boundary_and_ties_of_top_p(
    row: np.ndarray, top_p: float, rules: dict[str, str], tokens: list[int], kept: Kept
) -> None:
    assert kept(row, top_p=top_p, **rules) == tokens


@pytest.mark.parametrize("count", [2, 64, 1024, 4096])
def test_shares_of_equal_logits_are_exact_by_every_rule(count: int, kept: Kept) -> None:
    row = np.full(count, 3.0)
    half = count // 2
    assert kept(row, top_p=0.5, top_p_boundary="exceed") == list(range(half + 1))
    assert kept(row, top_p=0.5, top_p_ties="highest") == list(range(half, count))
    assert kept(row, top_p=0.5, top_p_ties="all") == list(range(count))


def test_highest_ties_of_what_earlier_steps_left(kept: Kept) -> None:
    """top_k leaves tokens 0 to 3 of six equal ones, and of these top_p takes the highest two."""
    assert kept(np.zeros(6), top_k=4, top_p=0.5, top_p_ties="highest") == [2, 3]
    mask = np.array([True, False, True, True, True, False])
    assert kept(np.zeros(6), mask=mask, top_p=0.5, top_p_ties="highest") == [3, 4]
    assert kept(log(0.2, 0.2, 0.4, 0.2), top_p=0.7, top_p_ties="highest") == [1, 2, 3]


def test_ties_of_top_k(kept: Kept) -> None:
    row = [1, 2, 2, 2, 0]
    assert kept(row, top_k=2, top_k_ties="all") == [1, 2, 3]
    assert kept(row, top_k=4, top_k_ties="all") == [0, 1, 2, 3]
    assert kept([0.0, -0.0, 0.0, -1], top_k=1, top_k_ties="all") == [0, 1, 2]
    assert kept([-np.inf, 1, -np.inf], top_k=2, top_k_ties="all") == [1]
    many = np.repeat(np.float32([2, 1, 0]), 3000)
    assert kept(many, top_k=3001, top_k_ties="all") == list(range(6000))
    assert kept(many, top_k=7, top_k_ties="all") == list(range(3000))
    assert kept(many, top_k=7, top_k_ties="all", top_p=0.5) == list(range(1500))


def test_mass_that_is_left_and_original_mass(kept: Kept) -> None:
    row = log(0.4, 0.3, 0.2, 0.1)
    assert kept(row, top_k=2, top_p=0.5) == [0]
    assert kept(row, top_k=2, top_p=0.5, top_p_mass="original") == [0, 1]
    assert kept(row, top_k=2, top_p=0.9, top_p_mass="original") == [0, 1]
    mask = np.array([True, True, False, False])
    assert kept(row, mask=mask, top_p=0.5, top_p_mass="original") == [0], "a masked token has no mass"
    first_min_p = ("temperature", "min_p", "top_p")
    assert kept(row, min_p=0.7, top_p=0.5, steps=first_min_p) == [0]
    assert kept(row, min_p=0.7, top_p=0.5, steps=first_min_p, top_p_mass="original") == [0, 1]


def test_original_mass_beside_which_the_rest_is_nothing(kept: Kept) -> None:
    """What xtc removes may be 2^1442 times as probable as what it leaves."""
    filters = {"xtc_probability": 1.0, "xtc_threshold": 0.0, "steps": ("temperature", "xtc", "top_p")}
    for scale in (1, 1e30):
        row = np.float32([0, 1000, 500, 0]) * np.float32(scale)
        assert kept(row, **filters, top_p=0.5, top_p_mass="original", seed=1) == [3]


def test_original_mass_is_that_of_the_present_temperature(kept: Kept) -> None:
    """At half the temperature the squares count: 16, 9, 4 and 1 of 30."""
    row = log(0.4, 0.3, 0.2, 0.1)
    filters = {"top_k": 3, "top_p": 0.55, "temperature": 0.5, "top_p_mass": "original"}
    assert kept(row, **filters) == [0, 1]
    assert kept(row, **filters, steps=("top_k", "top_p", "temperature")) == [0, 1]
    assert kept(row, **{**filters, "top_p": 0.5}) == [0]
    assert kept(row, **{**filters, "top_p": 0.5}, steps=("top_k", "top_p", "temperature")) == [0, 1]


# --- The joint step ----------------------------------------------------------------------------------------

JOINT = ("temperature", "top_k_top_p", "min_p")


def test_the_joint_step_measures_both_on_one_distribution(kept: Kept) -> None:
    row = log(0.4, 0.3, 0.2, 0.1)
    assert kept(row, top_k=2, top_p=0.5, steps=JOINT) == [0, 1]
    assert kept(row, top_k=2, top_p=0.3, steps=JOINT) == [0]
    assert kept(row, top_k=2, top_p=0.95, steps=JOINT) == [0, 1]
    assert kept(row, top_k=3, steps=JOINT) == [0, 1, 2]
    assert kept(row, top_p=0.5, steps=JOINT) == [0, 1]
    assert kept(row, top_k=3, top_p=0.8, min_p=0.7, steps=JOINT) == [0, 1]
    assert kept(row, temperature=0.5, top_k=2, top_p=0.5, steps=JOINT) == [0]
    assert kept(row, steps=JOINT) == [0, 1, 2, 3]


def test_the_joint_step_keeps_at_least_one_token(kept: Kept) -> None:
    """Where top_k keeps the lowest of equal tokens and top_p the highest, the first token stays."""
    row = [2.0, 2.0]
    assert kept(row, top_k=1, top_p=0.5, top_p_ties="highest", steps=JOINT) == [0]
    filters = {"top_k": 3, "top_p": 0.5, "top_p_ties": "highest", "steps": JOINT}
    assert kept(np.zeros(4), **filters) == [2]


# --- Orders ------------------------------------------------------------------------------------------------


def test_temperature_first_and_last(kept: Kept, library: Any) -> None:
    assert kept([3, 2, 1], temperature=0.5, top_p=0.8) == [0]
    last = ("top_p", "temperature")
    assert kept([3, 2, 1], temperature=0.5, top_p=0.8, steps=last) == [0, 1]
    probs = library.softmax(np.float32([3, 2, 1]), temperature=0.5, top_p=0.8, steps=last)
    np.testing.assert_allclose(probs, [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 0], rtol=1e-6)
    scores = library.filter_logits(np.float32([3, 2, 1]), temperature=0.5, top_p=0.8, steps=last)
    assert scores.tolist() == [0, -2, -np.inf]


def test_min_p_before_and_after_top_p(kept: Kept) -> None:
    row = log(0.5, 0.3, 0.1, 0.06, 0.04)
    assert kept(row, min_p=0.3, top_p=0.6) == [0, 1]
    assert kept(row, min_p=0.3, top_p=0.6, steps=("min_p", "top_p")) == [0]


def test_top_p_before_top_k(kept: Kept) -> None:
    row = log(0.4, 0.3, 0.2, 0.1)
    assert kept(row, top_k=2, top_p=0.5, steps=("top_p", "top_k")) == [0, 1]
    assert kept(row, top_k=1, top_p=0.5, steps=("top_p", "top_k")) == [0]


def test_temperature_zero_takes_the_best_survivor(kept: Kept, library: Any) -> None:
    row = log(0.4, 0.3, 0.2, 0.1)
    xtc = {"xtc_probability": 1.0, "xtc_threshold": 0.19}
    assert kept(row, temperature=0, **xtc) == [0]
    assert kept(row, temperature=0, **xtc, steps=("xtc", "temperature")) == [2]
    assert kept(row, temperature=0, **xtc, steps=("xtc", "temperature", "min_p"), min_p=1.0) == [2]
    assert kept(row, temperature=0, typical_p=0.2, steps=("typical", "temperature")) == [1]
    draws = library.draw(row, temperature=0, **xtc, steps=("xtc", "temperature"), seed=3)
    assert (draws.tokens, draws.logprobs, draws.kept) == (2, 0.0, 1)
    everything = {
        "top_k": 3,
        "top_p": 0.1,
        "min_p": 1.0,
        "typical_p": 0.1,
        "epsilon_cutoff": 0.9,
        "eta_cutoff": 0.9,
        "top_n_sigma": 1e-3,
        "xtc_probability": 1.0,
        "xtc_threshold": 0.0,
    }
    assert kept(row, temperature=0, **everything) == [0]


def test_the_edits_may_be_named_at_the_front(kept: Kept) -> None:
    row = log(0.4, 0.3, 0.2, 0.1)
    for front in (("mask",), ("bias", "penalties"), ("mask", "bias", "penalties")):
        assert kept(row, top_k=2, bias={3: 9.0}, steps=(*front, "top_k")) == [0, 3]
    assert kept(row, top_k=2, bias={3: 9.0}, steps=["top_k"]) == [0, 3], "a list is a sequence as well"
    assert kept(row, steps=()) == [0, 1, 2, 3]


# --- Presets -----------------------------------------------------------------------------------------------

PRESETS = ("transformers", "vllm", "sglang", "llama.cpp", "mlx", "flashinfer")


def by_preset(kept: Kept, row: np.ndarray, **params: Any) -> dict[str, list[int]]:
    return {name: kept(row, **td.SamplingParams.preset(name, **params).as_dict()) for name in PRESETS}


def test_presets_at_the_boundary_of_top_p(kept: Kept) -> None:
    """Kept tokens by the code of each system, for two and for four equal tokens."""
    assert by_preset(kept, log(0.5, 0.5), top_p=0.5) == {
        "transformers": [0],
        "vllm": [0],
        "sglang": [0, 1],
        "llama.cpp": [0],
        "mlx": [0, 1],
        "flashinfer": [0, 1],
    }
    assert by_preset(kept, QUARTERS, top_p=0.5) == {
        "transformers": [0, 1],
        "vllm": [0, 1],
        "sglang": [0, 1, 2],
        "llama.cpp": [0, 1],
        "mlx": [0, 1, 2, 3],
        "flashinfer": [0, 1, 2, 3],
    }
    assert by_preset(kept, QUARTERS, top_p=0.6) == {
        "transformers": [0, 1, 2],
        "vllm": [0, 1, 2],
        "sglang": [0, 1, 2],
        "llama.cpp": [0, 1, 2],
        "mlx": [0, 1, 2, 3],
        "flashinfer": [0, 1, 2, 3],
    }
    alike = by_preset(kept, log(0.4, 0.3, 0.2, 0.1), top_p=1e-8)
    assert all(tokens == [0] for tokens in alike.values())


def test_presets_and_ties_of_top_k(kept: Kept) -> None:
    assert by_preset(kept, np.float32([1, 2, 2, 2, 0]), top_k=2) == {
        "transformers": [1, 2, 3],
        "vllm": [1, 2, 3],
        "sglang": [1, 2],
        "llama.cpp": [1, 2],
        "mlx": [1, 2],
        "flashinfer": [1, 2, 3],
    }


def test_presets_and_the_order_of_top_k_and_top_p(kept: Kept) -> None:
    assert by_preset(kept, log(0.4, 0.3, 0.2, 0.1), top_k=2, top_p=0.5) == {
        "transformers": [0],
        "vllm": [0],
        "sglang": [0, 1],
        "llama.cpp": [0],
        "mlx": [0, 1],
        "flashinfer": [0],
    }


def test_presets_and_the_place_of_temperature(kept: Kept) -> None:
    found = by_preset(kept, np.float32([3, 2, 1]), temperature=0.5, top_p=0.8)
    assert {name for name, tokens in found.items() if tokens == [0, 1]} == {"llama.cpp", "mlx"}
    assert {name for name, tokens in found.items() if tokens == [0]} == set(PRESETS) - {"llama.cpp", "mlx"}


def test_presets_and_the_place_of_min_p(kept: Kept) -> None:
    found = by_preset(kept, log(0.5, 0.3, 0.1, 0.06, 0.04), min_p=0.3, top_p=0.6)
    assert {name for name, tokens in found.items() if tokens == [0]} == {"vllm"}
    assert all(tokens in ([0], [0, 1]) for tokens in found.values())


def test_presets_and_the_history_of_penalties(kept: Kept) -> None:
    """Tokens 1 and 2 are in the prompt, 3 in the output, and every penalty moves a token below token 0."""
    row = np.float32([1, 2, 2, 2])
    at = {"history": [[1, 2, 3]], "prompt_lengths": 2}
    for penalty in ({"frequency_penalty": 5.0}, {"presence_penalty": 5.0}, {"repetition_penalty": 4.0}):
        for name in PRESETS:
            params = td.SamplingParams.preset(name, top_n_sigma=0.0, **penalty)
            best = kept(row, **{**params.as_dict(), "temperature": 0}, **at)
            output = name == "sglang" or (name == "vllm" and "repetition_penalty" not in penalty)
            assert best == ([1] if output else [0]), (name, penalty)


def test_the_flashinfer_backend_of_sglang(kept: Kept) -> None:
    params = td.SamplingParams.preset("flashinfer", steps=("temperature", "top_k_top_p"), top_k=2, top_p=0.5)
    assert kept(log(0.4, 0.3, 0.2, 0.1), **params.as_dict()) == [0, 1]
    assert kept(QUARTERS, **params.as_dict()) == [0, 1, 2, 3]


def test_the_chain_of_llama_cpp_before_its_temperature(kept: Kept) -> None:
    """top_n_sigma, top_k, typical, top_p, min_p, xtc: each of the shares is taken at temperature 1."""
    row = log(0.3, 0.25, 0.2, 0.15, 0.1)
    params = td.SamplingParams.preset(
        "llama.cpp", temperature=5.0, top_k=4, top_p=0.8, xtc_probability=1.0, xtc_threshold=0.3
    )
    # top_k leaves 30, 25, 20 and 15 of 90, top_p the first three: 40, 33 and 27 of 100; xtc takes the first.
    assert kept(row, **params.as_dict()) == [1, 2]

# SPDX-License-Identifier: Apache-2.0
"""Random calls: none crashes, draws outside the kept set, writes its input or differs from the reference."""

import os
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import tokendraw as td
from tests import adversarial, oracle
from tokendraw import reference

LOGITS = {**adversarial.VALID, **adversarial.INVALID}


@st.composite
def calls(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Return logits, filters, and the place of a draw."""
    size = draw(
        st.one_of(st.integers(1, 80), st.integers(81, 4000), st.sampled_from(adversarial.SMALL_SIZES))
    )
    names = draw(st.lists(st.sampled_from(sorted(LOGITS)), min_size=1, max_size=4))
    dtype = adversarial.DTYPES[draw(st.sampled_from(sorted(adversarial.DTYPES)))]
    with np.errstate(over="ignore"):
        logits = np.stack([LOGITS[name](size) for name in names]).astype(dtype)
    filters = {
        name: draw(st.one_of(values, st.lists(values, min_size=len(names), max_size=len(names))))
        for name, values in PARAMETERS.items()
        if draw(st.booleans())
    }
    filters |= draw(edits(len(names), size))
    filters |= draw(penalties(len(names), size))
    if draw(st.booleans()):
        filters |= draw(rules())
    place = {
        "seed": draw(st.integers(0, 2**64 - 1)),
        "stream": draw(st.integers(0, 2**56 - 1)),
        "step": draw(st.integers(0, 2**32 - 1)),
    }
    return logits, filters, place


# Thresholds below 2**-1000 count as that, where the reference takes them at their word.
PARAMETERS = {
    "temperature": st.one_of(st.floats(0, 3), st.sampled_from([0.0, 1e-300, 1e-6, 1.0, 1e30])),
    "top_k": st.one_of(st.integers(0, 100), st.sampled_from([0, 1, 1023, 1024, 1025, 10**12])),
    "top_p": st.one_of(st.floats(1e-6, 1), st.sampled_from([1e-300, 0.5, 0.9, 0.999, 1.0])),
    "min_p": st.one_of(st.floats(1e-300, 1), st.sampled_from([0.0, 1e-30, 0.05, 1.0])),
    "typical_p": st.one_of(st.floats(1e-6, 1), st.sampled_from([1e-300, 0.5, 1.0, 1.0])),
    "epsilon_cutoff": st.one_of(st.floats(1e-300, 0.999), st.sampled_from([0.0, 0.0, 1e-30])),
    "eta_cutoff": st.one_of(st.floats(1e-300, 0.999), st.sampled_from([0.0, 0.0, 1e-30])),
    "top_n_sigma": st.one_of(st.floats(0, 5), st.sampled_from([0.0, 0.0, 1e-300, 1e300])),
    "xtc_probability": st.sampled_from([0.0, 0.0, 0.5, 1.0]),
    "xtc_threshold": st.one_of(st.floats(1e-300, 1), st.just(0.0)),
}


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """Return an order of all steps, and rules."""
    joint = draw(st.booleans())
    names = [
        name for name in reference.STEPS if name not in (("top_k", "top_p") if joint else ("top_k_top_p",))
    ]
    return {
        "steps": draw(st.permutations(names)),
        "top_k_ties": draw(st.sampled_from(["exact", "all"])),
        "top_p_boundary": draw(st.sampled_from(["reach", "exceed"])),
        "top_p_ties": draw(st.sampled_from(["lowest", "highest", "all"])),
        "top_p_mass": draw(st.sampled_from(["left", "original"])),
    }


@st.composite
def penalties(draw: st.DrawFn, rows: int, size: int) -> dict[str, Any]:
    """Return histories of few tokens, so that they repeat themselves, and what they cost."""
    if draw(st.booleans()):
        return {}
    tokens = st.integers(0, min(size, 4) - 1)
    return {
        "history": [draw(st.lists(tokens, max_size=30)) for _ in range(rows)],
        "prompt_lengths": draw(st.integers(0, 20)),
        "penalty_history": draw(st.sampled_from(["all", "output", {"repetition": "output"}])),
        "repetition_penalty": draw(st.floats(0.1, 4)),
        "frequency_penalty": draw(st.floats(-3, 3)),
        "presence_penalty": draw(st.floats(-3, 3)),
        "dry_multiplier": draw(st.sampled_from([0.0, 0.8, 1e300])),
        "dry_base": draw(st.floats(1, 3)),
        "dry_allowed_length": draw(st.integers(0, 4)),
        "dry_last_n": draw(st.integers(-1, 40)),
        "dry_breakers": draw(st.lists(tokens, max_size=2)),
        "min_tokens": draw(st.integers(0, 2)),
        "eos_token_id": size - 1,
    }


@st.composite
def edits(draw: st.DrawFn, rows: int, size: int) -> dict[str, Any]:
    random = adversarial.generator(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["", "", "mask", "words", "bias", "token bias"]))
    if kind == "mask":
        return {"mask": random.random((rows, size)) < draw(st.sampled_from([0.02, 0.5, 0.98]))}
    if kind == "words":
        words = draw(st.integers(1, -(-size // 32)))
        return {"mask": random.integers(-(2**31), 2**31, (rows, words), dtype=np.int32)}
    if kind == "bias":
        bias = np.where(random.random(size) < 0.1, -np.inf, random.normal(0, 3, size))
        return {"bias": bias.astype(np.float32)}
    if kind == "token bias":
        return {"bias": {int(token): float(random.normal(0, 9)) for token in random.integers(0, size, 5)}}
    return {}


def check_call(logits: np.ndarray, filters: dict[str, Any], place: dict[str, Any]) -> None:
    before = logits.copy()
    draws = td.draw(logits, on_invalid="mark", logprobs=2, **place, **filters)
    tokens = td.sample(logits, on_invalid="mark", **place, **filters)
    sets = td.kept_set(logits, on_invalid="mark", **oracle.filters_of({**place, **filters}))
    assert logits.tobytes() == before.tobytes()
    assert np.array_equal(tokens, draws.tokens)
    assert np.array_equal(np.diff(sets.offsets), draws.kept)
    for index, expected in enumerate(oracle.follow(logits, **place, **filters)):
        kept = sets.tokens[sets.offsets[index] : sets.offsets[index + 1]]
        assert draws.valid[index] == expected.valid
        if not draws.valid[index]:
            check_invalid(draws, index)
            continue
        assert tokens[index] in kept
        assert np.array_equal(kept, np.flatnonzero(expected.final.kept))
        oracle.count_differing(expected, tokens[index], [(place["seed"], place["stream"], place["step"])])


def check_invalid(draws: td.Draws, index: int) -> None:
    assert draws.tokens[index] == -1
    assert draws.kept[index] == 0
    assert np.isnan([draws.logprobs[index], draws.raw_logprobs[index], *draws.top_logprobs[index]]).all()


@hypothesis.settings(max_examples=300)
@hypothesis.given(calls())
def test_random_calls(call: tuple[np.ndarray, dict[str, Any], dict[str, Any]]) -> None:
    check_call(*call)


# .ci/nightly asks for ten times as many, of a sanitised core.
MANY = int(os.environ.get("TOKENDRAW_RANDOM_CALLS", "10000"))


@pytest.mark.slow
@hypothesis.settings(max_examples=MANY)
@hypothesis.given(calls())
def test_many_random_calls(call: tuple[np.ndarray, dict[str, Any], dict[str, Any]]) -> None:
    check_call(*call)

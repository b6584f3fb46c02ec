# SPDX-License-Identifier: Apache-2.0
"""The jobs of the budget table beside their floor, and the main one beside NumPy.

    TOKENDRAW_THREADS=1 pytest bench/bench_sample.py

One thread everywhere. A budget is met when the 95 % interval of the ratio includes it or lies below; the
machine has to be calm. `--benchmark-json=FILE` keeps the rounds, `-k top_p` takes a part.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import tokendraw as td

BATCH = 64
MAIN = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}

Rows = NDArray[np.float32]


class Job(NamedTuple):
    """A line of the budget table: rows, parameters, and budgets for one row in cache and 64 from memory."""

    rows: str
    parameters: dict[str, Any]
    budgets: dict[int, float]


JOBS = {
    "greedy": Job("peaked", {"temperature": 0}, {1: 1.1, BATCH: 1.1}),
    "temperature": Job("peaked", {"temperature": 0.8}, {1: 3.0, BATCH: 1.8}),
    "top_k": Job("peaked", {"temperature": 0.8, "top_k": 50}, {1: 1.7, BATCH: 1.5}),
    "top_p peaked": Job("peaked", {"top_p": 0.95}, {1: 3.5, BATCH: 2.1}),
    "top_p flat": Job("flat", {"top_p": 0.95}, {1: 7.0, BATCH: 4.5}),
    "top_k and top_p": Job("peaked", MAIN, {1: 1.8, BATCH: 1.6}),
    "min_p": Job("peaked", {"min_p": 0.05}, {1: 1.7, BATCH: 1.5}),
}


@pytest.mark.benchmark(group="budgets")
@pytest.mark.parametrize("rows", [1, BATCH])
@pytest.mark.parametrize("name", JOBS)
def test_budget(name: str, rows: int, logits_of: Callable[..., Rows], time_beside_floor: Callable[..., Any]):
    job = JOBS[name]
    logits = logits_of(job.rows, rows)
    tokens = time_beside_floor(
        lambda: td.sample(logits, **job.parameters, seed=1, threads=1), logits, job.budgets[rows]
    )
    assert tokens.shape == (rows,)


def sample_with_numpy(
    logits: Rows, temperature: float, top_k: int, top_p: float, random: np.random.Generator
):
    """Sample as well as NumPy can: a partial sort of the vocabulary, then everything on [rows, top_k]."""
    tokens = np.argpartition(logits, -top_k, axis=-1)[:, -top_k:]
    best = np.take_along_axis(logits, tokens, -1)
    order = np.argsort(-best, axis=-1, kind="stable")
    tokens, best = np.take_along_axis(tokens, order, -1), np.take_along_axis(best, order, -1)
    weights = np.exp((best - best[:, :1]) / temperature)
    before = np.cumsum(weights, axis=-1) - weights
    weights[before >= top_p * weights.sum(-1, keepdims=True)] = 0
    reached = np.cumsum(weights, axis=-1)
    target = random.random((len(logits), 1)) * reached[:, -1:]
    return np.take_along_axis(tokens, (reached > target).argmax(-1, keepdims=True), -1)[:, 0]


def test_numpy_draws_from_the_same_tokens(logits_of: Callable[..., Rows]):
    """What is timed against must do the job: over many draws it yields all but the rarest kept tokens."""
    logits = logits_of("peaked", BATCH)[:4]
    kept = td.kept_set(logits, **MAIN)
    drawn = np.stack([sample_with_numpy(logits, **MAIN, random=np.random.default_rng(i)) for i in range(300)])
    for row, (start, end) in enumerate(zip(kept.offsets[:-1], kept.offsets[1:], strict=True)):
        likely = kept.tokens[start:end][np.exp(kept.logprobs[start:end]) > 0.05]
        assert set(likely) <= set(drawn[:, row]) <= set(kept.tokens[start:end])


@pytest.mark.benchmark(group="sample float32 [64, 128256], temperature 0.8, top_k 50, top_p 0.95")
@pytest.mark.parametrize("contestant", ["tokendraw", "np.max", "numpy"])
def test_sample(contestant: str, logits_of: Callable[..., Rows], time_beside_floor: Callable[..., Any]):
    logits = logits_of("peaked", BATCH)
    random = np.random.default_rng(3)
    jobs = {
        "tokendraw": lambda: td.sample(logits, **MAIN, seed=1, threads=1),
        "np.max": lambda: np.max(logits, axis=-1),
        "numpy": lambda: sample_with_numpy(logits, **MAIN, random=random),
    }
    assert time_beside_floor(jobs[contestant], logits).shape == (BATCH,)

# SPDX-License-Identifier: Apache-2.0
"""KL and Jensen-Shannon between two batches of rows; the floor reads one of the two."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from bench import peers
from bench.contest import Contest, Recipe, contests
from bench.peers.with_numpy import log_normalisers
from bench.results import FLOOR, TOKENDRAW
from tokendraw.budgets import BATCH, Contestant, copies, floor_of, make_rows

Rows = NDArray[np.float32]


def numpy_kl(other: Rows, logits: Rows) -> Any:
    logprobs, others = logits - log_normalisers(logits), other - log_normalisers(other)
    return (np.exp(logprobs) * (logprobs - others)).sum(axis=-1)


def numpy_js(other: Rows, logits: Rows) -> Any:
    logprobs, others = logits - log_normalisers(logits), other - log_normalisers(other)
    probs, other_probs = np.exp(logprobs), np.exp(others)
    means = np.log((probs + other_probs) / 2)
    return (probs * (logprobs - means) + other_probs * (others - means)).sum(axis=-1) / 2


def torch_kl(other: Any, logits: Any) -> Any:
    import torch

    logprobs, others = torch.log_softmax(logits, -1), torch.log_softmax(other, -1)
    return torch.nn.functional.kl_div(others, logprobs, reduction="none", log_target=True).sum(-1)


def torch_js(other: Any, logits: Any) -> Any:
    import torch

    logprobs, others = torch.log_softmax(logits, -1), torch.log_softmax(other, -1)
    means = torch.logaddexp(logprobs, others) - np.log(2)
    divergences = (
        torch.nn.functional.kl_div(means, rows, reduction="none", log_target=True)
        for rows in (logprobs, others)
    )
    return sum(found.sum(-1) for found in divergences) / 2


JOBS = {
    "kl_divergence": (td.kl_divergence, numpy_kl, torch_kl),
    "js_divergence": (td.js_divergence, numpy_js, torch_js),
}


def contest_of(name: str, rows: int, vocab: int) -> Contest:
    own, with_numpy, with_torch = JOBS[name]
    logits = make_rows("peaked", rows, vocab)
    other = (logits + np.random.default_rng(3).normal(0, 1, logits.shape)).astype(np.float32)
    batches = copies(logits)
    contestants = {
        FLOOR: floor_of(batches),
        TOKENDRAW: Contestant(lambda batch: own(batch, other, threads=1), batches),
        "numpy": Contestant(partial(with_numpy, other), batches),
    }
    absent = {}
    torch = peers.load("torch")
    if isinstance(torch, str):
        absent["torch"] = torch
    else:
        call = partial(with_torch, torch.wrap(other))
        contestants["torch"] = Contestant(call, [torch.wrap(batch) for batch in batches])
    return Contest(f"{name} [{rows}, {vocab}]", rows, contestants, lead=1.0, absent=absent)


@contests(
    Recipe(f"{name}-{rows}", (TOKENDRAW, FLOOR, "numpy", "torch"), partial(contest_of, name, rows))
    for name in JOBS
    for rows in (1, BATCH)
)
def test_divergence(play, contest):
    assert len(play()) == contest.rows

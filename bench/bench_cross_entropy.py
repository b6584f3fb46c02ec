# SPDX-License-Identifier: Apache-2.0
"""A training loss, alone and with its gradient in a buffer that exists; the floor reads the logits once.

512 rows of a vocabulary of 128,256 are 263 MB, and so is their gradient: nothing stays in a cache.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from bench import peers
from bench.contest import Contest, Recipe, contests
from bench.results import FLOOR, TOKENDRAW
from tokendraw.budgets import Contestant, copies, floor_of, make_rows

ROWS = 512
LEAD = 2.0  # times faster than the fastest other library, with the gradient

Rows = NDArray[np.float32]
Step = Callable[[Any], Any]


def targets(rows: int, vocab: int) -> NDArray[np.int64]:
    return np.random.default_rng(2).integers(0, vocab, rows)


def forward(tokens: NDArray[np.int64]) -> Step:
    return lambda logits: td.cross_entropy(logits, tokens, threads=1)


def backward(tokens: NDArray[np.int64], gradient: Rows) -> Step:
    return lambda logits: td.cross_entropy(logits, tokens, out=gradient, threads=1)


def numpy_forward(tokens: NDArray[np.int64]) -> Step:
    def loss(logits: Rows) -> Any:
        above = logits - logits.max(axis=-1, keepdims=True)
        of_tokens = np.take_along_axis(above, tokens[:, None], -1)[:, 0]
        return (np.log(np.exp(above, out=above).sum(axis=-1)) - of_tokens).mean()

    return loss


def numpy_backward(tokens: NDArray[np.int64], gradient: Rows) -> Step:
    def loss(logits: Rows) -> Any:
        np.subtract(logits, logits.max(axis=-1, keepdims=True), out=gradient)
        of_tokens = np.take_along_axis(gradient, tokens[:, None], -1)[:, 0]
        sums = np.exp(gradient, out=gradient).sum(axis=-1, keepdims=True)
        np.multiply(gradient, 1 / (len(logits) * sums), out=gradient)
        gradient[np.arange(len(logits)), tokens] -= np.float32(1 / len(logits))
        return (np.log(sums[:, 0]) - of_tokens).mean()

    return loss


def torch_forward(tokens: NDArray[np.int64]) -> Step:
    import torch

    targets = torch.from_numpy(tokens)
    return lambda logits: torch.nn.functional.cross_entropy(logits, targets).item()


def torch_backward(tokens: NDArray[np.int64]) -> Step:
    """Let autograd allocate: torch has no way to write a gradient where the caller wants it."""
    import torch

    targets = torch.from_numpy(tokens)

    def loss(logits: Any) -> Any:
        leaf = logits.detach().requires_grad_()
        found = torch.nn.functional.cross_entropy(leaf, targets)
        found.backward()
        return found.item()

    return loss


def contest_of(with_gradient: bool, rows: int, vocab: int) -> Contest:
    batches = copies(make_rows("peaked", rows, vocab)) if rows < ROWS else [make_rows("peaked", rows, vocab)]
    tokens = targets(rows, vocab)
    gradient = np.empty((rows, vocab), np.float32)
    own, plain = (
        (backward(tokens, gradient), numpy_backward(tokens, gradient))
        if with_gradient
        else (forward(tokens), numpy_forward(tokens))
    )
    contestants = {
        FLOOR: floor_of(batches),
        TOKENDRAW: Contestant(own, batches),
        "numpy": Contestant(plain, batches),
    }
    absent = {}
    torch = peers.load("torch")
    if isinstance(torch, str):
        absent["torch"] = torch
    else:
        step = torch_backward(tokens) if with_gradient else torch_forward(tokens)
        contestants["torch"] = Contestant(step, [torch.wrap(batch) for batch in batches])
    name = "cross-entropy with gradient" if with_gradient else "cross-entropy"
    lead = LEAD if with_gradient else 1.0
    return Contest(f"{name} [{rows}, {vocab}]", rows, contestants, lead=lead, absent=absent)


@contests(
    Recipe(
        f"{'gradient' if with_gradient else 'loss'}-{rows}",
        (TOKENDRAW, FLOOR, "numpy", "torch"),
        partial(contest_of, with_gradient, rows),
    )
    for with_gradient in (False, True)
    for rows in (1, ROWS)
)
def test_cross_entropy(play, contest):
    answer = play()
    if np.ndim(answer) == 0:
        assert answer > 0

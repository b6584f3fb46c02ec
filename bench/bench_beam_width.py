# SPDX-License-Identifier: Apache-2.0
"""A step of beam search by its width: heaps against a partition and a full sort of all continuations.

Vocabulary 32,000, twice as many continuations as beams; the floor reads the same rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import tokendraw as td
from bench.contest import Contest, Recipe, contests
from bench.results import FLOOR, TOKENDRAW, Budget
from tokendraw.budgets import Contestant, copies, floor_of, make_rows

VOCAB = 32000
WIDEST_BUDGET = 2.2  # times np.max, of 5,000 beams
MOST_WRITTEN = 2000  # beams, whose continuations anybody writes out
BUDGETS = {4: None, 64: None, 5000: WIDEST_BUDGET}

Step = Callable[[np.ndarray], Any]


def continuations(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the scores of all continuations, as a library writes them that has no kernel for it."""
    shifted = rows - rows.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return (logprobs + scores[:, None]).ravel()


def by_partition(scores: np.ndarray, k: int) -> Step:
    def step(rows: np.ndarray) -> np.ndarray:
        found = continuations(rows, scores)
        best = np.argpartition(-found, k)[:k]
        return best[np.argsort(-found[best])]

    return step


def by_sort(scores: np.ndarray, k: int) -> Step:
    return lambda rows: np.argsort(-continuations(rows, scores))[:k]


def by_heap(scores: np.ndarray, k: int) -> Step:
    return lambda rows: td.top_continuations(rows, scores, k, threads=1)


STEPS = {TOKENDRAW: by_heap, "partition": by_partition, "sort": by_sort}


def contestants_of(beams: int) -> dict[str, Contestant]:
    """Return who takes a step of one width; 160 million scores take half a minute to sort: nobody does."""
    rows = make_rows("peaked", beams, VOCAB)
    batches = copies(rows) if beams < MOST_WRITTEN else [rows]
    scores = -np.sort(np.random.default_rng(5).exponential(3, beams)).astype(np.float32)
    names = [TOKENDRAW] if beams >= MOST_WRITTEN else list(STEPS)
    own = {name: Contestant(STEPS[name](scores, 2 * beams), batches) for name in names}
    return {FLOOR: floor_of(batches)} | own


def contest_of(beams: int) -> Contest:
    contestants = contestants_of(beams)
    budget = BUDGETS[beams]
    budgets = [] if budget is None else [Budget(TOKENDRAW, FLOOR, budget)]
    return Contest(f"beam step [{beams}, {VOCAB}]", beams, contestants, budgets)


RECIPES = [
    Recipe(
        f"{beams}-beams",
        (TOKENDRAW, FLOOR, *([] if beams >= MOST_WRITTEN else ["partition", "sort"])),
        lambda _, beams=beams: contest_of(beams),
    )
    for beams in BUDGETS
]


@contests(RECIPES)
def test_beam_width(play):
    assert len(play()) > 0

# SPDX-License-Identifier: Apache-2.0
"""Contests: everybody does the same job on the same rows, one call after the other, in rounds.

A bench names its contests by recipes and has one test per contestant; the first of them times all in turn,
and each gives what was measured of it to pytest-benchmark.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import tokendraw as td
from bench import peers
from bench.results import TOKENDRAW, Budget, Result
from tokendraw.budgets import (
    FLOOR,
    JOBS,
    VOCAB,
    Contestant,
    Job,
    copies,
    floor_of,
    make_rows,
    present,
    time_in_turn,
)


class Contest:
    """Contestants, and what is promised about them. `absent` says why somebody cannot take part."""

    def __init__(
        self,
        name: str,
        rows: int,
        contestants: Mapping[str, Contestant],
        budgets: Iterable[Budget] = (),
        lead: float | None = None,
        absent: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.rows = rows
        self.contestants = contestants
        self.budgets = list(budgets)
        self.lead = lead
        self.absent = absent or {}
        self._is_timed = False

    def time(self, rounds: int, limit: float) -> None:
        """Time everybody in turn, once; other libraries may sit out when they took `limit` seconds."""
        if not self._is_timed:
            for _ in time_in_turn(self.contestants, rounds, dict.fromkeys(peers.NAMES, limit)):
                pass
            self._is_timed = True

    @property
    def result(self) -> Result:
        seconds = {name: contestant.seconds for name, contestant in self.contestants.items()}
        return Result(self.name, seconds, self.budgets, self.lead)


class Recipe(NamedTuple):
    """How to make a contest for a vocab, and who may be in it; nothing is made before it is needed."""

    title: str
    names: Sequence[str]
    make: Callable[[int], Contest]


def contests(recipes: Iterable[Recipe]) -> pytest.MarkDecorator:
    """Run a bench once per contest and contestant."""
    cases = [
        pytest.param(recipe, name, id=f"{recipe.title}-{name}") for recipe in recipes for name in recipe.names
    ]
    return pytest.mark.parametrize(("contest", "contestant"), cases, indirect=["contest"])


def beside_peers(name: str) -> list[Recipe]:
    """Return a job of the table on the rows it is judged on, beside the floor and every other library."""
    if name not in present(JOBS):
        return []
    return [
        Recipe(
            f"{name}-{rows}",
            (TOKENDRAW, FLOOR, *peers.NAMES),
            lambda vocab, rows=rows: _contest_of(name, batches_of(JOBS[name].rows, rows, vocab)),
        )
        for rows in JOBS[name].budgets
    ]


@lru_cache(maxsize=1)
def batches_of(kind: str, rows: int, vocab: int) -> list[NDArray[np.float32]]:
    """Return synthetic rows and their copies; contests that follow each other share them."""
    return copies(make_rows(kind, rows, vocab))


def _contest_of(name: str, batches: Sequence[NDArray[np.float32]]) -> Contest:
    job = JOBS[name]
    rows, vocab = shape = batches[0].shape
    contestants = {FLOOR: floor_of(batches), TOKENDRAW: Contestant(job.prepare(shape), batches)}
    others, absent = peer_contestants(name, batches)
    budget = job.budgets[rows] if vocab == VOCAB else None
    budgets = [] if budget is None else [Budget(TOKENDRAW, FLOOR, budget)]
    title = f"{job.title} {list(shape)}"
    return Contest(title, rows, contestants | others, budgets, job.lead, absent)


def peer_contestants(
    name: str, batches: Sequence[NDArray[np.float32]]
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return who can do a job of the table on these rows, and why the rest cannot."""
    found, absent = {}, {}
    for library in peers.NAMES:
        peer = peers.load(library)
        if isinstance(peer, str):
            absent[library] = peer
        elif name not in peer.jobs:
            absent[library] = f"{library} has no {name}"
        else:
            call = call_of(peer, name, batches[0].shape)
            found[library] = Contestant(call, [peer.wrap(batch) for batch in batches])
    return found, absent


def call_of(peer: peers.Peer, name: str, shape: tuple[int, int]) -> Callable[[Any], Any]:
    """Return a peer's call as a function of logits alone."""
    inputs = [peer.wrap(array) for array in JOBS[name].inputs(shape)]
    function = peer.jobs[name]
    return (lambda logits: function(logits, *inputs)) if inputs else function


def beside_floor(job: Job, kind: str, batches: Sequence[NDArray[np.float32]]) -> Contest:
    """Return any job on any rows beside the floor; nothing is promised."""
    shape = batches[0].shape
    contestants = {FLOOR: floor_of(batches), TOKENDRAW: Contestant(job.prepare(shape), batches)}
    return Contest(f"{job.title}, {kind} {list(shape)}", shape[0], contestants)


def nucleus(rows: NDArray[np.float32]) -> int:
    """Return how many tokens of the first row top_p 0.95 keeps."""
    return int(np.diff(td.kept_set(rows[:1], top_p=0.95).offsets)[0])

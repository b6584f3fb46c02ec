# SPDX-License-Identifier: Apache-2.0
"""verify_draft: 4 drafts that are accepted, one that is not; the floor reads all rows of target and draft."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from bench.contest import Contest, Recipe, contests
from bench.results import TOKENDRAW
from tokendraw.budgets import FLOOR, Contestant, copies, floor_of, make_rows

Rows = NDArray[np.float32]


def accepted(kind: str, vocab: int) -> Rows:
    """Return 5 rows of the target and 4 of a draft that agrees with it."""
    target = make_rows(kind, 5, vocab)
    return np.concatenate([target, target[:4]])


def rejected(kind: str, vocab: int) -> Rows:
    """Return 2 rows of the target and one of a draft whose best token the target would hardly say."""
    target = make_rows(kind, 2, vocab)
    return np.concatenate([target, target[:1, ::-1]])


def verify(count: int, drafts: NDArray[np.int64], filters: dict[str, Any], rows: Rows) -> Any:
    return td.verify_draft(drafts, rows[count + 1 :], rows[: count + 1], seed=1, threads=1, **filters)


def make(kind: str, rows_of: Callable[[str, int], Rows], filters: dict[str, Any], vocab: int) -> Contest:
    rows = rows_of(kind, vocab)
    count = len(rows) // 2
    call = partial(verify, count, rows[count + 1 :].argmax(axis=-1), filters)
    batches = copies(rows)
    contestants = {FLOOR: floor_of(batches), TOKENDRAW: Contestant(call, batches)}
    options = ", ".join(f"{name} {value}" for name, value in filters.items()) or "no filter"
    return Contest(
        f"verify_draft, {kind} {rows_of.__name__}, {options} {list(rows.shape)}", count, contestants
    )


FILTERS = ({}, {"temperature": 0.8, "top_k": 50}, {"top_p": 0.95})


@contests(
    Recipe(
        "-".join([kind, rows_of.__name__, *filters]),
        (TOKENDRAW, FLOOR),
        partial(make, kind, rows_of, filters),
    )
    for kind in ("peaked", "flat")
    for rows_of in (accepted, rejected)
    for filters in FILTERS
)
def test_verify_draft(play, contest):
    answer = play()
    if isinstance(answer, td.Verified):
        assert answer.accepted in (0, contest.rows)

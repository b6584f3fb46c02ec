# SPDX-License-Identifier: Apache-2.0
"""The steps without a budget, one at a time: mask, bias, penalties, typical, epsilon, eta, xtc."""

import pytest

from bench.contest import Recipe, batches_of, beside_floor, contests
from bench.results import TOKENDRAW
from tokendraw.budgets import BATCH, FLOOR, STEPS, present


@contests(
    Recipe(
        f"{name}-{rows}",
        (TOKENDRAW, FLOOR),
        lambda vocab, job=job, rows=rows: beside_floor(job, job.rows, batches_of(job.rows, rows, vocab)),
    )
    for rows in (1, BATCH)
    for name, job in present(STEPS).items()
)
def test_step(play, contest):
    assert len(play()) == contest.rows


def test_masks_and_bitmasks_forbid_and_allow():
    mask = STEPS["bitmask"].parameters["mask"](2, 1000)
    allowed = sum(int(word).bit_count() for word in mask.view("uint32").ravel())
    assert allowed == pytest.approx(1000, rel=0.1)
    assert int(mask.view("uint32")[0, -1]) < 2**8

# SPDX-License-Identifier: Apache-2.0
"""Two threads on 64 rows from memory: at least 1.8 times as fast as one."""

import os
from functools import partial

import pytest

from bench.contest import Contest, Recipe, batches_of, contests
from bench.results import Budget
from tokendraw.budgets import BATCH, JOBS, Contestant, present

GAIN = 1.8
ONE, TWO = "one thread", "two threads"


def make(name: str, vocab: int) -> Contest:
    job = JOBS[name]
    batches = batches_of(job.rows, BATCH, vocab)
    shape = batches[0].shape
    contestants = {
        ONE: Contestant(job.prepare(shape, threads=1), batches),
        TWO: Contestant(job.prepare(shape, threads=2), batches),
    }
    return Contest(f"{job.title}, threads {list(shape)}", BATCH, contestants, [Budget(TWO, ONE, 1 / GAIN)])


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two threads need two processors")
@contests(
    Recipe(f"{name}-{BATCH}", (ONE, TWO), partial(make, name))
    for name, job in present(JOBS).items()
    if BATCH in job.budgets
)
def test_threads(play, contest):
    assert len(play()) == contest.rows

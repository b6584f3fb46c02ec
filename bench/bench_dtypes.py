# SPDX-License-Identifier: Apache-2.0
"""Half types from memory: half the bytes, so at most 0.8 of the time of the same rows in float32."""

from functools import partial

import numpy as np
import pytest

from bench.contest import Contest, Recipe, batches_of, contests
from bench.results import Budget
from tokendraw.budgets import BATCH, FLOOR, JOBS, Contestant, copies, floor_of, present

HALF_TYPES = ("bfloat16", "float16")
SHARE = 0.8


def make(name: str, vocab: int) -> Contest:
    job = JOBS[name]
    batches = batches_of(job.rows, BATCH, vocab)
    rows = batches[0]
    call = job.prepare(rows.shape)
    contestants = {FLOOR: floor_of(batches), "float32": Contestant(call, batches)}
    absent = {}
    for dtype in HALF_TYPES:
        try:
            contestants[dtype] = Contestant(call, copies(rows.astype(dtype_of(dtype))))
        except ImportError as error:
            absent[dtype] = f"{dtype} needs ml_dtypes: {error}"
    budgets = [Budget(dtype, "float32", SHARE) for dtype in HALF_TYPES]
    return Contest(f"{job.title}, half types {list(rows.shape)}", BATCH, contestants, budgets, absent=absent)


def dtype_of(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@contests(
    Recipe(f"{name}-{BATCH}", ("float32", *HALF_TYPES, FLOOR), partial(make, name))
    for name, job in present(JOBS).items()
    if BATCH in job.budgets
)
def test_dtype(play, contest):
    assert len(play()) == contest.rows


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_half_types_are_half_as_large(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    assert dtype_of(dtype).itemsize == 2

# SPDX-License-Identifier: Apache-2.0
"""Python threads that draw at the same time, each call with threads of its own. Under TSan every night."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tokendraw as td

CALLERS = 8


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    rows = np.random.default_rng(1).normal(0, 3, (16, 40000)).astype(np.float32)
    rows[5, 123] = np.nan
    return rows


@pytest.mark.parametrize("threads", [1, 2])
def test_callers_do_not_disturb_each_other(logits: np.ndarray, threads: int):
    def draw(caller: int) -> list[np.ndarray]:
        parameters = {"temperature": 0.8, "top_k": [0, 50, 3000][caller % 3], "top_p": 0.95, "seed": caller}
        return [
            td.sample(logits, **parameters, step=step, on_invalid="mark", threads=threads)
            for step in range(4)
        ]

    alone = [draw(caller) for caller in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as pool:
        together = list(pool.map(draw, range(CALLERS)))
    np.testing.assert_array_equal(together, alone)


def test_errors_belong_to_the_call_that_made_them(logits: np.ndarray):
    def draw(caller: int) -> str:
        try:
            td.sample(logits if caller % 2 else logits[:5], top_p=0.9, seed=1, threads=2)
        except td.InvalidLogitsError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(CALLERS) as pool:
        messages = list(pool.map(draw, range(4 * CALLERS)))
    assert messages == ["", "nothing can be drawn from row 5 (NaN)"] * (2 * CALLERS)


def test_seeds_from_the_system_are_never_shared():
    """Eight threads that name no seed draw 64 different sequences."""
    logits = np.zeros(1 << 16, np.float32)
    with ThreadPoolExecutor(CALLERS) as pool:
        tokens = list(pool.map(lambda _: tuple(td.sample(np.stack([logits] * 4))), range(64)))
    assert len(set(tokens)) == len(tokens)


def test_one_array_may_be_read_by_many(logits: np.ndarray):
    frozen = np.ascontiguousarray(logits[:4])
    frozen.flags.writeable = False
    expected = td.softmax(frozen, top_p=0.9)
    with ThreadPoolExecutor(CALLERS) as pool:
        for result in pool.map(lambda _: td.softmax(frozen, top_p=0.9, threads=2), range(CALLERS)):
            np.testing.assert_array_equal(result, expected)

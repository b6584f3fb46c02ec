# SPDX-License-Identifier: Apache-2.0
"""Python threads that draw at the same time, each call with its threads; how many. Under TSan at night."""

from collections.abc import Iterator
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


# ---- get and set ----


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    td.set_num_threads(None)


@pytest.mark.usefixtures("restored")
def test_the_default_is_what_was_set_last():
    before = td.get_num_threads()
    td.set_num_threads(3)
    assert td.get_num_threads() == td.build_info()["threads"] == 3
    td.set_num_threads(threads=5000)
    assert td.get_num_threads() == 1024
    td.set_num_threads(None)
    assert td.get_num_threads() == td.build_info()["threads"] == before


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("threads", "error", "message"),
    [
        (0, ValueError, "threads must be >= 1, got 0"),
        (-2, ValueError, "threads must be >= 1, got -2"),
        (2**70, ValueError, f"threads must fit in 64 bits, got {2**70}"),
        (2.0, TypeError, "threads must be an integer, got float"),
        ("2", TypeError, "threads must be an integer, got str"),
        (True, TypeError, "threads must be an integer, got bool"),
    ],
)
def test_what_is_no_count_is_refused(threads: object, error: type[Exception], message: str):
    td.set_num_threads(3)
    for call in (td.set_num_threads, lambda threads: td.sample(np.zeros(4, np.float32), threads=threads)):
        with pytest.raises(error) as told:
            call(threads)
        assert str(told.value) == message
    assert td.get_num_threads() == 3


def test_a_count_must_be_named():
    with pytest.raises(TypeError, match=r"^set_num_threads\(\) missing required argument 'threads'$"):
        td.set_num_threads()
    with pytest.raises(
        TypeError, match=r"^get_num_threads\(\) takes 0 positional arguments but 1 were given$"
    ):
        td.get_num_threads(1)

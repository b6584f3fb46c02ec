# SPDX-License-Identifier: Apache-2.0
"""Times of every kernel: by events around calls, and by graph replay beside a copy of the same bytes.

Everybody takes a turn per round on the same logits, which stay where the GPU keeps them: in its L2 cache
where they fit, as they do after the layer that made them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

import tokendraw as td
from bench.device import Case, Extent, LeftOutError, peers
from bench.device.arrays import Library
from bench.device.jobs import DEVICE_JOBS, call_of, logits_of
from tokendraw.budgets import Contestant, time_in_turn

COPY, GRAPH, EAGER = "copy", "graph", "eager"
DTYPES = ("float32", "bfloat16")
PEER_SECONDS = 0.15
"""After which another library sits out the rest of a contest, when it took part in seven rounds."""


class DeviceContestant(Contestant):
    """A call that is timed by the device's own clock. It may stand for several, as a graph does."""

    def __init__(
        self, call: Callable[[Any], Any], logits: Any, library: Library, calls: int = 1, keeps: Any = None
    ) -> None:
        super().__init__(call, [logits])
        self._library = library
        self._stands_for = calls
        self._keeps = keeps

    def _time(self, calls: int) -> float:
        call, logits = self._call, next(self._batches)

        def work() -> None:
            for _ in range(calls):
                call(logits)

        return self._library.seconds(work) / (calls * self._stands_for)


def cases(extent: Extent, library: Library, others: Sequence[str] = ()) -> Iterator[Case]:
    """Yield every job on every batch, the budget table's vocab first."""
    for vocab in extent.vocabs:
        for dtype in DTYPES:
            if dtype not in library.dtypes or dtype not in extent.dtypes:
                continue
            for rows in extent.rows:
                for name, job in DEVICE_JOBS.items():
                    run = partial(contest, name, (rows, vocab), dtype, library, extent, others)
                    yield Case(f"{job.title} [{rows}, {vocab}] {dtype}", run)


def contest(
    name: str,
    shape: tuple[int, int],
    dtype: str,
    library: Library,
    extent: Extent,
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Time one job on one batch, and return seconds of a call, round by round, by contestant."""
    batch = _batch(library, DEVICE_JOBS[name].rows, shape, dtype)
    contestants = _own(name, shape, batch, library, extent.calls)
    found, absent = _of_others(name, shape, batch[0], library, others)
    contestants |= found
    for _ in time_in_turn(contestants, extent.rounds, dict.fromkeys(others, PEER_SECONDS)):
        pass
    library.wait()
    rows, vocab = shape
    return {
        "job": name,
        "rows": rows,
        "vocab": vocab,
        "dtype": dtype,
        "bytes": rows * vocab * (4 if dtype == "float32" else 2),
        "seconds": {who: contestant.seconds for who, contestant in contestants.items()},
        "absent": absent,
    }


Batch = tuple[Any, Any]  # logits, and memory that they are copied to


@lru_cache(maxsize=2)
def _batch(library: Library, kind: str, shape: tuple[int, int], dtype: str) -> Batch:
    """Return a batch on the device, with every kernel loaded for it."""
    values = logits_of(kind, shape)
    logits, target = library.put(values, dtype), library.put(values, dtype)
    td.cuda.warmup(logits)
    return logits, target


def _own(
    name: str, shape: tuple[int, int], batch: Batch, library: Library, calls: int
) -> dict[str, DeviceContestant]:
    logits, target = batch
    call = call_of(name, library, shape)
    try:
        expected = call(logits)
    except NotImplementedError as error:
        raise LeftOutError(str(error)) from error
    # A graph writes to all that was allocated while it was captured: results live as long, all of them.
    replay, results = library.graph(lambda: [call(logits) for _ in range(calls)])
    replay()
    _expect_same(library, results[-1], expected)
    copy, _ = library.graph(lambda: [library.copy(target, logits) for _ in range(calls)])
    return {
        COPY: DeviceContestant(lambda _: copy(), logits, library, calls),
        GRAPH: DeviceContestant(lambda _: replay(), logits, library, calls, keeps=results),
        EAGER: DeviceContestant(call, logits, library),
    }


def _expect_same(library: Library, results: Any, expected: Any) -> None:
    """What is timed must be right: a replay gives what the call gave."""
    pairs = zip(_as_tuple(results), _as_tuple(expected), strict=True)
    for result, of_call in pairs:
        same = np.array_equal(library.get(result), library.get(of_call), equal_nan=True)
        assert same, "a graph's replay gives another result than the call that it captured"


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _of_others(
    name: str, shape: tuple[int, int], logits: Any, library: Library, others: Sequence[str]
) -> tuple[dict[str, DeviceContestant], dict[str, str]]:
    """Return who else does a job, and why somebody cannot."""
    found, absent = {}, {}
    for other in others:
        try:
            calls = _calls(other, library, shape)
            if name in calls:
                calls[name](logits)
                found[other] = DeviceContestant(calls[name], logits, library)
        except (LeftOutError, RuntimeError) as error:
            absent[other] = str(error)
    return found, absent


@lru_cache(maxsize=8)
def _calls(other: str, library: Library, shape: tuple[int, int]) -> Mapping[str, Callable[[Any], Any]]:
    return peers.load(other, library, shape)

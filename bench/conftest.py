# SPDX-License-Identifier: Apache-2.0
"""Rows to be timed on, and ratios to the floor: `np.max` over the same rows, timed before each round."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import tokendraw as td

VOCAB = 128256
BATCH = 64
ROUNDS = 41

Rows = NDArray[np.float32]


class Ratio(NamedTuple):
    """The median of job / floor over the rounds, with its 95 % interval by order statistics."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, ratios: list[float]) -> "Ratio":
        ordered = sorted(ratios)
        reach = int(0.98 * len(ordered) ** 0.5) + 1  # 1.96 * sqrt(n) / 2: binomial with p = 1/2
        middle = len(ordered) // 2
        return cls(ordered[middle - reach], statistics.median(ordered), ordered[middle + reach])


def peaked_rows(rows: int) -> Rows:
    """Like a model that has something to say: a few hundred tokens hold nearly all of the mass."""
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (rows, VOCAB)).astype(np.float32)
    likely = random.integers(0, VOCAB, (rows, 300))
    np.put_along_axis(
        logits, likely, np.float32(18) - random.exponential(3, (rows, 300)).astype(np.float32), 1
    )
    return logits


def flat_rows(rows: int) -> Rows:
    return np.random.default_rng(2).normal(0, 1, (rows, VOCAB)).astype(np.float32)


ROWS = {"peaked": peaked_rows, "flat": flat_rows}


@pytest.fixture(scope="session")
def logits_of() -> Callable[[str, int], Rows]:
    """Return rows by name, made once, after checking that they are what their name says."""
    made: dict[tuple[str, int], Rows] = {}

    def get(kind: str, rows: int) -> Rows:
        if (kind, rows) not in made:
            logits = ROWS[kind](rows)
            nucleus = np.diff(td.kept_set(logits[:1], top_p=0.95).offsets)
            assert (nucleus < 1000).all() if kind == "peaked" else (nucleus > 50000).all(), nucleus
            made[kind, rows] = logits
        return made[kind, rows]

    return get


@pytest.fixture
def time_beside_floor(benchmark: Any) -> Callable[..., Any]:
    """Time a job over rows, one round of the floor before each of its own; the ratio goes into the report."""

    def run(job: Callable[[], Any], logits: Rows, budget: float | None = None) -> Any:
        floors: list[float] = []

        def time_floor() -> None:
            start = time.perf_counter()
            np.max(logits, axis=-1)
            floors.append(time.perf_counter() - start)

        result = benchmark.pedantic(job, setup=time_floor, rounds=ROUNDS, warmup_rounds=3)
        if benchmark.stats is not None:
            seconds = benchmark.stats.stats.data
            pairs = zip(seconds, floors[-len(seconds) :], strict=True)
            ratio = Ratio.of([job_time / floor for job_time, floor in pairs])
            benchmark.extra_info["floor"] = statistics.median(floors)
            benchmark.extra_info["ratio"] = ratio._asdict()
            benchmark.extra_info["budget"] = budget
        return result

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    measured = [bench for bench in getattr(session, "benchmarks", []) if "ratio" in bench.extra_info]
    if not measured:
        return
    terminalreporter.section("ratios to np.max over the same rows")
    terminalreporter.line(f"{'job':50}{'median':>8}{'95 % interval':>18}{'budget':>8}")
    for bench in measured:
        low, median, high = bench.extra_info["ratio"].values()
        budget = bench.extra_info["budget"]
        verdict = "" if budget is None else f"{budget:8.1f}" + ("" if low <= budget else "  over")
        terminalreporter.line(f"{bench.name:50}{median:8.2f}{f'{low:.2f} .. {high:.2f}':>18}{verdict}")

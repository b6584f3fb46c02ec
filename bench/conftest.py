# SPDX-License-Identifier: Apache-2.0
"""Timing the contests, giving the times to pytest-benchmark, and the closing table."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest

from bench import results
from bench.contest import Contest, Recipe
from bench.results import Result
from tokendraw.budgets import ROUNDS, VOCAB

SMALL_VOCAB = 4096
"""Where nothing is timed, to see that everything runs."""

PLAYED = pytest.StashKey[dict[str, Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tokendraw")
    group.addoption("--rounds", type=int, default=ROUNDS, help="rounds of every contest")
    group.addoption("--limit", type=float, default=4.0, help="seconds after which a peer sits out")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PLAYED] = {}


@lru_cache(maxsize=1)
def made(recipe: Recipe, vocab: int) -> Contest:
    """Make a contest, and let go of the one before: one set of rows is alive at a time."""
    return recipe.make(vocab)


@pytest.fixture
def contest(request: pytest.FixtureRequest) -> Contest:
    """Return the contest of a recipe: the same one to each contestant, whose tests follow each other."""
    disabled = request.config.getoption("benchmark_disable")
    return made(request.param, SMALL_VOCAB if disabled else VOCAB)


class Replay:
    """A clock and a job during which that clock advances as it did when the job was timed."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = iter(seconds)
        self._now = 0.0

    def clock(self) -> float:
        return self._now

    def job(self) -> None:
        self._now += next(self._seconds)


@pytest.fixture
def play(request: pytest.FixtureRequest, contest: Contest, contestant: str) -> Callable[[], Any]:
    """Time the contest if nobody has yet, report this contestant's rounds, and return what it answers."""
    config = request.config

    def run() -> Any:
        if contestant in contest.absent:
            pytest.skip(contest.absent[contestant])
        answer = contest.contestants[contestant].run()
        if not config.getoption("benchmark_disable"):
            contest.time(config.getoption("rounds"), config.getoption("limit"))
            config.stash[PLAYED][contest.name] = contest.result
            report()
        return answer

    def report() -> None:
        seconds = contest.contestants[contestant].seconds
        replay = Replay(seconds)
        request.node.add_marker(pytest.mark.benchmark(group=contest.name, timer=replay.clock))
        benchmark = request.getfixturevalue("benchmark")
        benchmark.extra_info["contestant"] = contestant
        benchmark.extra_info["contest"] = {"budgets": contest.budgets, "lead": contest.lead}
        benchmark.pedantic(replay.job, rounds=len(seconds))

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    played = list(config.stash[PLAYED].values())
    if not played:
        return
    terminalreporter.section("time of a call, ratio to np.max over the same rows, 95 % interval")
    for result in played:
        for line in results.lines(result):
            terminalreporter.line(line)
    terminalreporter.line(results.summary(played))

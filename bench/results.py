# SPDX-License-Identifier: Apache-2.0
"""What a contest measured, whether it meets its budgets, and how both are written down."""

import json
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tokendraw.budgets import FLOOR, Ratio

TOKENDRAW = "tokendraw"


class Budget(NamedTuple):
    """What one contestant's time may be: a multiple of another's, or another's and so many seconds more."""

    contestant: str
    against: str
    most: float
    is_difference: bool = False


class Judged(NamedTuple):
    """A budget and what was measured of it."""

    budget: Budget
    ratio: Ratio

    @property
    def is_met(self) -> bool:
        return self.ratio.meets(self.budget.most)

    def __str__(self) -> str:
        budget, (low, median, high) = self.budget, self.ratio
        verdict = "met" if self.is_met else "over"
        if budget.is_difference:
            low, median, high, most = (1e6 * value for value in (low, median, high, budget.most))
            return (
                f"{budget.contestant} - {budget.against}: {median:.2f} us ({low:.2f} .. {high:.2f}),"
                f" budget {most:.1f} us: {verdict}"
            )
        return (
            f"{budget.contestant} / {budget.against}: {median:.2f} ({low:.2f} .. {high:.2f}),"
            f" budget {budget.most:.3g}: {verdict}"
        )


class Result(NamedTuple):
    """A contest that took place: seconds of a call, round by round, by contestant."""

    name: str
    seconds: dict[str, list[float]]
    budgets: list[Budget]
    lead: float | None = None

    def ratio(self, contestant: str, against: str = FLOOR) -> Ratio:
        return Ratio.of(self.seconds[contestant], self.seconds[against])

    @property
    def judged(self) -> Iterator[Judged]:
        for budget in self.budgets:
            if {budget.contestant, budget.against} <= set(self.seconds):
                compare = Ratio.of_differences if budget.is_difference else Ratio.of
                pair = self.seconds[budget.contestant], self.seconds[budget.against]
                yield Judged(budget, compare(*pair))

    @property
    def fastest_peer(self) -> str | None:
        """Return the fastest other library, if any took part."""
        peers = {
            name: statistics.median(seconds)
            for name, seconds in self.seconds.items()
            if name not in (FLOOR, TOKENDRAW)
        }
        return min(peers, key=peers.__getitem__) if self.lead is not None and peers else None

    @property
    def led(self) -> Ratio | None:
        """Return how many times the fastest peer takes of tokendraw's time."""
        peer = self.fastest_peer
        return self.ratio(peer, TOKENDRAW) if peer else None


def from_json(path: Path) -> list[Result]:
    """Read the results of a run that was kept with `--benchmark-json`."""
    benchmarks = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    measured = [bench for bench in benchmarks if "contest" in bench["extra_info"]]
    groups: dict[str, list[dict[str, Any]]] = {}
    for bench in measured:
        groups.setdefault(bench["group"], []).append(bench)
    return [_result(name, group) for name, group in groups.items()]


def _result(name: str, benchmarks: list[dict[str, Any]]) -> Result:
    seconds = {bench["extra_info"]["contestant"]: bench["stats"]["data"] for bench in benchmarks}
    told = benchmarks[0]["extra_info"]["contest"]
    return Result(name, seconds, [Budget(*budget) for budget in told["budgets"]], told["lead"])


def lines(result: Result) -> Iterator[str]:
    """Write a contest as a small table, the fastest first, and what became of its budgets."""
    yield f"{result.name} ({max(map(len, result.seconds.values()))} rounds)"
    for name, seconds in sorted(result.seconds.items(), key=lambda item: statistics.median(item[1])):
        line = f"  {name:16}{statistics.median(seconds) * 1e6:12.1f} us"
        if FLOOR in result.seconds:
            low, median, high = result.ratio(name)
            line += f"{median:10.2f}   {low:.2f} .. {high:.2f}"
        yield line
    for judged in result.judged:
        yield f"  {judged}"
    led = result.led
    if led is not None and result.lead is not None:
        word = "as asked" if led.high >= result.lead else "short"
        yield (
            f"  {led.median:.1f} x faster than {result.fastest_peer} ({led.low:.1f} .. {led.high:.1f}),"
            f" {result.lead:g} x asked for: {word}"
        )


def summary(results: Iterable[Result]) -> str:
    """Count the budgets."""
    judged = [judged for result in results for judged in result.judged]
    return f"{sum(one.is_met for one in judged)} of {len(judged)} budgets met"

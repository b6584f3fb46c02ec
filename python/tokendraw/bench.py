# SPDX-License-Identifier: Apache-2.0
"""`tokendraw bench`: the budget table, measured on the machine it runs on."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tokendraw import budgets
from tokendraw.budgets import BATCH, FLOOR, JOBS, VOCAB, Contestant, Job, Ratio
from tokendraw.options import positive
from tokendraw.progress import Advance, progress_bar

__all__ = ["Line", "add_options", "measure", "run", "table"]

_QUICK_ROUNDS = 11


class Line(NamedTuple):
    """A job over one batch, as it was measured.

    Attributes
    ----------
    job : str
        Its title.
    rows, vocab : int
        The shape of the batch.
    seconds, floor_seconds : float
        Medians, of the job and of `np.max`.
    ratio : Ratio
        Of the two, round by round.
    budget : float or None
        What the ratio may be; None where nothing is promised for this shape or thread count.
    """

    job: str
    rows: int
    vocab: int
    seconds: float
    floor_seconds: float
    ratio: Ratio
    budget: float | None

    @property
    def verdict(self) -> str:
        """Whether the budget is met, in a word; empty where there is none."""
        if self.budget is None:
            return ""
        return "met" if self.ratio.meets(self.budget) else "over"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tokendraw bench`."""
    parser.add_argument(
        "--rows",
        type=positive,
        metavar="N",
        help=f"rows in a batch (default: the table's own, 1 and {BATCH})",
    )
    parser.add_argument(
        "--vocab", type=positive, default=VOCAB, metavar="N", help=f"tokens in a row (default {VOCAB})"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="threads of a call (default 1)"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_ROUNDS} rounds, not {budgets.ROUNDS}: wider intervals"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> None:
    """Measure and print, as the options say.

    Parameters
    ----------
    options : Namespace
        What `add_options` adds.
    """
    cases = _cases(options.rows)
    rounds = _QUICK_ROUNDS if options.quick else budgets.ROUNDS
    with progress_bar(len(cases) * rounds) as advance:
        lines = list(measure(cases, options.vocab, options.threads, rounds, advance))
    if options.json:
        print(json.dumps(_as_json(lines, options.threads, rounds), indent=2))
    else:
        print(budgets.machine())
        print("\n".join(table(lines, options.threads, rounds)))


def _cases(rows: int | None) -> list[tuple[Job, int]]:
    """Return the jobs with the rows each is timed on, in the order of the table."""
    jobs = budgets.present(JOBS).values()
    return [(job, count) for job in jobs for count in ([rows] if rows else job.budgets)]


def measure(
    cases: Sequence[tuple[Job, int]],
    vocab: int = VOCAB,
    threads: int = 1,
    rounds: int = budgets.ROUNDS,
    advance: Advance = lambda title, more: None,
) -> Iterator[Line]:
    """Time jobs, each beside the floor.

    Parameters
    ----------
    cases : sequence of (Job, int)
        Jobs, and the number of rows each is timed on.
    vocab, threads, rounds : int
        How.
    advance : callable
        Called with what is being timed and how many more rounds are done.

    Yields
    ------
    Line
        One per case.

    Examples
    --------
    >>> [line] = measure([(JOBS["greedy"], 1)], vocab=1000, rounds=7)
    >>> line.ratio.low <= line.ratio.median
    True
    """
    promised = vocab == VOCAB and threads == 1
    for job, rows in cases:
        batches = budgets.copies(budgets.make_rows(job.rows, rows, vocab))
        floor = budgets.floor_of(batches)
        contestant = Contestant(job.prepare((rows, vocab), threads), batches)
        title = f"{job.title}, {_count(rows)}"
        advance(title, 0)
        for _ in budgets.time_in_turn({FLOOR: floor, job.title: contestant}, rounds):
            advance(title, 1)
        yield Line(
            job.title,
            rows,
            vocab,
            statistics.median(contestant.seconds),
            statistics.median(floor.seconds),
            Ratio.of(contestant.seconds, floor.seconds),
            job.budgets.get(rows) if promised else None,
        )


def table(lines: Sequence[Line], threads: int, rounds: int) -> Iterator[str]:
    """Write what was measured as lines of text.

    Examples
    --------
    >>> line = Line("greedy", 1, 128256, 1.2e-5, 1e-5, Ratio(1.1, 1.2, 1.3), 1.1)
    >>> print(list(table([line], threads=1, rounds=41))[-1])
    greedy                        1      12.0 us    1.20  1.10 .. 1.30     1.1  met
    """
    counted = "1 thread" if threads == 1 else f"{threads} threads"
    yield f"vocab {lines[0].vocab}, {counted}, {rounds} rounds in turn with {FLOOR}"
    yield ""
    yield f"{'job':26}{'rows':>5}{'time':>13}{'ratio':>8}{'95 % interval':>15}{'budget':>7}"
    for line in lines:
        low, median, high = line.ratio
        budget = "" if line.budget is None else f"{line.budget:8.1f}  {line.verdict}"
        times = f"{line.seconds * 1e6:10.1f} us"
        yield f"{line.job:26}{line.rows:>5}{times}{median:8.2f}{f'{low:.2f} .. {high:.2f}':>14}{budget}"


def _as_json(lines: Sequence[Line], threads: int, rounds: int) -> dict[str, Any]:
    entries = [
        {**line._asdict(), "ratio": line.ratio._asdict(), "verdict": line.verdict or None} for line in lines
    ]
    return {"machine": budgets.machine(), "threads": threads, "rounds": rounds, "jobs": entries}


def _count(rows: int) -> str:
    return f"{rows} {'row' if rows == 1 else 'rows'}"

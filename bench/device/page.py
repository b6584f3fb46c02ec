# SPDX-License-Identifier: Apache-2.0
"""A run as a page: what the machine is, what was found, the times beside a copy's and beside others'."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.device.jobs import DEVICE_JOBS
from bench.device.peers import PEERS
from bench.device.timing import COPY, EAGER, GRAPH
from tokendraw.budgets import Ratio

Record = Mapping[str, Any]

HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# {gpu}, {date}

Made by `python -m bench.gpu` in {seconds:.0f} s; the JSON file beside it has the times of every round."""

TIMES = """
## Times of a call

Median of {rounds} rounds in turn, in microseconds, by the device's events around replays of a graph of
{calls} calls; in brackets the median ratio to a device-to-device copy of the same logits, timed alike. A copy
reads and writes: what only reads may be at 0.5. The same logits are read again and again: *in L2* says that
they fit there, and the copy of them may not. Rows are peaked where a name does not say otherwise."""

OTHERS = """
## Beside other libraries

Median time of a call in microseconds, by events around calls as Python makes them, without a graph; in
brackets the median ratio to tokendraw's. What is faster than Python can call is as fast as Python calls."""


def lines(record: Record) -> Iterator[str]:
    """Write the page."""
    machine = record["machine"]
    gpu = machine.get("gpu", "An unknown GPU")
    yield HEAD.format(gpu=gpu, date=record["date"], seconds=record["seconds"])
    if machine.get("note"):
        yield f"\n**{machine['note']}**"
    yield from _machine(machine)
    yield from _tests(record)
    yield from _agreement(record["agreement"])
    if record["timing"]:
        yield from _times(record)
        yield from _others(record)
    yield from _not_done(record)


def _machine(machine: Record) -> Iterator[str]:
    yield "\n| | |\n|---|---|"
    for name, value in machine.items():
        if name not in ("note", "gpu"):
            shown = f"{value / 2**20:,.0f} MiB" if name.endswith("_bytes") else value
            yield f"| {name.removesuffix('_bytes').replace('_', ' ')} | {shown} |"


def _tests(record: Record) -> Iterator[str]:
    tests = record["tests"]
    if not tests:
        return
    yield "\n## Tests\n"
    if "reason" in tests:
        yield f"Not done: {tests['reason']}."
        return
    yield (
        f"{tests['passed']} passed, {len(tests['failed'])} failed, {tests['skipped']} are the emulator's"
        f" alone and were skipped."
    )
    yield from _named("failed", tests["failed"])


def _agreement(agreement: Record) -> Iterator[str]:
    if not agreement:
        return
    yield "\n## Against the CPU\n"
    yield "Integers to the bit; log-probabilities against float64, as shares of what the contract allows.\n"
    yield "| rows | integers compared | different | reals compared | over | largest share |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, found in agreement.items():
        tokens, reals = found["tokens"], found.get("reals", {"compared": 0, "different": 0, "share": 0.0})
        share = f"{reals['share']:.2f}" if reals["compared"] else "-"
        yield (
            f"| {name} | {tokens['compared']:,} | {tokens['different']:,} | {reals['compared']:,} |"
            f" {reals['different']:,} | {share} |"
        )
    first = {
        f"{name}, {kind}": tally["first"]
        for name, found in agreement.items()
        for kind, tally in found.items()
        if tally["first"]
    }
    yield from _named("the first difference", first)


Timings = Mapping[tuple[int, str], Sequence[Record]]


def _by_batch(timing: Mapping[str, Record]) -> Timings:
    """Return what was timed, by vocab and dtype, in the order in which it was."""
    found: dict[tuple[int, str], list[Record]] = {}
    for timed in timing.values():
        found.setdefault((timed["vocab"], timed["dtype"]), []).append(timed)
    return found


def _times(record: Record) -> Iterator[str]:
    yield TIMES.format(rounds=record["rounds"], calls=record["calls"])
    l2_bytes = record["machine"].get("l2_bytes", 0)
    for (vocab, dtype), timings in _by_batch(record["timing"]).items():
        batches = sorted({timed["rows"]: timed["bytes"] for timed in timings}.items())
        yield f"\n### Vocab {vocab}, {dtype}\n"
        heads = [f"{rows} {'row' if rows == 1 else 'rows'}{_place(size, l2_bytes)}" for rows, size in batches]
        yield f"| job | {' | '.join(heads)} |"
        yield f"|---|{'---:|' * len(batches)}"
        cells = {(timed["job"], timed["rows"]): _beside(timed, GRAPH, COPY) for timed in timings}
        for job in dict.fromkeys(timed["job"] for timed in timings):
            row = [cells.get((job, rows), "-") for rows, _ in batches]
            yield f"| {DEVICE_JOBS[job].title} | {' | '.join(row)} |"


def _place(size: int, l2_bytes: int) -> str:
    if not l2_bytes:
        return ""
    return ", in L2" if size <= l2_bytes else ", from memory"


def _beside(timed: Record, who: str, against: str) -> str:
    """Write a time, and its ratio to another."""
    seconds = timed["seconds"]
    if who not in seconds:
        return "-"
    microseconds = f"{statistics.median(seconds[who]) * 1e6:.1f}"
    ratio = Ratio.of(seconds[who], seconds[against])
    return f"{microseconds} ({ratio.median:.2f})"


def _others(record: Record) -> Iterator[str]:
    present = [name for name in PEERS if any(name in timed["seconds"] for timed in record["timing"].values())]
    if not present:
        return
    yield OTHERS
    for (vocab, dtype), timings in _by_batch(record["timing"]).items():
        yield f"\n### Vocab {vocab}, {dtype}, eager\n"
        yield f"| job | rows | tokendraw | {' | '.join(present)} |"
        yield f"|---|---:|---:|{'---:|' * len(present)}"
        for timed in timings:
            own = statistics.median(timed["seconds"][EAGER]) * 1e6
            cells = [_beside(timed, name, EAGER) for name in present]
            title = DEVICE_JOBS[timed["job"]].title
            yield f"| {title} | {timed['rows']} | {own:.1f} | {' | '.join(cells)} |"


def _not_done(record: Record) -> Iterator[str]:
    """Name what failed, and what was left out: no page is silent about it."""
    for what, title in (("failed", "What failed"), ("left_out", "What was left out")):
        named = {
            f"{part}: {name}": reason
            for part, done in record["parts"].items()
            for name, reason in done[what].items()
        }
        if named:
            yield f"\n## {title}"
            yield from _named("", _gathered(named))


def _gathered(named: Mapping[str, str]) -> dict[str, str]:
    """Return reasons by what they are given for, those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in named.items():
        by_reason.setdefault(reason, []).append(name)
    return {"; ".join(names): reason for reason, names in by_reason.items()}


def _named(what: str, reasons: Mapping[str, str]) -> Iterator[str]:
    if reasons:
        yield f"\n{what.capitalize()}:\n" if what else ""
        for name, reason in reasons.items():
            yield f"- {name}: {reason}"

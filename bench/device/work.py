# SPDX-License-Identifier: Apache-2.0
"""A part's cases, worked through in a process of its own that a broken kernel may end, with lines about each.

Lines are JSON: a case `began`, and then is `done` with its result, `left_out` or `failed` with a reason. Of a
process that ended in the middle the last line says which case it was in, and the next one goes on after that.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.device import Case, Extent, LeftOutError, agreement, machine, peers, timing
from bench.device.arrays import Library

ROOT = Path(__file__).resolve().parents[2]
GRACE = 15.0
"""Seconds that a process may take to finish the case in which its time ran out."""

NO_TIME = "no time was left"


def cases_of(part: str, extent: Extent, library: Library, others: Sequence[str]) -> Iterator[Case]:
    """Return what a part does."""
    if part == "timing":
        return timing.cases(extent, library, others)
    return {"machine": machine, "peers": peers, "agreement": agreement}[part].cases(extent, library)


class Work(NamedTuple):
    """What became of a part."""

    results: dict[str, Any]
    left_out: dict[str, str]
    failed: dict[str, str]


def work_through(
    cases: Iterable[Case],
    library: Library,
    seconds: float,
    write: Callable[[Mapping[str, Any]], None],
    after: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Do what there is time for, from the case `after` on; RuntimeError where the device is broken."""
    end = clock() + seconds
    for case in _following(cases, after):
        if clock() >= end:
            write({"left_out": case.name, "reason": NO_TIME})
            continue
        write({"began": case.name})
        try:
            write({"done": case.name, "result": case.run()})
        except LeftOutError as error:
            write({"left_out": case.name, "reason": str(error)})
        except Exception as error:  # whatever it is, the other cases are worth having
            write({"failed": case.name, "reason": f"{type(error).__name__}: {error}"})
            library.wait()


def _following(cases: Iterable[Case], after: str | None) -> Iterator[Case]:
    iterator = iter(cases)
    if after is not None:
        for case in iterator:
            if case.name == after:
                break
    return iterator


class Told(NamedTuple):
    """What the lines of one process say. `last` is the case that it came to; `is_open`: and did not end."""

    work: Work
    last: str | None
    is_open: bool


def read(lines: Iterable[str]) -> Told:
    """Return what lines say."""
    work, last, is_open = Work({}, {}, {}), None, False
    for line in lines:
        told = json.loads(line)
        is_open = "began" in told
        match told:
            case {"began": last}:
                pass
            case {"done": last, "result": result}:
                work.results[last] = result
            case {"left_out": last, "reason": reason}:
                work.left_out[last] = reason
            case {"failed": last, "reason": reason}:
                work.failed[last] = reason
    return Told(work, last, is_open)


def run_apart(
    command: Sequence[str],
    seconds: float,
    folder: Path,
    clock: Callable[[], float] = time.monotonic,
) -> Work:
    """Run a part in processes of its own, a new one after each that broke, until its time is over.

    `command` is completed with `--seconds`, `--lines` and `--after`.
    """
    end, whole = clock() + seconds, Work({}, {}, {})
    after: str | None = None
    while True:
        lines = folder / "lines"
        lines.unlink(missing_ok=True)
        left = max(end - clock(), 0.0)
        options = [f"--seconds={left:.1f}", f"--lines={lines}", *([f"--after={after}"] if after else [])]
        reason = _run([*command, *options], left + GRACE)
        told = read(_whole_lines(lines))
        for all_of_it, more in zip(whole, told.work, strict=True):
            all_of_it.update(more)
        if reason is None:
            return whole
        if told.last is None:
            whole.failed[f"what follows {after}" if after else "its beginning"] = reason
            return whole
        if told.is_open:
            whole.failed[told.last] = reason
        if clock() >= end:
            whole.left_out[f"what follows {told.last}"] = NO_TIME
            return whole
        after = told.last


def _run(command: Sequence[str], seconds: float) -> str | None:
    """Return why a process ended as it should not have; what it says goes to the reader's screen."""
    try:
        ended = subprocess.run(command, cwd=ROOT, check=False, timeout=seconds, stdout=sys.stderr)
    except subprocess.TimeoutExpired:
        return f"took longer than {seconds:.0f} s"
    return None if ended.returncode == 0 else f"ended its process with code {ended.returncode}"


def _whole_lines(path: Path) -> list[str]:
    """Return the lines of a file but for one that was torn."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]

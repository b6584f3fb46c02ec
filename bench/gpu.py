# SPDX-License-Identifier: Apache-2.0
"""What a GPU says: the tests, the CPU's tokens to the bit, and the time of every kernel, in one command.

    python -m bench.gpu

Takes less than 8 minutes of a machine with a GPU and nothing else to do, and writes a JSON file and a page
beside it. Arrays are torch's, or CuPy's; other libraries are timed where they are installed.
"""

import argparse
import datetime
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokendraw as td
from bench.device import PARTS, Extent, arrays, checks, page, work

SCHEMA = 1
SECONDS = 440.0
SHARES = {"machine": 15, "peers": 75, "tests": 75, "agreement": 95, "timing": 180}
"""Of the time; what a part does not need is left to those after it."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.work:
        _work(options)
        return 0
    try:
        options.arrays = options.arrays or arrays.find()
        arrays.load(options.arrays)
        problem = td.cuda.problem()
    except ImportError as error:
        problem = td.cuda.problem() or str(error)
    if problem:
        print(f"bench.gpu needs a GPU: {problem}", file=sys.stderr)
        return 1
    record = run(options)
    output = options.output or work.ROOT / "docs" / f"{name_of(record)}.json"
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text("\n".join(page.lines(record)) + "\n", encoding="utf-8")
    print(f"{summary(record)}\nwritten: {output}, {output.with_suffix('.md')}")
    return 0 if is_right(record) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.partition("\n")[0])
    extent = Extent()
    parser.add_argument("--output", type=Path, help="the JSON file; by default docs/gpu-NAME-DATE.json")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts (%(default)s)")
    parser.add_argument("--part", choices=PARTS, action="append", help="do this only; may be repeated")
    parser.add_argument("--arrays", help="torch, cupy, or a module with a function library()")
    parser.add_argument("--rows", type=int, nargs="+", default=extent.rows)
    parser.add_argument("--vocabs", type=int, nargs="+", default=extent.vocabs)
    parser.add_argument("--dtypes", nargs="+", default=extent.dtypes)
    parser.add_argument("--kinds", nargs="+", default=extent.kinds, help=argparse.SUPPRESS)
    for name in ("rounds", "calls", "every"):
        parser.add_argument(f"--{name}", type=int, default=getattr(extent, name), help=argparse.SUPPRESS)
    for name in ("work", "lines", "after"):  # of a part's own process
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--others", nargs="*", default=(), help=argparse.SUPPRESS)
    return parser


def extent_of(options: argparse.Namespace) -> Extent:
    chosen = {name: getattr(options, name) for name in Extent._fields}
    return Extent(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    )


# ---- a part's own process ----


def _work(options: argparse.Namespace) -> None:
    library = arrays.load(options.arrays)
    cases = list(work.cases_of(options.work, extent_of(options), library, options.others))
    begun = 0

    with open(options.lines, "a", encoding="utf-8") as file:

        def write(line: Mapping[str, Any]) -> None:
            nonlocal begun
            file.write(json.dumps(line) + "\n")
            file.flush()
            if "began" in line:
                begun += 1
                print(f"  {options.work} {begun}/{len(cases)}: {line['began']}", file=sys.stderr, flush=True)

        work.work_through(cases, library, options.seconds, write, options.after)


# ---- all parts in turn ----


class Timetable:
    """When each part must be over."""

    def __init__(
        self, parts: Sequence[str], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._start = clock()
        whole = sum(SHARES[part] for part in parts)
        self._ends, end = {}, 0.0
        for part in parts:
            end += seconds * SHARES[part] / whole
            self._ends[part] = end

    @property
    def spent(self) -> float:
        return self._clock() - self._start

    def left(self, part: str) -> float:
        """Return how many seconds a part has that begins now."""
        return max(self._ends[part] - self.spent, 0.0)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the parts, and return all that they found as what JSON can hold."""
    parts = [part for part in PARTS if part in (options.part or PARTS)]
    timetable = Timetable(parts, options.seconds)
    found: dict[str, work.Work] = {}
    tests: dict[str, Any] = {}
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in parts:
            begin, allowed = timetable.spent, timetable.left(part)
            print(f"{part}: at most {allowed:.0f} s", file=sys.stderr, flush=True)
            if part == "tests":
                tests = checks.run(allowed, folder, options.arrays)
                found[part] = work.Work({}, {}, {})
            else:
                found[part] = work.run_apart(_command(part, options, found), allowed, folder)
            told[part] = {
                "seconds": round(timetable.spent - begin, 1),
                "allowed": round(allowed, 1),
                "left_out": found[part].left_out,
                "failed": found[part].failed,
            }

    def results(part: str) -> dict[str, Any]:
        return found[part].results if part in found else {}

    extent = extent_of(options)
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "seconds": round(timetable.spent, 1),
        "rounds": extent.rounds,
        "calls": extent.calls,
        "parts": told,
        "machine": results("machine").get("machine", {}),
        "peers": results("peers"),
        "tests": tests,
        "agreement": results("agreement"),
        "timing": results("timing"),
    }


def _command(part: str, options: argparse.Namespace, found: Mapping[str, work.Work]) -> list[str]:
    """Return what starts a part's process."""
    command = [sys.executable, "-m", "bench.gpu", f"--work={part}", f"--arrays={options.arrays}"]
    for name, value in extent_of(options)._asdict().items():
        command += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    others = found["peers"].results if "peers" in found else {}
    return [*command, "--others", *others]


def name_of(record: Mapping[str, Any]) -> str:
    """Return the name of a run's files: the GPU and the day."""
    gpu = re.sub(r"[^a-z0-9]+", "-", record["machine"].get("gpu", "unknown").lower()).strip("-")
    return f"gpu-{gpu}-{record['date']}"


def is_right(record: Mapping[str, Any]) -> bool:
    """Return whether nothing failed and nothing differed."""
    tests = record["tests"]
    return not (
        tests.get("failed")
        or "reason" in tests
        or any(part["failed"] for part in record["parts"].values())
        or _different(record)
    )


def _different(record: Mapping[str, Any]) -> int:
    tallies = (tally for found in record["agreement"].values() for tally in found.values())
    return sum(tally["different"] for tally in tallies)


def summary(record: Mapping[str, Any]) -> str:
    """Say in a line what was found."""
    tests, parts = record["tests"], record["parts"].values()
    compared = sum(tally["compared"] for found in record["agreement"].values() for tally in found.values())
    words = [f"{tests['passed']} tests passed, {len(tests['failed'])} failed"] if "passed" in tests else []
    words += [f"tests: {tests['reason']}"] if "reason" in tests else []
    words += (
        [f"{compared:,} values compared with the CPU, {_different(record):,} different"] if compared else []
    )
    words += [f"{len(record['timing'])} contests timed"] if record["timing"] else []
    words.append(
        f"{sum(len(part['failed']) for part in parts)} cases failed,"
        f" {sum(len(part['left_out']) for part in parts)} left out, {record['seconds']:.0f} s"
    )
    return "; ".join(words)


if __name__ == "__main__":
    sys.exit(main())

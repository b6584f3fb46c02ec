# SPDX-License-Identifier: Apache-2.0
"""Everything in the docs that was measured, made again: one command, one machine, one day.

    python -m bench.report

Runs the benches, then writes docs/speed.md, docs/accuracy.md, docs/time_by_vocab.svg and the table in the
README. `--part` makes one of them. The machine should have nothing else to do.
"""

import argparse
import datetime
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import accuracy, plot, results
from bench.results import FLOOR, TOKENDRAW, Result
from tokendraw.budgets import JOBS, VOCAB, machine

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("speed", "accuracy", "picture")
START, END = "<!-- measured: start -->", "<!-- measured: end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="make this only; may be repeated")
    parser.add_argument("--run", type=Path, help="JSON of a run of the benches, instead of a new one")
    parser.add_argument("options", nargs="*", help="more options for pytest, after --")
    options = parser.parse_args(arguments)
    parts = options.part or PARTS
    docs = ROOT / "docs"
    if "speed" in parts:
        found = results.from_json(options.run) if options.run else run_benches(options.options)
        (docs / "speed.md").write_text(page(found), encoding="utf-8")
        write_between(ROOT / "README.md", list(table(found)))
    if "accuracy" in parts:
        (docs / "accuracy.md").write_text("\n".join(accuracy.lines()) + "\n", encoding="utf-8")
    if "picture" in parts:
        plot.main([str(docs / "time_by_vocab.svg")])


def run_benches(options: Sequence[str]) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "run.json"
        command = [sys.executable, "-m", "pytest", "bench", "-q", f"--benchmark-json={kept}", *options]
        subprocess.run(command, check=True, cwd=ROOT)
        return results.from_json(kept)


PAGE = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# Speed

Made by `python -m bench.report`; `tokendraw bench` measures the table, without its last column, on yours.

{table}

![time of a call against the vocabulary](time_by_vocab.svg)

## Everything that was timed

Median time of a call, median ratio to `np.max` over the same rows, and the 95 % interval of that median.
Everybody takes one turn per round; other libraries sit out after some seconds. A budget is met when the
interval includes it or lies below: a wide interval, of a machine that had other work, proves little.

```text
{contests}
```
"""

TABLE = """{date}, {machine}. One thread, vocab {vocab}, float32. Ratios are to `np.max` over the same rows,
with the 95 % interval of their median; the last column is the fastest other library's time over tokendraw's.

| job | one row in cache | 64 rows from memory | fastest other library, one row |
|---|---:|---:|---:|"""


def page(found: Sequence[Result]) -> str:
    """Write every contest as it was measured."""
    contests = [*(line for result in found for line in results.lines(result)), results.summary(found)]
    return PAGE.format(table="\n".join(table(found)), contests="\n".join(contests))


def table(found: Sequence[Result]) -> Iterator[str]:
    """Write the budget table, one line per job."""
    by_name = {result.name: result for result in found}
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    yield TABLE.format(date=today, machine=machine(), vocab=VOCAB)
    for job in JOBS.values():
        few, *many = (by_name.get(f"{job.title} [{rows}, {VOCAB}]") for rows in job.budgets)
        if few:
            yield f"| {job.title} | {_cell(few)} | {_cell(many[0]) if many else '-'} | {_peer(few)} |"


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    seconds = statistics.median(result.seconds[TOKENDRAW])
    low, median, high = result.ratio(TOKENDRAW, FLOOR)
    return f"{seconds * 1e6:,.0f} us: {median:.2f} ({low:.2f} .. {high:.2f})"


def _peer(result: Result) -> str:
    peer, led = result.fastest_peer, result.led
    return f"{peer}: {led.median:.1f} ({led.low:.1f} .. {led.high:.1f})" if peer and led else "-"


def write_between(file: Path, lines: Sequence[str]) -> None:
    """Replace what stands between the two marks of a page."""
    text = file.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    assert rest, f"{file.name} has no line {START}"
    file.write_text("\n".join([before + START, *lines, END + after]), encoding="utf-8")


if __name__ == "__main__":
    main()

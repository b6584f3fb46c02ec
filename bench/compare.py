# SPDX-License-Identifier: Apache-2.0
"""Read what a run measured and say which budgets it meets; with two runs, what has changed.

    pytest bench --benchmark-json=new.json
    python -m bench.compare new.json [old.json]

It reports only: the exit code depends on no time.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import results
from bench.results import FLOOR, TOKENDRAW, Result
from tokendraw.budgets import Ratio


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="JSON of a run")
    parser.add_argument("old", type=Path, nargs="?", help="JSON of an earlier run")
    options = parser.parse_args(arguments)
    new = results.from_json(options.run)
    for result in new:
        print("\n".join(results.lines(result)))
    print(results.summary(new))
    if options.old:
        print()
        print("\n".join(changes(results.from_json(options.old), new)))


def changes(old: Sequence[Result], new: Sequence[Result]) -> Iterator[str]:
    """Compare the ratios of two runs; what their intervals do not separate is called the same."""
    before = {result.name: result for result in old}
    yield f"{'ratio to ' + FLOOR:50}{'old':>8}{'new':>8}   change"
    for result in new:
        earlier = before.get(result.name)
        if earlier and all({FLOOR, TOKENDRAW} <= set(run.seconds) for run in (earlier, result)):
            yield _change(result.name, earlier.ratio(TOKENDRAW), result.ratio(TOKENDRAW))


def _change(name: str, old: Ratio, new: Ratio) -> str:
    word = "faster" if new.high < old.low else "slower" if new.low > old.high else "the same"
    share = f"{new.median / old.median - 1:+.0%}, " if word != "the same" else ""
    return f"{name:50}{old.median:8.2f}{new.median:8.2f}   {share}{word}"


if __name__ == "__main__":
    main()

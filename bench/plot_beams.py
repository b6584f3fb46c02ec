# SPDX-License-Identifier: Apache-2.0
"""The picture of a beam step by its width: heaps against a partition and a full sort, the floor drawn.

python -m bench.plot_beams docs/time_by_width.svg
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.bench_beam_width import VOCAB, contestants_of
from bench.plot import Curves, draw_panel, stamp
from tokendraw.budgets import FLOOR, time_in_turn
from tokendraw.lab.pictures import new_figure, save_picture

WIDTHS = tuple(4**power for power in range(6))
ROUNDS = 11
LIMIT = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.plot_beams", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("file", type=Path, help="where the SVG goes")
    options = parser.parse_args(arguments)
    found: Curves = {}
    for width in WIDTHS:
        contestants = contestants_of(width)
        for _ in time_in_turn(contestants, ROUNDS, dict.fromkeys(contestants.keys() - {FLOOR}, LIMIT)):
            pass
        for name, contestant in contestants.items():
            found.setdefault(name, []).append((width, statistics.median(contestant.seconds)))
        print(f"{width} beams: timed", file=sys.stderr)
    draw(found, options.file)


def draw(found: Curves, file: Path) -> None:
    with new_figure() as (figure, axis):
        draw_panel(axis, f"A step of beam search, {VOCAB:,} tokens, one thread", found, "beams")
        axis.set_ylabel("microseconds a step")
        axis.legend()
        stamp(figure, f"Twice as many continuations as beams. Medians of up to {ROUNDS} rounds.")
        save_picture(figure, file)


if __name__ == "__main__":
    main()

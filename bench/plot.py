# SPDX-License-Identifier: Apache-2.0
"""The picture: time of a call against the vocabulary, all peers, the floor drawn.

python -m bench.plot docs/time_by_vocab.svg
"""

import argparse
import datetime
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.contest import peer_contestants
from bench.results import TOKENDRAW
from tokendraw.budgets import (
    FLOOR,
    JOBS,
    Contestant,
    copies,
    floor_of,
    machine,
    make_rows,
    present,
    time_in_turn,
)
from tokendraw.lab.pictures import new_figure, save_picture

VOCABS = tuple(2**power for power in range(10, 21))
PANELS = ("greedy", "temperature", "top_k", "top_p_peaked", "top_p_flat", "top_k_top_p", "min_p")
ROUNDS = 11
LIMIT = 0.3

# Colours that stay apart for the colour-blind (Okabe and Ito 2008), one per contestant in every panel.
STYLES: dict[str, dict[str, Any]] = {
    FLOOR: {"color": "black", "linestyle": "--", "linewidth": 1.2},
    TOKENDRAW: {"color": "#D55E00", "linewidth": 2.4, "zorder": 5},
    "numpy": {"color": "#0072B2"},
    "torch": {"color": "#CC79A7"},
    "transformers": {"color": "#009E73"},
    "onnxruntime": {"color": "#E69F00"},
    "numba": {"color": "#56B4E9"},
    "llama.cpp": {"color": "#777777"},
    "partition": {"color": "#0072B2"},
    "sort": {"color": "#009E73"},
}

Curves = dict[str, list[tuple[int, float]]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="where the SVG goes")
    options = parser.parse_args(arguments)
    panels = {}
    for name in PANELS:
        if name in present(JOBS):
            panels[name] = curves(name)
            print(f"{JOBS[name].title}: timed", file=sys.stderr)
    draw(panels, options.file)


def curves(name: str) -> Curves:
    """Time a job on one row of each size."""
    found: Curves = {}
    for vocab in VOCABS:
        for contestant, seconds in medians(name, vocab):
            found.setdefault(contestant, []).append((vocab, seconds))
    return found


def medians(name: str, vocab: int) -> Iterator[tuple[str, float]]:
    job = JOBS[name]
    # Above 2^19 tokens a row is larger than what is timed from the caches; the copies then come from memory.
    batches = copies(make_rows(job.rows, 1, vocab))
    own = {FLOOR: floor_of(batches), TOKENDRAW: Contestant(job.prepare((1, vocab)), batches)}
    contestants = own | peer_contestants(name, batches)[0]
    for _ in time_in_turn(contestants, ROUNDS, dict.fromkeys(contestants, LIMIT)):
        pass
    for contestant in contestants:
        yield contestant, statistics.median(contestants[contestant].seconds)


def draw(panels: dict[str, Curves], file: Path) -> None:
    columns = 4
    rows = -(-(len(panels) + 1) // columns)
    with new_figure(rows, columns, (13, 6.6), sharey=True) as (figure, axes):
        draw_panels(axes, panels)
        figure.suptitle("Time of a call against the vocabulary: one row, float32, one thread", fontsize=12)
        stamp(figure, f"Medians of up to {ROUNDS} rounds; rows above 2 MiB from memory.")
        save_picture(figure, file)


def draw_panels(axes: Any, panels: dict[str, Curves]) -> None:
    flat_axes = list(axes.flat)
    for axis, (name, found) in zip(flat_axes, panels.items(), strict=False):
        draw_panel(axis, JOBS[name].title, found, "tokens in the vocabulary")
    handles = {line.get_label(): line for axis in flat_axes for line in axis.get_lines()}
    for axis in flat_axes[len(panels) :]:
        axis.axis("off")
    flat_axes[-1].legend(handles.values(), handles.keys(), loc="center")
    for axis in axes[:, 0]:
        axis.set_ylabel("microseconds a call")


def stamp(figure: Any, how: str) -> None:
    """Say below the axes when, where and how it was measured."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    size = 7 if figure.get_figwidth() > 8 else 4
    figure.supxlabel(f"{today}. {machine()}. {how}", x=0.01, ha="left", fontsize=size)


def draw_panel(axis: Any, title: str, found: Curves, across: str) -> None:
    """Draw times against what varies."""
    for contestant, points in found.items():
        places, seconds = zip(*points, strict=True)
        axis.loglog(places, [1e6 * value for value in seconds], label=contestant, **STYLES[contestant])
    axis.set_title(title)
    axis.set_xlabel(across)
    axis.grid(True, which="major", alpha=0.25)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Why an arrow: sentences `x <-> y` over F2, y = A x with A sparse and its inverse dense.

Forward, y is predicted from x: each of its bits is the sum of few bits. Backward, x is predicted from y: each
bit is the sum of many. Both are exact, so that the best loss is 0 in either direction; what differs is how
hard it is to find.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tokendraw.lab import results
from tokendraw.lab.binary_algebra import Matrix, density, inverse, multiply, sparse_invertible
from tokendraw.lab.intervals import Interval, mean_interval
from tokendraw.lab.pictures import COLORS, new_figure, save_picture
from tokendraw.lab.runs import kept_run
from tokendraw.lab.training import NetworkSettings, train_sequences
from tokendraw.options import add_command, positive
from tokendraw.progress import Advance, progress_bar

__all__ = [
    "Cell",
    "Direction",
    "Run",
    "Settings",
    "add_commands",
    "cells",
    "draw_picture",
    "language",
    "sentences",
    "sweep",
    "train_direction",
]

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

_TESTED = 512
"""Sentences of a test."""


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides its language, direction and seed.

    Parameters
    ----------
    architecture : {"given", "places"}
        Whether all bits of the predicted half are predicted at once, from the given half alone, or each sees
        the ones before it too.
    units : int
        Width of both hidden layers.
    rows : int
        Sentences of a step; new ones are drawn for each.
    steps : int
        At most so many.
    every : int
        Steps between tests.
    learning_rate : float
        The highest rate of AdamW.
    solved : float
        Bits of loss per predicted bit below which a direction counts as solved, which ends its training.

    Examples
    --------
    >>> Settings(steps=500).solved
    0.01
    """

    architecture: Literal["given", "places"] = "given"
    units: int = 256
    rows: int = 128
    steps: int = 1000
    every: int = 25
    learning_rate: float = 3e-3
    solved: float = 0.01

    def __post_init__(self) -> None:
        for name in ("units", "rows", "steps", "every", "learning_rate", "solved"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class Run(NamedTuple):
    """A direction of a language that a network was trained on.

    Attributes
    ----------
    size, weight : int
        Bits of x and of y, and mean ones per row of A.
    direction : {"forward", "backward"}
        What was predicted: y or x.
    seed : int
        Of the language, the sentences and the first weights.
    density : float
        The share of ones in the matrix to be learned: A forward, its inverse backward.
    loss : float
        At the last test, in bits per predicted bit: 1 is knowing nothing.
    steps : int
        Before the last test.
    is_solved : bool
        Whether the loss fell below the threshold.
    curve : list of (int, float)
        Step and loss of every test.
    seconds : float
        Of training and tests.
    """

    size: int
    weight: int
    direction: Direction
    seed: int
    density: float
    loss: float
    steps: int
    is_solved: bool
    curve: list[tuple[int, float]]
    seconds: float


def language(size: int, weight: int, seed: int) -> tuple[Matrix, Matrix]:
    """Return the matrix of a linear language and its inverse.

    Parameters
    ----------
    size, weight : int
        Bits of x and of y, and mean ones per row of A, as `sparse_invertible` takes them.
    seed : int
        Decides A.

    Returns
    -------
    matrix, inverse : ndarray, uint8 [size, size]
        A and its inverse.

    Examples
    --------
    >>> matrix, inverse = language(16, 3, seed=0)
    >>> density(matrix), density(inverse)
    (0.1875, 0.5)
    """
    matrix = sparse_invertible(size, weight, np.random.default_rng([seed, size, weight]))
    return matrix, inverse(matrix)


def sentences(
    matrix: Matrix, direction: Direction, rows: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw sentences of a linear language, the given half first.

    Parameters
    ----------
    matrix : ndarray, uint8 [size, size]
        A of the language.
    direction : {"forward", "backward"}
        Whether x or y is given.
    rows : int
        How many sentences.
    random : numpy.random.Generator
        Where x comes from; equal states give the same sentences in both directions.

    Returns
    -------
    ndarray, int64 [rows, 2 * size]
        x then A x forward, A x then x backward.

    Examples
    --------
    >>> matrix, _ = language(4, 3, seed=0)
    >>> forward = sentences(matrix, "forward", 2, np.random.default_rng(1))
    >>> backward = sentences(matrix, "backward", 2, np.random.default_rng(1))
    >>> bool((np.roll(forward, 4, axis=1) == backward).all())
    True
    """
    x = random.integers(0, 2, (rows, len(matrix)))
    y = multiply(x, matrix.T).astype(np.int64)
    return np.concatenate([x, y] if direction == "forward" else [y, x], axis=1)


def train_direction(size: int, weight: int, direction: Direction, seed: int, settings: Settings) -> Run:
    """Train a network to predict one half of a sentence from the other.

    Parameters
    ----------
    size, weight : int
        The language, see `language`.
    direction : {"forward", "backward"}
        Whether y is predicted or x.
    seed : int
        Decides the language, the sentences and the first weights, alike for both directions.
    settings : Settings
        Sizes and schedule.

    Returns
    -------
    Run
    """
    matrix, inverted = language(size, weight, seed)
    random = np.random.default_rng([seed, size, weight, 1])
    network = NetworkSettings(
        architecture=settings.architecture,
        units=settings.units,
        learning_rate=settings.learning_rate,
        seed=seed,
        given=size,
    )
    points = train_sequences(
        lambda step: sentences(matrix, direction, settings.rows, random),
        sentences(matrix, direction, _TESTED, np.random.default_rng([seed, size, weight, 2])),
        2,
        network,
        steps=settings.steps,
        every=settings.every,
        counted=np.arange(2 * size - 1) >= size - 1,
    )
    curve = []
    for point in points:
        curve.append((point.step, float(point.losses[:, size - 1 :].mean() / np.log(2))))
        if curve[-1][1] < settings.solved:
            break
    steps, loss = curve[-1]
    seconds = round(point.seconds, 2)
    learned = density(matrix if direction == "forward" else inverted)
    return Run(size, weight, direction, seed, learned, loss, steps, loss < settings.solved, curve, seconds)


def sweep(
    sizes: Sequence[int],
    weights: Sequence[int],
    seeds: Sequence[int],
    settings: Settings,
    *,
    folder: str | os.PathLike[str] | None = None,
    advance: Advance | None = None,
) -> list[Run]:
    """Train both directions of languages of several sizes and sparsities.

    Parameters
    ----------
    sizes, weights, seeds : sequence of int
        All combinations are trained, but weights that are not below the size.
    settings : Settings
        Sizes and schedule of the networks.
    folder : path, optional
        Where finished runs are kept, and taken from.
    advance : callable, optional
        Called with a title and 1 after each run.

    Returns
    -------
    list of Run
        In the order of the arguments, forward before backward.
    """
    wanted = list(combinations(sizes, weights, seeds))
    if not wanted:
        raise ValueError(
            f"weights must be less than a size, got weights {list(weights)} and sizes {list(sizes)}"
        )
    for size, weight, seed, _ in wanted:
        language(size, weight, seed)  # what does not exist is told before anything is trained
    runs = []
    for size, weight, seed, direction in wanted:
        title = f"{size} bits, {weight} per row, seed {seed}, {direction}"
        told = {
            "size": size,
            "weight": weight,
            "seed": seed,
            "direction": direction,
            **asdict(settings),
        }

        def make(
            size: int = size, weight: int = weight, direction: Direction = direction, seed: int = seed
        ) -> dict[str, Any]:
            return train_direction(size, weight, direction, seed, settings)._asdict()

        runs.append(Run(**kept_run(folder, "linear", title, told, make)))
        if advance is not None:
            advance(title, 1)
    return runs


def combinations(
    sizes: Sequence[int], weights: Sequence[int], seeds: Sequence[int]
) -> Iterator[tuple[int, int, int, Direction]]:
    """Yield the size, weight, seed and direction of every run of a sweep."""
    for size, weight, seed, direction in product(sizes, weights, seeds, DIRECTIONS):
        if weight < size:
            yield size, weight, seed, direction


# --- What was found ----------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """What was found for a size and a sparsity.

    Attributes
    ----------
    size, weight : int
        Bits, and mean ones per row of A.
    density, inverse_density : float
        Of A and of its inverse, means over the seeds.
    forward, backward : Interval
        Final losses in bits per predicted bit.
    gap : Interval
        Of backward over forward, paired by seed.
    forward_steps, backward_steps : list of int or None
        Steps to solve, one per seed; None where that did not happen.
    """

    size: int
    weight: int
    density: float
    inverse_density: float
    forward: Interval
    backward: Interval
    gap: Interval
    forward_steps: list[int | None]
    backward_steps: list[int | None]


def cells(runs: Sequence[Run]) -> list[Cell]:
    """Gather runs by size and sparsity.

    Parameters
    ----------
    runs : sequence of Run
        Both directions of every seed.

    Returns
    -------
    list of Cell
        In the order of the runs.

    Examples
    --------
    >>> run = Run(8, 3, "forward", 0, 0.375, 0.01, 100, True, [], 1.0)
    >>> [cell] = cells([run, run._replace(direction="backward", loss=0.5, is_solved=False)])
    >>> round(cell.gap.value, 2), cell.forward_steps, cell.backward_steps
    (0.49, [100], [None])
    """
    found: dict[tuple[int, int], dict[Direction, list[Run]]] = {}
    for run in runs:
        found.setdefault((run.size, run.weight), {}).setdefault(run.direction, []).append(run)
    return [_cell(size, weight, **both) for (size, weight), both in found.items()]


def _cell(size: int, weight: int, forward: Sequence[Run], backward: Sequence[Run]) -> Cell:
    losses = [[run.loss for run in runs] for runs in (forward, backward)]
    steps = [[run.steps if run.is_solved else None for run in runs] for runs in (forward, backward)]
    return Cell(
        size,
        weight,
        float(np.mean([run.density for run in forward])),
        float(np.mean([run.density for run in backward])),
        mean_interval(losses[0]),
        mean_interval(losses[1]),
        mean_interval(np.subtract(losses[1], losses[0])),
        *steps,
    )


def growth(runs: Sequence[Run], weight: int) -> Interval | None:
    """Return by how much the gap at the largest size exceeds that at the smallest, paired by seed."""
    losses = {(run.size, run.seed, run.direction): run.loss for run in runs if run.weight == weight}
    sizes = sorted({size for size, _, _ in losses})
    if len(sizes) < 2:
        return None
    seeds = sorted({seed for _, seed, _ in losses})
    gaps = [
        [losses[size, seed, "backward"] - losses[size, seed, "forward"] for seed in seeds] for size in sizes
    ]
    return mean_interval(np.subtract(gaps[-1], gaps[0]))


def table(runs: Sequence[Run]) -> str:
    """Return what was found as lines of text.

    Examples
    --------
    >>> run = Run(8, 3, "forward", 0, 0.375, 0.01, 100, True, [], 1.0)
    >>> print(table([run, run._replace(direction="backward", loss=0.5, is_solved=False)]))
    bits  ones/row  density A, inverse  loss forward  backward  gap                        steps to solve
       8         3      0.375    0.375        0.0100    0.5000  0.4900                     100 | not in 100
    """
    head = f"bits  ones/row  density A, inverse  loss forward  backward  {'gap':25}  steps to solve"
    limits = {run.size: max(each.steps for each in runs if each.size == run.size) for run in runs}
    return "\n".join([head, *(_line(cell, limits[cell.size]) for cell in cells(runs))])


def _line(cell: Cell, limit: int) -> str:
    gap = str(cell.gap) if cell.gap.low == cell.gap.low else f"{cell.gap.value:.4f}"
    steps = (
        " ".join(f"not in {limit}" if each is None else str(each) for each in every)
        for every in (cell.forward_steps, cell.backward_steps)
    )
    return (
        f"{cell.size:4}  {cell.weight:8}  {cell.density:9.3f}  {cell.inverse_density:7.3f}  "
        f"{cell.forward.value:12.4f}  {cell.backward.value:8.4f}  {gap:25}  {' | '.join(steps)}"
    )


def draw_picture(runs: Sequence[Run], path: str | os.PathLike[str]) -> None:
    """Draw losses and steps to solve against the density of the learned matrix, and the gap against the size.

    Parameters
    ----------
    runs : sequence of Run
        Both directions of every seed.
    path : path
        The file, SVG by its name's end.
    """
    with new_figure(1, 3, size=(10.5, 3.6)) as (figure, (losses, steps, gaps)):
        for direction, color, mark in zip(DIRECTIONS, COLORS, "o^", strict=False):
            of_direction = [run for run in runs if run.direction == direction]
            _scatter(losses, of_direction, [run.loss for run in of_direction], color, mark, direction)
            _scatter(steps, of_direction, [run.steps for run in of_direction], color, mark, None)
        losses.set(xlabel="density of the matrix to be learned", ylabel="final loss, bits per bit")
        losses.legend(title="filled: solved")
        steps.set(xlabel="density of the matrix to be learned", ylabel="steps", yscale="log")
        steps.set_title("steps to solve (hollow: not solved by then)", fontsize=9)
        _draw_gaps(gaps, cells(runs))
        save_picture(figure, path)


def _scatter(
    axes: Any, runs: Sequence[Run], heights: Sequence[float], color: str, mark: str, label: str | None
) -> None:
    for is_solved in (True, False):
        places = [place for place, run in enumerate(runs) if run.is_solved == is_solved]
        axes.scatter(
            [runs[place].density for place in places],
            [heights[place] for place in places],
            # A larger mark for a larger language.
            s=[3 * runs[place].size for place in places],
            marker=mark,
            edgecolors=color,
            facecolors=color if is_solved else "none",
            alpha=0.7,
            label=label if is_solved else None,
        )


def _draw_gaps(axes: Any, found: Sequence[Cell]) -> None:
    for weight, color in zip(sorted({cell.weight for cell in found}), COLORS, strict=False):
        row = [cell for cell in found if cell.weight == weight]
        values = np.array([cell.gap.value for cell in row])
        bounds = np.nan_to_num(
            [[cell.gap.value - cell.gap.low, cell.gap.high - cell.gap.value] for cell in row]
        )
        axes.errorbar(
            [cell.size for cell in row],
            values,
            bounds.T,
            color=color,
            marker="o",
            capsize=3,
            label=str(weight),
        )
    axes.set(xlabel="bits of x and of y", ylabel="backward loss - forward loss")
    axes.legend(title="ones per row of A")


# --- The command -------------------------------------------------------------------------------------------


def add_commands(commands: Any) -> None:
    """Add `tokendraw linear`."""
    parser = add_command(
        commands,
        "linear",
        _run,
        summary="learn sparse linear maps over F2 and their dense inverses",
        description="Train networks on sentences x <-> y, y = A x over F2 with A sparse, in both directions.",
    )
    parser.add_argument(
        "--full", action="store_true", help="three seeds and more sizes: the figures of the docs"
    )
    parser.add_argument("--sizes", type=positive, nargs="+", metavar="N", help="bits of x and of y")
    parser.add_argument("--weights", type=positive, nargs="+", metavar="N", help="mean ones per row of A")
    parser.add_argument("--seeds", type=positive, metavar="N", help="how many (default 1, with --full 3)")
    parser.add_argument(
        "--steps",
        type=positive,
        default=Settings.steps,
        metavar="N",
        help=f"give up after N steps (default {Settings.steps})",
    )
    parser.add_argument(
        "--architecture",
        choices=("given", "places"),
        default=Settings.architecture,
        help="predict all bits at once (given, the default) or each after those before it (places)",
    )
    parser.add_argument(
        "--output", default="linear", metavar="FOLDER", help="where runs and results go (default linear)"
    )


_DEFAULT: dict[str, Any] = {"sizes": [8, 12, 16], "weights": [1, 3, 5], "seeds": 1}
_FULL: dict[str, Any] = {"sizes": [8, 10, 12, 16], "weights": [1, 2, 3, 5], "seeds": 3}


def _run(options: argparse.Namespace) -> None:
    chosen = {
        name: getattr(options, name) or value for name, value in (_FULL if options.full else _DEFAULT).items()
    }
    settings = Settings(architecture=options.architecture, steps=options.steps)
    sizes, weights, seeds = chosen["sizes"], chosen["weights"], range(chosen["seeds"])
    with progress_bar(len(list(combinations(sizes, weights, seeds)))) as advance:
        runs = sweep(sizes, weights, seeds, settings, folder=options.output, advance=advance)
    print(table(runs))
    for weight in weights:
        grown = growth(runs, weight)
        if grown is not None:
            print(f"{weight} per row: the gap grew by {grown} from the smallest to the largest size")
    print(f"{sum(run.seconds for run in runs):.0f} s of training", file=sys.stderr)
    folder = Path(options.output)
    results.save(folder / "linear.json", "linear", _told(runs, settings, chosen))
    draw_picture(runs, folder / "linear.svg")
    print(f"{folder / 'linear.json'}, {folder / 'linear.svg'}")


def _told(runs: Sequence[Run], settings: Settings, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a sweep, ready for JSON."""
    return {
        "settings": asdict(settings) | chosen,
        "seeds": sorted({run.seed for run in runs}),
        "seconds": round(sum(run.seconds for run in runs), 1),
        "cells": cells(runs),
        "growth": {str(weight): growth(runs, weight) for weight in chosen["weights"]},
        "runs": list(runs),
    }

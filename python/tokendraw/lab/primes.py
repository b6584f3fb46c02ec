# SPDX-License-Identifier: Apache-2.0
"""Why an arrow: `p1 x p2 = n` forward and `n = p1 x p2` backward, for all primes p1 <= p2 of fixed digits.

A pair of primes and its product determine each other, so that by the chain rule both directions need the same
number of bits at best: the logarithm of the number of pairs. Forward, what follows the factors is
multiplication; backward, what follows the product is factoring. A network is trained on each, and the loss at
every place is compared with the exact entropy there.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tokendraw.lab import results
from tokendraw.lab.intervals import Interval, mean_interval
from tokendraw.lab.pictures import COLORS, new_figure, save_picture
from tokendraw.lab.runs import kept_run
from tokendraw.lab.training import NetworkSettings, train_sequences
from tokendraw.options import add_command, positive
from tokendraw.progress import Advance, progress_bar

__all__ = [
    "Direction",
    "Entropies",
    "Language",
    "Run",
    "Settings",
    "Summary",
    "add_commands",
    "conditional_entropies",
    "draw_picture",
    "primes",
    "summarize",
    "train_both",
    "train_direction",
]

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

_HIGHEST, _MOST_PAIRS = 50_000_000, 2_000_000
"""Beyond these nothing is enumerated: the arrays would take gigabytes."""

_MOST_HELD_OUT = 2_000
"""Sentences of a test, at most."""


# --- The language ------------------------------------------------------------------------------------------


def primes(digits: int, base: int = 10) -> npt.NDArray[np.int64]:
    """Return all primes with a number of digits, by the sieve of Eratosthenes.

    Parameters
    ----------
    digits : int
        At least 1.
    base : int, default 10
        In which the digits are counted.

    Returns
    -------
    ndarray of int64
        In ascending order.

    Examples
    --------
    >>> primes(1)
    array([2, 3, 5, 7])
    >>> len(primes(3)), primes(2, base=6)
    (143, array([ 7, 11, 13, 17, 19, 23, 29, 31]))
    """
    limit = base**digits
    if limit > _HIGHEST:
        raise ValueError(f"digits must keep primes below {_HIGHEST}, got {digits} in base {base}")
    is_prime = np.ones(limit, dtype=bool)
    is_prime[:2] = False
    for number in range(2, math.isqrt(limit) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = False
    found = np.flatnonzero(is_prime)
    return found[np.searchsorted(found, base ** (digits - 1)) :]


@dataclass(frozen=True)
class Language:
    """All sentences `p1 x p2 = n` with primes p1 <= p2.

    Parameters
    ----------
    digits : tuple of int
        Digits of p1 and of p2.
    base : int
        Of the digits, in [2, 36].
    least_first : bool
        Whether the digits of each number are written from the least significant one, the order in which one
        multiplies by hand: each digit then depends on those before it alone.

    Examples
    --------
    >>> language = Language((1, 2), base=10)
    >>> sentences = language.sentences([(7, 13)], "forward")
    >>> language.text(sentences[0])
    '7x31=190'
    >>> language.text(language.sentences([(7, 13)], "backward")[0])
    '190=7x31'
    """

    digits: tuple[int, int] = (2, 7)
    base: int = 4
    least_first: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.base <= 36:
            raise ValueError(f"base must be in [2, 36], got {self.base}")
        if min(self.digits) < 1 or self.digits[0] > self.digits[1]:
            raise ValueError(f"digits of p1 must be at least 1 and at most those of p2, got {self.digits}")

    @property
    def vocab_size(self) -> int:
        """The digits, `x`, `=` and what begins a sentence."""
        return self.base + 3

    def pairs(self) -> npt.NDArray[np.int64]:
        """Return all pairs of primes, [pairs, 2], p1 <= p2."""
        first, second = (primes(digits, self.base) for digits in self.digits)
        if len(first) * len(second) > _MOST_PAIRS:
            raise ValueError(
                f"digits must give at most {_MOST_PAIRS} pairs, got {len(first)} times {len(second)}"
            )
        pairs = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
        return pairs[pairs[:, 0] <= pairs[:, 1]]

    def sentences(self, pairs: npt.ArrayLike, direction: Direction) -> npt.NDArray[np.int64]:
        """Return sentences as tokens, each after the one that begins it.

        Parameters
        ----------
        pairs : array-like of int [rows, 2]
            p1 and p2.
        direction : {"forward", "backward"}
            Whether the product comes last or first.

        Returns
        -------
        ndarray, int64 [rows, length]
            Digits are their own tokens; a product has as many as it may need.
        """
        first, second = np.asarray(pairs, dtype=np.int64).T
        rows = len(first)
        times, equals, begin = (np.full((rows, 1), self.base + place) for place in range(3))
        factors = [self._written(first, self.digits[0]), times, self._written(second, self.digits[1])]
        product = self._written(first * second, sum(self.digits))
        halves = [*factors, equals, product] if direction == "forward" else [product, equals, *factors]
        return np.concatenate([begin, *halves], axis=1)

    def _written(self, numbers: npt.NDArray[np.int64], digits: int) -> npt.NDArray[np.int64]:
        written = numbers[:, np.newaxis] // self.base ** np.arange(digits) % self.base
        return written if self.least_first else written[:, ::-1]

    def parts(self, direction: Direction) -> list[str]:
        """Return what stands at each place after the first: `"p1"`, `"p2"`, `"n"`, `"x"` or `"="`."""
        factors = ["p1"] * self.digits[0] + ["x"] + ["p2"] * self.digits[1]
        product = ["n"] * sum(self.digits)
        return [*factors, "=", *product] if direction == "forward" else [*product, "=", *factors]

    def text(self, sentence: npt.ArrayLike) -> str:
        """Return a sentence as text, digits above 9 as letters, in the order of its tokens."""
        tokens = np.asarray(sentence)[1:]
        signs = {self.base: "x", self.base + 1: "="}
        return "".join(signs.get(int(token), np.base_repr(token, 36).lower()) for token in tokens)

    def split(self, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the pairs to learn from and the held-out ones: a tenth, at most 2000, drawn by the seed."""
        pairs = self.pairs()
        held_out = min(_MOST_HELD_OUT, len(pairs) // 10)
        if held_out < 1:
            raise ValueError(
                f"digits must give 10 pairs of primes or more, got {len(pairs)} for {self.digits}"
            )
        shuffled = np.random.default_rng([seed, 0]).permutation(pairs)
        return shuffled[held_out:], shuffled[:held_out]


def conditional_entropies(sentences: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the exact entropy of each symbol given those before it, all rows being equally likely.

    Parameters
    ----------
    sentences : array-like of int >= 0 [rows, length]
        An enumeration of a language.

    Returns
    -------
    ndarray, float64 [length]
        In bits. Their sum is the entropy of a sentence, whatever the order of the places.

    Examples
    --------
    >>> conditional_entropies([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]).tolist()
    [1.0, 1.0, 0.0]
    """
    rows = np.asarray(sentences)
    groups = np.zeros(len(rows), dtype=np.int64)
    entropies = [0.0]
    for column in rows.T:
        # Rows with equal symbols so far share a number, kept small so that it never overflows.
        groups = np.unique(groups * (int(column.max()) + 1) + column, return_inverse=True)[1].reshape(-1)
        share = np.bincount(groups) / len(rows)
        entropies.append(float(-(share * np.log2(share)).sum()))
    return np.maximum(np.diff(entropies), 0.0)


class Entropies(NamedTuple):
    """What any model of a language needs at each place after the first, in bits.

    Attributes
    ----------
    exact : ndarray, float64 [places]
        Given all earlier symbols: the least possible loss.
    blind : ndarray, float64 [places]
        Given the earlier symbols of the same side of the equals sign alone: the best loss without either
        multiplication or factoring.
    """

    exact: npt.NDArray[np.float64]
    blind: npt.NDArray[np.float64]

    @classmethod
    def of(cls, language: Language, direction: Direction) -> Entropies:
        """Compute them by enumeration of all pairs."""
        sentences = language.sentences(language.pairs(), direction)[:, 1:]
        equals = language.parts(direction).index("=")
        sides = sentences[:, :equals], sentences[:, equals + 1 :]
        before, after = (conditional_entropies(side) for side in sides)
        return cls(conditional_entropies(sentences), np.concatenate([before, [0.0], after]))


# --- Training ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides its language, direction and seed.

    Parameters
    ----------
    architecture : {"places", "gru", "transformer"}
        The network.
    units : int
        Its width: of both hidden layers, of the state, or of the hidden layer.
    rows : int
        Sentences of a step.
    steps : int
        Steps of training.
    every : int
        Steps between tests.
    learning_rate : float
        The highest rate of AdamW.

    Examples
    --------
    >>> Settings(steps=100).architecture
    'places'
    """

    architecture: Literal["places", "gru", "transformer"] = "places"
    units: int = 128
    rows: int = 64
    steps: int = 750
    every: int = 250
    learning_rate: float = 8e-3

    def __post_init__(self) -> None:
        for name in ("units", "rows", "steps", "every", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class Run(NamedTuple):
    """A direction that a network was trained on.

    Attributes
    ----------
    direction : {"forward", "backward"}
        Whether the product came last or first.
    seed : int
        Of the held-out pairs, the order of the others and the first weights.
    losses : list of float
        Of held-out sentences at each place after the first, in bits, at the end of training.
    learned_losses : list of float
        The same of sentences that were learned from.
    curve : list of (int, list of float)
        Step and held-out losses of every test.
    seconds : float
        Of training and tests.
    """

    direction: Direction
    seed: int
    losses: list[float]
    learned_losses: list[float]
    curve: list[tuple[int, list[float]]]
    seconds: float


def train_direction(
    language: Language,
    direction: Direction,
    seed: int,
    settings: Settings,
    advance: Advance | None = None,
) -> Run:
    """Train a network on the sentences of one direction.

    Parameters
    ----------
    language : Language
        Which primes, and how they are written.
    direction : {"forward", "backward"}
        Whether the product comes last or first.
    seed : int
        Decides the held-out pairs, the order of the others and the first weights.
    settings : Settings
        Sizes and schedule.
    advance : callable, optional
        Called with a title and the steps since the last call.

    Returns
    -------
    Run
    """
    learned, held_out = language.split(seed)
    random = np.random.default_rng([seed, 1])

    def draw(step: int) -> npt.NDArray[np.int64]:
        return language.sentences(learned[random.integers(len(learned), size=settings.rows)], direction)

    test = np.concatenate([held_out, learned[: len(held_out)]])
    points = train_sequences(
        draw,
        language.sentences(test, direction),
        language.vocab_size,
        _network(settings, seed),
        steps=settings.steps,
        every=settings.every,
    )
    curve: list[tuple[int, list[float]]] = []
    for point in points:
        bits = point.losses / math.log(2)
        if advance is not None:
            advance(f"{direction}, seed {seed}", point.step - (curve[-1][0] if curve else 0))
        curve.append((point.step, bits[: len(held_out)].mean(axis=0).tolist()))
    known = bits[len(held_out) :].mean(axis=0).tolist()
    return Run(direction, seed, curve[-1][1], known, curve, round(point.seconds, 2))


def _network(settings: Settings, seed: int) -> NetworkSettings:
    is_transformer = settings.architecture == "transformer"
    return NetworkSettings(
        architecture=settings.architecture,
        units=settings.units,
        width=settings.units // 4 if is_transformer else settings.units,
        learning_rate=settings.learning_rate,
        seed=seed,
    )


def train_both(
    language: Language,
    seeds: Sequence[int],
    settings: Settings,
    *,
    folder: str | os.PathLike[str] | None = None,
    advance: Advance | None = None,
) -> list[Run]:
    """Train both directions for some seeds.

    Parameters
    ----------
    language : Language
        Which primes, and how they are written.
    seeds : sequence of int
        A run of each direction for each; both share the split and the first weights.
    settings : Settings
        Sizes and schedule.
    folder : path, optional
        Where finished runs are kept, and taken from.
    advance : callable, optional
        Called with a title and how many steps more are done.

    Returns
    -------
    list of Run
        Seed by seed, forward before backward.
    """
    runs = []
    for seed in seeds:
        for direction in DIRECTIONS:
            told = {**asdict(language), **asdict(settings), "seed": seed, "direction": direction}
            digits = "x".join(map(str, language.digits))
            name = f"{digits} base {language.base} seed {seed} {direction}"

            made: list[Run] = []

            def make(direction: Direction = direction, seed: int = seed, made: list[Run] = made) -> Any:
                made.append(train_direction(language, direction, seed, settings, advance))
                return made[0]._asdict()

            runs.append(Run(**kept_run(folder, "primes", name, told, make)))
            if advance is not None and not made:
                advance(f"{direction}, seed {seed}", settings.steps)
    return runs


# --- What was found ----------------------------------------------------------------------------------------


class Summary(NamedTuple):
    """What was found for a direction.

    Attributes
    ----------
    direction : {"forward", "backward"}
        Whether the product came last or first.
    parts : list of str
        What stands at each place.
    entropies : Entropies
        The references at each place.
    losses : list of Interval
        Held-out losses at each place, over the seeds.
    excess : Interval
        Of a sentence's loss over its entropy.
    found : Interval
        How many bits of what follows the equals sign the network takes from what stands before it. All that
        there is to find is the entropy of a sentence.
    """

    direction: Direction
    parts: list[str]
    entropies: Entropies
    losses: list[Interval]
    excess: Interval
    found: Interval

    def of_part(self, part: str) -> tuple[float, float, float]:
        """Return the exact and the blind entropy and the mean loss of `"p1"`, `"p2"` or `"n"`."""
        places = [place for place, each in enumerate(self.parts) if each == part]
        return (
            float(self.entropies.exact[places].sum()),
            float(self.entropies.blind[places].sum()),
            float(sum(self.losses[place].value for place in places)),
        )


def summarize(language: Language, runs: Sequence[Run]) -> list[Summary]:
    """Gather the runs of each direction.

    Parameters
    ----------
    language : Language
        That of the runs.
    runs : sequence of Run
        Of one or more seeds.

    Returns
    -------
    list of Summary
        Forward, then backward.
    """
    return [
        _summary(language, direction, np.array([run.losses for run in runs if run.direction == direction]))
        for direction in DIRECTIONS
    ]


def _summary(language: Language, direction: Direction, losses: npt.NDArray[np.float64]) -> Summary:
    entropies, parts = Entropies.of(language, direction), language.parts(direction)
    after = parts.index("=") + 1
    return Summary(
        direction,
        parts,
        entropies,
        [mean_interval(place) for place in losses.T],
        mean_interval(losses.sum(axis=1) - entropies.exact.sum()),
        mean_interval(entropies.blind[after:].sum() - losses[:, after:].sum(axis=1)),
    )


def excess_gap(runs: Sequence[Run]) -> Interval:
    """Return by how many bits a sentence costs more backward than forward, paired by seed."""
    totals = {(run.seed, run.direction): sum(run.losses) for run in runs}
    return mean_interval(
        [totals[seed, "backward"] - totals[seed, "forward"] for seed in sorted({run.seed for run in runs})]
    )


def table(language: Language, runs: Sequence[Run]) -> str:
    """Return what was found as lines of text: bits by part, and of whole sentences."""
    lines = ["direction  part  exact  without the other side  loss"]
    for summary in summarize(language, runs):
        for part in ("p1", "p2", "n") if summary.direction == "forward" else ("n", "p1", "p2"):
            exact, blind, loss = summary.of_part(part)
            lines.append(f"{summary.direction:9}  {part:4}  {exact:5.2f}  {blind:22.2f}  {loss:5.2f}")
        entropy = summary.entropies.exact.sum()
        lines.append(
            f"{summary.direction}: {_in_words(summary.excess)} bits above the entropy of {entropy:.2f}; "
            f"found {_in_words(summary.found)} of the {entropy:.2f} bits that the other side tells"
        )
    return "\n".join([*lines, f"backward costs {_in_words(excess_gap(runs))} bits more than forward"])


def _in_words(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def draw_picture(language: Language, runs: Sequence[Run], path: str | os.PathLike[str]) -> None:
    """Draw the loss at each place of both directions beside the entropies, and the excess against training.

    Parameters
    ----------
    language : Language
        That of the runs.
    runs : sequence of Run
        Of one or more seeds.
    path : path
        The file, SVG by its name's end.
    """
    with new_figure(1, 3, size=(11, 3.6), width_ratios=(3, 3, 2)) as (figure, axes):
        for summary, color, place in zip(summarize(language, runs), COLORS, axes, strict=False):
            _draw_places(place, summary, color)
        axes[0].set_ylabel("bits")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        entropy = Entropies.of(language, "forward").exact.sum()
        for run in runs:
            steps, losses = zip(*run.curve, strict=True)
            axes[2].plot(
                steps,
                [sum(loss) - entropy for loss in losses],
                color=COLORS[DIRECTIONS.index(run.direction)],
                label=run.direction if run.seed == runs[0].seed else None,
            )
        axes[2].set(xlabel="steps", ylabel="bits above the entropy", title="a whole sentence", ylim=(0, None))
        axes[2].legend()
        save_picture(figure, path)


def _draw_places(axes: Any, summary: Summary, color: str) -> None:
    places = np.arange(len(summary.parts))
    values = np.array([loss.value for loss in summary.losses])
    bounds = np.nan_to_num([[loss.value - loss.low, loss.high - loss.value] for loss in summary.losses])
    axes.bar(places, values, 0.7, yerr=bounds.T, color=color, alpha=0.7, capsize=2, label="loss, held out")
    exact, blind = summary.entropies
    axes.hlines(exact, places - 0.45, places + 0.45, color="black", label="exact entropy")
    axes.hlines(
        blind,
        places - 0.45,
        places + 0.45,
        color="black",
        linestyles="dotted",
        label="entropy without the other side",
    )
    axes.set_xticks(places, summary.parts, fontsize=7)
    axes.set_title(summary.direction)


# --- The command -------------------------------------------------------------------------------------------


def add_commands(commands: Any) -> None:
    """Add `tokendraw primes`."""
    parser = add_command(
        commands,
        "primes",
        _run,
        summary="learn to multiply primes, and not to factor",
        description="Train networks on p1 x p2 = n and on n = p1 x p2; compare losses with exact entropies.",
    )
    parser.add_argument("--full", action="store_true", help="three seeds: the figures of the docs")
    parser.add_argument("--seeds", type=positive, metavar="N", help="how many (default 1, with --full 3)")
    parser.add_argument(
        "--digits",
        type=positive,
        nargs=2,
        default=Language.digits,
        metavar=("N", "M"),
        help="digits of p1 and of p2 (default {} {})".format(*Language.digits),
    )
    parser.add_argument(
        "--base",
        type=positive,
        default=Language.base,
        metavar="N",
        help=f"of digits (default {Language.base})",
    )
    parser.add_argument(
        "--most-first", action="store_true", help="write numbers from the most significant digit"
    )
    parser.add_argument(
        "--architecture",
        choices=("places", "gru", "transformer"),
        default=Settings.architecture,
        help=f"the network (default {Settings.architecture})",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=Settings.steps,
        metavar="N",
        help=f"steps of training (default {Settings.steps})",
    )
    parser.add_argument(
        "--output", default="primes", metavar="FOLDER", help="where runs and results go (default primes)"
    )


def _run(options: argparse.Namespace) -> None:
    language = Language((options.digits[0], options.digits[1]), options.base, not options.most_first)
    settings = Settings(architecture=options.architecture, steps=options.steps)
    seeds = range(options.seeds or (3 if options.full else 1))
    with progress_bar(len(DIRECTIONS) * len(seeds) * settings.steps) as advance:
        runs = train_both(language, seeds, settings, folder=options.output, advance=advance)
    print(table(language, runs))
    print(f"{sum(run.seconds for run in runs):.0f} s of training", file=sys.stderr)
    folder = Path(options.output)
    results.save(folder / "primes.json", "primes", _told(language, settings, runs))
    draw_picture(language, runs, folder / "primes.svg")
    print(f"{folder / 'primes.json'}, {folder / 'primes.svg'}")


def _told(language: Language, settings: Settings, runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "language": language,
        "settings": settings,
        "seeds": sorted({run.seed for run in runs}),
        "seconds": round(sum(run.seconds for run in runs), 1),
        "summaries": summarize(language, runs),
        "gap": excess_gap(runs),
        "runs": list(runs),
    }

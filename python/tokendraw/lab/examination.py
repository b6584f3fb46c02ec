# SPDX-License-Identifier: Apache-2.0
"""What an examination of a model brought out: shares by exercise, figures by family, with intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tokendraw.lab.intervals import Interval, bootstrap_interval, mean_interval, share_interval

__all__ = ["Answers", "Examination", "Figure", "mean_shares"]

Side: TypeAlias = Literal["explicit", "search", "implicit"]

_SIDES: tuple[Side, ...] = ("explicit", "search", "implicit")
_SIDE_OF: Mapping[str, Side] = {
    "guided": "search",
    "chosen": "implicit",
    "pairwise": "implicit",
    "rank": "implicit",
    "auc": "implicit",
}
"""By the first word of a measure; all others are explicit."""


class Figure(NamedTuple):
    """One number about one family of exercises.

    Attributes
    ----------
    measure : str
        What was measured; docs/lab-knowledge.md says how.
    interval : Interval
        The mean over exercises, with its interval of 95 %.
    chance : float or None
        What guessing among the candidates would reach, where there are candidates.
    """

    measure: str
    interval: Interval
    chance: float | None = None

    @property
    def side(self) -> Side:
        """What it is about: what is written, what is searched for, what is ranked."""
        return _SIDE_OF.get(self.measure.split()[0], "explicit")


@dataclass(frozen=True, slots=True)
class Answers:
    """What one exercise brought out.

    Attributes
    ----------
    family, name : str
        Of the exercise.
    shares : mapping of str to float
        By measure the mean over the steps of the exercise; what could not be measured is missing.
    chances : mapping of str to float
        By measure the same for guessing.
    nats : list of lists of float
        For each step that has corruptions the cross-entropy per byte (per token, where steps are token ids):
        of the true step first, then of its corruptions.
    """

    family: str
    name: str
    shares: Mapping[str, float]
    chances: Mapping[str, float]
    nats: list[list[float]]


@dataclass(frozen=True, slots=True)
class Examination:
    """What a model was asked, and what it brought out.

    Attributes
    ----------
    settings : mapping
        What was asked for.
    answers : list of Answers
        One for each exercise.
    seconds : float
        How long it took.

    Examples
    --------
    >>> known = Answers("sums", "2 + 3", {"greedy": 1.0}, {}, [])
    >>> unknown = Answers("sums", "4 + 9", {"greedy": 0.0}, {}, [])
    >>> print(Examination({}, [known, unknown], 0.1).table())
    sums: 2 exercises
      explicit  greedy  0.5000 [0.0945, 0.9055]
    """

    settings: Mapping[str, Any]
    answers: list[Answers] = field(repr=False)
    seconds: float

    @property
    def families(self) -> list[str]:
        """The families of the exercises, in their order."""
        return list(dict.fromkeys(each.family for each in self.answers))

    def figures(self, family: str) -> list[Figure]:
        """Return the figures of one family: explicit, search, implicit.

        Exercises of one name, as several runs have them, count as one, with the mean of their shares.
        Intervals are over exercises: Wilson's for shares, Student's for ranks, a bootstrap for the area under
        the curve.
        """
        own = self._of(family)
        measures = dict.fromkeys(measure for each in own for measure in each.shares)
        figures = [_figure(measure, own) for measure in measures]
        nats = [each.nats for each in own if each.nats]
        if nats:
            figures.append(Figure("auc", _area(nats), 0.5))
        return sorted(figures, key=lambda figure: _SIDES.index(figure.side))

    def gap(self, family: str, measure: str = "chosen", less: str = "greedy") -> Interval | None:
        """Return the mean difference of two measures over the exercises that have both, by Student."""
        shares = [each.shares for each in self._of(family) if {measure, less} <= set(each.shares)]
        return mean_interval([each[measure] - each[less] for each in shares]) if shares else None

    def table(self) -> str:
        """Return all figures as lines of text."""
        lines = []
        for family in self.families:
            figures = self.figures(family)
            width = max(len(figure.measure) for figure in figures)
            lines.append(f"{family or 'exercises'}: {len(self._of(family))} exercises")
            for figure in figures:
                chance = "" if figure.chance is None else f"  (chance {figure.chance:.4f})"
                lines.append(f"  {figure.side:<8}  {figure.measure:<{width}}  {figure.interval}{chance}")
            gap = self.gap(family)
            if gap is not None:
                lines.append(f"  chosen less greedy: {gap}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return settings, seconds and the figures of all families, in what JSON can express."""
        return {
            "settings": dict(self.settings),
            "seconds": round(self.seconds, 1),
            "families": {family: self._family_json(family) for family in self.families},
        }

    def _family_json(self, family: str) -> dict[str, Any]:
        figures = [
            {
                "measure": figure.measure,
                "side": figure.side,
                **_bounds(figure.interval),
                "chance": figure.chance if figure.chance is None else round(figure.chance, 6),
            }
            for figure in self.figures(family)
        ]
        told = {"exercises": len(self._of(family)), "figures": figures}
        gap = self.gap(family)
        return told if gap is None else {**told, "chosen less greedy": _bounds(gap)}

    def _of(self, family: str) -> list[Answers]:
        """Return the answers of one family, those of one name as one."""
        groups: defaultdict[Any, list[Answers]] = defaultdict(list)
        for place, each in enumerate(self.answers):
            if each.family == family:
                groups[each.name or place].append(each)
        return [_as_one(group) for group in groups.values()]


def _as_one(answers: Sequence[Answers]) -> Answers:
    first = answers[0]
    shares = mean_shares([each.shares for each in answers])
    return Answers(
        first.family, first.name, shares, mean_shares([each.chances for each in answers]), first.nats
    )


def mean_shares(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each share over those that have it.

    Examples
    --------
    >>> mean_shares([{"greedy": 0.0, "chosen": 1.0}, {"greedy": 1.0}])
    {'greedy': 0.5, 'chosen': 1.0}
    """
    keys = dict.fromkeys(key for each in values for key in each)
    return {key: float(np.mean([each[key] for each in values if key in each])) for key in keys}


def _figure(measure: str, answers: Iterable[Answers]) -> Figure:
    known = [each for each in answers if measure in each.shares]
    values = [each.shares[measure] for each in known]
    chances = [each.chances[measure] for each in known if measure in each.chances]
    interval = mean_interval(values) if measure == "rank" else share_interval(sum(values), len(values))
    return Figure(measure, interval, float(np.mean(chances)) if chances else None)


def _area(exercises: Sequence[list[list[float]]]) -> Interval:
    """Return how often a true step of any exercise costs less than a corrupted one of any; equal ones half.

    It is the area under the curve of a classifier that calls true what costs less than some threshold. The
    corruptions of a step weigh as much as the step, else steps with many would stand for all and a model
    that knows nothing would not be at one half.
    """
    trues = [np.array([step[0] for step in steps]) for steps in exercises]
    wins = np.stack([_wins(trues, steps) for steps in exercises], axis=1)
    counts = np.array([len(steps) for steps in exercises], dtype=np.float64)

    def share(drawn: Sequence[int]) -> float:
        times = np.bincount(drawn, minlength=len(exercises)).astype(np.float64)
        return float(times @ wins @ times / (times @ counts) ** 2)

    return bootstrap_interval(range(len(exercises)), share)


def _wins(
    trues: Sequence[npt.NDArray[np.float64]], steps: Sequence[Sequence[float]]
) -> npt.NDArray[np.float64]:
    """Return for each exercise how often its true steps cost less than the corruptions of these steps."""
    costs = np.concatenate([step[1:] for step in steps])
    weights = np.concatenate([np.full(len(step) - 1, 1 / (len(step) - 1)) for step in steps])
    order = np.argsort(costs)
    upto = np.concatenate([[0.0], np.cumsum(weights[order])])
    cheaper = [
        sum(upto[np.searchsorted(costs[order], own, side=side)] for side in ("left", "right")) / 2
        for own in trues
    ]
    return np.array([np.sum(len(steps) - own) for own in cheaper])


def _bounds(interval: Interval) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in interval._asdict().items()}


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None

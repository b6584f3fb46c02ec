# SPDX-License-Identifier: Apache-2.0
"""`tokendraw knowledge`: what models write against what they know, with runs that are kept, and a picture."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokendraw as td
from tokendraw.lab import results
from tokendraw.lab.examination import Answers, Examination, Figure
from tokendraw.lab.exercises import Exercise, arithmetic, as_json, from_text, read_exercises, verses
from tokendraw.lab.knowledge import TEMPERATURES, effort, examine
from tokendraw.lab.pictures import COLORS, new_figure, save_picture
from tokendraw.options import add_command, add_model, positive
from tokendraw.progress import Advance, progress_bar

__all__ = ["add_commands", "draw_picture"]

_EXPERIMENT = "knowledge"
_RUN = "knowledge-run"
_FULL_SEEDS = 3


class _Run(NamedTuple):
    """One examination of one model, which is kept when it is finished."""

    model: str
    seed: int
    exercises: list[Exercise]
    samples: int
    num_beams: int
    temperatures: tuple[float, ...]

    @property
    def effort(self) -> int:
        return effort(self.exercises, self.temperatures)

    @property
    def digest(self) -> str:
        """Say the same for the same run and exercises only."""
        told = [as_json(each) for each in self.exercises]
        return hashlib.sha256(json.dumps([*self._replace(exercises=[]), told]).encode()).hexdigest()

    @property
    def file(self) -> str:
        return f"runs/{Path(self.model).stem}-{self.exercises[0].family or 'exercises'}-{self.seed}.json"


def add_commands(commands: Any) -> None:
    """Add `tokendraw knowledge`."""
    parser = add_command(
        commands,
        "knowledge",
        _command,
        summary="compare what a model writes with what its probabilities know",
        description="Ask a model the steps of exercises: those it writes, those it finds among others, and "
        "how its cross-entropy ranks them against wrong ones. Finished runs are kept, and not repeated.",
    )
    parser.add_argument(
        "exercises",
        nargs="?",
        metavar="EXERCISES.jsonl",
        help="exercises, one per line (default: verses that the embedded model never saw, sums, products)",
    )
    add_model(parser)
    parser.add_argument(
        "--text", metavar="FILE", help="make the exercises from this text: one line, one exercise"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="ask at most N exercises of a family")
    parser.add_argument(
        "--samples",
        type=positive,
        default=8,
        metavar="N",
        help="answers drawn at each temperature (default 8)",
    )
    parser.add_argument(
        "--num-beams", type=positive, default=8, metavar="N", help="width of the search (default 8)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="same seed, same answers (default 0)"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"the reported figures: {_FULL_SEEDS} seeds, and smollm2 too, on fewer exercises (15 minutes)",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", default="knowledge", help="where results go (default knowledge)"
    )


def _command(options: argparse.Namespace) -> None:
    folder = Path(options.output)
    plan = _full_plan(options) if options.full else _plan(options)
    examined = _examined(plan, folder)
    results.save(folder / "knowledge.json", _EXPERIMENT, _report(examined, plan))
    for name, found in examined.items():
        print(f"--- {name} ---\n{found.table()}")
    draw_picture(examined, folder / "knowledge.svg")
    print(f"--- {folder / 'knowledge.json'}, {folder / 'knowledge.svg'} ---")


def _plan(options: argparse.Namespace) -> list[_Run]:
    groups = _families(_exercises(options), options.limit)
    settings = (options.samples, options.num_beams, TEMPERATURES)
    return [_Run(options.model, options.seed, group, *settings) for group in groups]


def _exercises(options: argparse.Namespace) -> list[Exercise]:
    if options.text is not None and options.exercises is not None:
        raise ValueError("exercises must come from EXERCISES.jsonl or from --text, got both")
    if options.exercises is not None:
        return read_exercises(options.exercises)
    if options.text is not None:
        return from_text(_read_text(options.text), seed=options.seed, family=Path(options.text).stem)
    return [*verses(), *_calculations(20, options.seed)]


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.end]
        raise ValueError(f"{path} must be UTF-8, got {wrong!r} at byte {error.start}") from None


def _calculations(count: int, seed: int) -> list[Exercise]:
    return [*arithmetic(count, seed=seed), *arithmetic(count, operation="product", seed=seed)]


def _families(exercises: Iterable[Exercise], limit: int | None) -> list[list[Exercise]]:
    """Return the exercises of each family, evenly chosen where there are too many."""
    groups: dict[str, list[Exercise]] = {}
    for each in exercises:
        groups.setdefault(each.family, []).append(each)
    return [_some(group, limit) for group in groups.values()]


def _some(items: list[Exercise], limit: int | None) -> list[Exercise]:
    if limit is None or len(items) <= limit:
        return items
    return [items[place * len(items) // limit] for place in range(limit)]


def _full_plan(options: argparse.Namespace) -> list[_Run]:
    """Return the reported runs: more seeds, and a model that can calculate, on fewer exercises."""
    for name in ("exercises", "text", "limit"):
        if getattr(options, name) is not None:
            raise ValueError(f"--full has exercises of its own, got {name} {getattr(options, name)}")
    if options.model != "kjv":
        raise ValueError(f"--full has models of its own, got model {options.model}")
    seeds = range(options.seed, options.seed + _FULL_SEEDS)
    small = (options.samples, options.num_beams, TEMPERATURES)
    large = (4, 4, TEMPERATURES)
    return [
        *(
            _Run("kjv", seed, own, *small)
            for seed in seeds
            for own in _families([*verses(), *_calculations(20, seed)], None)
        ),
        _Run("smollm2", options.seed, _some(verses(), 10), *large),
        *(
            _Run("smollm2", seed, own, *large)
            for seed in seeds
            for own in _families(_calculations(8, seed), None)
        ),
    ]


def _examined(plan: Sequence[_Run], folder: Path) -> dict[str, Examination]:
    """Do the runs that are not kept yet; return what each model brought out."""
    found: dict[str, list[Examination]] = {}
    models: dict[str, Any] = {}
    with progress_bar(sum(run.effort for run in plan)) as advance:
        for run in plan:
            kept = _kept(run, folder)
            if kept is None:
                models.setdefault(run.model, None)
                models[run.model] = models[run.model] or td.models.load(run.model)
                kept = _done(run, models[run.model], folder, advance)
            else:
                advance("kept", run.effort)
            found.setdefault(Path(run.model).stem, []).append(kept)
    return {name: _joined(parts) for name, parts in found.items()}


def _done(run: _Run, model: Any, folder: Path, advance: Advance) -> Examination:
    name = Path(run.model).stem
    found = examine(
        model,
        run.exercises,
        temperatures=run.temperatures,
        samples=run.samples,
        num_beams=run.num_beams,
        seed=run.seed,
        advance=lambda title, more: advance(f"{name}, {run.exercises[0].family}: {title}", more),
    )
    told = [{**dataclasses.asdict(each), "nats": _json_of(each.nats)} for each in found.answers]
    kept = {"digest": run.digest, "settings": found.settings, "seconds": found.seconds, "answers": told}
    results.save(folder / run.file, _RUN, kept)
    return found


def _kept(run: _Run, folder: Path) -> Examination | None:
    """Return what this very run brought out before."""
    path = folder / run.file
    if not path.is_file():
        return None
    kept = results.load(path, _RUN)
    if kept["digest"] != run.digest:
        return None
    answers = [Answers(**{**each, "nats": _nats_of(each["nats"])}) for each in kept["answers"]]
    return Examination(kept["settings"], answers, kept["seconds"])


def _json_of(nats: list[list[float]]) -> list[list[float | None]]:
    """Return costs as JSON can express them: none where what cannot be would cost without end."""
    return [[cost if math.isfinite(cost) else None for cost in step] for step in nats]


def _nats_of(costs: list[list[float | None]]) -> list[list[float]]:
    return [[math.inf if cost is None else cost for cost in step] for step in costs]


def _joined(parts: Sequence[Examination]) -> Examination:
    settings = {**parts[0].settings, "seed": list(dict.fromkeys(part.settings["seed"] for part in parts))}
    answers = [each for part in parts for each in part.answers]
    return Examination(settings, answers, sum(part.seconds for part in parts))


def _report(examined: Mapping[str, Examination], plan: Sequence[_Run]) -> dict[str, Any]:
    return {
        "seeds": sorted({run.seed for run in plan}),
        "seconds": round(sum(each.seconds for each in examined.values()), 1),
        "models": {name: found.as_json() for name, found in examined.items()},
    }


# --- The picture -------------------------------------------------------------------------------------------


def draw_picture(examined: Mapping[str, Examination], path: str | Path) -> None:
    """Draw what models wrote, found and ranked, with intervals and what guessing would reach.

    Parameters
    ----------
    examined : mapping of str to Examination
        By the name of the model.
    path : path
        The picture, SVG or what its name ends in.
    """
    panels = [(name, family, found) for name, found in examined.items() for family in found.families]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = (0.8 + 2.9 * columns, 0.5 + 2.6 * rows)
    with new_figure(rows, columns, size, squeeze=False, sharex=True) as (figure, axes):
        for place, axis in enumerate(axes.flat):
            if place >= len(panels):
                axis.set_visible(False)
                continue
            name, family, found = panels[place]
            _draw_panel(axis, found.figures(family), f"{name}: {family or 'exercises'}")
        _add_legend(figure)
        save_picture(figure, path)


def _draw_panel(axis: Any, figures: Sequence[Figure], title: str) -> None:
    shown = [figure for figure in figures if figure.measure != "rank"]
    for place, figure in enumerate(shown):
        low, value, high = figure.interval
        low, high = (value if math.isnan(bound) else bound for bound in (low, high))
        axis.barh(place, value, color=_SIDE_COLORS[figure.side], height=0.7)
        axis.plot([low, high], [place, place], color="black", linewidth=1)
        if figure.chance is not None:
            axis.plot([figure.chance] * 2, [place - 0.45, place + 0.45], color="black", linestyle=":")
    axis.set_yticks(range(len(shown)), [figure.measure for figure in shown])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_title(title, fontsize=9)


_SIDE_COLORS = {"explicit": COLORS[0], "search": COLORS[2], "implicit": COLORS[1]}


def _add_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=color, label=side) for side, color in _SIDE_COLORS.items()]
    handles.append(Line2D([], [], color="black", linestyle=":", label="chance"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)

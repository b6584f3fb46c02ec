# SPDX-License-Identifier: Apache-2.0
"""What trainings in both directions show: paired differences with their intervals, a table, a picture.

A pair is a forward and a backward run that share everything else. Its difference is that of their bits per
byte on the same held-out documents, backward less forward: above zero, forward is easier. Only an interval
over seeds speaks of the architecture and the text; one over documents speaks of the trained models.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from tokendraw.lab import results
from tokendraw.lab.intervals import Interval, mean_interval
from tokendraw.lab.pictures import COLORS, new_figure, save_picture
from tokendraw.models import load
from tokendraw.models.kjv import GruModel
from tokendraw.models.train import document_bits, read_documents, split_documents
from tokendraw.options import add_command
from tokendraw.progress import progress_bar

__all__ = [
    "RUN",
    "Arrow",
    "Pair",
    "add_command_to",
    "compare",
    "difference_interval",
    "digest",
    "embedded_runs",
    "pairs_of",
    "picture",
    "read_runs",
    "report",
    "run_line",
    "table",
    "verdicts",
]

RUN = "arrow run"
"""What the file of a training is called inside."""

REPORT = "arrow"

_EMBEDDED = ("kjv", "kjv-backward")
_EMBEDDED_SETTINGS = (
    "architecture",
    "direction",
    "units",
    "width",
    "tokens",
    "lanes",
    "window",
    "learning_rate",
    "seed",
    "threads",
)

_START, _END = "<!-- measured: start -->", "<!-- measured: end -->"

Floats = npt.NDArray[np.float64]


class Pair(NamedTuple):
    """Two trainings that differ in direction alone.

    Attributes
    ----------
    language, architecture : str
    seed : int
    tokens : ndarray of int [tests]
        After how many tokens of training each test came.
    forward, backward : ndarray, float64 [tests]
        Bits per byte of the held-out documents, at each test.
    document_differences : ndarray, float64 [documents]
        Bits that backward needs more for each held-out document, at the last test.
    document_bytes : ndarray of int [documents]
        Their sizes.
    """

    language: str
    architecture: str
    seed: int
    tokens: npt.NDArray[np.int64]
    forward: Floats
    backward: Floats
    document_differences: Floats
    document_bytes: npt.NDArray[np.int64]

    @property
    def differences(self) -> Floats:
        """Bits per byte that backward needs more, at each test."""
        return self.backward - self.forward


class Arrow(NamedTuple):
    """What the pairs of one language and architecture say.

    Attributes
    ----------
    language, architecture : str
    pairs : tuple of Pair
        One per seed.
    over_seeds : Interval
        Of the difference in bits per byte, for other seeds; without bounds for one.
    over_documents : Interval
        For other documents, of the models that were trained.
    """

    language: str
    architecture: str
    pairs: tuple[Pair, ...]
    over_seeds: Interval
    over_documents: Interval

    @property
    def forward(self) -> float:
        """Bits per byte after all training, averaged over the seeds."""
        return float(np.mean([pair.forward[-1] for pair in self.pairs]))

    @property
    def backward(self) -> float:
        """Bits per byte after all training, averaged over the seeds."""
        return float(np.mean([pair.backward[-1] for pair in self.pairs]))

    @property
    def verdict(self) -> str:
        """What follows, in words."""
        if len(self.pairs) == 1:
            return "one pair of seeds says nothing of others, whose interval may hold 0"
        if not self.over_seeds.excludes_zero:
            return "undecided: the interval over seeds holds 0"
        return f"{'forward' if self.over_seeds.value > 0 else 'backward'} is easier"


def difference_interval(differences: npt.ArrayLike, sizes: npt.ArrayLike) -> Interval:
    """Return the difference in bits per byte over all documents, and its interval over documents.

    It is a ratio of sums, so each document counts by its size; its error is that of the residuals
    (the ratio estimator, Cochran 1977, section 2.11).

    Parameters
    ----------
    differences : array_like [documents]
        Differences in bits.
    sizes : array_like [documents]
        Bytes.

    Returns
    -------
    Interval
        At 95 %.

    Examples
    --------
    >>> print(difference_interval([1.0, 2.0, 3.0], [10, 20, 30]))
    0.1000 [0.1000, 0.1000]
    """
    bits, bytes_ = np.asarray(differences, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    ratio = bits.sum() / bytes_.sum()
    return mean_interval(ratio + (bits - ratio * bytes_) / bytes_.mean())


def read_runs(source: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the runs of a folder of trainings, or those that a report kept.

    Raises
    ------
    ValueError
        If there is none.
    """
    path = Path(source)
    if path.is_dir():
        runs = [results.load(file, RUN) for file in sorted(path.glob("*-*ward-*.json"))]
    else:
        runs = results.load(path, REPORT)["runs"]
    if not runs:
        raise ValueError(f"{path} must hold runs of `tokendraw arrow train`, got none")
    return runs


def pairs_of(runs: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Return the runs in pairs; one without its other direction is left out.

    Parameters
    ----------
    runs : sequence of mappings
        As `read_runs` returns them.

    Returns
    -------
    list of Pair
        In order of language, architecture and seed.

    Raises
    ------
    ValueError
        If the two runs of a pair differ in more than their direction.
    """
    both: defaultdict[tuple[str, str, int], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for run in runs:
        settings = run["settings"]
        key = (run["language"], settings["architecture"], settings["seed"])
        both[key][settings["direction"]] = run
    return [
        _pair(key, found["forward"], found["backward"])
        for key, found in sorted(both.items())
        if len(found) == 2
    ]


def _pair(key: tuple[str, str, int], forward: Mapping[str, Any], backward: Mapping[str, Any]) -> Pair:
    if _shared(forward) != _shared(backward):
        raise ValueError(f"the runs of a pair must differ in direction alone, got others: {key}")
    sizes = np.array(forward["document_bytes"])
    both = (forward, backward)
    losses = [np.array([test["bits"] for test in run["tests"]]) / sizes.sum() for run in both]
    documents = [np.array(run["document_bits"]) for run in both]
    tokens = np.array([test["tokens"] for test in forward["tests"]])
    return Pair(*key, tokens, losses[0], losses[1], documents[1] - documents[0], sizes)


def _shared(run: Mapping[str, Any]) -> list[Any]:
    settings = {name: value for name, value in run["settings"].items() if name != "direction"}
    return [run["text"], run["vocab_size"], settings, [test["tokens"] for test in run["tests"]]]


def compare(pairs: Sequence[Pair]) -> list[Arrow]:
    """Return what the pairs of each language and architecture say.

    Parameters
    ----------
    pairs : sequence of Pair
        Of the same texts for the same language.

    Returns
    -------
    list of Arrow
    """
    groups: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.language, pair.architecture].append(pair)
    return [_arrow(*key, group) for key, group in groups.items()]


def _arrow(language: str, architecture: str, pairs: Sequence[Pair]) -> Arrow:
    differences = np.mean([pair.document_differences for pair in pairs], axis=0)
    return Arrow(
        language,
        architecture,
        tuple(pairs),
        mean_interval([pair.differences[-1] for pair in pairs]),
        difference_interval(differences, pairs[0].document_bytes),
    )


def embedded_runs(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the trainings of the two embedded models, tested on the held-out documents of a text.

    Parameters
    ----------
    path : path
        UTF-8 text, documents separated by empty lines: the King James text of `tokendraw.models.train`, of
        which the models have seen 19 in 20 documents, or any other. Every 20th document is read.

    Returns
    -------
    list of dict
        As `read_runs` returns them, with one test each.
    """
    documents = read_documents(path)
    _, held_out = split_documents(documents)
    if not held_out:
        raise ValueError(f"a text must have 11 documents or more, got {len(documents)} in {path}")
    runs = []
    with progress_bar(len(_EMBEDDED)) as advance:
        for name in _EMBEDDED:
            advance(name, 0)
            model = cast(GruModel, load(name))
            bits = document_bits(model, held_out)
            settings = {**model.metadata, "architecture": "gru", "direction": model.direction}
            runs.append(
                {
                    "language": f"{Path(path).stem} (embedded)",
                    "text": digest(documents),
                    "vocab_size": model.vocab_size,
                    "settings": {name: settings[name] for name in _EMBEDDED_SETTINGS},
                    "tests": [{"tokens": settings["tokens"], "bits": float(bits.sum().round(3))}],
                    "document_bytes": [len(document.encode()) for document in held_out],
                    "document_bits": bits.round(3).tolist(),
                }
            )
            advance(name, 1)
    return runs


def digest(documents: Sequence[str]) -> str:
    """Return the SHA-256 of documents, which tells texts apart."""
    return hashlib.sha256("\n\n".join(documents).encode()).hexdigest()


# --- In words and tables -----------------------------------------------------------------------------------


def run_line(path: str | os.PathLike[str]) -> str:
    """Return what a finished training reached, in a line."""
    run = results.load(path, RUN)
    bits = run["tests"][-1]["bits"] / sum(run["document_bytes"])
    return f"{Path(path).stem}: {bits:.4f} bits per byte, {run['cpu_seconds']:.0f} s of a core"


def table(arrows: Sequence[Arrow]) -> Iterator[str]:
    """Write the comparison as a Markdown table.

    Parameters
    ----------
    arrows : sequence of Arrow
        As `compare` returns them.

    Yields
    ------
    str
        Lines.
    """
    yield "| text | network | seeds | forward | backward | difference | % | over seeds | over documents |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for arrow in arrows:
        more = arrow.backward - arrow.forward
        cells = [
            arrow.language,
            arrow.architecture,
            str(len(arrow.pairs)),
            f"{arrow.forward:.4f}",
            f"{arrow.backward:.4f}",
            f"{more:+.4f}",
            f"{100 * more / arrow.forward:+.2f}",
            _bounds(arrow.over_seeds),
            _bounds(arrow.over_documents),
        ]
        yield f"| {' | '.join(cells)} |"


def _bounds(interval: Interval) -> str:
    return "-" if math.isnan(interval.low) else f"{interval.low:+.4f} .. {interval.high:+.4f}"


def verdicts(arrows: Sequence[Arrow]) -> Iterator[str]:
    """Write what follows for each text and architecture, in lines."""
    for arrow in arrows:
        yield f"- {arrow.language}, {arrow.architecture}: {arrow.verdict}."


# --- The picture -------------------------------------------------------------------------------------------


def picture(arrows: Sequence[Arrow], path: str | os.PathLike[str]) -> None:
    """Draw the losses of both directions against training, and below them the difference.

    Parameters
    ----------
    arrows : sequence of Arrow
        A column each, but those with one test.
    path : path
        The file, as SVG or what its name ends in.
    """
    arrows = [arrow for arrow in arrows if len(arrow.pairs[0].tokens) > 1]
    if not arrows:
        return
    reach = _reach(arrows)
    size = (1.2 + 2.6 * len(arrows), 4.6)
    with new_figure(2, len(arrows), size=size, sharex="col", squeeze=False) as (figure, axes):
        for losses, differences, arrow in zip(*axes, arrows, strict=True):
            _draw_losses(losses, arrow)
            _draw_differences(differences, arrow)
            differences.set_ylim(-reach, reach)
            losses.set_title(f"{arrow.language}, {arrow.architecture}")
            differences.set_xlabel("tokens learned from (millions)")
        axes[0, 0].set_ylabel("bits per byte, held out")
        axes[0, 0].legend()
        axes[1, 0].set_ylabel("backward - forward")
        save_picture(figure, path)


def _draw_losses(axes: Any, arrow: Arrow) -> None:
    for direction, color in zip(("forward", "backward"), (COLORS[1], COLORS[0]), strict=True):
        losses = np.array([getattr(pair, direction) for pair in arrow.pairs])
        axes.plot(_millions(arrow), losses.mean(axis=0), ".-", color=color, label=direction)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.yaxis.set_minor_formatter("{x:.2g}")


def _draw_differences(axes: Any, arrow: Arrow) -> None:
    millions = _millions(arrow)
    differences = np.array([pair.differences for pair in arrow.pairs])
    for each in differences:
        axes.plot(millions, each, color=COLORS[-1], linewidth=0.7)
    axes.plot(millions, differences.mean(axis=0), ".-", color=COLORS[2])
    if len(differences) > 1:
        intervals = [mean_interval(column) for column in differences.T]
        low, high = [each.low for each in intervals], [each.high for each in intervals]
        axes.fill_between(millions, low, high, color=COLORS[2], alpha=0.2, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.8)


def _reach(arrows: Sequence[Arrow]) -> float:
    """Return a bound for the axes of differences; the first tests differ too much to be what is asked."""
    late = [
        np.abs(pair.differences[len(pair.tokens) // 2 :]).max() for arrow in arrows for pair in arrow.pairs
    ]
    return 2.5 * float(max(late)) or 1.0


def _millions(arrow: Arrow) -> Floats:
    millions: Floats = arrow.pairs[0].tokens / 1e6
    return millions


# --- The command -------------------------------------------------------------------------------------------


def add_command_to(parts: Any) -> None:
    """Add `tokendraw arrow report`.

    Parameters
    ----------
    parts : object
        What `argparse.ArgumentParser.add_subparsers` returns.
    """
    parser = add_command(
        parts,
        "report",
        _report,
        summary="compare the runs of a folder, or the embedded models",
        description="Compare forward and backward runs: a table of differences with their intervals, which "
        "also stand in arrow.json beside the losses, and a picture, arrow.svg.",
    )
    parser.add_argument("runs", nargs="?", metavar="RUNS", help="folder of trainings, or a report's .json")
    parser.add_argument(
        "--embedded", metavar="FILE", help="compare the two embedded models on every 20th document of a text"
    )
    parser.add_argument(
        "--docs",
        metavar="FOLDER",
        help="write results/arrow.json, lab-arrow.svg and the table of lab-arrow.md there instead",
    )


def _report(options: argparse.Namespace) -> None:
    if options.runs is None and options.embedded is None:
        raise ValueError("arrow report needs a folder of runs, or --embedded FILE")
    report(options.runs, options.embedded, options.docs)


def report(
    source: str | os.PathLike[str] | None,
    embedded: str | os.PathLike[str] | None = None,
    docs: str | os.PathLike[str] | None = None,
) -> list[Arrow]:
    """Print what runs show, and write it with its picture: into their folder, or into the manual's.

    Parameters
    ----------
    source : path or None
        A folder of runs, or the file of a report.
    embedded : path, optional
        A text to test the embedded models on.
    docs : path, optional
        The folder of lab-arrow.md.

    Returns
    -------
    list of Arrow
    """
    runs = [] if source is None else read_runs(source)
    runs += [] if embedded is None else embedded_runs(embedded)
    arrows = compare(pairs_of(runs))
    if not arrows:
        raise ValueError(f"{source} must hold both directions of a seed, got {len(runs)} runs without")
    told = [*table(arrows), "", *verdicts(arrows)]
    print("\n".join(told))
    if docs is not None:
        _write(runs, arrows, Path(docs) / "results" / "arrow.json", Path(docs) / "lab-arrow.svg")
        _write_between(Path(docs) / "lab-arrow.md", told)
    elif source is not None and Path(source).is_dir():
        _write(runs, arrows, Path(source) / "arrow.json", Path(source) / "arrow.svg")
    return arrows


def _write(runs: Sequence[Any], arrows: Sequence[Arrow], found: Path, drawn: Path) -> None:
    summary = [
        {
            "language": arrow.language,
            "architecture": arrow.architecture,
            "seeds": [pair.seed for pair in arrow.pairs],
            "forward": arrow.forward,
            "backward": arrow.backward,
            "differences": [pair.differences[-1] for pair in arrow.pairs],
            "over_seeds": _plain(arrow.over_seeds),
            "over_documents": _plain(arrow.over_documents),
            "verdict": arrow.verdict,
        }
        for arrow in arrows
    ]
    results.save(found, REPORT, {"arrows": summary, "runs": runs})
    picture(arrows, drawn)


def _plain(interval: Interval) -> list[float] | None:
    return None if math.isnan(interval.low) else [interval.low, interval.high]


def _write_between(page: Path, lines: Sequence[str]) -> None:
    """Replace what stands between the two marks of a page."""
    before, start, rest = page.read_text(encoding="utf-8").partition(_START)
    _, end, after = rest.partition(_END)
    if not (start and end):
        raise ValueError(f"{page} must have the lines {_START} and {_END}")
    page.write_text("\n".join([before + start, *lines, end + after]), encoding="utf-8")

# SPDX-License-Identifier: Apache-2.0
"""`tokendraw game summarize`: what is played with, the table and the picture."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokendraw.lab import results
from tokendraw.lab.game import EXPERIMENT, Game, summarize
from tokendraw.lab.intervals import Interval
from tokendraw.lab.pictures import COLORS, new_figure, save_picture
from tokendraw.lab.solvers import SOLVERS
from tokendraw.options import add_command, add_model, positive
from tokendraw.progress import progress_bar

__all__ = ["add_commands", "draw_picture", "held_out_passages", "table"]

_EVERY, _FIRST = 20, 10
"""Documents that models of this project are not trained on: every 20th, from the 11th."""


class _Size(NamedTuple):
    effort: int
    held_out: int


_DEFAULT, _FULL = _Size(30_000, 0), _Size(50_000, 6)


def add_commands(commands: Any) -> None:
    """Add `game summarize`."""
    parser = commands.add_parser(
        "game",
        help="play a game with a model",
        description="Play a game with a model, solvers side by side.",
        allow_abbrev=False,
    )
    games = parser.add_subparsers(metavar="game", required=True, parser_class=type(parser))
    _add_summarize(games)


def _add_summarize(games: Any) -> None:
    parser = add_command(
        games,
        "summarize",
        _run,
        summary="find the few words after which a text is least surprising",
        description="Find a prefix of a few tokens after which a text takes the fewest bits. Finished "
        "searches are kept in the output folder and not repeated.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a text, in UTF-8")
    add_model(parser)
    parser.add_argument(
        "--tokens", type=positive, default=8, metavar="N", help="the most tokens of a prefix (default 8)"
    )
    parser.add_argument(
        "--text-tokens",
        type=positive,
        default=64,
        metavar="N",
        help="score the first N tokens of each text (default 64)",
    )
    parser.add_argument(
        "--solver",
        action="append",
        choices=list(SOLVERS),
        help="a solver; may be given several times (default: all)",
    )
    parser.add_argument(
        "--effort",
        type=positive,
        metavar="N",
        help=f"tokens that the model may read in a search (default {_DEFAULT.effort}, full {_FULL.effort})",
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, metavar="N", help="searches per text and solver (default 3)"
    )
    parser.add_argument(
        "--held-out",
        type=positive,
        metavar="N",
        help="files are documents separated by empty lines: play with N of those that no model was trained "
        f"on (every {_EVERY}th, from number {_FIRST + 1}), from their middle lines",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"the reported figures: --effort {_FULL.effort} --held-out {_FULL.held_out}",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("game"), metavar="FOLDER", help="where results go (default game)"
    )


def _run(options: argparse.Namespace) -> None:
    from tokendraw.models import load

    size = _FULL if options.full else _DEFAULT
    effort, held_out = options.effort or size.effort, options.held_out or size.held_out
    if options.text_tokens <= options.tokens:
        raise ValueError(
            f"--text-tokens must be more than --tokens {options.tokens}, got {options.text_tokens}"
        )
    model = load(options.model)
    texts = _read_texts(options.files)
    if held_out:
        texts = held_out_passages(texts, model, held_out, options.text_tokens)
    solvers = list(dict.fromkeys(options.solver or SOLVERS))
    with progress_bar(len(texts) * len(solvers) * options.seeds * effort) as advance:
        game = summarize(
            model,
            texts,
            tokens=options.tokens,
            solvers=solvers,
            seeds=range(options.seeds),
            effort=effort,
            text_tokens=options.text_tokens,
            keep=options.output / "searches",
            model_name=options.model,
            on_progress=advance,
        )
    results.save(options.output / "game.json", EXPERIMENT, game.as_json())
    draw_picture(game, options.output / "game.svg")
    print("\n".join(table(game)))
    print(f"\n{options.output / 'game.json'}, {options.output / 'game.svg'}")


def _read_texts(files: Sequence[str]) -> dict[str, str]:
    texts = {}
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8").strip("\n")
        except UnicodeDecodeError as error:
            wrong = error.object[error.start : error.end]
            raise ValueError(f"a text must be UTF-8, got {wrong!r} at byte {error.start} ({file})") from None
        if not text:
            raise ValueError(f"a text must not be empty ({file})")
        name = Path(file).stem
        if name in texts:
            raise ValueError(f"texts must have different names, got {name!r} twice")
        texts[name] = text
    return texts


def held_out_passages(corpora: Mapping[str, str], model: Any, count: int, least: int) -> dict[str, str]:
    r"""Return passages of documents that models of this project were not trained on.

    Parameters
    ----------
    corpora : mapping of str to str
        Documents separated by empty lines.
    model : Model
        Whose tokens are counted.
    count : int
        How many of each corpus, evenly spread.
    least : int
        A passage runs from the middle line of its document to the end, and has at least so many tokens.

    Returns
    -------
    dict of str to str
        By the name of the corpus and the document's place in it.

    Raises
    ------
    ValueError
        If there are not so many.

    Examples
    --------
    >>> from tokendraw.models import load
    >>> corpus = "\n\n".join(f"{number}: a\n{number}: b" for number in range(40))
    >>> held_out_passages({"numbers": corpus}, load("kjv"), 2, 3)
    {'numbers-10': '10: b', 'numbers-30': '30: b'}
    """
    return {
        f"{name}-{place}": passage
        for name, corpus in corpora.items()
        for place, passage in _evenly(list(_held_out(corpus, model, least)), count, name)
    }


def _held_out(corpus: str, model: Any, least: int) -> Iterator[tuple[int, str]]:
    for place, document in enumerate(corpus.split("\n\n")):
        if place % _EVERY == _FIRST:
            lines = document.strip("\n").split("\n")
            passage = "\n".join(lines[len(lines) // 2 :])
            if len(model.tokenizer.encode(passage)) >= least:
                yield place, passage


def _evenly(passages: list[tuple[int, str]], count: int, name: str) -> list[tuple[int, str]]:
    if len(passages) < count:
        raise ValueError(
            f"a corpus must have {count} held-out documents of enough tokens, got {len(passages)} ({name})"
        )
    return [passages[place] for place in np.linspace(0, len(passages) - 1, count).round().astype(int)]


# --- The table ---------------------------------------------------------------------------------------------


def table(game: Game) -> Iterator[str]:
    """Write what was found as lines of text.

    Parameters
    ----------
    game : Game
        With at least one attempt.

    Yields
    ------
    str
    """
    width = max(len("text"), *(len(text.name) for text in game.texts))
    yield f"{'text':{width}}  tokens      bits  saved by its own first words"
    for text in game.texts:
        yield f"{text.name:{width}}  {len(text.tokens):6}  {text.bits:8.2f}  {text.first_words.saved:8.2f}"
    yield ""
    yield f"{'solver':13}   saved  {'over texts':>16}  {'over seeds':>16}  per token      net"
    for standing in game.standings():
        bounds = f"{_bounds(standing.saved):>16}  {_bounds(standing.over_seeds):>16}"
        figures = f"{standing.saved_per_token:9.2f} {standing.net:8.2f}"
        yield f"{standing.solver:13}{standing.saved.value:8.2f}  {bounds}  {figures}"
    yield ""
    for text in game.texts:
        best = max(
            (attempt for attempt in game.attempts if attempt.text == text.name),
            key=lambda attempt: attempt.judgement.saved,
        )
        told = repr(best.prefix_text) if best.prefix_text is not None else str(list(best.judgement.prefix))
        yield f"{text.name}: {best.judgement.saved:.2f} bits saved by {told} ({best.solver})"


def _bounds(interval: Interval) -> str:
    return "-" if np.isnan(interval.low) else f"{interval.low:.2f} .. {interval.high:.2f}"


# --- The picture -------------------------------------------------------------------------------------------


def draw_picture(game: Game, path: Path) -> None:
    """Draw the bits saved against the effort: a line per solver, its band from the worst seed to the best.

    Parameters
    ----------
    game : Game
        With at least one attempt.
    path : path
        Where the picture goes.
    """
    effort = game.settings["effort"]
    efforts = np.unique(np.geomspace(max(effort / 200, 1), effort, 100).round())
    with new_figure() as (figure, axes):
        for solver, color in zip(game.solvers, COLORS, strict=False):
            curves = _curves(game, solver, efforts)
            axes.plot(efforts, curves.mean(axis=0), color=color, label=solver)
            axes.fill_between(efforts, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.15, lw=0)
        first_words = float(np.mean([text.first_words.saved for text in game.texts]))
        axes.axhline(0, color="black", lw=1, label="no prefix")
        axes.axhline(first_words, color="black", lw=1, ls="--", label="the text's first words")
        axes.set_xscale("log")
        axes.set_xlabel("tokens that the model has read")
        axes.set_ylabel(f"bits saved by a prefix of at most {game.settings['tokens']} tokens")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        save_picture(figure, path)


def _curves(game: Game, solver: str, efforts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what was saved by each effort, one row per seed, as the mean over the texts."""
    rows = []
    for seed in game.seeds:
        own = [each for each in game.attempts if each.solver == solver and each.seed == seed]
        rows.append(np.mean([_saved_by(attempt.gains, efforts) for attempt in own], axis=0))
    return np.array(rows)


def _saved_by(gains: Sequence[Any], efforts: NDArray[np.float64]) -> NDArray[np.float64]:
    reached, saved = map(np.array, zip(*gains, strict=True))
    curve: NDArray[np.float64] = saved[np.searchsorted(reached, efforts, side="right") - 1]
    return curve

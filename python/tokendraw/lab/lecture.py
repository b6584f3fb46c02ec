# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/lecture.md: what they compute, what they simulate, and their pictures.

python -m tokendraw.lab.lecture docs
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import tokendraw as td
from tokendraw.lab.markov import MarkovSource
from tokendraw.lab.pictures import COLORS, new_figure, save_picture
from tokendraw.progress import progress_bar

__all__ = [
    "Tempered",
    "alien_rate",
    "alien_row",
    "at_least_one",
    "computed",
    "first_aliens",
    "imperfect",
    "main",
    "sentences",
    "simulated",
    "three_tokens",
    "write_pictures",
]

Floats = npt.NDArray[np.float64]

SEED = 2611
"""Of everything that the pictures simulate."""


# --- Temperature: a language of three tokens ---------------------------------------------------------------


def three_tokens() -> MarkovSource:
    """Return a language of three tokens, in which neither b nor c follows itself.

    Examples
    --------
    >>> three_tokens().start.round(3).tolist()
    [0.486, 0.297, 0.216]
    """
    return MarkovSource.from_table(
        {"a": {"a": 0.5, "b": 0.3, "c": 0.2}, "b": {"a": 0.6, "c": 0.4}, "c": {"a": 0.3, "b": 0.7}}
    )


def imperfect(language: MarkovSource, share: float) -> MarkovSource:
    """Return what a model believes that takes a share of its choices at random.

    Parameters
    ----------
    language : MarkovSource
        An endless language.
    share : float
        How much of the probability is spread over all tokens.

    Examples
    --------
    >>> imperfect(three_tokens(), 0.03).transition[1].round(3).tolist()
    [0.592, 0.01, 0.398]
    """
    count = len(language.start)
    symbols = None if language.tokenizer is None else language.tokenizer.symbols
    return MarkovSource((1 - share) * language.transition + share / count, symbols=symbols)


class Tempered(NamedTuple):
    """What becomes of texts at a temperature.

    Attributes
    ----------
    temperature : float
        The temperature.
    frequencies : ndarray, float64 [vocab]
        Of the tokens in a long text.
    entropy : float
        Of the next token, in bits: how diverse texts are.
    belongs : float
        The probability that a piece of a text has no pair of tokens that the language forbids.
    """

    temperature: float
    frequencies: Floats
    entropy: float
    belongs: float


def computed(model: MarkovSource, language: MarkovSource, temperature: float, length: int) -> Tempered:
    """Compute what becomes of a model's texts.

    Parameters
    ----------
    model : MarkovSource
        What is sampled from.
    language : MarkovSource
        What says which pairs are allowed.
    temperature : float
        Above 0.
    length : int
        Tokens of the pieces that must belong to the language, at least 2.

    Examples
    --------
    >>> language = three_tokens()
    >>> found = computed(language, language, 1.0, length=20)
    >>> round(found.entropy, 3), round(found.belongs, 9)
    (1.202, 1.0)
    """
    drawn = model.sampled(temperature=temperature)
    allowed = drawn.transition * (language.transition > 0)
    belongs = drawn.start @ np.linalg.matrix_power(allowed, length - 1) @ np.ones(len(allowed))
    return Tempered(temperature, drawn.start, drawn.entropy_rate, float(belongs))


def simulated(
    model: MarkovSource,
    language: MarkovSource,
    temperature: float,
    length: int,
    *,
    texts: int,
    seed: int,
    skip: int = 50,
) -> Tempered:
    """Estimate the same from texts.

    Parameters
    ----------
    model, language, temperature, length
        As for `computed`.
    texts : int
        How many are drawn; a piece of each is looked at.
    seed : int
        Of the draws.
    skip : int, default 50
        How many tokens of each text come before the piece, to forget how it began.

    Examples
    --------
    >>> language = three_tokens()
    >>> simulated(language, language, 1.0, length=20, texts=1000, seed=1).frequencies.round(2).tolist()
    [0.48, 0.3, 0.22]
    """
    source = model.model()
    state, logits = source.start([[0]] * texts)
    pieces = np.empty((texts, length), dtype=np.int64)
    for step in range(skip + length):
        tokens = td.sample(logits, temperature=temperature, seed=seed, step=step)
        state, logits = source.step(state, tokens)
        if step >= skip:
            pieces[:, step - skip] = tokens
    pairs = np.zeros(language.transition.shape)
    np.add.at(pairs, (pieces[:, :-1], pieces[:, 1:]), 1.0)
    belongs = (language.transition > 0)[pieces[:, :-1], pieces[:, 1:]].all(axis=1).mean()
    frequencies = np.bincount(pieces.ravel(), minlength=len(pairs)) / pieces.size
    return Tempered(temperature, frequencies, _conditional_entropy(pairs / pairs.sum()), float(belongs))


def _conditional_entropy(pairs: Floats) -> float:
    """Return the entropy of the second of two tokens given the first, in bits."""
    firsts = np.broadcast_to(pairs.sum(axis=1, keepdims=True), pairs.shape)
    seen = pairs > 0
    return float(-(pairs[seen] * np.log2(pairs[seen] / firsts[seen])).sum())


# --- The alien token ---------------------------------------------------------------------------------------


def alien_row(vocab: int, real: int = 1000, chance: float = 1e-7) -> npt.NDArray[np.float32]:
    """Return the logits of a model in whose place only some tokens are possible, but which is not sure.

    Parameters
    ----------
    vocab : int
        The number of tokens.
    real : int, default 1000
        How many are possible: the first ones, token i with a probability in proportion to 1 / (i + 1).
    chance : float, default 1e-7
        What the model believes of each of the others, the aliens.

    Examples
    --------
    >>> np.exp(alien_row(5, real=3, chance=0.01).astype(float)).round(3).tolist()
    [0.535, 0.267, 0.178, 0.01, 0.01]
    """
    probs = np.full(vocab, chance)
    zipf = 1.0 / np.arange(1, real + 1)
    probs[:real] = zipf / zipf.sum() * (1 - (vocab - real) * chance)
    logits: npt.NDArray[np.float32] = np.log(probs).astype(np.float32)
    return logits


def alien_rate(vocab: int, real: int = 1000, chance: float = 1e-7, top_p: float = 1.0) -> float:
    """Return the probability that a token drawn from `alien_row` is an alien.

    Parameters
    ----------
    vocab, real, chance
        As for `alien_row`.
    top_p : float, default 1.0
        The shortest beginning that holds this share is kept, with the most probable tokens first.

    Examples
    --------
    >>> [round(alien_rate(101_000, top_p=share), 6) for share in (1.0, 0.995, 0.99)]
    [0.01, 0.005025, 0.0]
    """
    aliens = vocab - real
    sure = 1 - aliens * chance
    # What is within rounding of an integer is that integer.
    kept = min(aliens, max(0, math.ceil((top_p - sure) / chance - 1e-6)))
    return kept * chance / (sure + kept * chance)


def at_least_one(rate: float, tokens: int) -> float:
    """Return the probability that an event happens at least once: ``1 - (1 - rate) ** tokens``.

    Examples
    --------
    >>> round(at_least_one(0.01, 100), 9)
    0.633967659
    """
    return -math.expm1(tokens * math.log1p(-rate))


def first_aliens(
    row: npt.NDArray[np.float32], real: int, *, texts: int, tokens: int, seed: int, **sampling: Any
) -> npt.NDArray[np.int64]:
    """Draw texts until their first alien; return how many tokens came before it, `tokens` if none came.

    Parameters
    ----------
    row : ndarray, float32 [vocab]
        The logits at every place.
    real : int
        The first alien.
    texts, tokens : int
        How many texts are drawn, and of how many tokens.
    seed : int
        Of the draws; each text has a stream, each place a step.
    **sampling
        Parameters of `tokendraw.sample`.

    Examples
    --------
    >>> first_aliens(alien_row(4, real=3, chance=0.5), 3, texts=8, tokens=3, seed=1).tolist()
    [0, 3, 2, 0, 0, 0, 3, 1]
    """
    before = np.full(texts, tokens)
    clean = np.arange(texts)
    for step in range(tokens):
        rows = np.broadcast_to(row, (len(clean), len(row)))
        is_alien = td.sample(rows, seed=seed, stream=clean, step=step, **sampling) >= real
        before[clean[is_alien]] = step
        clean = clean[~is_alien]
        if not len(clean):
            break
    return before


# --- Three beams -------------------------------------------------------------------------------------------


def sentences() -> MarkovSource:
    """Return a language of short sentences in which the most probable one begins with an improbable word.

    Examples
    --------
    >>> model = sentences().model()
    >>> [td.beam_search(model, "we", num_beams=beams, max_new_tokens=3)[0].text for beams in (1, 3)]
    [' walk home.', ' read books.']
    """
    return MarkovSource.from_table(
        {
            "": {"we": 1.0},
            "we": {" walk": 0.36, " sing": 0.27, " read": 0.22, " wait": 0.09, " sleep": 0.06},
            " walk": {" home": 0.32, " on": 0.28, " away": 0.24, " there": 0.16},
            " sing": {" songs": 0.35, " along": 0.30, " well": 0.20, " on": 0.15},
            " read": {" books": 0.90, " on": 0.10},
            " wait": {" here": 1.0},
            " sleep": {" here": 1.0},
            **{last: {".": 1.0} for last in (" home", " on", " away", " there", " along", " well", " here")},
            " songs": {".": 0.7, " again.": 0.3},
            " books": {".": 0.8, " again.": 0.2},
        }
    )


# --- Pictures ----------------------------------------------------------------------------------------------

PEAKED, FLAT = "And it came to", "Thou shalt not"
"""What the embedded model goes on with in one way, and in many."""

_SHARE, _LENGTH, _TEXTS = 0.03, 20, 4000
_TEMPERATURES = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
_RANGE = np.geomspace(0.2, 5.0, 121)

_VOCABS = (8_192, 32_768, 131_072, 262_144)
_TOP_PS = (0.97, 0.98, 0.99, 0.995, 1.0)
_ALIEN_TEXTS, _PIECE = 200, 100

_SHOWN = 16
"""How many tokens of a row have a bar."""


def _draw_temperature(path: Path) -> None:
    language = three_tokens()
    model = imperfect(language, _SHARE)
    exact = [computed(model, language, float(t), _LENGTH) for t in _RANGE]
    seen = [simulated(model, language, t, _LENGTH, texts=_TEXTS, seed=SEED) for t in _TEMPERATURES]
    with new_figure(1, 2, (9.0, 3.9)) as (figure, (left, right)):
        _frequencies_of_tokens(left, exact, seen, language)
        _trade_off(right, exact, seen, language)
        save_picture(figure, path)


def _frequencies_of_tokens(
    axis: Any, exact: Sequence[Tempered], seen: Sequence[Tempered], language: MarkovSource
) -> None:
    for token, (name, color) in enumerate(zip("abc", COLORS, strict=False)):
        axis.axhline(100 * language.start[token], color=color, linestyle=":", linewidth=1)
        axis.plot(_RANGE, [100 * each.frequencies[token] for each in exact], color=color, label=name)
        axis.plot(_TEMPERATURES, [100 * each.frequencies[token] for each in seen], "o", color=color, ms=4)
    axis.axvline(1, color="black", linewidth=0.8)
    _log_axis(axis, (0.2, 0.3, 0.5, 1, 2, 3, 5))
    axis.set_xlabel("temperature")
    axis.set_ylabel("frequency of the token, %")
    axis.set_ylim(0, 100)
    axis.legend(title="token", loc="upper right")
    axis.set_title("Temperature 1 restores the frequencies (dotted)")


def _log_axis(axis: Any, ticks: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axis.minorticks_off()


def _trade_off(
    axis: Any, exact: Sequence[Tempered], seen: Sequence[Tempered], language: MarkovSource
) -> None:
    axis.plot([each.entropy for each in exact], [100 * each.belongs for each in exact], color=COLORS[1])
    axis.plot(
        [each.entropy for each in seen], [100 * each.belongs for each in seen], "o", color=COLORS[0], ms=4
    )
    for each in seen:
        aside = "center" if each.belongs > 0.99 else "right" if each.belongs > 0.95 else "left"
        axis.annotate(
            f"T={each.temperature:g}",
            (each.entropy, 100 * each.belongs),
            xytext={"center": (0, 6), "right": (-5, -8), "left": (7, 0)}[aside],
            textcoords="offset points",
            ha=aside,
            va="bottom" if aside == "center" else "center",
        )
    axis.plot(language.entropy_rate, 100, "*", color="black", ms=9, clip_on=False, zorder=5)
    axis.annotate(
        "the language", (language.entropy_rate, 100), xytext=(6, 6), textcoords="offset points", va="bottom"
    )
    axis.set_xlabel("diversity: bits per token")
    axis.set_ylabel(f"{_LENGTH} tokens belong to the language, %")
    axis.set_ylim(0, 110)
    axis.set_title("What diversity costs")


def _draw_alien(path: Path) -> None:
    with new_figure(1, 2, (9.0, 3.9)) as (figure, (left, right)):
        for vocab, color in zip(_VOCABS, COLORS, strict=False):
            _alien_by_tokens(left, vocab, color)
            _alien_by_top_p(right, vocab, color)
        _log_axis(left, (1, 10, 100, 1000))
        left.set_xlabel("tokens of the text")
        left.set_ylabel("texts with an alien token, %")
        left.set_title("Without a filter")
        left.legend(title="vocabulary", loc="upper left")
        right.set_xlabel("top_p")
        right.set_title(f"Texts of {_PIECE} tokens, with top_p")
        for axis in (left, right):
            axis.set_ylim(-3, 103)
        save_picture(figure, path)


def _alien_by_tokens(axis: Any, vocab: int, color: str) -> None:
    lengths, rate = np.unique(np.geomspace(1, 1000, 61).astype(int)), alien_rate(vocab)
    axis.plot(lengths, [100 * at_least_one(rate, n) for n in lengths], color=color, label=f"{vocab:,}")
    before = first_aliens(alien_row(vocab), 1000, texts=_ALIEN_TEXTS, tokens=1000, seed=SEED)
    _dots(axis, [10, 30, 100, 300, 1000], [before < n for n in (10, 30, 100, 300, 1000)], color)


def _alien_by_top_p(axis: Any, vocab: int, color: str) -> None:
    shares = np.linspace(_TOP_PS[0], 1, 241)
    chances = [at_least_one(alien_rate(vocab, top_p=float(share)), _PIECE) for share in shares]
    axis.plot(shares, [100 * chance for chance in chances], color=color)
    row = alien_row(vocab)
    hits = [
        first_aliens(row, 1000, texts=_ALIEN_TEXTS, tokens=_PIECE, seed=SEED + place, top_p=share) < _PIECE
        for place, share in enumerate(_TOP_PS)
    ]
    _dots(axis, _TOP_PS, hits, color)


def _dots(axis: Any, places: Sequence[float], hits: Sequence[npt.NDArray[np.bool_]], color: str) -> None:
    """Draw shares of hits with their 95 % intervals (Wilson's, which have a length at 0 and 1 too)."""
    shares = np.array([each.mean() for each in hits])
    counts = np.array([len(each) for each in hits])
    spread = 1.96**2 / counts
    middle = (shares + spread / 2) / (1 + spread)
    half = np.sqrt(shares * (1 - shares) * spread + spread**2 / 4) / (1 + spread)
    bars = np.maximum(0, [shares - middle + half, middle + half - shares])
    axis.errorbar(places, 100 * shares, 100 * bars, fmt="o", color=color, ms=4, elinewidth=1)


def _draw_top_k(path: Path) -> None:
    with new_figure(1, 3, (11.0, 4.0), width_ratios=(1, 1, 1.1)) as (figure, axes):
        curves = _draw_rows(axes[:2], top_k=10)
        _cumulative(axes[2], curves)
        axes[2].axvline(10, color="black", linewidth=1)
        axes[2].annotate("top_k = 10", (10, 70), xytext=(-5, 0), textcoords="offset points", ha="right")
        for curve, color in zip(curves, COLORS, strict=False):
            axes[2].plot(10, 100 * curve[9], "o", color=color, ms=5)
        save_picture(figure, path)


def _draw_top_p(path: Path) -> None:
    with new_figure(1, 3, (11.0, 4.0), width_ratios=(1, 1, 1.1)) as (figure, axes):
        curves = _draw_rows(axes[:2], top_p=0.9)
        _cumulative(axes[2], curves)
        axes[2].axhline(90, color="black", linewidth=1)
        axes[2].annotate("top_p = 0.9", (200, 90), xytext=(0, -12), textcoords="offset points")
        for curve, color in zip(curves, COLORS, strict=False):
            kept = int(np.searchsorted(curve, 0.9)) + 1
            axes[2].plot(kept, 100 * curve[kept - 1], "o", color=color, ms=5)
        save_picture(figure, path)


def _draw_rows(axes: Sequence[Any], **filters: Any) -> list[Floats]:
    """Draw the first tokens of both rows, what is kept in colour; return what each row's beginnings hold."""
    model = td.models.load("kjv")
    _, logits = model.start([model.tokenizer.encode(prompt) for prompt in (PEAKED, FLAT)])
    curves = []
    for axis, prompt, row, color in zip(axes, (PEAKED, FLAT), logits, COLORS, strict=False):
        probs = td.softmax(row).astype(np.float64)
        order = td.top_k(row, len(row))[1]
        kept = int(td.draw(row, seed=0, **filters).kept)
        names = [model.tokenizer.decode([token]).strip() for token in order[:_SHOWN]]
        curves.append(np.cumsum(probs[order]))
        _bars(axis, names, 100 * probs[order[:_SHOWN]], kept, color)
        axis.set_title(f"{prompt} ...")
        held = 100 * curves[-1][kept - 1]
        summary = f"keeps {kept} of {len(row):,} tokens,\n{held:.1f} % of the probability"
        axis.text(0.97, 0.06, summary, transform=axis.transAxes, ha="right", va="bottom")
    return curves


def _bars(axis: Any, names: Sequence[str], percents: Floats, kept: int, color: str) -> None:
    places = range(len(names))
    colors = [color if place < kept else "#999999" for place in places]
    axis.barh(places, percents, color=colors)
    for place, percent in zip(places, percents, strict=True):
        axis.annotate(
            f"{percent:.2g}" if percent < 10 else f"{percent:.0f}",
            (percent, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=colors[place],
        )
    axis.set_yticks(places, names)
    for label, own in zip(axis.get_yticklabels(), colors, strict=True):
        label.set_color(own)
    axis.set_xlim(0, 1.12 * percents[0])
    axis.invert_yaxis()
    axis.grid(False)
    axis.set_xlabel(f"probability, % (the first {len(names)} tokens)")


def _cumulative(axis: Any, curves: Sequence[Floats]) -> None:
    for curve, prompt, color in zip(curves, (PEAKED, FLAT), COLORS, strict=False):
        axis.plot(range(1, len(curve) + 1), 100 * curve, color=color, label=f"{prompt} ...")
    _log_axis(axis, (1, 10, 100, 1000))
    axis.set_ylim(0, 103)
    axis.set_xlabel("tokens, the most probable first")
    axis.set_ylabel("probability of these tokens together, %")
    axis.set_title("What the first tokens hold")
    axis.legend(loc="lower right")


def _draw_beam(path: Path) -> None:
    model = sentences().model()
    tree = td.SearchTree(model.tokenizer)
    td.beam_search(model, "we", num_beams=3, max_new_tokens=3, tree=tree)
    _save_tree(tree, path, "we ...: three beams")


def _draw_beam_text(path: Path) -> None:
    model = td.models.load("kjv")
    tree = td.SearchTree(model.tokenizer)
    td.beam_search(model, "Let there be", num_beams=3, max_new_tokens=6, tree=tree)
    _save_tree(tree, path, "Let there be ...: three beams")


def _save_tree(tree: td.SearchTree, path: Path, title: str) -> None:
    licence = "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
    path.write_text(licence + tree.to_svg(title=title), encoding="utf-8")


PICTURES: dict[str, Callable[[Path], None]] = {
    "temperature": _draw_temperature,
    "alien": _draw_alien,
    "top-k": _draw_top_k,
    "top-p": _draw_top_p,
    "beam": _draw_beam,
    "beam-text": _draw_beam_text,
}
"""What draws each picture, by the name of the example."""


def write_pictures(folder: str | Path) -> list[Path]:
    """Draw every picture.

    Parameters
    ----------
    folder : path
        Where they go; it is made if it is missing.

    Returns
    -------
    list of path
        The files, ``lecture-<name>.svg``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with progress_bar(len(PICTURES)) as advance:
        for name, draw in PICTURES.items():
            advance(name, 0)
            written.append(folder / f"lecture-{name}.svg")
            draw(written[-1])
            advance(name, 1)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tokendraw.lab.lecture", description="Draw the pictures of docs/lecture.md."
    )
    parser.add_argument("folder", type=Path, help="where the SVG files go")
    for path in write_pictures(parser.parse_args(arguments).folder):
        print(path)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The summarisation game: a prefix of a few tokens after which a text takes the fewest bits."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tokendraw as td
from tokendraw.lab import results
from tokendraw.lab.intervals import Interval, mean_interval
from tokendraw.lab.judge import Judge, Judgement
from tokendraw.lab.prefix_search import Gain, PrefixSearch
from tokendraw.lab.solvers import SOLVERS
from tokendraw.models.base import Model

__all__ = ["Attempt", "Game", "Standing", "TextOfGame", "encode_text", "summarize"]

EXPERIMENT = "game"

Advance = Callable[[str, int], object]


@dataclass(frozen=True, slots=True)
class TextOfGame:
    """A text, and what it takes without help.

    Attributes
    ----------
    name : str
        What it is called.
    tokens : tuple of int
        The tokens that are scored.
    text : str or None
        What they say, if the model has a tokenizer.
    bits : float
        What the text takes without a prefix: the first baseline, which saves nothing.
    first_words : Judgement
        The second baseline: the text's own first tokens as prefix.
    """

    name: str
    tokens: tuple[int, ...]
    text: str | None
    bits: float
    first_words: Judgement

    @property
    def baseline(self) -> float:
        """The bits that the better baseline saves."""
        return max(0.0, self.first_words.saved)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One search of one solver.

    Attributes
    ----------
    text, solver : str
        Their names.
    seed : int
        Of the search.
    judgement : Judgement
        Of the best prefix.
    prefix_text : str or None
        What it says, if the model has a tokenizer.
    gains : tuple of Gain
        What was saved, by the effort spent.
    is_random : bool
        Whether the solver drew anything; if not, every seed gives the same.
    seconds : float
        How long it took; 0 where it was not repeated with another seed.
    """

    text: str
    solver: str
    seed: int
    judgement: Judgement
    prefix_text: str | None
    gains: tuple[Gain, ...]
    is_random: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a solver did.

    Attributes
    ----------
    solver : str
        Its name.
    saved : Interval
        Bits saved: mean over the texts, each the mean of its seeds, with Student's interval over texts.
    over_seeds : Interval
        The same mean, with Student's interval over seeds, each the mean of its texts.
    margin : Interval
        Bits saved beyond the better baseline, text by text.
    saved_per_token, net : float
        Means over all attempts.
    """

    solver: str
    saved: Interval
    over_seeds: Interval
    margin: Interval
    saved_per_token: float
    net: float


@dataclass(frozen=True, slots=True)
class Game:
    """All attempts at some texts.

    Attributes
    ----------
    settings : dict
        Length of the prefix, effort and model.
    texts : list of TextOfGame
        What was played with.
    attempts : list of Attempt
        One per text, solver and seed.
    """

    settings: dict[str, Any]
    texts: list[TextOfGame]
    attempts: list[Attempt]

    @property
    def solvers(self) -> list[str]:
        """Who took part."""
        return list(dict.fromkeys(attempt.solver for attempt in self.attempts))

    @property
    def seeds(self) -> list[int]:
        """Of the attempts."""
        return list(dict.fromkeys(attempt.seed for attempt in self.attempts))

    def standings(self) -> list[Standing]:
        """Return how every solver did, the best first."""
        return sorted(map(self._standing, self.solvers), key=lambda standing: -standing.saved.value)

    def _standing(self, solver: str) -> Standing:
        own = [attempt for attempt in self.attempts if attempt.solver == solver]
        by_place = {(attempt.text, attempt.seed): attempt.judgement.saved for attempt in own}
        saved = np.array([[by_place[text.name, seed] for seed in self.seeds] for text in self.texts])
        baselines = np.array([text.baseline for text in self.texts])
        return Standing(
            solver,
            mean_interval(saved.mean(axis=1)),
            mean_interval(saved.mean(axis=0)),
            mean_interval(saved.mean(axis=1) - baselines),
            float(np.mean([attempt.judgement.saved_per_token for attempt in own])),
            float(np.mean([attempt.judgement.net for attempt in own])),
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it as `results.save` takes it."""
        return {
            "settings": self.settings,
            "seeds": self.seeds,
            "seconds": sum(attempt.seconds for attempt in self.attempts),
            "standings": self.standings(),
            "texts": self.texts,
            "attempts": self.attempts,
        }


def summarize(
    model: Model[Any],
    texts: Mapping[str, str | Sequence[int]],
    *,
    tokens: int = 8,
    solvers: Sequence[str] = tuple(SOLVERS),
    seeds: Sequence[int] = (0, 1, 2),
    effort: int = 30_000,
    text_tokens: int | None = None,
    batch: int = 128,
    keep: Path | None = None,
    model_name: str = "",
    on_progress: Advance = lambda title, effort: None,
) -> Game:
    """Let solvers look for the prefix after which texts take the fewest bits.

    Parameters
    ----------
    model : Model
        A model with `bos_token_id`; text needs one with a tokenizer.
    texts : mapping of str to str or sequence of int
        Texts by name, each of more tokens than the prefix.
    tokens : int, default 8
        The most tokens a prefix may have.
    solvers : sequence of str
        Names out of `tokendraw.lab.solvers.SOLVERS`; by default all.
    seeds : sequence of int, default (0, 1, 2)
        Each solver searches once with each.
    effort : int, default 30000
        How many tokens the model may read in each search.
    text_tokens : int, optional
        How many tokens of each text are scored; by default all.
    batch : int, default 128
        How many rows the model reads together.
    keep : path, optional
        A folder in which finished searches are kept, and looked for before they are done again.
    model_name : str, optional
        Tells the searches of different models in one folder apart.
    on_progress : callable, optional
        Called with what is being done and the effort spent on it since the last call.

    Returns
    -------
    Game

    Examples
    --------
    >>> from tokendraw.models import load
    >>> text = " of Israel went up out of the land of Egypt"
    >>> options = {"tokens": 2, "effort": 6000, "solvers": ["beam"], "seeds": [1]}
    >>> game = summarize(load("kjv"), {"exodus": text}, **options)
    >>> [attempt] = game.attempts
    >>> attempt.prefix_text, attempt.judgement.saved > game.texts[0].baseline
    (' children', True)
    """
    _check(texts, tokens, solvers, seeds, effort, text_tokens)
    shelf = _Shelf(keep)
    played: list[TextOfGame] = []
    attempts: list[Attempt] = []
    encoded = {name: encode_text(model, name, text, tokens)[:text_tokens] for name, text in texts.items()}
    for name, text in encoded.items():
        judge = Judge(model, text, batch=batch)
        played.append(_text_of_game(judge, name, tokens))
        for solver in solvers:
            for seed in seeds:
                asked = _Asked(name, judge.text, model_name, tokens, effort, solver, seed)
                attempts.append(_found(judge, asked, attempts, shelf, on_progress))
    settings = {"model": model_name, "tokens": tokens, "effort": effort, "text_tokens": text_tokens}
    return Game(settings, played, attempts)


def encode_text(model: Model[Any], name: str, text: str | Sequence[int], tokens: int) -> list[int]:
    """Return a text's tokens, which the tokenizer must give back as they were.

    Parameters
    ----------
    model : Model
        Its tokenizer is used for text.
    name : str
        The text's name, for messages.
    text : str or sequence of int
        The text.
    tokens : int
        A text must have more tokens than this.

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        If the text is too short, or has characters that the model does not know.
    """
    if isinstance(text, str):
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise ValueError(f"a text needs a model with a tokenizer, got none ({name})")
        try:
            ids = list(tokenizer.encode(text))
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"the model's tokenizer must know every character of a text, got {error} ({name})"
            ) from None
        _check_round_trip(text, tokenizer.decode(ids), name)
    else:
        ids = [int(token) for token in text]
        if any(not 0 <= token < model.vocab_size for token in ids):
            raise ValueError(f"text tokens must be in [0, {model.vocab_size}) ({name})")
    if len(ids) <= tokens:
        raise ValueError(f"a text must have more tokens than the prefix ({tokens}), got {len(ids)} ({name})")
    return ids


def _check_round_trip(text: str, back: str, name: str) -> None:
    if text == back:
        return
    known = next(
        (place for place, pair in enumerate(zip(text, back, strict=False)) if pair[0] != pair[1]), len(back)
    )
    wrong = text[known : known + 1]
    raise ValueError(
        f"the model's tokenizer must know every character of a text, got {wrong!r} at {known} ({name})"
    )


def _check(
    texts: Mapping[str, Any],
    tokens: int,
    solvers: Sequence[str],
    seeds: Sequence[int],
    effort: int,
    text_tokens: int | None,
) -> None:
    for what, some in (("texts", texts), ("solvers", solvers), ("seeds", seeds)):
        if len(some) == 0:
            raise ValueError(f"{what} must not be empty")
    for name, value, least in (
        ("tokens", tokens, 1),
        ("effort", effort, 1),
        ("text_tokens", tokens + 1 if text_tokens is None else text_tokens, tokens + 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}")
    for solver in solvers:
        if solver not in SOLVERS:
            raise ValueError(f"a solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    for seed in seeds:
        if seed < 0:
            raise ValueError(f"a seed must be >= 0, got {seed}")


def _text_of_game(judge: Judge, name: str, tokens: int) -> TextOfGame:
    first_words = judge.judgement(judge.text[:tokens])
    return TextOfGame(name, judge.text, _decoded(judge, judge.text), judge.empty_bits, first_words)


def _decoded(judge: Judge, tokens: Sequence[int]) -> str | None:
    tokenizer = getattr(judge.model, "tokenizer", None)
    return None if tokenizer is None else str(tokenizer.decode(tokens))


# --- One search --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """All that a search depends on."""

    name: str
    text: tuple[int, ...]
    model: str
    tokens: int
    effort: int
    solver: str
    seed: int

    @property
    def title(self) -> str:
        return f"{self.name}: {self.solver}, seed {self.seed}"

    @property
    def file_name(self) -> str:
        told = json.dumps([td.__version__, *dataclasses.astuple(self)])
        return f"{self.solver}-{self.seed}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


def _found(
    judge: Judge, asked: _Asked, before: Sequence[Attempt], shelf: _Shelf, on_progress: Advance
) -> Attempt:
    """Return a search that was done before, or do it."""
    last = before[-1] if before else None
    if last and not last.is_random and (last.text, last.solver) == (asked.name, asked.solver):
        known: Attempt | None = dataclasses.replace(last, seed=asked.seed, seconds=0.0)
    else:
        known = shelf.find(asked)
    if known is not None:
        on_progress(asked.title, asked.effort)
        return known
    attempt = _attempt(judge, asked, on_progress)
    shelf.put(asked, attempt)
    return attempt


def _attempt(judge: Judge, asked: _Asked, on_progress: Advance) -> Attempt:
    begun = time.perf_counter()
    search = PrefixSearch(
        judge,
        asked.tokens,
        asked.effort,
        # Solvers do not share their draws.
        [asked.seed, list(SOLVERS).index(asked.solver)],
        on_progress=lambda effort: on_progress(asked.title, effort),
    )
    SOLVERS[asked.solver](search)
    return Attempt(
        asked.name,
        asked.solver,
        asked.seed,
        judge.judgement(search.best),
        _decoded(judge, search.best),
        tuple(search.gains),
        search.is_random,
        time.perf_counter() - begun,
    )


class _Shelf:
    """Keeps finished searches in a folder, one file each."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, asked: _Asked) -> Attempt | None:
        if self._folder is None or not (self._folder / asked.file_name).is_file():
            return None
        found = results.load(self._folder / asked.file_name, EXPERIMENT)["attempt"]
        judgement = Judgement(**{**found["judgement"], "prefix": tuple(found["judgement"]["prefix"])})
        gains = tuple(Gain(**gain) for gain in found["gains"])
        return Attempt(**{**found, "judgement": judgement, "gains": gains})

    def put(self, asked: _Asked, attempt: Attempt) -> None:
        if self._folder is not None:
            results.save(self._folder / asked.file_name, EXPERIMENT, {"attempt": attempt})

# SPDX-License-Identifier: Apache-2.0
"""Markov chains as exactly known languages: their entropy, their reversal, and models of both.

By Bayes a stationary chain is a stationary chain when it is read backwards, and so is a chain that starts
and ends (its reversal from the last symbol, Nagasawa 1964). Both directions give a sequence one probability.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokendraw import reference

__all__ = ["MarkovModel", "MarkovSource", "SymbolTokenizer"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class MarkovSource:
    """A language whose next symbol depends on the last one alone.

    Parameters
    ----------
    transition : array_like [n, n]
        Row i holds the probabilities of the symbols after symbol i, if the sequence goes on.
    start : array_like [n], optional
        Probabilities of the first symbol. By default equal ones if there is an `end`, else those that stay
        the same from symbol to symbol.
    end : float or array_like [n], optional
        The probability that the sequence ends after symbol i. Without it, sequences have no end.
    symbols : str or sequence of str, optional
        The text of each symbol: one character each, or words. With it text can be read and written.
    right_to_left : bool, default False
        Whether sequences run from the last symbol of the text to the first, as those of a reversal do.

    Attributes
    ----------
    transition, start, end : ndarray, float64
        As given; `end` is None for a source without end.

    Examples
    --------
    >>> source = MarkovSource([[0.5, 0.5], [1.0, 0.0]])
    >>> source.start.round(4).tolist()
    [0.6667, 0.3333]
    >>> round(source.entropy_rate, 4)
    0.6667
    """

    def __init__(
        self,
        transition: npt.ArrayLike,
        start: npt.ArrayLike | None = None,
        *,
        end: npt.ArrayLike | None = None,
        symbols: str | Sequence[str] | None = None,
        right_to_left: bool = False,
    ) -> None:
        count = len(np.asarray(transition))
        self.transition = _probabilities("transition", transition, (count, count))
        self.end = None if end is None else _ends(end, self.transition)
        if start is None:
            start = _stationary(self.transition) if end is None else np.full(count, 1 / count)
        self.start = _probabilities("start", start, (count,))
        self.tokenizer = None if symbols is None else SymbolTokenizer(symbols, right_to_left=right_to_left)
        if symbols is not None and len(symbols) != count:
            raise ValueError(f"symbols must be {count} texts, got {len(symbols)}")

    @classmethod
    def from_table(cls, table: Mapping[str, Mapping[str, float]]) -> MarkovSource:
        """Return the source in which each symbol is followed by what a table says.

        Parameters
        ----------
        table : mapping
            For each symbol the symbols that may follow and their probabilities. The empty text stands for
            what is before the first symbol and after the last one. A symbol without a row is the last one.

        Returns
        -------
        MarkovSource
            Its symbols in the order in which the table names them, those with rows first.

        Examples
        --------
        >>> echo = MarkovSource.from_table({"": {"ho": 1.0}, "ho": {"ho": 0.75, "!": 0.25}})
        >>> echo.tokenizer.symbols, echo.mean_length
        (('ho', '!'), 5.0)
        """
        followers = itertools.chain.from_iterable(table.values())
        symbols = [symbol for symbol in dict.fromkeys([*table, *followers]) if symbol]
        rows = [table.get(symbol, {"": 1.0}) for symbol in symbols]
        full = _probabilities(
            "rows",
            [[row.get(symbol, 0.0) for symbol in [*symbols, ""]] for row in rows],
            (len(symbols), len(symbols) + 1),
        )
        first = table.get("")
        return cls(
            _rows_of(full[:, :-1]),
            None if first is None else [first.get(symbol, 0.0) for symbol in symbols],
            end=full[:, -1] if full[:, -1].any() else None,
            symbols=symbols,
        )

    @property
    def going_on(self) -> Floats:
        """Probabilities [n, n] that symbol i is followed by symbol j, an end being possible."""
        return self.transition if self.end is None else self.transition * (1 - self.end[:, np.newaxis])

    @property
    def mean_length(self) -> float:
        """Symbols of a sequence on average; infinite without an end."""
        return math.inf if self.end is None else float(self._visits().sum())

    @property
    def entropy(self) -> float:
        """Bits of a whole sequence on average, its end included; infinite without an end."""
        if self.end is None:
            return math.inf
        return float(_entropy(self.start) + self._visits() @ _entropy(self._table()[:-1]))

    @property
    def entropy_rate(self) -> float:
        """Bits per symbol on average, in the long run."""
        if self.end is not None:
            return self.entropy / self.mean_length
        return float(_stationary(self.transition) @ _entropy(self.transition))

    def _visits(self) -> Floats:
        """Return how often each symbol occurs in a sequence on average."""
        return np.asarray(
            np.linalg.solve((np.eye(len(self.start)) - self.going_on).T, self.start), dtype=np.float64
        )

    def reversed(self) -> MarkovSource:
        """Return the source of the same sequences read from their end.

        Returns
        -------
        MarkovSource
            It gives a reversed sequence the probability that this one gives the sequence.

        Raises
        ------
        ValueError
            If the source has neither an end nor the start that stays the same.

        Examples
        --------
        >>> source = MarkovSource([[0.2, 0.8], [0.7, 0.3]], start=[0.9, 0.1], end=[0.1, 0.4])
        >>> forward = source.logprobs([0, 1, 1]).sum()
        >>> backward = source.reversed().logprobs([1, 1, 0]).sum()
        >>> bool(abs(forward - backward) < 1e-12)
        True
        """
        weights = self._weights_of_symbols()
        occurring = np.where(weights > 0, weights, 1.0)
        before = (self.going_on * weights[:, np.newaxis]).T / occurring[:, np.newaxis]
        symbols = None if self.tokenizer is None else self.tokenizer.symbols
        right_to_left = self.tokenizer is not None and not self.tokenizer.right_to_left
        if self.end is None:
            return MarkovSource(_rows_of(before), self.start, symbols=symbols, right_to_left=right_to_left)
        return MarkovSource(
            _rows_of(before),
            weights * self.end,
            end=np.where(weights > 0, self.start / occurring, 1.0),
            symbols=symbols,
            right_to_left=right_to_left,
        )

    def _weights_of_symbols(self) -> Floats:
        """Return how often symbols occur, in any unit that their successors share."""
        if self.end is not None:
            return self._visits()
        if not np.allclose(self.start @ self.transition, self.start, rtol=0, atol=1e-9):
            raise ValueError("a source without end must start as it goes on to have a reversal")
        return self.start

    def logprobs(self, sequence: Sequence[int] | Integers) -> Floats:
        """Return the natural log-probability of each symbol given those before it, and then of the end.

        Parameters
        ----------
        sequence : sequence of int [length]
            Symbols.

        Returns
        -------
        ndarray, float64 [length] or [length + 1]
            One value per symbol; a source with an end has one more.

        Examples
        --------
        >>> MarkovSource([[0.5, 0.5], [1.0, 0.0]]).logprobs([0, 1, 0]).round(4).tolist()
        [-0.4055, -0.6931, 0.0]
        """
        ids = _symbols(sequence, len(self.start))
        boundary = [] if self.end is None else [len(self.start)]
        read = np.concatenate([[len(self.start)], ids, boundary]).astype(np.int64)
        return _logs(self._table())[read[:-1], read[1:]]

    def backward_logprobs(self, sequence: Sequence[int] | Integers) -> Floats:
        """Return the log-probability of each symbol given those after it, by Bayes, for a known length.

        This holds for every start, at the price of probabilities that depend on the place.

        Parameters
        ----------
        sequence : sequence of int [length]
            Symbols of a source without end.

        Returns
        -------
        ndarray, float64 [length]
            In the order of the sequence; their sum is that of `logprobs`.
        """
        if self.end is not None:
            raise ValueError(
                "the length must not be chosen by the source, got one with an end: use reversed()"
            )
        ids = _symbols(sequence, len(self.start))
        logprobs = np.empty(len(ids))
        here = self.start
        for place, symbol in enumerate(ids):
            after = here @ self.transition
            if place + 1 == len(ids):
                logprobs[place] = _logs(here[symbol])
            else:
                joint = here[symbol] * self.transition[symbol, ids[place + 1]]
                logprobs[place] = _logs(joint / after[ids[place + 1]] if joint else joint)
            here = after
        return logprobs

    def sample(self, count: int, length: int | None = None, seed: int = 0) -> list[Integers]:
        """Return random sequences.

        Parameters
        ----------
        count : int
            How many.
        length : int, optional
            Symbols of each; needed without an end, and not allowed with one.
        seed : int, default 0
            The same seed gives the same sequences.

        Returns
        -------
        list of ndarray of int
            The sequences.

        Examples
        --------
        >>> MarkovSource([[0.0, 1.0], [1.0, 0.0]], [1.0, 0.0]).sample(1, length=4)[0].tolist()
        [0, 1, 0, 1]
        """
        if (length is None) == (self.end is None):
            rule = "must be given for a source without end" if length is None else "is chosen by the source"
            raise ValueError(f"length {rule}, got {length}")
        random = np.random.default_rng(seed)
        sums = self._table().cumsum(axis=1)
        return [self._sequence(random, sums, length) for _ in range(count)]

    def _sequence(self, random: np.random.Generator, sums: Floats, length: int | None) -> Integers:
        boundary = len(self.start)
        sequence: list[int] = []
        symbol = boundary
        while length is None or len(sequence) < length:
            row = sums[symbol]
            symbol = int(np.searchsorted(row, random.random() * row[-1], side="right"))
            if symbol == boundary:
                break
            sequence.append(symbol)
        return np.array(sequence, dtype=np.int64)

    def sampled(self, **filters: Any) -> MarkovSource:
        """Return the source that is drawn from when this one's model is sampled with filters.

        Parameters
        ----------
        **filters
            `temperature`, `top_k`, `top_p` and all others of `tokendraw.softmax`, here in float64.

        Returns
        -------
        MarkovSource
            A source without end starts with the probabilities that stay the same.

        Examples
        --------
        >>> source = MarkovSource([[0.75, 0.25], [0.5, 0.5]])
        >>> source.sampled(temperature=0.5).transition.round(4).tolist()
        [[0.9, 0.1], [0.5, 0.5]]
        """
        count = len(self.start)
        drawn = reference.softmax(_logs(self._table()), **filters)
        transition, ends = _rows_of(drawn[:-1, :count]), drawn[:-1, count:]
        symbols = None if self.tokenizer is None else self.tokenizer.symbols
        right_to_left = self.tokenizer is not None and self.tokenizer.right_to_left
        if self.end is None:
            return MarkovSource(transition, symbols=symbols, right_to_left=right_to_left)
        return MarkovSource(
            transition,
            drawn[-1, :count] / drawn[-1, :count].sum(),
            end=ends[:, 0],
            symbols=symbols,
            right_to_left=right_to_left,
        )

    def model(self) -> MarkovModel:
        """Return the exact model of the source.

        Examples
        --------
        >>> import tokendraw as td
        >>> source = MarkovSource([[0.0, 1.0], [0.5, 0.5]], symbols="ab")
        >>> [found] = td.generate(source.model(), "a", max_new_tokens=1)
        >>> found.text
        'b'
        """
        return MarkovModel(_logs(self._table()), self.tokenizer)

    def _table(self) -> Floats:
        """Return probabilities [n + 1, vocab] of what follows each symbol, and in the last row of the first.

        With an end the vocabulary has one more id than there are symbols.
        """
        rows = np.concatenate([self.going_on, self.start[np.newaxis]])
        if self.end is None:
            return rows
        return np.concatenate([rows, np.append(self.end, 0.0)[:, np.newaxis]], axis=1)


class SymbolTokenizer:
    """One token per symbol: per character, or per word of a known list.

    Parameters
    ----------
    symbols : str or sequence of str
        The symbols in the order of their ids; the id after the last one has no text. Text is cut from the
        left, each time into the longest symbol that fits.
    right_to_left : bool, default False
        Whether the last symbol of a text comes first.

    Examples
    --------
    >>> SymbolTokenizer("abc").encode("cab")
    [2, 0, 1]
    >>> SymbolTokenizer(["we", " see", " seeds"]).encode("we see seeds")
    [0, 1, 2]
    """

    def __init__(self, symbols: str | Sequence[str], *, right_to_left: bool = False) -> None:
        self.symbols = symbols if isinstance(symbols, str) else tuple(symbols)
        self.right_to_left = right_to_left
        self._ids = {symbol: token for token, symbol in enumerate(self.symbols)}
        if len(self._ids) != len(self.symbols) or "" in self._ids:
            raise ValueError(f"symbols must be different texts, none empty, got {symbols!r}")
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text.

        Raises
        ------
        ValueError
            If a part of it is no symbol.
        """
        ids, place = [], 0
        while place < len(text):
            found = self._pattern.match(text, place)
            if found is None:
                raise ValueError(f"text must consist of symbols, got {text[place]!r} (place {place})")
            ids.append(self._ids[found.group()])
            place = found.end()
        return ids[::-1] if self.right_to_left else ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids."""
        texts = [self.token_bytes(token).decode() for token in ids]
        return "".join(reversed(texts) if self.right_to_left else texts)

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one id; none for the id after the last symbol."""
        if not 0 <= token <= len(self.symbols):
            raise ValueError(f"token ids must be in [0, {len(self.symbols)}], got {token}")
        return "".join(self.symbols[token : token + 1]).encode()


class MarkovModel:
    """A Markov source as a language model; its logits are exact log-probabilities.

    Tokens are symbols. A source with an end has one more token, which begins and ends every sequence; a
    prompt may have it as first id or not. A state holds the last symbol of each row.

    Parameters
    ----------
    logprobs : array_like [n + 1, vocab]
        Log-probabilities of what follows each of n symbols, and in the last row of the first one.
    tokenizer : SymbolTokenizer, optional
        For text.

    Attributes
    ----------
    vocab_size : int
        Number of token ids.
    bos_token_id, eos_token_id : int or None
        The token that begins and ends sequences, if the source has an end.

    Examples
    --------
    >>> model = MarkovSource([[0.25, 0.75], [0.5, 0.5]]).model()
    >>> state, logits = model.start([[0], [1]])
    >>> np.exp(logits).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """

    def __init__(self, logprobs: npt.ArrayLike, tokenizer: SymbolTokenizer | None = None) -> None:
        self._logprobs = np.asarray(logprobs, dtype=np.float64)
        rows, self.vocab_size = self._logprobs.shape
        self._nothing = rows - 1
        self.bos_token_id = self.eos_token_id = self._nothing if self.vocab_size == rows else None
        self.tokenizer = tokenizer

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Integers, Floats]:
        """Read one prompt per row; return the state and logits [rows, vocab]."""
        lasts = [_symbols(prompt, self.vocab_size)[-1:] for prompt in prompts]
        state = np.array([last[0] if len(last) else self._nothing for last in lasts], dtype=np.int64)
        return state, self._logprobs[state]

    def step(self, state: Integers, tokens: npt.ArrayLike) -> tuple[Integers, Floats]:
        """Read one token per row; return the state after it and logits [rows, vocab]."""
        read = _symbols(tokens, self.vocab_size)
        if read.shape != state.shape:
            raise ValueError(f"tokens must have shape {state.shape}, one per row, got {read.shape}")
        return read, self._logprobs[read]

    def select(self, state: Integers, rows: npt.ArrayLike) -> Integers:
        """Return a state with the given rows in the given order."""
        return state[np.asarray(rows, dtype=np.intp).reshape(-1)]

    def concat(self, states: Sequence[Integers]) -> Integers:
        """Return one state with the rows of all states."""
        return np.concatenate(states)

    def extend(self, state: Integers, tokens: npt.ArrayLike) -> tuple[list[Integers], Floats]:
        """Read tokens [rows, n], -1 for none; return the n states and logits [rows, n, vocab]."""
        ids = np.asarray(tokens, dtype=np.int64)
        states = [state]
        for column in ids.T:
            states.append(np.where(column < 0, states[-1], column))
        logits = self._logprobs[ids]
        logits[ids < 0] = 0.0
        return states[1:], logits


def _probabilities(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Return float64 probabilities whose last axis has the sum 1 to the last digit."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape or array.size == 0:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    for row, line in enumerate(np.atleast_2d(array)):
        if not (line >= 0).all() or abs(line.sum() - 1) > 1e-9:
            raise ValueError(f"{name} must be probabilities with the sum 1, got {line.tolist()} (row {row})")
    scaled: Floats = array / array.sum(axis=-1, keepdims=True)
    return scaled


def _ends(values: npt.ArrayLike, transition: Floats) -> Floats:
    """Return the probability of an end after each symbol; every symbol must be able to lead to one."""
    ends = np.broadcast_to(np.asarray(values, dtype=np.float64), transition.shape[:1]).copy()
    for symbol, end in enumerate(ends):
        if not 0 <= end <= 1:
            raise ValueError(f"end must be in [0, 1], got {end} (symbol {symbol})")
    ending = ends > 0
    for _ in ends:
        ending |= (transition[:, ending] > 0).any(axis=1)
    if not ending.all():
        raise ValueError(f"every symbol must be able to lead to an end, got symbol {ending.argmin()}")
    return ends


def _stationary(transition: Floats) -> Floats:
    """Return the probabilities of symbols that a transition leaves as they are."""
    count = len(transition)
    equations = np.concatenate([transition.T - np.eye(count), np.ones((1, count))])
    if np.linalg.matrix_rank(equations[:-1]) < count - 1:
        raise ValueError("transition must lead from any symbol to one set of symbols: give start")
    solved = np.linalg.lstsq(equations, np.append(np.zeros(count), 1.0), rcond=None)[0]
    clipped = np.maximum(solved, 0.0)
    stationary: Floats = clipped / clipped.sum()
    return stationary


def _rows_of(weights: Floats) -> Floats:
    """Return rows scaled to the sum 1; a row without weight stays where it is."""
    sums = weights.sum(axis=1, keepdims=True)
    scaled: Floats = np.where(sums > 0, weights / np.where(sums > 0, sums, 1.0), np.eye(len(weights)))
    return scaled


def _entropy(probabilities: Floats) -> Any:
    """Return bits along the last axis; 0 log 0 is 0."""
    positive = np.where(probabilities > 0, probabilities, 1.0)
    return -(positive * np.log2(positive)).sum(axis=-1)


def _logs(probabilities: npt.ArrayLike) -> Floats:
    """Return natural logarithms, of 0 minus infinity."""
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(np.asarray(probabilities, dtype=np.float64))
    return logs


def _symbols(values: npt.ArrayLike, count: int) -> Integers:
    """Return ids that lie in [0, count)."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"symbols must be a list of integers, got {values!r}")
    wrong = array[(array < 0) | (array >= count)]
    if wrong.size:
        raise ValueError(f"symbols must be in [0, {count}), got {wrong[0]}")
    return array.astype(np.int64)

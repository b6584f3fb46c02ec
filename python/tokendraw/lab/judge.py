# SPDX-License-Identifier: Apache-2.0
"""How many bits a text takes after a prefix: many prefixes at once, what they share read once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from tokendraw.models.base import Model, complete, fill_empty_prompts

__all__ = ["Judge", "Judgement", "Prefix"]

Prefix: TypeAlias = tuple[int, ...]

# Columns of logits that a batch holds in memory at once.
_COLUMNS = 16


class Judgement(NamedTuple):
    """What a prefix does to a text.

    Attributes
    ----------
    prefix : tuple of int
        Its tokens.
    bits : float
        What the text takes after it, -log2 P(text | prefix).
    saved : float
        The bits of the text without a prefix, less `bits`.
    saved_per_token : float
        `saved` by the number of the prefix's tokens; 0 for the empty one.
    own_bits : float
        What the prefix itself takes, -log2 P(prefix).
    net : float
        `saved` less `own_bits`: positive where the prefix pays for itself.
    """

    prefix: Prefix
    bits: float
    saved: float
    saved_per_token: float
    own_bits: float
    net: float


class Judge:
    r"""Scores one text after prefixes, each of which stands at the beginning of a document.

    Parameters
    ----------
    model : Model
        A model with `bos_token_id`, from which the empty prefix starts.
    text : sequence of int
        The text's tokens in the order in which the model reads them, at least one.
    batch : int, default 128
        How many rows the model reads together. Results do not depend on it, as far as the model's logits
        do not.

    Attributes
    ----------
    model : CompleteModel
        The model.
    text : tuple of int
        The text's tokens.
    beginning : list of int
        What the model reads before a prefix: the token that begins a document.
    empty_bits : float
        The bits of the text without a prefix.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> judge = Judge(model, model.tokenizer.encode("And the LORD said unto Moses,"))
    >>> prefixes = [model.tokenizer.encode(text) for text in (" Egypt.\n", " the")]
    >>> after_verse, after_word = judge.bits(prefixes)
    >>> bool(after_verse < after_word)
    True
    """

    def __init__(self, model: Model[Any], text: Sequence[int], *, batch: int = 128) -> None:
        if len(text) == 0:
            raise ValueError("a text must have at least one token, got an empty one")
        if batch < 1:
            raise ValueError(f"batch must be >= 1, got {batch}")
        self.model = complete(model)
        self.text: Prefix = tuple(int(token) for token in text)
        self._batch = batch
        [self.beginning] = fill_empty_prompts(model, [[]])
        self._start, logits = self.model.start([self.beginning])
        self._first_logits = logits
        self._first = self._bits_of(logits, self.text[0])
        self.empty_bits = float(self.bits([()])[0])

    def bits(self, prefixes: Sequence[Sequence[int]], head: int | None = None) -> NDArray[np.float64]:
        """Return the bits of the text, or of its first tokens, after each prefix.

        Parameters
        ----------
        prefixes : sequence of sequences of int
            Token ids in the order in which the model reads them.
        head : int, optional
            How many of the text's tokens count; by default all.

        Returns
        -------
        ndarray, float64
            -log2 P(text | prefix), one value per prefix.
        """
        if len(prefixes) == 0:
            return np.zeros(0)
        # Sorted, so that prefixes with a common beginning lie in one batch.
        distinct, places = np.unique(_padded(prefixes), axis=0, return_inverse=True)
        rest = np.array(self.text[1:head], dtype=np.int64)
        found = []
        for first in range(0, len(distinct), self._batch):
            state, begun = self._read(distinct[first : first + self._batch])
            found.append(begun + self._rest_bits(state, len(begun), rest))
        bits: NDArray[np.float64] = np.concatenate(found)[places.reshape(-1)]
        return bits

    def costs(self, prefixes: Sequence[Sequence[int]], head: int | None = None) -> NDArray[np.int64]:
        """Return how many tokens the model reads for each prefix beyond those for the prefixes before it.

        Beginnings that prefixes share are read once, and the text, but for its last token, once after each
        distinct prefix.

        Parameters
        ----------
        prefixes, head
            As for `bits`.

        Returns
        -------
        ndarray, int64
            One count per prefix; their sum is the effort of `bits`.
        """
        rest = len(self.text[:head]) - 1
        known: set[Prefix] = {()}
        scored: set[Prefix] = set()
        costs = []
        for prefix in map(tuple, prefixes):
            beginnings = {prefix[: length + 1] for length in range(len(prefix))}
            costs.append(len(beginnings - known) + (rest if prefix not in scored else 0))
            known |= beginnings
            scored.add(prefix)
        return np.array(costs, dtype=np.int64)

    def judgement(self, prefix: Sequence[int]) -> Judgement:
        """Return all there is to say of one prefix.

        Parameters
        ----------
        prefix : sequence of int
            Token ids in the order in which the model reads them.

        Returns
        -------
        Judgement
        """
        bits = float(self.bits([prefix])[0])
        saved = self.empty_bits - bits
        own = Judge(self.model, prefix).empty_bits if len(prefix) else 0.0
        return Judgement(tuple(prefix), bits, saved, saved / max(len(prefix), 1), own, saved - own)

    def expected(self, count: int) -> NDArray[np.int64]:
        """Return the tokens that the model finds most probable, on average, where the text's tokens stand.

        Parameters
        ----------
        count : int
            How many. The model reads the text for it.

        Returns
        -------
        ndarray of int64
            Tokens, the most probable first.
        """
        total = np.zeros(self.model.vocab_size)
        state, logits = self._start, self._first_logits
        for token in self.text:
            total += np.asarray(td.softmax(logits), dtype=np.float64)[0]
            state, logits = self.model.step(state, np.array([token]))
        return np.argsort(-total, kind="stable")[:count]

    def _read(self, prefixes: NDArray[np.int64]) -> tuple[Any, NDArray[np.float64]]:
        """Read sorted distinct prefixes; return a state with a row for each, and the first token's bits."""
        state, bits = self._start, self._first
        nodes = np.zeros(len(prefixes), dtype=np.intp)
        for column, is_new in zip(prefixes.T, _new_beginnings(prefixes).T, strict=True):
            tokens, parents = column[is_new], nodes[is_new]
            state, logits = self.model.extend(self.model.select(state, parents), tokens[:, np.newaxis])
            state = state[-1]
            # A prefix that ended earlier reads -1, which leaves its row as it was.
            bits = np.where(tokens >= 0, self._bits_of(logits[:, 0], self.text[0]), bits[parents])
            nodes = np.cumsum(is_new) - 1
        return self.model.select(state, nodes), bits[nodes]

    def _rest_bits(self, state: Any, rows: int, rest: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the bits of what follows the text's first token in each row."""
        bits = np.zeros(rows)
        for first in range(0, len(rest), _COLUMNS):
            following = rest[first : first + _COLUMNS]
            read = self.text[first : first + len(following)]
            states, logits = self.model.extend(state, np.tile(read, (rows, 1)))
            state = states[-1]
            bits += self._bits_of(logits, following).sum(axis=1)
        return bits

    def _bits_of(self, logits: Any, tokens: Any) -> NDArray[np.float64]:
        """Return the bits of the same tokens in each row of logits."""
        wanted = np.broadcast_to(np.asarray(tokens, dtype=np.int64), logits.shape[:-1])
        logprobs = np.asarray(td.token_logprobs(logits, np.ascontiguousarray(wanted)), dtype=np.float64)
        return -logprobs / math.log(2)


def _padded(prefixes: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return prefixes as one array, with -1 where one has ended."""
    padded = np.full((len(prefixes), max(map(len, prefixes))), -1, dtype=np.int64)
    for row, prefix in zip(padded, prefixes, strict=True):
        row[: len(prefix)] = prefix
    return padded


def _new_beginnings(prefixes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where a row of sorted prefixes begins, up to a column, as none before it does."""
    differs = np.ones(prefixes.shape, dtype=bool)
    differs[1:] = np.logical_or.accumulate(prefixes[1:] != prefixes[:-1], axis=1)
    return differs

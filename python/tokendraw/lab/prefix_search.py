# SPDX-License-Identifier: Apache-2.0
"""One search for the best prefix of a text: what it may spend, what it has spent, what it has found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from tokendraw.lab.judge import Judge, Prefix

__all__ = ["Gain", "PrefixSearch", "candidate_tokens", "text_tokens"]


class Gain(NamedTuple):
    """A prefix was better than all before it.

    Attributes
    ----------
    effort : int
        How many tokens the model had read by then.
    saved : float
        The bits it saves.
    """

    effort: int
    saved: float


class PrefixSearch:
    """What a solver works with: it scores prefixes until its effort is spent.

    The search begins with the empty prefix, which saves nothing, and keeps the best prefix that it has
    seen scored against the whole text.

    Parameters
    ----------
    judge : Judge
        Scores prefixes of the text.
    length : int
        The most tokens a prefix may have.
    effort : int
        How many tokens the model may read, those that proposals need included. No search reads more.
    seed : int or sequence of int
        Of all that is drawn.
    candidates : int, default 1024
        How many tokens are tried in a place; a vocabulary that is not larger is tried whole.
    on_progress : callable, optional
        Called with the effort that was spent since the last call.

    Attributes
    ----------
    rng : numpy.random.Generator
        All that solvers draw.
    tokens : ndarray of int
        What is tried in a place.
    best : tuple of int
        The best prefix so far.
    best_bits : float
        What the text takes after it.
    gains : list of Gain
        When the best prefix changed.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> judge = Judge(model, model.tokenizer.encode(" of Israel went up out of Egypt"))
    >>> search = PrefixSearch(judge, length=5, effort=500, seed=1)
    >>> bits = search.score([model.tokenizer.encode(text) for text in ("The horses", "The children")])
    >>> bool(bits[0] > bits[1]), model.tokenizer.decode(search.best)
    (True, 'The children')
    """

    def __init__(
        self,
        judge: Judge,
        length: int,
        effort: int,
        seed: int | Sequence[int],
        *,
        candidates: int = 1024,
        on_progress: Callable[[int], object] = lambda effort: None,
    ) -> None:
        self.judge = judge
        self.length = length
        self.effort = effort
        self.spent = 0
        self.rng = np.random.default_rng(seed)
        self._undrawn = self.rng.bit_generator.state
        self.best: Prefix = ()
        self.best_bits = judge.empty_bits
        self.gains = [Gain(0, 0.0)]
        self._on_progress = on_progress
        allowed = text_tokens(judge.model)
        self._mask = np.isin(np.arange(judge.model.vocab_size), allowed)
        self.tokens = allowed
        if len(allowed) > candidates and self.spend(len(judge.text)):
            self.tokens = candidate_tokens(judge, allowed, candidates, self.rng)

    @property
    def is_over(self) -> bool:
        """Whether the effort is spent."""
        return self.spent >= self.effort

    @property
    def is_random(self) -> bool:
        """Whether anything was drawn so far."""
        return bool(self.rng.bit_generator.state != self._undrawn)

    @property
    def progress(self) -> float:
        """The share of the effort that is spent."""
        return self.spent / self.effort

    def spend(self, effort: int) -> bool:
        """Spend effort, or all that is left; return whether there was enough."""
        before = self.spent
        self.spent = min(before + effort, self.effort)
        self._on_progress(self.spent - before)
        return before + effort <= self.effort

    def score(self, prefixes: Sequence[Sequence[int]], head: int | None = None) -> NDArray[np.float64]:
        """Return the bits of the text, or of its first tokens, after each prefix.

        Parameters
        ----------
        prefixes : sequence of sequences of int
            Each of at most `length` tokens.
        head : int, optional
            How many of the text's tokens count; by default all, and then the best prefix is kept.

        Returns
        -------
        ndarray, float64
            One value per prefix, infinite for those that the effort did not suffice for.
        """
        costs = np.cumsum(self.judge.costs(prefixes, head))
        count = int(np.searchsorted(costs, self.effort - self.spent, side="right"))
        bits = np.full(len(prefixes), math.inf)
        bits[:count] = self.judge.bits(prefixes[:count], head)
        if head is None or head >= len(self.judge.text):
            self._keep_best(prefixes[:count], bits[:count], self.spent + costs[:count])
        if len(prefixes):
            self.spend(int(costs[-1]))
        return bits

    def draw(self, count: int, *, after_text: bool) -> list[Prefix]:
        """Draw prefixes from the model: from the beginning of a document, or as they follow the text.

        Parameters
        ----------
        count : int
            How many; fewer come back, perhaps none, where the effort does not suffice.
        after_text : bool
            Whether the model has read the text.

        Returns
        -------
        list of tuple of int
        """
        prompt = self.judge.text if after_text else ()
        left = self.effort - self.spent - len(prompt)
        affordable = min(count, left // max(self.length - 1, 1))
        if affordable < 1:
            self.spend(self.effort)
            return []
        self.spend(len(prompt) + affordable * (self.length - 1))
        drawn = td.generate(
            self.judge.model,
            [[*self.judge.beginning, *prompt]],
            max_new_tokens=self.length,
            n=affordable,
            seed=int(self.rng.integers(1 << 63)),
            mask=self._mask,
            eos_token_id=(),
        )
        return [tuple(each.tokens) for each in drawn]

    def _keep_best(
        self, prefixes: Sequence[Sequence[int]], bits: NDArray[np.float64], efforts: NDArray[np.int64]
    ) -> None:
        for prefix, value, effort in zip(prefixes, bits.tolist(), efforts.tolist(), strict=True):
            if value < self.best_bits:
                self.best, self.best_bits = tuple(int(token) for token in prefix), value
                self.gains.append(Gain(effort, self.judge.empty_bits - value))


def text_tokens(model: Any) -> NDArray[np.int64]:
    """Return the tokens that stand for text, which is all but those that begin and end documents.

    Examples
    --------
    >>> from tokendraw.models import load
    >>> len(text_tokens(load("kjv")))
    1023
    """
    tokenizer = getattr(model, "tokenizer", None)
    marks = {getattr(model, name, None) for name in ("bos_token_id", "eos_token_id")}
    return np.array(
        [
            token
            for token in range(model.vocab_size)
            if token not in marks and (tokenizer is None or tokenizer.token_bytes(token))
        ],
        dtype=np.int64,
    )


def candidate_tokens(
    judge: Judge, allowed: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose tokens out of a large vocabulary: the text's own, those the model expects in it, and others.

    Parameters
    ----------
    judge : Judge
        Of the text, which the model reads once.
    allowed : ndarray of int
        What is chosen from, more than `count` tokens.
    count : int
        How many; at least a half of those that are not in the text are drawn at random.
    rng : Generator
        Draws them.

    Returns
    -------
    ndarray of int64
        Distinct tokens in order.
    """
    own = np.intersect1d(judge.text, allowed)[:count]
    chosen = np.union1d(own, np.intersect1d(judge.expected((count - len(own)) // 2), allowed))
    others = rng.choice(np.setdiff1d(allowed, chosen), count - len(chosen), replace=False)
    return np.union1d(chosen, others)

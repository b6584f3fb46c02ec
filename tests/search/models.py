# SPDX-License-Identifier: Apache-2.0
"""A language model small enough to enumerate, and the brute force that searches are held against."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import tokendraw as td

Prefix = tuple[int, ...]


class TableModel:
    """A model whose logits are a pure function of everything that was read; it notes what it is asked.

    Parameters
    ----------
    vocab_size : int
    seed : int
        Gives every prefix its own random logits.
    spread : float
        Their standard deviation.
    levels : int, optional
        Round logits to so many values, so that there are many ties.
    rows : callable, optional
        Gives the logits of a prefix in place of all this.
    """

    bos_token_id = 0
    eos_token_id: Any = None

    def __init__(
        self,
        vocab_size: int,
        seed: int = 0,
        *,
        spread: float = 1.5,
        levels: int | None = None,
        rows: Callable[[Prefix], Any] | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self._seed = seed
        self._spread = spread
        self._levels = levels
        self._rows = rows
        self._table: dict[Prefix, np.ndarray] = {}
        self.calls: list[str] = []
        self.read: list[Prefix] = []

    def row(self, prefix: Sequence[int]) -> np.ndarray:
        """Return the logits after a prefix."""
        key = tuple(int(token) for token in prefix)
        if key not in self._table:
            self._table[key] = np.asarray(self._make_row(key), dtype=np.float32)
        return self._table[key]

    def _make_row(self, prefix: Prefix) -> Any:
        if self._rows is not None:
            return self._rows(prefix)
        logits = np.random.default_rng([self._seed, *prefix]).normal(0, self._spread, self.vocab_size)
        return logits if self._levels is None else np.round(logits * self._levels / 4) * 4 / self._levels

    def _rows_of(self, call: str, state: tuple[Prefix, ...]) -> tuple[tuple[Prefix, ...], np.ndarray]:
        self.calls.append(call)
        self.read += state
        logits = np.stack([self.row(prefix) for prefix in state])
        logits.setflags(write=False)
        return state, logits

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[tuple[Prefix, ...], np.ndarray]:
        return self._rows_of("start", tuple(tuple(int(token) for token in prompt) for prompt in prompts))

    def step(self, state: tuple[Prefix, ...], tokens: Any) -> tuple[tuple[Prefix, ...], np.ndarray]:
        read = zip(state, np.asarray(tokens).tolist(), strict=True)
        return self._rows_of("step", tuple((*prefix, token) for prefix, token in read))

    def select(self, state: tuple[Prefix, ...], rows: Any) -> tuple[Prefix, ...]:
        return tuple(state[row] for row in np.asarray(rows).tolist())


class JoiningModel(TableModel):
    """The same with a native `concat`."""

    def concat(self, states: Sequence[tuple[Prefix, ...]]) -> tuple[Prefix, ...]:
        return tuple(itertools.chain.from_iterable(states))


class ExtendingModel(JoiningModel):
    """A model that reads several tokens at once; `read` has every prefix it was asked for."""

    def extend(self, state: tuple[Prefix, ...], tokens: Any) -> tuple[list[tuple[Prefix, ...]], np.ndarray]:
        columns = np.asarray(tokens).T
        states, logits = [], []
        for column in columns:
            after = [
                prefix if token < 0 else (*prefix, int(token))
                for prefix, token in zip(state, column, strict=True)
            ]
            rows = [
                np.zeros(self.vocab_size, np.float32) if token < 0 else self.row(prefix)
                for prefix, token in zip(after, column, strict=True)
            ]
            self.read += [prefix for prefix, token in zip(after, column, strict=True) if token >= 0]
            state = tuple(after)
            states.append(state)
            logits.append(np.stack(rows))
        self.calls.append("extend")
        return states, np.stack(logits, axis=1)


class Completion(NamedTuple):
    """What brute force knows of a completion; `ranks` are the places of its tokens in their rows."""

    tokens: Prefix
    logprob: float
    ranks: Prefix


def completions(
    model: TableModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    ends: Sequence[int] = (),
    mask: Callable[[list[int]], Any] | None = None,
    **filters: Any,
) -> Iterator[Completion]:
    """Yield every completion: each ends with an end token, or has `max_new_tokens` tokens."""

    def grow(tokens: Prefix, logprob: float, ranks: Prefix) -> Iterator[Completion]:
        if tokens and (tokens[-1] in ends or len(tokens) == max_new_tokens):
            yield Completion(tokens, logprob, ranks)
            return
        own = {} if mask is None else {"mask": np.asarray(mask(list(tokens)))[None]}
        logits = model.row((*prompt, *tokens))[None]
        logprobs = td.log_softmax(logits, **own, **filters)[0]
        order = np.lexsort((np.arange(len(logprobs)), -logits[0]))
        kept = [token for token in order.tolist() if logprobs[token] > -np.inf]
        for rank, token in enumerate(kept):
            yield from grow((*tokens, token), logprob + float(logprobs[token]), (*ranks, rank))

    yield from grow((), 0.0, ())


def ranked(found: Iterator[Completion], length_penalty: float = 0.0) -> list[Completion]:
    """Return completions by score, then length, then the ranks of their tokens."""

    def key(each: Completion) -> tuple[float, int, Prefix]:
        return -each.logprob / len(each.tokens) ** length_penalty, len(each.tokens), each.ranks

    return sorted(found, key=key)

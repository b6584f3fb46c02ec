# SPDX-License-Identifier: Apache-2.0
"""Drafts: what proposes the next tokens of a text cheaply, for a larger model to verify several at once.

Nothing here decides what is accepted: `verify_draft` of the core does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tokendraw.models.base import CompleteModel, Model, array_library, complete
from tokendraw.prompts import integer, token_ids

__all__ = [
    "Draft",
    "Drafter",
    "PromptLookup",
    "Proposal",
    "Proposer",
    "Verified",
    "check_draft",
    "choose_states",
    "drafter_of",
]

Ints: TypeAlias = NDArray[np.int64]
SampleDrafts: TypeAlias = Callable[[Any, int, Sequence[Sequence[int]]], Any]


class Verified(NamedTuple):
    """What `verify_draft` made of the drafts of every row.

    Attributes
    ----------
    tokens : int32 [..., n + 1]
        The accepted drafts, one token more, then -1.
    accepted : int64 [...]
        How many of them are drafts.
    """

    tokens: Any
    accepted: Any


@runtime_checkable
class Proposer(Protocol):
    """Anything that guesses how texts go on, by no randomness that the verification could share."""

    def propose(self, sequences: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """Return the next tokens of each sequence, as many as it can guess; none is a guess too."""
        ...


Draft: TypeAlias = "Model[Any] | Proposer | str"


class PromptLookup:
    """Guesses that a text goes on as it did before: after the latest earlier place with the same last tokens.

    Saxena, "Prompt lookup decoding" (2023). Good where the text repeats its prompt: summaries, edits, code.

    Parameters
    ----------
    max_tokens : int, default 10
        The most tokens to propose.
    max_ngram, min_ngram : int, default 3 and 1
        How many last tokens must agree: the longest are looked for first.

    Examples
    --------
    >>> import tokendraw as td
    >>> td.PromptLookup(max_tokens=3).propose([[5, 6, 7, 8, 9, 5, 6], [1, 2, 3]])
    [[7, 8, 9], []]
    """

    def __init__(self, max_tokens: int = 10, *, max_ngram: int = 3, min_ngram: int = 1) -> None:
        self.max_tokens = integer("max_tokens", max_tokens, least=1)
        self.min_ngram = integer("min_ngram", min_ngram, least=1)
        self.max_ngram = integer("max_ngram", max_ngram, least=self.min_ngram)

    def propose(self, sequences: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return for each sequence the tokens that followed its last ones before; none if they are new."""
        return [self._continue(np.asarray(sequence, dtype=np.int64)) for sequence in sequences]

    def _continue(self, text: Ints) -> list[int]:
        for length in range(min(self.max_ngram, len(text) - 1), self.min_ngram - 1, -1):
            begins = len(text) - length  # of windows that a token follows
            agrees = np.ones(begins, dtype=np.bool_)
            for place in range(length):
                agrees &= text[place : place + begins] == text[begins + place]
            found = np.flatnonzero(agrees)
            if found.size:
                after = int(found[-1]) + length
                return cast("list[int]", text[after : after + self.max_tokens].tolist())
        return []

    def __repr__(self) -> str:
        return f"PromptLookup({self.max_tokens}, max_ngram={self.max_ngram}, min_ngram={self.min_ngram})"


class Proposal(NamedTuple):
    """The drafts of one round: at most so many per row, and the logits they were drawn from, if they were."""

    tokens: Ints
    """[rows, width], -1 past the last."""
    logits: Any
    """[rows, width, vocab], or None."""


class Drafter(Protocol):
    """The drafts of a batch whose rows grow, at rates of their own, and leave."""

    def propose(
        self, texts: Sequence[Sequence[int]], counts: Sequence[int], sample: SampleDrafts, ends: Iterable[int]
    ) -> Proposal:
        """Return at most `counts` drafts for the rows.

        ``sample(logits, offset, drafts)`` draws the drafts `offset` places on; nothing is drafted after one
        of the `ends`.
        """
        ...

    def keep(self, rows: Sequence[int], accepted: Sequence[int], tokens: Sequence[int]) -> None:
        """Go on with these rows, each of which accepted so many drafts and then came to another token."""
        ...


def check_draft(draft: Draft, model: Model[Any]) -> None:
    """Raise TypeError or ValueError unless the draft can propose tokens for the model."""
    kinds = 'draft must be a model, "prompt-lookup" or have propose'
    if isinstance(draft, str) and draft != "prompt-lookup":
        raise ValueError(f"{kinds}, got {draft!r}")
    if isinstance(draft, str | Proposer):
        return
    if not isinstance(draft, Model):
        raise TypeError(f"{kinds}, got {type(draft).__name__}")
    if draft.vocab_size != model.vocab_size:
        vocab = f"{model.vocab_size} tokens"
        raise ValueError(f"draft must have the vocabulary of the model, {vocab}, got {draft.vocab_size}")


def drafter_of(
    draft: Draft, model: Model[Any], prompts: Sequence[Sequence[int]], owners: Sequence[int], width: int
) -> Drafter:
    """Return what proposes tokens for rows that continue prompts: row i the prompt ``owners[i]``."""
    if isinstance(draft, str):
        return _Lookup(PromptLookup(width), model)
    if isinstance(draft, Proposer):
        return _Lookup(draft, model)
    return _ModelDrafter(complete(draft), prompts, owners)


class _Lookup:
    """Drafts that are no draws."""

    def __init__(self, proposer: Proposer, model: Model[Any]) -> None:
        self._proposer = proposer
        self._model = model

    def propose(
        self, texts: Sequence[Sequence[int]], counts: Sequence[int], _: SampleDrafts, ends: Iterable[int]
    ) -> Proposal:
        guesses = list(self._proposer.propose(texts))
        if len(guesses) != len(texts):
            raise ValueError(f"propose must return one list per sequence ({len(texts)}), got {len(guesses)}")
        cut = [_until_end(guess[:count], ends) for guess, count in zip(guesses, counts, strict=True)]
        return Proposal(_padded([token_ids("proposed tokens", guess, self._model) for guess in cut]), None)

    def keep(self, rows: Sequence[int], accepted: Sequence[int], tokens: Sequence[int]) -> None:
        pass


class _ModelDrafter:
    """Drafts of a smaller model, which reads what was accepted of them only once."""

    def __init__(
        self, model: CompleteModel[Any], prompts: Sequence[Sequence[int]], owners: Sequence[int]
    ) -> None:
        self._model = model
        state, _ = model.start(prompts)
        # trail[j] has read the text and j drafts; the rest of the text is unread.
        self._trail = [model.select(state, np.array(owners, dtype=np.intp))]
        self._unread: list[list[int]] = [[] for _ in owners]
        self._drafts = np.zeros((len(owners), 0), dtype=np.int64)

    def propose(
        self, texts: Sequence[Sequence[int]], counts: Sequence[int], sample: SampleDrafts, ends: Iterable[int]
    ) -> Proposal:
        del texts  # it is in the state
        states, logits = self._model.extend(self._trail[0], _padded(self._unread, left=True))
        state, logits = states[-1], logits[:, -1]
        self._trail = [state]
        drafts: list[list[int]] = [[] for _ in counts]
        rows_of_logits = []
        open_rows = [count > 0 for count in counts]
        for offset in range(max(counts)):
            if offset > 0:
                last = [draft[-1] if is_open else 0 for draft, is_open in zip(drafts, open_rows, strict=True)]
                state, logits = self._model.step(state, np.array(last))
                self._trail.append(state)
            rows_of_logits.append(logits)
            sampled = sample(logits, offset, drafts).tolist()
            for row, token in enumerate(sampled):
                open_rows[row] = open_rows[row] and token >= 0
                if open_rows[row]:
                    drafts[row].append(token)
                    open_rows[row] = len(drafts[row]) < counts[row] and token not in ends
            if not any(open_rows):
                break
        self._drafts = _padded(drafts)
        if self._drafts.shape[1] == 0:
            return Proposal(self._drafts, None)
        stacked = array_library(logits).stack(rows_of_logits[: self._drafts.shape[1]], axis=1)
        return Proposal(self._drafts, stacked)

    def keep(self, rows: Sequence[int], accepted: Sequence[int], tokens: Sequence[int]) -> None:
        # The last draft has been sampled, but not read.
        read = [min(count, len(self._trail) - 1) for count in accepted]
        self._unread = [
            [*self._drafts[row, had:count].tolist(), token]
            for row, had, count, token in zip(rows, read, accepted, tokens, strict=True)
        ]
        self._trail = [choose_states(self._model, self._trail, read, rows)]


def choose_states(
    model: CompleteModel[Any], states: Sequence[Any], places: Sequence[int], rows: Sequence[int]
) -> Any:
    """Return a state whose row i is row ``rows[i]`` of ``states[places[i]]``."""
    chosen, row_of = np.asarray(places, dtype=np.intp), np.asarray(rows, dtype=np.intp)
    used = np.unique(chosen)
    parts = [model.select(states[place], row_of[chosen == place]) for place in used]
    if len(parts) == 1:
        return parts[0]
    order = np.empty(len(chosen), dtype=np.intp)
    order[np.argsort(chosen, kind="stable")] = np.arange(len(chosen))
    return model.select(model.concat(parts), order)


def _until_end(tokens: Sequence[int], ends: Iterable[int]) -> Sequence[int]:
    last = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: last + 1]


def _padded(rows: Sequence[Sequence[int]], *, left: bool = False) -> Ints:
    width = max(map(len, rows), default=0)
    padded = np.full((len(rows), width), -1, dtype=np.int64)
    for row, tokens in enumerate(rows):
        start = width - len(tokens) if left else 0
        padded[row, start : start + len(tokens)] = tokens
    return padded

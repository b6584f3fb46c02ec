# SPDX-License-Identifier: Apache-2.0
"""How probable given tokens are to a language model: pairs of prompt and completion, and any rows of tokens.

Nothing here knows a model: anything with `start`, `step` and `select` will do, and `extend` makes it faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from tokendraw._core import token_logprobs
from tokendraw.errors import InvalidLogitsError
from tokendraw.prompts import (
    Prompt,
    as_batch,
    check_logits,
    encode_continuations,
    integer,
    is_one_prompt,
    tokenizer_of,
)

if TYPE_CHECKING:
    from tokendraw.models.base import Model

__all__ = ["Row", "Score", "ScoredRow", "check_on_invalid", "score", "score_rows"]

OnInvalid: TypeAlias = Literal["raise", "mark"]

# Logits of so many numbers are kept at once, 32 MiB in float32: enough tokens of a large vocabulary for
# matrix products that are worth it.
_CHUNK = 1 << 23


@dataclass(frozen=True, slots=True)
class Score:
    """How probable a completion is after its prompt.

    Attributes
    ----------
    logprob : float
        The log-probability of the completion, in nats: the sum of `logprobs`; 0 of an empty one.
    logprobs : list of float
        The log-probability of each token after all that came before it.
    ranks : list of int
        For each token how many others the model ranked above it; -1 where its row was invalid.
    tokens : list of int
        What was scored.
    num_bytes : int or None
        How many bytes the tokens stand for; None where the model has no tokenizer.

    Examples
    --------
    >>> found = Score(-1.5, [-1.0, -0.5], [2, 0], [7, 8], num_bytes=4)
    >>> round(found.bits, 3), round(found.bits_per_byte, 3)
    (2.164, 0.541)
    """

    logprob: float
    logprobs: list[float]
    ranks: list[int]
    tokens: list[int]
    num_bytes: int | None = None

    @property
    def bits(self) -> float:
        """What the completion costs in bits."""
        return 0.0 - self.logprob / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """What it costs per byte of its text; NaN where that is not known or empty."""
        return self.bits / self.num_bytes if self.num_bytes else math.nan


@overload
def score(
    model: Model[Any],
    prompt: str,
    completion: str,
    *,
    batch_size: int = ...,
    on_invalid: OnInvalid | None = ...,
) -> Score: ...


@overload
def score(
    model: Model[Any],
    prompt: Any,
    completion: Any,
    *,
    batch_size: int = ...,
    on_invalid: OnInvalid | None = ...,
) -> Any: ...


def score(
    model: Model[Any],
    prompt: Any,
    completion: Any,
    *,
    batch_size: int = 32,
    on_invalid: OnInvalid | None = None,
) -> Any:
    """Return how probable a completion is after a prompt, token by token.

    Several pairs are read together, whatever their lengths; one prompt may have several completions, and one
    completion several prompts. Logits are kept for a few tokens at a time.

    Parameters
    ----------
    model : Model
        Any object with `start`, `step` and `select`, see `tokendraw.models.base.Model`; with `extend` it
        reads many tokens at once.
    prompt : str or sequence of int, or a sequence of these
        What is given; the empty one is the model's first token.
    completion : str or sequence of int, or a sequence of these
        What is scored. An empty completion, ``""`` or ``[[]]``, is certain: its log-probability is 0.
    batch_size : int, default 32
        The most pairs that the model reads at once.
    on_invalid : {"raise", "mark"}, optional
        What follows a row of logits with NaN or +inf: None and "raise" raise `InvalidLogitsError`, after all
        other pairs were scored; with "mark" the tokens have log-probability NaN and rank -1.

    Returns
    -------
    Score or list of Score
        A list where several prompts or completions were given.

    Notes
    -----
    Where prompt and completion are text, their tokens are those of the joined text. If the tokenizer joins
    the end of the prompt with the completion to one token, what is scored begins where the tokens first
    differ from the prompt's own: `Score.tokens` then holds the end of the prompt too. Where there is no
    telling them apart like this, they are encoded apart.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> found = td.score(model, "In the beginning God created the", " heaven and the earth.")
    >>> [model.tokenizer.decode([token]) for token in found.tokens]
    [' heaven', ' and', ' the', ' earth', '.']
    >>> [round(logprob, 1) for logprob in found.logprobs], found.ranks
    ([-5.1, -3.8, -1.5, -2.1, -1.8], [34, 7, 0, 0, 2])

    One prompt, several completions:

    >>> light, darkness = td.score(model, "And God said, Let there be", [" light", " darkness"])
    >>> light.logprob > darkness.logprob
    True
    """
    marks = check_on_invalid(on_invalid)
    width = integer("batch_size", batch_size, least=1)
    given = _pairs(as_batch(prompt), as_batch(completion))
    pairs = [_pair(model, *each, place) for place, each in enumerate(given)]
    found = [ScoredRow.empty()] * len(pairs)
    order = sorted((place for place, row in enumerate(pairs) if row.targets), key=lambda p: pairs[p].length)
    for first in range(0, len(order), width):
        places = order[first : first + width]
        for place, scored in zip(places, score_rows(model, [pairs[place] for place in places]), strict=True):
            found[place] = scored
    if not marks:
        _refuse_invalid(found)
    scores = [_score_of(model, row, scored) for row, scored in zip(pairs, found, strict=True)]
    return scores[0] if is_one_prompt(prompt) and is_one_prompt(completion) else scores


def check_on_invalid(on_invalid: OnInvalid | None) -> bool:
    """Return whether invalid rows are marked."""
    if on_invalid not in (None, "raise", "mark"):
        raise ValueError(f"on_invalid must be None, 'raise' or 'mark', got {on_invalid!r}")
    return on_invalid == "mark"


def _pairs(prompts: list[Any], completions: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(prompts) == 1:
        prompts = prompts * len(completions)
    if len(completions) == 1:
        completions = completions * len(prompts)
    if len(prompts) != len(completions):
        raise ValueError(
            f"there must be one completion per prompt ({len(prompts)}) or one for all, got {len(completions)}"
        )
    return zip(prompts, completions, strict=True)


def _pair(model: Model[Any], prompt: Prompt, completion: Prompt, place: int) -> Row:
    context, [targets] = encode_continuations(
        model, prompt, place, [completion], kind="completion", first=place
    )
    return Row(context, targets)


def _refuse_invalid(found: Sequence[ScoredRow]) -> None:
    wrong = [(place, scored.first_invalid) for place, scored in enumerate(found) if scored.first_invalid >= 0]
    if wrong:
        place, token = wrong[0]
        raise InvalidLogitsError(
            f"logits must hold no NaN and no +inf, and something finite, got others for token {token} of a "
            f"completion (completion {place})",
            rows=[place for place, _ in wrong],
        )


def _score_of(model: Model[Any], row: Row, scored: ScoredRow) -> Score:
    tokens = [int(token) for token in row.targets]
    tokenizer = tokenizer_of(model)
    size = None if tokenizer is None else sum(len(tokenizer.token_bytes(token)) for token in tokens)
    return Score(scored.total, scored.logprobs.tolist(), scored.ranks.tolist(), tokens, size)


# --- Rows of tokens ----------------------------------------------------------------------------------------


class Row(NamedTuple):
    """Tokens to score, and the tokens before them, neither empty."""

    context: Sequence[int]
    targets: Sequence[int]

    @property
    def length(self) -> int:
        """How many tokens the model reads: all but the last."""
        return len(self.context) + len(self.targets) - 1


class ScoredRow(NamedTuple):
    """The targets of a row, scored; NaN and rank -1 where the logits were invalid."""

    logprobs: NDArray[np.float32]
    ranks: NDArray[np.int64]

    @classmethod
    def empty(cls, size: int = 0) -> ScoredRow:
        """Return the scores of so many tokens, which are yet to be filled in."""
        return cls(np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.int64))

    @property
    def total(self) -> float:
        """The log-probability of all tokens, summed in float64."""
        return float(self.logprobs.sum(dtype=np.float64))

    @property
    def first_invalid(self) -> int:
        """The first target whose logits were invalid; -1 if there is none."""
        wrong = np.flatnonzero(np.isnan(self.logprobs))
        return int(wrong[0]) if wrong.size else -1


def score_rows(model: Any, rows: Sequence[Row]) -> list[ScoredRow]:
    """Score the targets of rows that are read together; each row ends on its own."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].targets))
    sizes = [len(rows[place].targets) for place in order]
    targets = np.full((len(rows), sizes[0]), -1, dtype=np.int64)
    for padded, place, size in zip(targets, order, sizes, strict=True):
        padded[:size] = rows[place].targets
    found = _score_padded(model, [rows[place].context for place in order], targets)
    scored = [ScoredRow.empty()] * len(rows)
    for place, size, logprobs, ranks in zip(order, sizes, *found, strict=True):
        scored[place] = ScoredRow(logprobs[:size].copy(), ranks[:size].copy())
    return scored


def _score_padded(
    model: Any, contexts: Sequence[Sequence[int]], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Score targets [rows, n] padded with -1, longer rows first, a few columns at a time."""
    logprobs, ranks = np.zeros(targets.shape, dtype=np.float32), np.zeros(targets.shape, dtype=np.int64)
    state, logits = _start(model, contexts)
    logprobs[:, 0], ranks[:, 0] = _scored(logits, targets[:, 0])
    live, done = len(targets), 1
    while done < targets.shape[1]:
        longer = int(np.count_nonzero(targets[:, done] >= 0))
        if longer < live:
            state, live = model.select(state, np.arange(longer)), longer
        part = slice(done, done + _columns(model, live))
        wanted = targets[:live, part]
        done += wanted.shape[1]
        # A row's last target is not read: nothing is predicted from it.
        read = np.where(wanted < 0, -1, targets[:live, part.start - 1 : done - 1])
        state, logits = _read(model, state, read)
        logprobs[:live, part], ranks[:live, part] = _scored(logits, wanted)
    return logprobs, ranks


def _columns(model: Any, rows: int) -> int:
    """Return how many tokens per row are read at once; one by one unless the model can do better."""
    return max(1, _CHUNK // (rows * int(model.vocab_size))) if hasattr(model, "extend") else 1


def _start(model: Any, contexts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Start rows, of which equal ones are read once."""
    keys = [tuple(context) for context in contexts]
    distinct = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    state, logits = model.start([list(key) for key in distinct])
    check_logits(logits, len(distinct))
    if len(distinct) == len(keys):
        return state, logits
    rows = np.array([distinct[key] for key in keys], dtype=np.intp)
    return model.select(state, rows), logits[rows]


def _read(model: Any, state: Any, tokens: NDArray[np.int64]) -> tuple[Any, Any]:
    """Read tokens [rows, n] padded with -1; return the last state and logits [rows, n, vocab]."""
    rows, count = tokens.shape
    if count == 1:
        state, logits = model.step(state, tokens[:, 0])
        check_logits(logits, rows)
        return state, logits[:, None]
    states, logits = model.extend(state, tokens)
    if tuple(logits.shape[:-1]) != (rows, count):
        raise ValueError(
            f"a model must return logits of shape ({rows}, {count}, vocab), got {tuple(logits.shape)}"
        )
    return states[-1], logits


def _scored(logits: Any, targets: NDArray[np.int64]) -> tuple[Any, Any]:
    """Return log-probability and rank of each target, of any token where there is none."""
    logprobs, ranks = token_logprobs(logits, np.maximum(targets, 0), ranks=True, on_invalid="mark")
    return np.asarray(logprobs), np.asarray(ranks)

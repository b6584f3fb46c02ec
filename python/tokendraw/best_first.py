# SPDX-License-Identifier: Apache-2.0
"""The most probable completion of a prompt, with proof: best-first search on cumulative log-probability.

The heap is in the core; here is the loop over the model, and which of its states are kept.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokendraw._core import _BestFirst, draw, top_continuations
from tokendraw.errors import InvalidLogitsError
from tokendraw.hypothesis import Hypothesis, text_of
from tokendraw.models.base import complete, fill_empty_prompts
from tokendraw.params import READS_HISTORY, SamplingParams, columns_of, merged_params
from tokendraw.prompts import Prompt, check_logits, encode_prompt, end_tokens, integer, tokenizer_of

if TYPE_CHECKING:
    from tokendraw.models.base import CompleteModel, Model, Tokenizer
    from tokendraw.tree import SearchTree

__all__ = ["Search", "SearchProgress", "best_first_search"]

_ROOT = 0
_SHOWN = 5  # candidates of a node that a search tree is told of, beside those that are read


class Search(list[Hypothesis]):
    """The hypotheses of a search, best first, and what is known of all others.

    Attributes
    ----------
    proved : bool
        Whether these are the best completions there are. Fewer than were asked for are then all there are.
    bound : float
        No completion that is not in the list has a higher `score`; -inf if there is none.
    expansions : int
        How many rows of logits the model was asked for.

    Examples
    --------
    >>> import tokendraw as td
    >>> found = td.best_first_search(td.models.load("kjv"), "And the LORD spake unto", max_new_tokens=2)
    >>> found.proved, found[0].text, found.bound <= found[0].score
    (True, ' Moses,', True)
    """

    def __init__(
        self, hypotheses: Iterable[Hypothesis], *, proved: bool, bound: float, expansions: int
    ) -> None:
        super().__init__(hypotheses)
        self.proved = proved
        self.bound = bound
        self.expansions = expansions


class SearchProgress(NamedTuple):
    """How far a search has come.

    Attributes
    ----------
    expansions : int
        Rows of logits so far.
    score : float
        Of the best completion so far; -inf before the first.
    bound : float
        No completion that was not found yet has a higher score.
    """

    expansions: int
    score: float
    bound: float


def best_first_search(
    model: Model[Any],
    prompt: Prompt,
    params: SamplingParams | None = None,
    *,
    max_new_tokens: int,
    eos_token_id: int | Iterable[int] | None = None,
    num_return: int = 1,
    length_penalty: float = 0.0,
    max_expansions: int | None = 10_000,
    max_states: int = 512,
    batch_size: int = 16,
    candidates: int = 32,
    mask: Any = None,
    bias: Any = None,
    constraint: Callable[[int, list[int]], Any] | None = None,
    on_invalid: Literal["raise", "mark"] | None = None,
    on_progress: Callable[[SearchProgress], object] | None = None,
    tree: SearchTree | None = None,
    **sampling: Any,
) -> Search:
    """Find the most probable completions of a prompt, and prove that there are none better.

    A completion ends with an end token, or has `max_new_tokens` tokens. The log-probability of a sequence
    only falls as it grows, so a beginning that has fallen below the best completion cannot lead to a better
    one: the search always reads the beginnings that still could, the most probable ones first, and is done
    when there are none. The first thing it reads is the greedy path, so that with any budget of at least
    `max_new_tokens` it returns something, and nothing worse than the greedy completion.

    Parameters
    ----------
    model : Model
        Any object with `start`, `step` and `select`, see `tokendraw.models.base.Model`.
    prompt : str or sequence of int
        The prompt; text needs a model with a tokenizer.
    params : SamplingParams, optional
        The steps that logits go through before they become log-probabilities; one value for each.
    max_new_tokens : int
        The most tokens of a completion, at least 1. A sequence of so many tokens is complete without an end
        token.
    eos_token_id : int or an iterable of int, optional
        The end tokens; by default those of `params`, else the model's own; ``()`` for none.
    num_return : int, default 1
        How many completions to find.
    length_penalty : float, default 0.0
        Completions are ranked by ``logprob / length**length_penalty``, the end token counted. Above 0 what a
        beginning may still reach is bounded by the longest completion, which takes more expansions.
    max_expansions : int or None, default 10000
        The most rows of logits that are asked of the model; None is no limit. A search that reaches it
        returns what it found, with ``proved=False`` and a true bound.
    max_states : int, default 512
        How many states of the model to keep, beside that of the prompt. Where one was dropped that is needed
        after all, the model reads its tokens again.
    batch_size : int, default 16
        The most rows that the model reads at once, after the greedy path. More may take a few expansions
        more; the result is the same as far as the model's logits are, unless `max_expansions` is reached.
    candidates : int, default 32
        How many tokens of a row are listed at first. Where the others come into question the row is read
        again, and twice as many are listed.
    mask, bias : optional
        As in `sample`, for all steps.
    constraint : callable, optional
        As for `beam_search`: ``constraint(0, generated)`` returns what may follow the tokens after the
        prompt, as token ids or as a bool mask [vocab]; a `TokenTrie` is one. A beginning that nothing may
        follow leads nowhere.
    on_invalid : {"raise", "mark"}, optional
        What follows a row that nothing can be drawn from. None and "raise" raise `InvalidLogitsError` after
        the other rows of the batch, with what was found in `hypotheses`. "mark" leaves such beginnings out,
        but does not call proved what they might have disproved.
    on_progress : callable, optional
        Called with a `SearchProgress` after each batch.
    tree : SearchTree, optional
        Is told what the search looked at.
    **sampling
        Fields of `SamplingParams`, taking precedence over `params`. Penalties see the prompt and the tokens
        after it.

    Returns
    -------
    Search
        A list of at most `num_return` hypotheses, best first, with `proved`, `bound` and `expansions`. Equal
        scores are ordered by length, shorter first, then by the total order of their tokens, from the first
        token on. Log-probabilities of tokens are float32, and are added in float64.

    Notes
    -----
    Memory is O(expansions * candidates), and the kept states. Effort depends on how sharp the model is: where
    no completion stands out, all beginnings that are more probable than the best completion are read.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> found = td.best_first_search(model, "And the LORD spake unto", max_new_tokens=3, num_return=2)
    >>> [hypothesis.text for hypothesis in found], found.proved
    ([' Moses, saying', ' Moses and unto'], True)

    A budget leaves a bound in place of a proof:

    >>> found = td.best_first_search(model, "In the beginning", max_new_tokens=20, max_expansions=100)
    >>> found.proved, found.expansions, found[0].logprob < found.bound < 0
    (False, 100, True)
    """
    limit = integer("max_new_tokens", max_new_tokens, least=1, limit=1 << 31)
    [tokens] = fill_empty_prompts(model, [encode_prompt(model, prompt, 0)])
    if eos_token_id is None and params is not None:
        eos_token_id = params.eos_token_id
    ends = frozenset(end_tokens(model, eos_token_id))
    budget = math.inf if max_expansions is None else integer("max_expansions", max_expansions, least=1)
    width = integer("batch_size", batch_size, least=1)
    penalty = float(length_penalty)
    if not math.isfinite(penalty):
        raise ValueError(f"length_penalty must be finite, got {penalty}")
    if on_invalid not in (None, "raise", "mark"):
        raise ValueError(f"on_invalid must be 'raise', 'mark' or None, got {on_invalid!r}")
    rows = _Rows(
        params=_merged(params, sampling, ends),
        prompt=tokens,
        mask=mask,
        bias=bias,
        constraint=constraint,
        least=integer("candidates", candidates, least=1),
    )
    heap = _BestFirst(limit, integer("num_return", num_return, least=1), penalty, sorted(ends))
    states = _States(complete(model), tokens, heap, integer("max_states", max_states))
    record = None if tree is None else _Record(tree, heap, ends, limit)
    result = _Result(heap, ends, tokenizer_of(model))

    while result.expansions < budget:
        readings = [_Reading(*each) for each in heap.next(int(min(width, budget - result.expansions)))]
        if not readings:
            break
        result.expansions += len(readings)
        error = _read(readings, states, rows, heap, record)
        if error is not None and on_invalid != "mark":
            error.hypotheses = result.search()
            raise error
        if on_progress is not None:
            on_progress(result.progress())
    if record is not None:
        record.close()
    return result.search()


class _Reading(NamedTuple):
    """A node whose row of logits shall be read; `listed` of its candidates are known."""

    node: int
    parent: int
    token: int
    depth: int
    listed: int


class _Candidates(NamedTuple):
    """The first tokens of each row, their log-probabilities, and whether there are more."""

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    more: list[bool]
    valid: list[bool]


def _read(
    readings: Sequence[_Reading], states: _States, rows: _Rows, heap: Any, record: _Record | None
) -> InvalidLogitsError | None:
    """Read rows and tell the heap; return the error of the last ones that nothing can be drawn from."""
    error = None
    for group, state, logits in states.read(readings):
        paths = [heap.path(reading.node)[1] for reading in group]
        found = rows.candidates(logits, paths, group)
        valid = [row for row, is_valid in enumerate(found.valid) if is_valid]
        if valid:
            heap.expand(
                [group[row].node for row in valid],
                np.ascontiguousarray(found.tokens[valid]),
                np.ascontiguousarray(found.logprobs[valid]),
                [found.more[row] for row in valid],
            )
        wrong = [row for row, is_valid in enumerate(found.valid) if not is_valid]
        for row in wrong:
            heap.drop(group[row].node)
        if wrong:
            error = rows.error(logits[np.array(wrong)], [paths[row] for row in wrong])
        states.keep(state, group)
        if record is not None:
            for row in valid:
                record.add(group[row], found.tokens[row], found.logprobs[row])
    return error


# --- The states of the model -------------------------------------------------------------------------------


class _States:
    """The model's states after the nodes that were read, one row each, as many as may be kept."""

    def __init__(self, model: CompleteModel[Any], prompt: Sequence[int], heap: Any, limit: int) -> None:
        self._model = model
        self._prompt = prompt
        self._heap = heap
        self._limit = limit
        self._root: Any = None
        self._kept: dict[int, Any] = {}

    def read(self, readings: Sequence[_Reading]) -> Iterable[tuple[Sequence[_Reading], Any, Any]]:
        """Yield readings in groups, each with the state after them and their logits, one row per reading."""
        root = [reading for reading in readings if reading.node == _ROOT]
        near = [reading for reading in readings if self._of(reading.parent) is not None]
        far = [reading for reading in readings if reading not in root and reading not in near]
        if root:
            self._root, logits = self._model.start([self._prompt])
            check_logits(logits, 1)
            yield root, self._root, logits
        if near:
            state = self._joined([self._of(reading.parent) for reading in near])
            state, logits = self._model.step(state, np.array([reading.token for reading in near]))
            check_logits(logits, len(near))
            yield near, state, logits
        if far:
            yield far, *self._read_again(far)

    def _of(self, node: int) -> Any:
        return self._root if node == _ROOT else self._kept.get(node)

    def _joined(self, states: Sequence[Any]) -> Any:
        return states[0] if len(states) == 1 else self._model.concat(states)

    def _read_again(self, readings: Sequence[_Reading]) -> tuple[Any, Any]:
        """Read the tokens of nodes from their nearest ancestors whose states were kept."""
        sources, suffixes = zip(*(self._source(reading.node) for reading in readings), strict=True)
        lengths = np.array([len(suffix) for suffix in suffixes])
        tokens = np.full((len(readings), lengths.max()), -1)
        for row, suffix in zip(tokens, suffixes, strict=True):
            row[: len(suffix)] = suffix
        states, logits = self._model.extend(self._joined(sources), tokens)
        return states[-1], logits[np.arange(len(readings)), lengths - 1]

    def _source(self, node: int) -> tuple[Any, list[int]]:
        nodes, tokens, _ = self._heap.path(node)
        for place in range(len(nodes) - 2, -1, -1):
            if nodes[place] in self._kept:
                return self._kept[nodes[place]], tokens[place + 1 :]
        return self._root, tokens

    def keep(self, state: Any, readings: Sequence[_Reading]) -> None:
        """Keep the states that more will be read after."""
        promises = self._heap.promises([reading.node for reading in readings])
        for row, (reading, promise) in enumerate(zip(readings, promises, strict=True)):
            if promise > -math.inf and reading.node != _ROOT:
                self._kept[reading.node] = self._model.select(state, np.array([row]))
        if len(self._kept) > self._limit:
            self._drop()

    def _drop(self) -> None:
        """Drop the least promising quarter, so that this is not done at every step."""
        nodes = list(self._kept)
        promises = np.array(self._heap.promises(nodes), dtype=np.float64)
        best = np.argsort(-promises, kind="stable")[: self._limit - self._limit // 4]
        self._kept = {nodes[place]: self._kept[nodes[place]] for place in best if promises[place] > -math.inf}


# --- From logits to candidates -----------------------------------------------------------------------------


@dataclasses.dataclass(slots=True, kw_only=True)
class _Rows:
    """How a row of logits becomes candidates with log-probabilities."""

    params: SamplingParams
    prompt: Sequence[int]
    mask: Any
    bias: Any
    constraint: Callable[[int, list[int]], Any] | None
    least: int
    is_plain: bool = dataclasses.field(init=False)  # rows are searched as the model returns them

    def __post_init__(self) -> None:
        edits = (self.mask, self.bias, self.constraint)
        neutral = SamplingParams(eos_token_id=self.params.eos_token_id)
        self.is_plain = all(each is None for each in edits) and self.params == neutral

    def candidates(
        self, logits: Any, paths: Sequence[list[int]], readings: Sequence[_Reading]
    ) -> _Candidates:
        """Return the first candidates of each row, more than were listed of it before."""
        vocab = int(logits.shape[1])
        count = min(max(self.least, 2 * max(reading.listed for reading in readings)), vocab)
        if self.is_plain:
            return _first(logits, count)
        wanted = np.array([reading.listed + 1 for reading in readings])
        arguments = self._arguments(paths, vocab)
        leads_nowhere = np.zeros(len(paths), dtype=np.bool_)
        if self.constraint is not None:
            leads_nowhere = ~arguments["mask"].any(axis=1)
        while True:
            draws = draw(logits, logprobs=count, on_invalid="mark", **arguments)
            tokens = np.asarray(draws.top_tokens, dtype=np.int32)
            logprobs = np.asarray(draws.top_logprobs, dtype=np.float32)
            kept, valid = np.asarray(draws.kept), np.asarray(draws.valid) | leads_nowhere
            found = (logprobs > -np.inf).sum(axis=1)
            # Steps such as `typical` remove the first tokens of the order.
            if count == vocab or (found >= np.minimum(kept, wanted))[valid].all():
                return _Candidates(tokens, logprobs, (kept > found).tolist(), valid.tolist())
            count = min(2 * count, vocab)

    def error(self, logits: Any, paths: Sequence[list[int]]) -> InvalidLogitsError:
        """Return the error of rows that cannot be drawn from."""
        try:
            draw(logits, on_invalid="raise", **self._arguments(paths, int(logits.shape[1])))
        except InvalidLogitsError as error:
            error.add_note(f"after the tokens {list(paths)}")
            return error
        raise AssertionError("a row was invalid, and is not")

    def _arguments(self, paths: Sequence[list[int]], vocab: int) -> dict[str, Any]:
        arguments: dict[str, Any] = {"params": self.params, "bias": self.bias, "seed": 0}
        arguments["mask"] = self.mask if self.constraint is None else self._allowed(paths, vocab)
        arguments["step"] = np.array([len(path) for path in paths])
        if any(getattr(self.params, name) != neutral for name, neutral in READS_HISTORY.items()):
            arguments["history"] = [[*self.prompt, *path] for path in paths]
            arguments["prompt_lengths"] = len(self.prompt)
        return arguments

    def _allowed(self, paths: Sequence[list[int]], vocab: int) -> NDArray[np.bool_]:
        """Return what mask and constraint allow after each path."""
        assert self.constraint is not None
        allowed = np.zeros((len(paths), vocab), dtype=np.bool_)
        for row, path in zip(allowed, paths, strict=True):
            found = np.asarray(self.constraint(0, path))
            row[found if found.size else []] = True
        if self.mask is None:
            return allowed
        if np.asarray(self.mask).dtype != np.bool_:
            raise TypeError("mask must be bool where there is a constraint, got packed words")
        allowed &= np.asarray(self.mask)
        return allowed


def _first(logits: Any, count: int) -> _Candidates:
    """Return the first candidates of rows that no step changes: these are read once, and not filtered."""
    starts = np.zeros((logits.shape[0], 1))
    found = top_continuations(logits[:, None], starts, count, on_invalid="mark")
    tokens = np.asarray(found[2], dtype=np.int32)
    logprobs = np.asarray(found[0], dtype=np.float32)
    # Where they all are tokens there may be more; where there are not, reading again brings nothing new.
    more = (logprobs[:, -1] > -np.inf) & (count < logits.shape[1])
    return _Candidates(tokens, logprobs, more.tolist(), (~np.isnan(logprobs[:, 0])).tolist())


def _merged(
    params: SamplingParams | None, sampling: Mapping[str, Any], ends: Iterable[int]
) -> SamplingParams:
    """Return one set of parameters, each of them one value; `min_tokens` forbids these ends."""
    merged = merged_params("best_first_search", params, sampling, eos_token_id=tuple(sorted(ends)) or None)
    for name, values in columns_of(merged).items():
        raise ValueError(f"{name} must be one value in a search, got {values.size}")
    if 0 < merged.xtc_probability < 1:
        raise ValueError(f"xtc_probability must be 0 or 1 in a search, got {merged.xtc_probability}")
    return merged


# --- What was found ----------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Result:
    """What the heap holds, for the caller."""

    heap: Any
    ends: frozenset[int]
    tokenizer: Tokenizer | None
    expansions: int = 0

    def search(self) -> Search:
        return Search(
            [self._hypothesis(*each) for each in self.heap.found()],
            proved=self.heap.proved(),
            bound=self.heap.bound(),
            expansions=self.expansions,
        )

    def progress(self) -> SearchProgress:
        found = self.heap.found()
        return SearchProgress(self.expansions, found[0][-1] if found else -math.inf, self.heap.bound())

    def _hypothesis(
        self, node: int, token: int, token_logprob: float, logprob: float, score: float
    ) -> Hypothesis:
        _, before_it, logprobs = self.heap.path(node)
        tokens = [*before_it, token]
        return Hypothesis(
            tokens=tokens,
            score=score,
            logprob=logprob,
            logprobs=[*logprobs, token_logprob],
            finished=token in self.ends,
            text=text_of(self.tokenizer, tokens, self.ends),
        )


class _Record:
    """Tells a tree what the search looked at: each node that was read, and the first of its candidates."""

    def __init__(self, tree: SearchTree, heap: Any, ends: frozenset[int], limit: int) -> None:
        self._tree = tree
        self._heap = heap
        self._ends = ends
        self._limit = limit
        self._nodes = {_ROOT: -1}  # of the heap to those of the tree
        self._children: dict[tuple[int, int], int] = {}

    def add(self, reading: _Reading, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        if reading.listed:
            return
        if reading.node != _ROOT:
            own = self._child(reading.parent, reading.token, self._heap.logprob(reading.node))
            self._nodes[reading.node] = own
            self._tree.keep(own)
        start = self._heap.logprob(reading.node)
        for token, logprob in zip(tokens[:_SHOWN], logprobs[:_SHOWN], strict=True):
            if logprob > -math.inf:
                child = self._child(reading.node, int(token), start + float(logprob))
                if token in self._ends or reading.depth + 1 == self._limit:
                    self._tree.finish(child)

    def _child(self, node: int, token: int, logprob: float) -> int:
        if (node, token) not in self._children:
            self._children[node, token] = self._tree.add(self._nodes[node], token, logprob)
        return self._children[node, token]

    def close(self) -> None:
        """Mark what was found."""
        found = [self._child(node, token, logprob) for node, token, _, logprob, _ in self._heap.found()]
        for child in found:
            self._tree.keep(child)
            self._tree.finish(child)
        if found:
            self._tree.best(found[0])

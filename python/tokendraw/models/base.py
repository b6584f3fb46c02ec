# SPDX-License-Identifier: Apache-2.0
"""What a language model must offer, and slow versions of what it may leave out.

`complete` gives any model the optional methods; nothing here knows a particular model.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = [
    "CompleteModel",
    "Model",
    "Tokenizer",
    "array_library",
    "complete",
    "fill_empty_prompts",
    "integers",
]

State = TypeVar("State")


@runtime_checkable
class Model(Protocol[State]):
    """A language model that reads rows of tokens and scores what comes next.

    States are values of the model's own type: every method returns a new one, and none of them ever changes
    a state it was given. Logits may be any array that `tokendraw.sample` takes.

    A model may also have `bos_token_id`, `eos_token_id` (int), `tokenizer` (`Tokenizer`), `context_length`
    (int), the most tokens that a row may read, and `begins_with_bos` (bool), whether every row is made to
    begin with `bos_token_id` and that token counts.
    """

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        ...

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[State, Any]:
        """Read one prompt per row, of any lengths; return the state and logits [rows, vocab]."""
        ...

    def step(self, state: State, tokens: npt.ArrayLike) -> tuple[State, Any]:
        """Read one token per row; return the state after it and logits [rows, vocab]."""
        ...

    def select(self, state: State, rows: npt.ArrayLike) -> State:
        """Return a state with the given rows in the given order, repeated where asked."""
        ...


class CompleteModel(Model[State], Protocol[State]):
    """A model that also reads several tokens at once and joins states."""

    def extend(self, state: State, tokens: npt.ArrayLike) -> tuple[list[State], Any]:
        """Read tokens [rows, n]; return the n states after each column, and logits [rows, n, vocab].

        A row whose token is -1 reads nothing there: it keeps its state, and its logits there are zeros.
        """
        ...

    def concat(self, states: Sequence[State]) -> State:
        """Return one state with the rows of all states, in order."""
        ...


class Tokenizer(Protocol):
    """The tokenizer of a model that knows text."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, in the order in which the model reads them."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids in that order, with U+FFFD where it is not UTF-8."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one id."""
        ...


def fill_empty_prompts(model: Model[Any], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the prompts, each empty one replaced by the model's first token.

    Parameters
    ----------
    model : Model
        Its `bos_token_id` is the first token.
    prompts : sequence of sequences of int
        One prompt per row.

    Returns
    -------
    list of list of int
        Prompts with at least one token.

    Raises
    ------
    ValueError
        If a prompt is empty and the model has no `bos_token_id`.

    Examples
    --------
    >>> from tokendraw.models import load
    >>> fill_empty_prompts(load("kjv"), [[], [65, 66]])
    [[256], [65, 66]]
    """
    first = getattr(model, "bos_token_id", None)
    for row, prompt in enumerate(prompts):
        if len(prompt) == 0 and first is None:
            raise ValueError(f"a prompt must not be empty for a model without bos_token_id (row {row})")
    return [[int(token) for token in prompt] or [cast(int, first)] for prompt in prompts]


def integers(values: npt.ArrayLike, what: str, lowest: int, end: int) -> npt.NDArray[np.int64]:
    """Return an array of integers that must lie in [lowest, end).

    Parameters
    ----------
    values : array_like of int
        The integers, of any shape.
    what : str
        What they are, for messages.
    lowest, end : int
        The bounds.

    Returns
    -------
    ndarray, int64
        The same integers.

    Raises
    ------
    TypeError
        If they are no integers.
    ValueError
        If one is out of bounds.

    Examples
    --------
    >>> integers([[1, 5]], "token ids", 0, 5)
    Traceback (most recent call last):
      ...
    ValueError: token ids must be in [0, 5), got 5
    """
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, got {array.dtype}")
    wrong = array[(array < lowest) | (array >= end)]
    if wrong.size:
        raise ValueError(f"{what} must be in [{lowest}, {end}), got {wrong.flat[0]}")
    return array.astype(np.int64)


def complete(model: Model[Any]) -> CompleteModel[Any]:
    """Return a model with `extend` and `concat`: the given one if it has both, else one around it.

    A model around another has its attributes, but states of its own. Without a native `concat`, rows that
    were joined go on being computed apart.

    Parameters
    ----------
    model : Model
        Any model.

    Returns
    -------
    CompleteModel
        A model with the same rows and logits.

    Raises
    ------
    TypeError
        If the object lacks something every model has.

    Examples
    --------
    >>> from tokendraw.models import load
    >>> model = load("kjv")
    >>> complete(model) is model
    True
    """
    missing = [name for name in ("vocab_size", "start", "step", "select") if not hasattr(model, name)]
    if missing:
        raise TypeError(f"a model must have {', '.join(missing)}, got {type(model).__name__} without")
    if not hasattr(model, "concat"):
        return _Joining(model)
    return cast("CompleteModel[Any]", model) if hasattr(model, "extend") else _Extending(model)


class _Around(Generic[State]):
    """Hand on every attribute that a subclass does not replace."""

    def __init__(self, model: Model[State]) -> None:
        self._model: Any = model

    def __getattr__(self, name: str) -> Any:
        if name == "_model":  # copy and pickle ask for attributes before there are any
            raise AttributeError(name)
        return getattr(self._model, name)


class _Extending(_Around[State]):
    """A model with native `concat`, and `extend` by steps."""

    def extend(self, state: State, tokens: npt.ArrayLike) -> tuple[list[State], Any]:
        return _extend_by_steps(self._model, state, np.asarray(tokens))


class _Joined(NamedTuple):
    """Rows that lie in several native states, one after the other."""

    parts: tuple[Any, ...]
    sizes: tuple[int, ...]

    @property
    def borders(self) -> npt.NDArray[np.intp]:
        """Row numbers that separate the parts, without first and last."""
        return np.cumsum(self.sizes[:-1], dtype=np.intp)


class _Joining(_Around[Any]):
    """A model without native `concat`: its states are tuples of native ones."""

    @property
    def vocab_size(self) -> int:
        return int(self._model.vocab_size)

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[_Joined, Any]:
        state, logits = self._model.start(prompts)
        return _Joined((state,), (len(prompts),)), logits

    def step(self, state: _Joined, tokens: npt.ArrayLike) -> tuple[_Joined, Any]:
        split = np.split(np.asarray(tokens), state.borders)
        stepped = [self._model.step(part, own) for part, own in zip(state.parts, split, strict=True)]
        parts, logits = zip(*stepped, strict=True)
        return _Joined(parts, state.sizes), _concatenate(logits)

    def select(self, state: _Joined, rows: npt.ArrayLike) -> _Joined:
        chosen = np.asarray(rows, dtype=np.intp).reshape(-1)
        owners = np.searchsorted(state.borders, chosen, side="right")
        firsts = np.concatenate([[0], state.borders])
        runs = np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(owners)) + 1)
        parts = []
        for run in runs:
            owner = owners[run[0]] if len(run) else 0
            parts.append(self._model.select(state.parts[owner], chosen[run] - firsts[owner]))
        return _Joined(tuple(parts), tuple(map(len, runs)))

    def concat(self, states: Sequence[_Joined]) -> _Joined:
        parts = tuple(part for state in states for part in state.parts)
        return _Joined(parts, tuple(size for state in states for size in state.sizes))

    def extend(self, state: _Joined, tokens: npt.ArrayLike) -> tuple[list[_Joined], Any]:
        ids = np.asarray(tokens)
        if not hasattr(self._model, "extend"):
            return _extend_by_steps(self, state, ids)
        split = np.split(ids, state.borders)
        extended = [self._model.extend(part, own) for part, own in zip(state.parts, split, strict=True)]
        states, logits = zip(*extended, strict=True)
        return [_Joined(parts, state.sizes) for parts in zip(*states, strict=True)], _concatenate(logits)


def _extend_by_steps(model: Any, state: Any, tokens: npt.NDArray[Any]) -> tuple[list[Any], Any]:
    """Do the work of `extend` with `step`, `select` and `concat`."""
    states: list[Any] = []
    scores: list[Any] = []
    for column in tokens.T:
        state, logits = _step_where(model, state, column)
        states.append(state)
        scores.append(logits)
    known = next((logits for logits in scores if logits is not None), None)
    if known is None:
        return states, np.zeros((*tokens.shape, model.vocab_size), dtype=np.float32)
    library = array_library(known)
    blank = library.zeros_like(known)
    return states, library.stack([blank if logits is None else logits for logits in scores], axis=1)


def _step_where(model: Any, state: Any, tokens: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Step the rows whose token is not -1; the logits of the others are zeros, or None for all."""
    reading = np.flatnonzero(tokens >= 0)
    if len(reading) == len(tokens):
        stepped: tuple[Any, Any] = model.step(state, tokens)
        return stepped
    if len(reading) == 0:
        return state, None
    after, logits = model.step(model.select(state, reading), tokens[reading])
    both = np.arange(len(tokens))
    both[reading] = len(tokens) + np.arange(len(reading))
    places = np.full(len(tokens), len(reading))
    places[reading] = np.arange(len(reading))
    padded = _concatenate([logits, array_library(logits).zeros_like(logits[:1])])
    return model.select(model.concat([state, after]), both), padded[places]


def array_library(array: Any) -> Any:
    """Return the module whose functions work on this kind of array."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    return importlib.import_module(type(array).__module__.partition(".")[0])


def _concatenate(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else array_library(arrays[0]).concatenate(arrays)

# SPDX-License-Identifier: Apache-2.0
"""A recurrent language model run in plain NumPy, and its file format.

The embedded models of the King James text are of this kind; `train.py` makes others from any text.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from tokendraw.models.base import integers
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer

__all__ = ["GruModel", "GruState", "GruWeights", "read_model", "write_model"]

FORMAT = "tokendraw-gru-1"

# What numpy.load raises, or returns without, for files that are something else.
_NOT_NPZ = (BadZipFile, EOFError, TypeError, zlib.error)

Direction = Literal["forward", "backward"]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class GruWeights(NamedTuple):
    """The arrays of the model, float32, named as in the file; a matrix has one row per output.

    Gates stand in the order reset, update, candidate. As in cuDNN and torch, the reset gate acts on the
    product with the recurrent matrix.
    """

    embedding: Floats  # [vocab, width], also the output matrix
    input: Floats  # [3 * units, width]
    recurrent: Floats  # [3 * units, units]
    projection: Floats  # [width, units]
    input_bias: Floats  # [3 * units]
    recurrent_bias: Floats  # [3 * units]
    projection_bias: Floats  # [width]
    output_bias: Floats  # [vocab]

    def check(self) -> None:
        """Raise ValueError unless the shapes fit together."""
        vocab, width = self.embedding.shape
        units = self.recurrent.shape[-1]
        gates = 3 * units
        matrices = [(vocab, width), (gates, width), (gates, units), (width, units)]
        biases = [(gates,), (gates,), (width,), (vocab,)]
        for name, array, shape in zip(self._fields, self, [*matrices, *biases], strict=True):
            if array.shape != shape:
                raise ValueError(f"weights {name!r} must have shape {shape}, got {array.shape}")


@dataclass(frozen=True)
class GruState:
    """What the model remembers of each row: a value, never written after it was made.

    Parameters
    ----------
    hidden : ndarray, float32 [rows, units]
        The recurrent layer's output, made read-only.
    """

    hidden: Floats

    def __post_init__(self) -> None:
        self.hidden.setflags(write=False)

    def __len__(self) -> int:
        return len(self.hidden)


def _padded(prompts: Sequence[Sequence[int]], vocab_size: int) -> Integers:
    """Return prompts without a first separator as one array [rows, longest], padded with -1."""
    arrays = [integers(prompt, "token ids", 0, vocab_size) for prompt in prompts]
    if any(array.ndim != 1 for array in arrays):
        raise ValueError("prompts must be a list with one list of token ids per row")
    arrays = [array[1:] if array.size and array[0] == SEPARATOR else array for array in arrays]
    padded = np.full((len(arrays), max(map(len, arrays), default=0)), -1, dtype=np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


class GruModel:
    """One gated recurrent layer over a byte-pair vocabulary, with tied embeddings.

    It has every method of `tokendraw.models.base.CompleteModel`. Every row begins with one document
    separator, whether or not its prompt has it as first id: a prompt is the beginning of a document, it may
    be empty, and `start([prompt])` equals `start([[]])` followed by `step` over the prompt.

    A backward model predicts the previous token. Its sequences run from right to left: the first id of a
    prompt is the last token of the text, and what is generated comes before it. Its `tokenizer` encodes
    and decodes in that order, so code that treats text as ids needs no change.

    Rows are computed together by matrix products, so logits of the same row in batches of different size
    may differ by a few units in the last place.

    Parameters
    ----------
    weights : GruWeights
        The arrays of the model.
    tokenizer : Tokenizer
        A tokenizer with as many ids as the weights have embeddings, in the direction of the model.
    metadata : mapping, optional
        Facts about the training, kept as they are.

    Attributes
    ----------
    vocab_size : int
        Number of token ids.
    bos_token_id, eos_token_id : int
        The document separator.

    Examples
    --------
    >>> from tokendraw.models import load
    >>> model = load("kjv")
    >>> state, logits = model.start([model.tokenizer.encode("In the beginning God created the heaven and")])
    >>> model.tokenizer.decode([logits[0].argmax()])
    ' the'
    >>> state, logits = model.step(state, [logits[0].argmax()])
    >>> logits.shape
    (1, 1024)
    """

    bos_token_id = SEPARATOR
    eos_token_id = SEPARATOR

    def __init__(
        self, weights: GruWeights, tokenizer: Tokenizer, metadata: Mapping[str, Any] | None = None
    ) -> None:
        weights.check()
        if len(weights.embedding) != tokenizer.vocab_size:
            wanted = len(weights.embedding)
            raise ValueError(f"the tokenizer must have {wanted} ids, got {tokenizer.vocab_size}")
        self.weights = weights
        self.vocab_size = tokenizer.vocab_size
        self.tokenizer = tokenizer
        self.metadata = dict(metadata or {})
        self._units = weights.recurrent.shape[1]
        self._prepare()

    def _prepare(self) -> None:
        weights = self.weights
        # The input product of a token never changes; of the recurrent bias only the candidate's part
        # is inside the reset gate.
        bias = weights.input_bias.copy()
        bias[: 2 * self._units] += weights.recurrent_bias[: 2 * self._units]
        self._inputs = weights.embedding @ weights.input.T + bias
        self._candidate_bias = weights.recurrent_bias[2 * self._units :]
        separator = np.array([SEPARATOR])
        self._first = self._advance(np.zeros((1, self._units), dtype=np.float32), separator)

    @property
    def direction(self) -> Direction:
        """Whether the model predicts the next token ("forward") or the previous one ("backward")."""
        return "backward" if self.tokenizer.right_to_left else "forward"

    @property
    def parameter_count(self) -> int:
        """How many numbers the model has learned."""
        return sum(array.size for array in self.weights)

    def _advance(self, hidden: Floats, tokens: Integers) -> Floats:
        """Return the hidden values after one more token per row."""
        units = self._units
        inputs = self._inputs[tokens]
        products = hidden @ self.weights.recurrent.T
        # The logistic function by tanh, which cannot overflow.
        gates = np.tanh(0.5 * (inputs[:, : 2 * units] + products[:, : 2 * units])) * 0.5 + 0.5
        reset, update = gates[:, :units], gates[:, units:]
        remembered = reset * (products[:, 2 * units :] + self._candidate_bias)
        candidate = np.tanh(inputs[:, 2 * units :] + remembered)
        advanced: Floats = candidate + update * (hidden - candidate)
        return advanced

    def _advance_where(self, hidden: Floats, tokens: Integers) -> Floats:
        """Advance the rows whose token is not -1; the others keep their values."""
        active = tokens >= 0
        if active.all():
            return self._advance(hidden, tokens)
        advanced = hidden.copy()
        advanced[active] = self._advance(hidden[active], tokens[active])
        return advanced

    def _logits(self, hidden: Floats) -> Floats:
        projected: Floats = hidden @ self.weights.projection.T + self.weights.projection_bias
        logits: Floats = projected @ self.weights.embedding.T + self.weights.output_bias
        return logits

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[GruState, Floats]:
        """Read one prompt per row.

        Parameters
        ----------
        prompts : sequence of sequences of int
            Token ids in the order in which the model reads; lengths may differ, and be 0.

        Returns
        -------
        state : GruState
            The state after the prompts.
        logits : ndarray, float32 [rows, vocab]
            Scores of the token that comes next in the model's direction.
        """
        tokens = _padded(prompts, self.vocab_size)
        hidden = np.repeat(self._first, len(tokens), axis=0)
        for column in tokens.T:
            hidden = self._advance_where(hidden, column)
        return GruState(hidden), self._logits(hidden)

    def step(self, state: GruState, tokens: npt.ArrayLike) -> tuple[GruState, Floats]:
        """Read one more token per row.

        Parameters
        ----------
        state : GruState
            A state of this model; it stays valid.
        tokens : array_like of int [rows]
            The token that each row reads.

        Returns
        -------
        state : GruState
            The state after the tokens.
        logits : ndarray, float32 [rows, vocab]
            Scores of the next token.
        """
        ids = integers(tokens, "token ids", 0, self.vocab_size)
        if ids.shape != (len(state),):
            raise ValueError(f"tokens must have shape {(len(state),)}, one per row, got {ids.shape}")
        hidden = self._advance(state.hidden, ids)
        return GruState(hidden), self._logits(hidden)

    def select(self, state: GruState, rows: npt.ArrayLike) -> GruState:
        """Return the state with these rows, in this order; rows may repeat or be left out.

        Parameters
        ----------
        state : GruState
            A state of this model; it stays valid.
        rows : array_like of int
            Indices of rows.

        Returns
        -------
        GruState
            A state with as many rows as indices were given.
        """
        indices = integers(rows, "rows", 0, len(state)).reshape(-1)
        return GruState(state.hidden[indices])

    def extend(self, state: GruState, tokens: npt.ArrayLike) -> tuple[list[GruState], Floats]:
        """Read several tokens per row and return what `step` would have returned after each.

        Parameters
        ----------
        state : GruState
            A state of this model; it stays valid.
        tokens : array_like of int [rows, n]
            Token ids; -1 means that the row reads nothing there and keeps its state.

        Returns
        -------
        states : list of GruState
            The n states after each column of tokens.
        logits : ndarray, float32 [rows, n, vocab]
            Scores of the token after each token; zeros where the token is -1.
        """
        ids = integers(tokens, "token ids", -1, self.vocab_size)
        if ids.ndim != 2 or len(ids) != len(state):
            raise ValueError(f"tokens must have shape ({len(state)}, n), got {ids.shape}")
        states = [state]
        for column in ids.T:
            states.append(GruState(self._advance_where(states[-1].hidden, column)))
        hidden = np.zeros((*ids.shape, self._units), dtype=np.float32)
        for place, after in enumerate(states[1:]):
            hidden[:, place] = after.hidden
        logits = self._logits(hidden)
        logits[ids < 0] = 0.0
        return states[1:], logits

    def concat(self, states: Sequence[GruState]) -> GruState:
        """Return one state with the rows of all the given ones, in order; at least one is needed."""
        return GruState(np.concatenate([state.hidden for state in states]))


def _quantised(matrix: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return int8 values and one scale per row, so that values * scale is near the matrix."""
    scale = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    return np.rint(matrix / scale).astype(np.int8), scale[:, 0]


def write_model(
    path: str | os.PathLike[str],
    weights: GruWeights,
    tokenizer: Tokenizer,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as one compressed .npz file with int8 matrices.

    Parameters
    ----------
    path : path
        The file to write.
    weights : GruWeights
        The arrays of the model.
    tokenizer : Tokenizer
        Its direction becomes the model's.
    metadata : mapping, optional
        Facts about the training that JSON can express.
    """
    weights.check()
    direction = "backward" if tokenizer.right_to_left else "forward"
    header = {**(metadata or {}), "format": FORMAT, "direction": direction}
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "merges": np.array(tokenizer.merges, dtype=np.int32).reshape(-1, 2),
    }
    for name, array in weights._asdict().items():
        if array.ndim == 2:
            arrays[name], arrays[f"{name}_scale"] = _quantised(array)
        else:
            arrays[name] = array.astype(np.float32)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_model(source: str | os.PathLike[str] | IO[bytes]) -> GruModel:
    """Read a model from a file that `write_model` wrote.

    Parameters
    ----------
    source : path or binary file
        The .npz file.

    Returns
    -------
    GruModel
        The model, its matrices widened to float32.

    Raises
    ------
    ValueError
        If the file is something else.
    """
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            return read_model(file)
    refusal = f"a model file must come from tokendraw.models.train, got {getattr(source, 'name', source)}"
    try:
        with np.load(source, allow_pickle=False) as archive:
            arrays = dict(archive)
        header = json.loads(arrays.pop("header").tobytes())
        known = header.pop("format") == FORMAT
    except (*_NOT_NPZ, KeyError, ValueError) as error:
        raise ValueError(refusal) from error
    if not known:
        raise ValueError(refusal)
    merges = arrays.pop("merges").tolist()
    tokenizer = Tokenizer(merges, right_to_left=header.pop("direction") == "backward")
    return GruModel(_widened(arrays), tokenizer, header)


def _widened(arrays: Mapping[str, npt.NDArray[Any]]) -> GruWeights:
    def widen(name: str) -> Floats:
        if f"{name}_scale" not in arrays:
            return arrays[name].astype(np.float32)
        scaled: Floats = arrays[name].astype(np.float32) * arrays[f"{name}_scale"][:, np.newaxis]
        return scaled

    return GruWeights(*map(widen, GruWeights._fields))

# SPDX-License-Identifier: Apache-2.0
"""A language model of the Llama architecture run in plain NumPy, with a key-value cache. It knows no file.

Rotary positions turn neighbouring components, the order in which GGUF keeps the rows of queries and keys.
Sources: Touvron et al. 2023 (arXiv:2302.13971), Su et al. 2021 (arXiv:2104.09864), Ainslie et al. 2023
(arXiv:2305.13245).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokendraw.models.base import fill_empty_prompts, integers
from tokendraw.models.gguf_tokenizer import GgufTokenizer

__all__ = ["LlamaLayer", "LlamaModel", "LlamaShape", "LlamaState", "LlamaWeights"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Turns = npt.NDArray[np.complex64]

# Prompts are read in pieces of about as many tokens: enough for matrix products, few enough that the scores
# of all against all stay small.
_TOKENS_AT_ONCE = 512

# OpenBLAS repacks its right-hand operand: few rows take half the time with the matrix on the left.
_FEW_ROWS = 32


class LlamaShape(NamedTuple):
    """The numbers that fix the network."""

    layers: int
    width: int
    heads: int
    key_heads: int
    head_size: int
    feed_width: int
    vocab: int
    context: int
    rope_size: int
    rope_base: float
    epsilon: float

    @property
    def key_width(self) -> int:
        """Components of the keys of one token, and of its values."""
        return self.key_heads * self.head_size

    def check(self) -> None:
        """Raise ValueError unless the numbers fit together."""
        if self.heads % self.key_heads:
            raise ValueError(f"heads must be a multiple of key heads, got {self.heads} and {self.key_heads}")
        if self.rope_size % 2 or not 0 < self.rope_size <= self.head_size:
            raise ValueError(
                f"rotated components must be an even number up to {self.head_size}, got {self.rope_size}"
            )


class LlamaLayer(NamedTuple):
    """The arrays of one layer, float32; a matrix has one row per output."""

    attention_norm: Floats  # [width]
    query_key_value: Floats  # [heads * head_size + 2 * key_width, width], one below the other
    attention_output: Floats  # [width, heads * head_size]
    feed_norm: Floats  # [width]
    gate_up: Floats  # [2 * feed_width, width], one below the other
    down: Floats  # [width, feed_width]


class LlamaWeights(NamedTuple):
    """The arrays of the model, float32."""

    embedding: Floats  # [vocab, width]
    layers: tuple[LlamaLayer, ...]
    norm: Floats  # [width]
    output: Floats  # [vocab, width]; the embedding itself where the two are tied
    rope_factors: Floats  # [rope_size / 2], by which the frequencies are divided

    def check(self, shape: LlamaShape) -> None:
        """Raise ValueError unless the arrays are what the numbers ask for."""
        inner = shape.heads * shape.head_size
        per_layer = {
            "attention_norm": (shape.width,),
            "query_key_value": (inner + 2 * shape.key_width, shape.width),
            "attention_output": (shape.width, inner),
            "feed_norm": (shape.width,),
            "gate_up": (2 * shape.feed_width, shape.width),
            "down": (shape.width, shape.feed_width),
        }
        wanted = {
            "embedding": (shape.vocab, shape.width),
            "norm": (shape.width,),
            "output": (shape.vocab, shape.width),
            "rope_factors": (shape.rope_size // 2,),
        }
        if len(self.layers) != shape.layers:
            raise ValueError(f"there must be {shape.layers} layers, got {len(self.layers)}")
        found = [(name, getattr(self, name), size) for name, size in wanted.items()]
        for layer in self.layers:
            found += [(name, getattr(layer, name), size) for name, size in per_layer.items()]
        for name, array, size in found:
            if array.shape != size or array.dtype != np.float32:
                raise ValueError(f"weights {name!r} must be float32 {size}, got {array.dtype} {array.shape}")


# One for all caches: it is held for a comparison, and states can be copied and pickled without it.
_CLAIMING = threading.Lock()


class _Cache:
    """Keys and values of a batch: a buffer that only grows, shared by all states that are beginnings of it.

    What a state sees, the first `lengths` tokens of each row, is never written again. So a state that ends
    where the buffer ends may claim the places behind it; any other one has to copy.
    """

    def __init__(self, layers: int, rows: int, heads: int, places: int, size: int) -> None:
        # Zeros: what no one has written yet is multiplied by weights of zero, and must be finite for that.
        self.keys: Floats = np.zeros((layers, rows, heads, places, size), dtype=np.float32)
        self.values: Floats = np.zeros_like(self.keys)
        self._ends: Integers = np.zeros(rows, dtype=np.int64)

    @property
    def places(self) -> int:
        """How many tokens a row has room for."""
        return int(self.keys.shape[3])

    def claim(self, begins: Integers, ends: Integers) -> bool:
        """Take the places [begins, ends) of each row; False if they are not free, or not there."""
        with _CLAIMING:
            if ends.max(initial=0) > self.places or not np.array_equal(begins, self._ends):
                return False
            self._ends = ends
            return True

    def copy(self, rows: Integers, ends: Integers, places: int) -> _Cache:
        """Return a cache of its own with these rows up to these ends, and room for so many tokens."""
        layers, _, heads, _, size = self.keys.shape
        longest = int(ends.max(initial=0))
        copied = _Cache(layers, len(rows), heads, max(places, longest), size)
        copied.fill(0, self, rows, ends)
        return copied

    def fill(self, first: int, source: _Cache, rows: Integers, ends: Integers) -> None:
        """Copy rows of another cache into fresh rows of this one."""
        longest = int(ends.max(initial=0))
        own = slice(first, first + len(rows))
        self.keys[:, own, :, :longest] = source.keys[:, rows, :, :longest]
        self.values[:, own, :, :longest] = source.values[:, rows, :, :longest]
        self._ends[own] = ends


@dataclass(frozen=True, eq=False)
class LlamaState:
    """What the model remembers of each row: a value, which no use of it changes.

    Attributes
    ----------
    lengths : ndarray, int64 [rows]
        How many tokens each row has read.
    """

    lengths: Integers
    _cache: _Cache = field(repr=False)

    def __post_init__(self) -> None:
        self.lengths.setflags(write=False)

    def __len__(self) -> int:
        return len(self.lengths)


class _Piece(NamedTuple):
    """Tokens that are read together: packed, one after the other, without the places where none is."""

    reads: Booleans  # [rows, n], where there is a token
    tokens: Integers  # [packed]
    rows: Integers  # [packed]
    positions: Integers  # [packed], places in the row from its beginning
    slots: int  # how many places of the cache are looked at
    unseen: Booleans | None  # [rows, 1, 1, n, slots], what a token must not look at; None if there is nothing

    @classmethod
    def of(cls, tokens: Integers, begins: Integers) -> _Piece:
        reads = tokens >= 0
        positions = begins[:, np.newaxis] + np.cumsum(reads, axis=1) - 1
        slots = int(positions.max(initial=-1)) + 1
        # Every row has read something by now, so every softmax sees something, in places without a token too.
        hidden = np.arange(slots) > positions[..., np.newaxis]
        unseen = hidden[:, np.newaxis, np.newaxis] if hidden.any() else None
        return cls(reads, tokens[reads], np.nonzero(reads)[0], positions[reads], slots, unseen)

    def unpacked(self, packed: Floats) -> Floats:
        """Return an array [rows, n, ...] with zeros where there is no token."""
        if len(packed) == self.reads.size:
            return packed.reshape(*self.reads.shape, *packed.shape[1:])
        spread = np.zeros((*self.reads.shape, *packed.shape[1:]), dtype=packed.dtype)
        spread[self.reads] = packed
        return spread


def _product(rows: Floats, matrix: Floats) -> Floats:
    """Return rows times the transposed matrix, in an array of its own."""
    if len(rows) <= _FEW_ROWS:
        return np.ascontiguousarray((matrix @ rows.T).T)
    product: Floats = rows @ matrix.T
    return product


def _normed(hidden: Floats, scale: Floats, epsilon: float) -> Floats:
    mean_square = np.mean(np.square(hidden), axis=-1, keepdims=True)
    normed: Floats = hidden / np.sqrt(mean_square + np.float32(epsilon)) * scale
    return normed


def _gated(gate_up: Floats) -> Floats:
    gate, up = np.split(gate_up, 2, axis=-1)
    # The logistic function by tanh, which cannot overflow.
    gated: Floats = gate * (np.tanh(gate * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)) * up
    return gated


def _softmax(scores: Floats) -> Floats:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


@dataclass(frozen=True, eq=False)
class LlamaModel:
    """A decoder of the Llama architecture with a key-value cache.

    It has every method of `tokendraw.models.base.CompleteModel`. Rows of any lengths are read together and
    without padding; the cache of a state is shared with the states that came before it and copied only
    where two states go different ways.

    Rows are computed together by matrix products, so logits of the same row in batches of different size
    may differ in their last places.

    Parameters
    ----------
    shape : LlamaShape
        The numbers that fix the network.
    weights : LlamaWeights
        Its arrays.
    tokenizer : GgufTokenizer, optional
        A tokenizer with as many ids as the weights have embeddings.
    bos_token_id, eos_token_id : int, optional
        The tokens that begin and end a text.
    begins_with_bos : bool, default False
        If true, every row begins with `bos_token_id`, whether or not its prompt has it as first id.
    metadata : mapping, optional
        What the file says about the model.

    Examples
    --------
    >>> import numpy as np
    >>> shape = LlamaShape(layers=0, width=2, heads=1, key_heads=1, head_size=2, feed_width=2, vocab=3,
    ...                    context=8, rope_size=2, rope_base=1e4, epsilon=0.0)
    >>> words = np.array([[1, 1], [1, -1], [-1, 1]], dtype=np.float32)
    >>> ones = np.ones(2, dtype=np.float32)
    >>> model = LlamaModel(shape, LlamaWeights(words, (), ones, words, ones[:1]))
    >>> state, logits = model.start([[0], [0, 1]])
    >>> logits
    array([[ 2.,  0.,  0.],
           [ 0.,  2., -2.]], dtype=float32)
    """

    shape: LlamaShape
    weights: LlamaWeights = field(repr=False)
    tokenizer: GgufTokenizer | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    begins_with_bos: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.shape.check()
        self.weights.check(self.shape)
        if self.tokenizer is not None and self.tokenizer.vocab_size != self.vocab_size:
            raise ValueError(
                f"the tokenizer must have {self.vocab_size} ids, got {self.tokenizer.vocab_size}"
            )
        for name in ("bos_token_id", "eos_token_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise ValueError(f"{name} must be in [0, {self.vocab_size}), got {token}")
        if self.begins_with_bos and self.bos_token_id is None:
            raise ValueError("a model whose rows begin with bos_token_id must have one")

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.shape.vocab

    @property
    def context_length(self) -> int:
        """The most tokens that a row may have."""
        return self.shape.context

    @property
    def direction(self) -> Literal["forward"]:
        """The model predicts the next token."""
        return "forward"

    @property
    def parameter_count(self) -> int:
        """How many numbers the model has learned."""
        weights = self.weights
        arrays = [weights.embedding, weights.norm, *(array for layer in weights.layers for array in layer)]
        if weights.output is not weights.embedding:
            arrays.append(weights.output)
        return sum(array.size for array in arrays)

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[LlamaState, Floats]:
        """Read one prompt per row.

        Parameters
        ----------
        prompts : sequence of sequences of int
            Token ids; lengths may differ. An empty prompt stands for `bos_token_id`.

        Returns
        -------
        state : LlamaState
            The state after the prompts.
        logits : ndarray, float32 [rows, vocab]
            Scores of the next token.
        """
        tokens = self._padded(prompts)
        rows = len(tokens)
        nothing = LlamaState(np.zeros(rows, dtype=np.int64), self._new_cache(rows, 0))
        cache, hidden = self._read(nothing, tokens)
        lengths = np.count_nonzero(tokens >= 0, axis=1).astype(np.int64)
        return LlamaState(lengths, cache), self._logits(hidden[np.arange(rows), lengths - 1])

    def step(self, state: LlamaState, tokens: npt.ArrayLike) -> tuple[LlamaState, Floats]:
        """Read one more token per row.

        Parameters
        ----------
        state : LlamaState
            A state of this model; it stays valid.
        tokens : array_like of int [rows]
            The token that each row reads.

        Returns
        -------
        state : LlamaState
            The state after the tokens.
        logits : ndarray, float32 [rows, vocab]
            Scores of the next token.
        """
        ids = integers(tokens, "token ids", 0, self.vocab_size)
        if ids.shape != (len(state),):
            raise ValueError(f"tokens must have shape {(len(state),)}, one per row, got {ids.shape}")
        cache, hidden = self._read(state, ids[:, np.newaxis])
        return LlamaState(state.lengths + 1, cache), self._logits(hidden[:, 0])

    def extend(self, state: LlamaState, tokens: npt.ArrayLike) -> tuple[list[LlamaState], Floats]:
        """Read several tokens per row at once and return what `step` would have returned after each.

        Parameters
        ----------
        state : LlamaState
            A state of this model; it stays valid.
        tokens : array_like of int [rows, n]
            Token ids; -1 means that the row reads nothing there and keeps its state.

        Returns
        -------
        states : list of LlamaState
            The n states after each column of tokens.
        logits : ndarray, float32 [rows, n, vocab]
            Scores of the token after each token; zeros where the token is -1.
        """
        ids = integers(tokens, "token ids", -1, self.vocab_size)
        if ids.ndim != 2 or len(ids) != len(state):
            raise ValueError(f"tokens must have shape ({len(state)}, n), got {ids.shape}")
        cache, hidden = self._read(state, ids)
        reads = ids >= 0
        lengths = state.lengths[:, np.newaxis] + np.cumsum(reads, axis=1)
        logits = np.zeros((*ids.shape, self.vocab_size), dtype=np.float32)
        logits[reads] = self._logits(hidden[reads])
        return [LlamaState(column.copy(), cache) for column in lengths.T], logits

    def select(self, state: LlamaState, rows: npt.ArrayLike) -> LlamaState:
        """Return the state with these rows, in this order; rows may repeat or be left out.

        Parameters
        ----------
        state : LlamaState
            A state of this model; it stays valid.
        rows : array_like of int
            Indices of rows.

        Returns
        -------
        LlamaState
            A state with as many rows as indices were given.
        """
        indices = integers(rows, "rows", 0, len(state)).reshape(-1)
        if np.array_equal(indices, np.arange(len(state))):
            return state
        lengths = state.lengths[indices]
        return LlamaState(lengths, state._cache.copy(indices, lengths, self._room(lengths)))

    def concat(self, states: Sequence[LlamaState]) -> LlamaState:
        """Return one state with the rows of all the given ones, in order; at least one is needed."""
        lengths = np.concatenate([state.lengths for state in states])
        cache = self._new_cache(len(lengths), self._room(lengths))
        first = 0
        for state in states:
            cache.fill(first, state._cache, np.arange(len(state)), state.lengths)
            first += len(state)
        return LlamaState(lengths, cache)

    # --- Tokens and room for them --------------------------------------------------------------------------

    def _padded(self, prompts: Sequence[Sequence[int]]) -> Integers:
        """Return prompts as one array [rows, longest] padded with -1, each with the token it begins with."""
        arrays = [integers(prompt, "token ids", 0, self.vocab_size) for prompt in prompts]
        if any(array.ndim != 1 for array in arrays):
            raise ValueError("prompts must be a list with one list of token ids per row")
        filled = fill_empty_prompts(self, [array.tolist() for array in arrays])
        if self.begins_with_bos and self.bos_token_id is not None:
            first = self.bos_token_id
            filled = [prompt if prompt[0] == first else [first, *prompt] for prompt in filled]
        padded = np.full((len(filled), max(map(len, filled), default=0)), -1, dtype=np.int64)
        for row, prompt in zip(padded, filled, strict=True):
            row[: len(prompt)] = prompt
        return padded

    def _new_cache(self, rows: int, places: int) -> _Cache:
        shape = self.shape
        return _Cache(shape.layers, rows, shape.key_heads, places, shape.head_size)

    def _room(self, ends: Integers) -> int:
        """Return how many places to make for rows of these lengths: so many that copies stay rare."""
        return min(2 * int(ends.max(initial=0)) + 32, self.shape.context)

    def _claimed(self, state: LlamaState, ends: Integers) -> _Cache:
        """Return a cache that begins with the state and whose places from there to the ends are its own."""
        too_long = np.flatnonzero(ends > self.shape.context)
        if len(too_long):
            row = int(too_long[0])
            raise ValueError(
                f"a row must have at most {self.shape.context} tokens, got {ends[row]} (row {row})"
            )
        cache = state._cache
        if not cache.claim(state.lengths, ends):
            cache = cache.copy(np.arange(len(state)), state.lengths, self._room(ends))
            cache.claim(state.lengths, ends)
        return cache

    # --- The network ---------------------------------------------------------------------------------------

    def _read(self, state: LlamaState, tokens: Integers) -> tuple[_Cache, Floats]:
        """Read tokens [rows, n]; return the cache behind them and what the last layer made of each.

        A piece is a few columns of all rows, so that a long prompt never needs all scores at once.
        """
        rows, count = tokens.shape
        begins = state.lengths
        cache = self._claimed(state, begins + np.count_nonzero(tokens >= 0, axis=1))
        hidden = np.zeros((rows, count, self.shape.width), dtype=np.float32)
        columns = max(1, _TOKENS_AT_ONCE // max(1, rows))
        for first in range(0, count, columns):
            piece = _Piece.of(tokens[:, first : first + columns], begins)
            if not piece.reads.any():
                continue
            hidden[:, first : first + columns][piece.reads] = self._through_layers(piece, cache)
            begins = begins + np.count_nonzero(piece.reads, axis=1)
        return cache, hidden

    def _through_layers(self, piece: _Piece, cache: _Cache) -> Floats:
        epsilon = self.shape.epsilon
        hidden: Floats = self.weights.embedding[piece.tokens]
        turns = self._turns(piece.positions)
        for place, layer in enumerate(self.weights.layers):
            products = _product(_normed(hidden, layer.attention_norm, epsilon), layer.query_key_value)
            mixed = self._attend(products, turns, piece, cache.keys[place], cache.values[place])
            hidden = hidden + _product(mixed, layer.attention_output)
            products = _product(_normed(hidden, layer.feed_norm, epsilon), layer.gate_up)
            hidden = hidden + _product(_gated(products), layer.down)
        return hidden

    def _turns(self, positions: Integers) -> Turns:
        """Return the rotations [packed, 1, rope_size / 2] that stand for positions, as complex numbers."""
        shape = self.shape
        exponents = -np.arange(0, shape.rope_size, 2) / shape.rope_size
        frequencies = shape.rope_base**exponents / self.weights.rope_factors
        angles = positions[:, np.newaxis, np.newaxis] * frequencies
        turns: Turns = np.exp(1j * angles).astype(np.complex64)
        return turns

    def _attend(
        self,
        products: Floats,
        turns: Turns,
        piece: _Piece,
        keys: Floats,  # [rows, key_heads, places, head_size]
        values: Floats,
    ) -> Floats:
        """Write keys and values of packed tokens; return what each token sees, [packed, heads * size]."""
        shape = self.shape
        rows, count = piece.reads.shape
        group = shape.heads // shape.key_heads
        heads = products.reshape(len(products), shape.heads + 2 * shape.key_heads, shape.head_size)
        # A pair of neighbours is turned as one complex number.
        rotated = heads[:, : shape.heads + shape.key_heads, : shape.rope_size].view(np.complex64)
        rotated *= turns
        keys[piece.rows, :, piece.positions] = heads[:, shape.heads : shape.heads + shape.key_heads]
        values[piece.rows, :, piece.positions] = heads[:, shape.heads + shape.key_heads :]

        queries = piece.unpacked(heads[:, : shape.heads] * np.float32(shape.head_size**-0.5))
        queries = queries.reshape(rows, count, shape.key_heads, group, shape.head_size)
        queries = queries.transpose(0, 2, 3, 1, 4).reshape(
            rows, shape.key_heads, group * count, shape.head_size
        )
        scores = queries @ keys[:, :, : piece.slots].transpose(0, 1, 3, 2)
        if piece.unseen is not None:
            apart = scores.reshape(rows, shape.key_heads, group, count, piece.slots)
            np.copyto(apart, -np.inf, where=piece.unseen)
        mixed = _softmax(scores) @ values[:, :, : piece.slots]
        mixed = mixed.reshape(rows, shape.key_heads, group, count, shape.head_size).transpose(0, 3, 1, 2, 4)
        seen: Floats = mixed.reshape(rows, count, -1)[piece.reads]
        return seen

    def _logits(self, hidden: Floats) -> Floats:
        return _product(_normed(hidden, self.weights.norm, self.shape.epsilon), self.weights.output)

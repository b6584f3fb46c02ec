# SPDX-License-Identifier: Apache-2.0
"""What the core must answer, by the reference, with the tolerances of the contract and no others."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import tokendraw as td
from tokendraw import reference
from tokendraw.reference import LANES, TILE, Row

# A sum of float32 weights against the same sum in float64: twice the contract's 2^-20.
ROUNDING = 2.0**-19


class Expected(NamedTuple):
    """One row by the reference: its state after every step, and how many tokens may be kept."""

    raw: NDArray[np.float32]
    parameters: dict[str, Any]
    states: dict[str, Row]
    fewest: int
    most: int

    def given(self, kept: int) -> "Expected":
        """Return the row with exactly `kept` tokens left: a count that the tolerance allows."""
        first = self.states["top_k"].order[:kept]
        return self._replace(states={**self.states, "min_p": self.states["top_k"].keeping(first)})

    @property
    def final(self) -> Row:
        return self.states["min_p"]

    @property
    def valid(self) -> bool:
        return bool(self.states) and bool(self.final.kept.any())

    @property
    def is_bounded(self) -> bool:
        """Whether the cutoff of top_p is known before the draw."""
        is_small = 0 < self.parameters["top_k"] < min(TILE + 1, self.raw.size)
        return self.parameters["top_p"] >= 1 or is_small


def expect(logits: ArrayLike, **filters: Any) -> list[Expected]:
    rows = np.asarray(logits).astype(np.float32)
    rows = rows.reshape(-1, rows.shape[-1])
    return [
        _expect_row(raw, parameters)
        for raw, parameters in zip(rows, reference.parameters_of(filters, *rows.shape), strict=True)
    ]


def _expect_row(raw: NDArray[np.float32], parameters: dict[str, Any]) -> Expected:
    if np.isnan(raw).any() or np.isposinf(raw).any():
        return Expected(raw, parameters, {}, 0, 0)
    states = reference.run_steps(raw, parameters)
    thresholds = reference.bounds(parameters["top_p"], parameters["min_p"])
    if not states["bias"].kept.any():
        return Expected(raw, parameters, states, 0, 0)
    fewest, most = (_count(states["top_k"], shifted) for shifted in thresholds)
    return Expected(raw, parameters, states, fewest, most)


def _count(row: Row, thresholds: Mapping[str, float]) -> int:
    for name in ("top_p", "min_p"):
        row = reference.STEPS[name](row, thresholds[name])
    return int(row.kept.sum())


def check_kept(expected: Sequence[Expected], kept: Any) -> list[Expected]:
    """Check a `KeptSet`; return the rows with the counts that the core chose within the tolerance."""
    offsets = np.asarray(kept.offsets)
    assert offsets[0] == 0
    assert len(offsets) == len(expected) + 1
    chosen = []
    for row, start, end in zip(expected, offsets[:-1], offsets[1:], strict=True):
        count = int(end - start)
        assert row.fewest <= count <= row.most, (count, row.fewest, row.most)
        chosen.append(row.given(count))
        assert np.array_equal(kept.tokens[start:end], np.flatnonzero(chosen[-1].final.kept))
        check_logprobs(kept.logprobs[start:end], chosen[-1].final.logprobs[kept.tokens[start:end]])
    return chosen


def check_logprobs(actual: ArrayLike, exact: ArrayLike) -> None:
    """Check to `1e-6 + 2^-22 |logprob|`; from the lowest float32 down, -inf is right as well."""
    lowest = -float(reference.FLT_MAX)
    actual, exact = np.asarray(actual, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    assert actual.shape == exact.shape
    told, true = np.maximum(actual, lowest), np.maximum(exact, lowest)
    excess = np.abs(told - true) - (1e-6 + 2.0**-22 * np.abs(true))
    assert (excess <= 0).all(), f"logprob off by {excess.max():.3g} more than allowed"


def check_distribution(expected: Sequence[Expected], logits: ArrayLike, filters: Mapping[str, Any]) -> None:
    """Check softmax, log_softmax and filter_logits of rows whose kept sets were checked."""
    vocab = np.shape(logits)[-1]
    probs = np.asarray(td.softmax(logits, **filters)).reshape(-1, vocab)
    logprobs = np.asarray(td.log_softmax(logits, **filters)).reshape(-1, vocab)
    scores = np.asarray(td.filter_logits(logits, **filters)).reshape(-1, vocab)
    for row, prob, logprob, score in zip(expected, probs, logprobs, scores, strict=True):
        final = row.final
        check_logprobs(logprob[final.kept], final.logprobs[final.kept])
        assert (logprob[~final.kept] == -np.inf).all()
        assert abs(float(prob.sum(dtype=np.float64)) - 1) <= 1e-6
        assert (prob[~final.kept] == 0).all()
        exact = np.exp(final.logprobs)
        bound = exact * (1e-6 + 2.0**-22 * np.abs(np.maximum(final.logprobs, -200))) + 2.0**-126
        assert (np.abs(prob - exact) <= bound).all()
        assert (score[~final.kept] == -np.inf).all()
        exact_scores = np.maximum(final.scores[final.kept], -float(reference.FLT_MAX))
        np.testing.assert_allclose(score[final.kept], exact_scores, rtol=2.0**-22, atol=2.0**-126)


class Level(NamedTuple):
    """One choice of a draw: the children's weights, the child on the way to a token, and the uniform."""

    weights: NDArray[np.float64]
    child: int
    uniform: int

    @property
    def distance(self) -> float:
        """How far the uniform is outside the child's interval, relative to the nearer tail."""
        shares = np.concatenate([[0.0], np.cumsum(self.weights)]) / self.weights.sum()
        place = self.uniform / 2.0**128
        low, high = shares[self.child], shares[self.child + 1]
        if low <= place < high:
            return 0.0
        border = low if place < low else high
        return float(abs(place - border) / max(min(border, 1 - border), 2.0**-60))


Place = tuple[int, int, int]
"""The seed, stream and step of a draw."""


class Tiled(NamedTuple):
    """The weights of a row as a draw sees them. Shape of `weights`: tiles, places, lanes."""

    weights: NDArray[np.float64]
    tile_sums: NDArray[np.float64]

    @classmethod
    def of(cls, weights: NDArray[np.float64]) -> "Tiled":
        tiled = np.pad(weights, (0, -weights.size % TILE)).reshape(-1, TILE // LANES, LANES)
        return cls(tiled, tiled.sum(axis=(1, 2)))

    def distance(self, token: int, uniforms: Sequence[int]) -> float:
        """Return the largest distance of the three choices that lead to a token."""
        tile, inside = divmod(token, TILE)
        place, lane = divmod(inside, LANES)
        children = (self.tile_sums, self.weights[tile].sum(axis=0), self.weights[tile, :, lane])
        levels = zip(children, (tile, lane, place), uniforms, strict=True)
        return max(Level(*level).distance for level in levels)


def uniforms_of(places: Sequence[Place]) -> list[list[int]]:
    """Return the blocks of two rounds for every draw; `reference.uniform` of many places at once."""
    counters = [reference.counter_words(index, *place[1:]) for place in places for index in range(6)]
    keys = [[place[0] & 0xFFFFFFFF, place[0] >> 32] for place in places for _ in range(6)]
    words = reference.philox4x32_10(counters, keys).astype("<u4")
    blocks = [int.from_bytes(block.tobytes(), "little") for block in words]
    return [blocks[start : start + 6] for start in range(0, len(blocks), 6)]


def surprises(row: Expected, tokens: ArrayLike, places: Sequence[Place]) -> list[float]:
    """Return how far, relative to the nearest tail, drawn tokens are from what the reference draws.

    0 is agreement; a value near the rounding of float32 sums is a target that fell on a border.
    """
    final = row.final.weights
    proposal = final if row.is_bounded else row.states["top_k"].weights
    rounds = Tiled.of(proposal), Tiled.of(final)
    draws = zip(np.ravel(tokens).tolist(), uniforms_of(places), strict=True)
    return [_surprise(row, rounds, token, uniforms) for token, uniforms in draws]


def _surprise(row: Expected, rounds: tuple[Tiled, Tiled], token: int, uniforms: Sequence[int]) -> float:
    assert row.final.kept[token], token
    first = rounds[0].distance(token, uniforms[:3])
    if first <= ROUNDING or row.is_bounded:
        return first
    escaped = reference.descend(rounds[0].weights.ravel(), uniforms[:3])
    return first if row.final.kept[escaped] else rounds[1].distance(token, uniforms[3:])


def count_differing(row: Expected, tokens: ArrayLike, places: Sequence[Place]) -> int:
    """Check draws of one row against the reference's; return how many differ, by rounding at a border."""
    distances = np.array(surprises(row, tokens, places))
    assert (distances <= ROUNDING).all(), (int(distances.argmax()), distances.max())
    return int(np.count_nonzero(distances))

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
    """One row by the reference: its state after every step."""

    raw: NDArray[np.float32]
    parameters: dict[str, Any]
    states: dict[str, Row]

    @property
    def edited(self) -> Row:
        """The row as the total order ranks it."""
        return self.states[reference.EDITED]

    @property
    def final(self) -> Row:
        return list(self.states.values())[-1]

    @property
    def valid(self) -> bool:
        return bool(self.states) and bool(self.edited.kept.any())

    @property
    def proposal(self) -> Row | None:
        """The set that the first draw takes, where it is not the final one."""
        return reference.proposal(self.states, self.parameters)

    def is_active(self, step: str) -> bool:
        return self.valid and reference.is_active(step, self.parameters, self.raw.size)

    def after(self, step: str, state: Row) -> "Expected":
        return self._replace(states={**self.states, step: state})


def expect(logits: ArrayLike, **arguments: Any) -> list[Expected]:
    """Return the rows by the reference alone. Arguments: filters, and seed, stream and step."""
    return [
        row._replace(states=reference.run_steps(row.raw, row.parameters) if row.states else {})
        for row in _edited_rows(logits, arguments)
    ]


def follow(logits: ArrayLike, **arguments: Any) -> list[Expected]:
    """Return the rows with the sets that the core chose, step after step, each checked against the reference.

    Where the contract's tolerance allows several sets, the next step starts from the one that the core chose:
    what it keeps with the later steps left out. So a step that is fused with others must choose as it does
    alone. Invalid rows stay as they are.
    """
    rows = _edited_rows(logits, arguments)
    steps = rows[0].parameters["steps"] if rows else ()
    for place, step in enumerate(steps):
        sets = None
        if step in COMPARING and any(row.is_active(step) for row in rows):
            left_out = {name for later in steps[place + 1 :] for name in PARAMETERS[later]}
            chosen = {name: value for name, value in arguments.items() if name not in left_out}
            sets = _split(td.kept_set(logits, on_invalid="mark", **filters_of(chosen)))
        rows = [_next(row, step, sets and sets[index]) for index, row in enumerate(rows)]
    return rows


PARAMETERS = {
    "temperature": ("temperature",),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "top_k_top_p": ("top_k", "top_p"),
    "min_p": ("min_p",),
    "typical": ("typical_p",),
    "epsilon": ("epsilon_cutoff",),
    "eta": ("eta_cutoff",),
    "top_n_sigma": ("top_n_sigma",),
    "xtc": ("xtc_probability",),
}
"""The parameters that make each step active."""

COMPARING = tuple(name for name in PARAMETERS if name not in ("temperature", "top_k"))
"""The steps whose thresholds have a tolerance."""


def filters_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function that does not draw takes; it needs a place for XTC and for min_tokens alone."""
    if {"xtc_probability", "min_tokens"} & set(arguments):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name not in ("seed", "stream", "step")}


def _edited_rows(logits: ArrayLike, arguments: Mapping[str, Any]) -> list[Expected]:
    rows = np.asarray(logits)
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32).reshape(-1, rows.shape[-1])
    placed = {name: arguments[name] for name in ("seed", "stream", "step") if name in arguments}
    filters = {name: value for name, value in arguments.items() if name not in placed}
    parameters = reference.parameters_of(filters, *rows.shape, reference.places_of(len(rows), **placed))
    return [_edited_row(*row) for row in zip(rows, parameters, strict=True)]


def _edited_row(raw: NDArray[np.float32], parameters: dict[str, Any]) -> Expected:
    if np.isnan(raw).any() or np.isposinf(raw).any():
        return Expected(raw, parameters, {})
    return Expected(raw, parameters, reference.run_steps(raw, {**parameters, "steps": ()}))


def _split(kept: Any) -> list[NDArray[np.int32]]:
    return np.split(np.asarray(kept.tokens), np.asarray(kept.offsets)[1:-1])


def _next(row: Expected, step: str, tokens: NDArray[np.int32] | None) -> Expected:
    if not row.valid:
        return row
    exact = reference.STEPS[step](row.final, row.parameters, reference.NOMINAL)
    if tokens is None or np.array_equal(tokens, np.flatnonzero(exact.kept)):
        return row.after(step, exact)
    check_step(row.final, step, row.parameters, tokens)
    return row.after(step, exact.keeping(tokens))


def check_step(row: Row, step: str, parameters: Mapping[str, Any], tokens: ArrayLike) -> None:
    """Check that a step may leave exactly these tokens of a row."""
    smallest, largest = (
        reference.STEPS[step](row, parameters, within).kept
        for within in (reference.SMALLEST, reference.LARGEST)
    )
    kept = row.keeping(np.asarray(tokens)).kept
    missing, wrong = smallest & ~kept, kept & ~largest
    assert not missing.any(), f"{step} removed {np.flatnonzero(missing)[:9]}, of {missing.sum()}"
    assert not wrong.any(), f"{step} kept {np.flatnonzero(wrong)[:9]}, of {wrong.sum()}"
    assert kept.any(), f"{step} kept nothing"
    assert _is_cut(row, step, parameters, kept), f"what {step} kept is not cut from its order"
    if step == "typical":
        # The distance of the token that reaches the share may be off, the share not.
        assert row.probs[kept].sum() >= parameters["typical_p"] + reference.SMALLEST.reach


def _is_cut(row: Row, step: str, parameters: Mapping[str, Any], kept: NDArray[np.bool_]) -> bool:
    """Say whether the kept tokens come before the removed ones in the order in which a step keeps them."""
    present = row.kept
    if step == "top_k_top_p":
        present = reference.select_top_k(row, parameters["top_k"], parameters["top_k_ties"]).kept
    removed = present & ~kept
    if not removed.any():
        return True
    if step == "typical":
        # Distances of both signs may be off, so that near the border only equal logits are held together.
        return not np.isin(row.logits[kept], row.logits[removed]).any()
    order = _order_of(row, step, parameters)
    return bool(order[kept].max() < order[removed].min())


def _order_of(row: Row, step: str, parameters: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return numbers that say in which order a step keeps tokens, equal for those of one fate."""
    descending = -row.logits.astype(np.float64)
    ties = parameters["top_p_ties"] if step in ("top_p", "top_k_top_p") else "all"
    if step != "xtc" and ties == "all":
        return descending
    tokens = np.arange(row.logits.size)
    ranks = np.empty(row.logits.size)
    ranks[np.lexsort((-tokens if ties == "highest" else tokens, descending))] = tokens
    return -ranks if step == "xtc" else ranks


def check_kept(expected: Sequence[Expected], kept: Any) -> None:
    """Check a `KeptSet` of valid rows: the tokens, and the logprobs within the tolerance."""
    offsets = np.asarray(kept.offsets)
    assert offsets[0] == 0
    assert len(offsets) == len(expected) + 1
    for row, tokens, logprobs in zip(
        expected, _split(kept), np.split(np.asarray(kept.logprobs), offsets[1:-1]), strict=True
    ):
        assert np.array_equal(tokens, np.flatnonzero(row.final.kept))
        check_logprobs(logprobs, row.final.logprobs[tokens])


def check_logprobs(actual: ArrayLike, exact: ArrayLike) -> None:
    """Check to `1e-6 + 2^-22 |logprob|`; from the lowest float32 down, -inf is right as well."""
    lowest = -float(reference.FLT_MAX)
    actual, exact = np.asarray(actual, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    assert actual.shape == exact.shape
    told, true = np.maximum(actual, lowest), np.maximum(exact, lowest)
    excess = np.abs(told - true) - (1e-6 + 2.0**-22 * np.abs(true))
    assert (excess <= 0).all(), f"logprob off by {excess.max():.3g} more than allowed"


def check_distribution(expected: Sequence[Expected], logits: ArrayLike, arguments: Mapping[str, Any]) -> None:
    """Check softmax, log_softmax and filter_logits of rows whose kept sets were checked."""
    vocab = np.shape(logits)[-1]
    filters = filters_of(arguments)
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


def check_report(row: Expected, draws: td.Draws, index: int) -> None:
    """Check everything that `draw` says about one row."""
    token = int(draws.tokens[index])
    assert draws.valid[index]
    assert draws.kept[index] == row.final.kept.sum()
    check_logprobs(draws.logprobs[index], row.final.logprobs[token])
    check_logprobs(draws.raw_logprobs[index], reference.start_row(row.raw).logprobs[token])
    above = (row.raw > row.raw[token]) | ((row.raw == row.raw[token]) & (np.arange(row.raw.size) < token))
    assert draws.ranks[index] == above.sum()
    width = draws.top_tokens.shape[1]
    highest = row.edited.order[:width]
    assert draws.top_tokens[index].tolist() == [*highest, *[-1] * (width - highest.size)]
    padding = [-np.inf] * (width - highest.size)
    check_logprobs(draws.top_logprobs[index], [*row.final.logprobs[highest], *padding])


def check_call(logits: NDArray[Any], arguments: Mapping[str, Any]) -> None:
    """Check every function on valid rows, with filters, a seed and a step, against the reference."""
    rows = follow(logits, **arguments)
    check_kept(rows, td.kept_set(logits, **filters_of(arguments)))
    check_distribution(rows, logits, arguments)
    draws = td.draw(logits, logprobs=6, **arguments)
    for index, row in enumerate(rows):
        count_differing(row, draws.tokens[index], [row.parameters["place"]])
        check_report(row, draws, index)


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
    first = row.proposal or row.final
    rounds = Tiled.of(first.weights), Tiled.of(row.final.weights)
    draws = zip(np.ravel(tokens).tolist(), uniforms_of(places), strict=True)
    return [_surprise(row, rounds, token, uniforms) for token, uniforms in draws]


def _surprise(row: Expected, rounds: tuple[Tiled, Tiled], token: int, uniforms: Sequence[int]) -> float:
    assert row.final.kept[token], token
    first = rounds[0].distance(token, uniforms[:3])
    if first <= ROUNDING or row.proposal is None:
        return first
    escaped = reference.descend(rounds[0].weights.ravel(), uniforms[:3])
    return first if row.final.kept[escaped] else rounds[1].distance(token, uniforms[3:])


def count_differing(row: Expected, tokens: ArrayLike, places: Sequence[Place]) -> int:
    """Check draws of one row against the reference's; return how many differ, by rounding at a border."""
    distances = np.array(surprises(row, tokens, places))
    assert (distances <= ROUNDING).all(), (int(distances.argmax()), distances.max())
    return int(np.count_nonzero(distances))

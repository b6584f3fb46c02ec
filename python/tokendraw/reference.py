# SPDX-License-Identifier: Apache-2.0
"""The meaning of every step in plain NumPy float64: one row at a time, sorted, summed and drawn as written.

The compiled core is tested against this module. It is slow on purpose and checks no parameter. Comparisons
with a threshold take a `Tolerance`: `NOMINAL` is their meaning, `SMALLEST` and `LARGEST` ask for the smallest
and the largest set that an accurate answer may keep.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EDITED",
    "EDITS",
    "LARGEST",
    "NOMINAL",
    "ORDER",
    "SMALLEST",
    "STEPS",
    "Draws",
    "Filters",
    "InvalidLogitsError",
    "KeptSet",
    "Penalties",
    "Row",
    "Tolerance",
    "Verified",
    "apply_bias",
    "apply_mask",
    "apply_min_tokens",
    "apply_penalties",
    "apply_temperature",
    "beam_search",
    "before",
    "cross_entropy",
    "descend",
    "draw",
    "dry_penalties",
    "entropy",
    "filter_logits",
    "greedy",
    "is_active",
    "js_divergence",
    "kept_set",
    "kl_divergence",
    "log_softmax",
    "logsumexp",
    "parameters_of",
    "philox4x32_10",
    "pick",
    "proposal",
    "residual",
    "run_steps",
    "sample",
    "select_epsilon",
    "select_eta",
    "select_min_p",
    "select_top_k",
    "select_top_k_top_p",
    "select_top_n_sigma",
    "select_top_p",
    "select_typical",
    "select_xtc",
    "softmax",
    "start_row",
    "token_logprobs",
    "top_continuations",
    "top_k",
    "total_order",
    "uniform",
    "unit_fraction",
    "unpack_mask",
    "verify_draft",
    "verify_position",
    "without",
    "xtc_applies",
]

TILE = 1024
LANES = 32
MAX_LISTED = 1024
FLT_MAX = np.finfo(np.float32).max

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Logits = NDArray[np.float32]
OnInvalid = Literal["raise", "mark"]


class InvalidLogitsError(ValueError):
    """Rows that no token can be drawn from; `tokens` holds the result with -1 in those rows."""

    def __init__(self, message: str, tokens: Any) -> None:
        super().__init__(message)
        self.tokens = tokens


class Filters(TypedDict, total=False):
    """What narrows a row; every number, the mask, an array of biases and the history may differ by row."""

    mask: ArrayLike | None
    bias: Mapping[int, float] | ArrayLike | None
    temperature: ArrayLike
    top_k: ArrayLike | None
    top_p: ArrayLike
    min_p: ArrayLike
    typical_p: ArrayLike
    epsilon_cutoff: ArrayLike
    eta_cutoff: ArrayLike
    top_n_sigma: ArrayLike
    xtc_probability: ArrayLike
    xtc_threshold: ArrayLike
    repetition_penalty: ArrayLike
    frequency_penalty: ArrayLike
    presence_penalty: ArrayLike
    dry_multiplier: ArrayLike
    dry_base: ArrayLike
    dry_allowed_length: ArrayLike
    dry_last_n: ArrayLike
    dry_breakers: Sequence[int]
    min_tokens: ArrayLike
    eos_token_id: int | Sequence[int] | None
    steps: Sequence[str] | None
    top_k_ties: str
    top_p_boundary: str
    top_p_ties: str
    top_p_mass: str
    penalty_history: str | Mapping[str, str]
    history: Any
    prompt_lengths: ArrayLike | None


class PlacedFilters(Filters, total=False):
    """Filters of a function that does not draw: XTC is random, and `min_tokens` counts steps."""

    seed: Any
    stream: Any
    step: Any


class Draws(NamedTuple):
    """One drawn token per row, and what is known about it."""

    tokens: Any
    logprobs: Any
    raw_logprobs: Any
    ranks: Any
    kept: Any
    valid: Any
    top_tokens: Any
    top_logprobs: Any
    entropies: Any


class KeptSet(NamedTuple):
    """The kept tokens of all rows: row i holds `tokens[offsets[i]:offsets[i + 1]]`, ascending."""

    tokens: NDArray[np.int32]
    logprobs: Floats
    offsets: Ints


class Verified(NamedTuple):
    """The tokens of every row, -1 past the last, and how many of them are drafts."""

    tokens: Any
    accepted: Any


# --- The total order ---------------------------------------------------------------------------------------


def before(logit: float, token: int, other_logit: float, other_token: int) -> bool:
    """Say whether a token ranks before another: higher logit first, then lower id.

    Examples
    --------
    >>> before(2.0, 7, 1.0, 0), before(1.0, 3, 1.0, 4), before(-0.0, 1, 0.0, 0)
    (True, True, False)
    """
    return logit > other_logit or (logit == other_logit and token < other_token)


def total_order(logits: Logits) -> Ints:
    """Return the tokens of a row from first to last.

    Examples
    --------
    >>> total_order(np.float32([0.0, 2.0, -0.0, 2.0])).tolist()
    [1, 3, 0, 2]
    """
    return np.argsort(-logits, kind="stable")


# --- The steps ---------------------------------------------------------------------------------------------


class Tolerance(NamedTuple):
    """Where comparisons with a threshold fall.

    Attributes
    ----------
    reach, exceed : float
        Added to `top_p` and `typical_p`: a share that equals them but for the rounding of float32 logits
        counts as equal.
    threshold : float
        Factor of `min_p`, of the epsilon and of the eta threshold.
    xtc_threshold : float
        Factor of `xtc_threshold`, where lower means that more is removed.
    sigma : float
        Factor of `top_n_sigma`.
    distance : float
        How far typical's distances may be off, in units of the error allowed to log-probabilities.
    """

    reach: float = -(2.0**-22)
    exceed: float = 2.0**-22
    threshold: float = 1 - 2.0**-20
    xtc_threshold: float = 1 - 2.0**-20
    sigma: float = 1 + 2.0**-20
    distance: float = 0.0


NOMINAL = Tolerance()
SMALLEST = Tolerance(-1e-6, -1e-6, 1 + 2.0**-19, 1 - 2.0**-19, 1 - 2.0**-19, -1.0)
LARGEST = Tolerance(1e-6, 1e-6, 1 - 2.0**-19, 1 + 2.0**-19, 1 + 2.0**-19, 1.0)


class Row(NamedTuple):
    """One row between two steps.

    `logits` are what the total order compares; `kept` marks the tokens that no step has removed; scores are
    relative to the highest logit, removed or not, and divided by `temperature`.
    """

    logits: Logits
    kept: Bools
    temperature: float = 1.0

    @property
    def scores(self) -> Floats:
        """The kept tokens' `(logit - highest) / temperature`, -inf elsewhere."""
        return self._scores_below(float(self.logits.max()))

    @property
    def weights(self) -> Floats:
        """The kept tokens' unnormalised probabilities, 1 for the highest of them."""
        weights: Floats = np.exp(self._scores_below(self.highest))
        return weights

    @property
    def probs(self) -> Floats:
        """The kept tokens' probabilities, 0 elsewhere."""
        weights = self.weights
        probs: Floats = weights / weights.sum()
        return probs

    @property
    def logprobs(self) -> Floats:
        """The kept tokens' log-probabilities, -inf elsewhere."""
        logprobs: Floats = self._scores_below(self.highest) - np.log(self.weights.sum())
        return logprobs

    @property
    def entropy(self) -> float:
        """The entropy of the kept tokens, in nats."""
        probs, logprobs = self.probs, self.logprobs
        return -float(probs[probs > 0] @ logprobs[probs > 0])

    @property
    def whole_weight(self) -> float:
        """The sum of all finite tokens' weights, removed or not, relative to the highest of all."""
        return float(np.exp(self._replace(kept=self.logits > -np.inf).scores).sum())

    @property
    def highest(self) -> float:
        """The highest kept logit."""
        return float(self.logits[self.kept].max())

    @property
    def order(self) -> Ints:
        """The kept tokens in the total order."""
        order = total_order(self.logits)
        return order[self.kept[order]]

    def keeping(self, tokens: Ints) -> "Row":
        """Return the row with these tokens alone kept."""
        kept = np.zeros_like(self.kept)
        kept[tokens] = True
        return self._replace(kept=kept)

    def keeping_where(self, condition: Bools) -> "Row":
        """Return the row without the tokens that do not meet the condition."""
        return self._replace(kept=self.kept & condition)

    def _scores_below(self, highest: float) -> Floats:
        logits = np.where(self.kept, self.logits, -np.inf).astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature sends low scores to -inf
            scores: Floats = (logits - highest) / self.temperature
        return scores


def start_row(logits: Logits) -> Row:
    """Return the row before any step: a token at -inf is never kept.

    Examples
    --------
    >>> start_row(np.float32([1, -np.inf])).kept.tolist()
    [True, False]
    """
    return Row(logits, logits > -np.inf)


def apply_mask(row: Row, mask: Bools | None) -> Row:
    """Remove the tokens that `mask` does not allow.

    Examples
    --------
    >>> apply_mask(start_row(np.float32([1, 2])), np.array([True, False])).logits.tolist()
    [1.0, -inf]
    """
    if mask is None:
        return row
    return start_row(np.where(mask, row.logits, np.float32(-np.inf)))


def apply_bias(row: Row, bias: Logits | None) -> Row:
    """Add a bias to the logits, in float32; a sum beyond the largest float32 stays there.

    Examples
    --------
    >>> apply_bias(start_row(np.float32([1, 2, 3])), np.float32([0.5, 0, -np.inf])).logits.tolist()
    [1.5, 2.0, -inf]
    """
    if bias is None:
        return row
    with np.errstate(over="ignore"):
        return start_row(np.minimum(row.logits + bias, FLT_MAX))


class Penalties(NamedTuple):
    """What a row's history costs its tokens; each penalty has a history of its own."""

    repetition: float = 1.0
    repetition_history: Sequence[int] = ()
    frequency: float = 0.0
    frequency_history: Sequence[int] = ()
    presence: float = 0.0
    presence_history: Sequence[int] = ()
    dry: Mapping[int, float] = {}

    def penalised(self, token: int, logit: float) -> float:
        """Return a finite logit after the penalties, in float64; none of them leads beyond float32."""
        value = logit
        if token in self.repetition_history:
            value = _saturated(value * self.repetition if value < 0 else value / self.repetition)
        if token in self.frequency_history:
            value = _saturated(value - self.frequency_history.count(token) * self.frequency)
        if token in self.presence_history:
            value = _saturated(value - self.presence)
        return _saturated(value - self.dry.get(token, 0.0))

    @property
    def tokens(self) -> set[int]:
        """The tokens that some penalty may change."""
        return {*self.repetition_history, *self.frequency_history, *self.presence_history, *self.dry}


def _saturated(value: float) -> float:
    return min(max(value, -float(FLT_MAX)), float(FLT_MAX))


def apply_penalties(row: Row, penalties: Penalties) -> Row:
    """Lower the logits of tokens in the history; each is rounded to float32 once, at the end.

    Examples
    --------
    >>> row = start_row(np.float32([4, -4, 4]))
    >>> apply_penalties(row, Penalties(2.0, [0, 1], frequency=0.5, frequency_history=[0, 0])).logits.tolist()
    [1.0, -8.0, 4.0]
    """
    logits = row.logits.copy()
    for token in penalties.tokens:
        if logits[token] > -np.inf:
            logits[token] = penalties.penalised(token, float(logits[token]))
    return start_row(logits)


def dry_penalties(
    history: Sequence[int],
    *,
    multiplier: float,
    base: float = 1.75,
    allowed_length: int = 2,
    last_n: int = -1,
    breakers: Iterable[int] = (),
) -> dict[int, float]:
    """Return what each token costs that would continue a repetition ("don't repeat yourself").

    A token costs `multiplier * base ** (length - allowed_length)`, where `length` is that of the longest end
    of the history that occurs earlier in it with this token next; repetitions shorter than `allowed_length`
    are free. Repetitions do not reach across a breaker, and a breaker costs nothing. The rules are those of
    llama.cpp (as in llama-cpp-python 0.3.36), with breakers of one token.

    Examples
    --------
    >>> dry_penalties([0, 1, 2, 0, 1], multiplier=1.0, base=1.1)
    {2: 1.0}
    >>> dry_penalties([7, 8, 9, 5, 7, 8, 9], multiplier=1.0, base=2.0)
    {5: 2.0}
    >>> dry_penalties([0, 1, 3, 4, 0, 1], multiplier=1.0, breakers=[1])
    {}
    """
    window = list(history) if last_n < 0 else list(history)[max(0, len(history) - last_n) :]
    backwards = window[::-1]
    breaking = set(breakers)
    limit = next((place for place, token in enumerate(backwards) if token in breaking), len(window))
    if multiplier == 0 or len(window) <= allowed_length or limit < allowed_length:
        return {}
    longest: dict[int, int] = {}
    for shift in range(1, len(window)):
        length = min(limit, _common_length(backwards, backwards[shift:]))
        continuation = backwards[shift - 1]
        if length >= allowed_length and continuation not in breaking:
            longest[continuation] = max(length, longest.get(continuation, 0))
    return {token: multiplier * _power(base, length - allowed_length) for token, length in longest.items()}


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common from their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _power(base: float, exponent: int) -> float:
    """Return a power by squaring, in the order of operations that the core reproduces."""
    power = 1.0
    while exponent:
        if exponent & 1:
            power *= base
        base *= base
        exponent >>= 1
    return power


def apply_min_tokens(row: Row, forbidden: Sequence[int]) -> Row:
    """Remove the tokens that end a sequence, while it is too short.

    Examples
    --------
    >>> apply_min_tokens(start_row(np.float32([1, 2, 3])), [2]).logits.tolist()
    [1.0, 2.0, -inf]
    """
    logits = row.logits.copy()
    logits[list(forbidden)] = -np.inf
    return start_row(logits)


def apply_temperature(row: Row, temperature: float) -> Row:
    """Divide the scores; at zero keep the first token alone, and leave the scores as they are.

    Examples
    --------
    >>> apply_temperature(start_row(np.float32([1, 2])), 0.5).scores.tolist()
    [-2.0, 0.0]
    >>> apply_temperature(start_row(np.float32([2, 2, 1])), 0.0).kept.tolist()
    [True, False, False]
    """
    if temperature == 0:
        return row.keeping(row.order[:1])
    return row._replace(temperature=temperature)


def select_top_k(row: Row, top_k: int, ties: str = "exact") -> Row:
    """Keep the first `top_k` tokens of the total order, with "all" also those equal to the last; 0 keeps all.

    Examples
    --------
    >>> row = start_row(np.float32([1, 3, 3, 2]))
    >>> select_top_k(row, 1).kept.tolist(), select_top_k(row, 1, ties="all").kept.tolist()
    ([False, True, False, False], [False, True, True, False])
    """
    if not top_k:
        return row
    first = row.order[:top_k]
    if ties == "all":
        return row.keeping_where(row.logits >= row.logits[first[-1]])
    return row.keeping(first)


def select_top_p(
    row: Row,
    top_p: float,
    boundary: str = "reach",
    ties: str = "lowest",
    mass: str = "left",
    tolerance: Tolerance = NOMINAL,
) -> Row:
    """Keep the shortest prefix of the total order that holds the share `top_p`; 1 keeps all.

    Parameters
    ----------
    row : Row
    top_p : float
    boundary : {"reach", "exceed"}
        Whether the prefix is complete when its share reaches `top_p`, or only when it exceeds it.
    ties : {"lowest", "highest", "all"}
        Which of the tokens that are equal to the last one are kept: as many as the prefix holds, from the
        lowest or from the highest ids, or all.
    mass : {"left", "original"}
        What shares are of: the tokens that earlier steps left, or all finite ones.
    tolerance : Tolerance

    Examples
    --------
    >>> row = start_row(np.float32([0, 0, 0, 0]))
    >>> [select_top_p(row, 0.5, *rules).kept.nonzero()[0].tolist() for rules in [(), ("exceed",)]]
    [[0, 1], [0, 1, 2]]
    >>> [select_top_p(row, 0.5, ties=ties).kept.nonzero()[0].tolist() for ties in ("highest", "all")]
    [[2, 3], [0, 1, 2, 3]]
    """
    if top_p >= 1:
        return row
    order = row.order
    before_each = _shares_before(row, order, mass)
    if boundary == "reach":
        is_kept = before_each < top_p + tolerance.reach
    else:
        is_kept = before_each <= top_p + tolerance.exceed
    is_kept[0] = True
    prefix = order[is_kept]
    equal = row.kept & (row.logits == row.logits[prefix[-1]])
    if ties == "lowest":
        return row.keeping(prefix)
    above = row.kept & (row.logits > row.logits[prefix[-1]])
    chosen = np.flatnonzero(equal)
    if ties == "highest":
        chosen = chosen[-(prefix.size - int(above.sum())) :]
    return row.keeping(np.concatenate([np.flatnonzero(above), chosen]))


def _shares_before(row: Row, order: Ints, mass: str) -> Floats:
    """Return the share of the mass that lies before each token of an order."""
    weights = (row.weights if mass == "left" else np.exp(row.scores))[order]
    cumulated = np.cumsum(weights)
    whole = cumulated[-1] if mass == "left" else row.whole_weight
    shares: Floats = (cumulated - weights) / whole
    return shares


def select_top_k_top_p(
    row: Row,
    top_k: int,
    top_p: float,
    top_k_ties: str = "exact",
    boundary: str = "reach",
    ties: str = "lowest",
    mass: str = "left",
    tolerance: Tolerance = NOMINAL,
) -> Row:
    """Keep what both filters keep of the same row; where that is nothing, the first token.

    Nothing is left where one rule keeps equal tokens from the lowest ids and the other from the highest.

    Examples
    --------
    >>> row = start_row(np.log(np.float32([0.4, 0.3, 0.2, 0.1])))
    >>> select_top_k_top_p(row, 2, 0.5).kept.nonzero()[0].tolist()
    [0, 1]
    >>> select_top_p(select_top_k(row, 2), 0.5).kept.nonzero()[0].tolist()
    [0]
    """
    by_top_k = select_top_k(row, top_k, top_k_ties)
    both = select_top_p(row, top_p, boundary, ties, mass, tolerance).keeping_where(by_top_k.kept)
    return both if both.kept.any() else row.keeping(row.order[:1])


def select_min_p(row: Row, min_p: float, tolerance: Tolerance = NOMINAL) -> Row:
    """Keep tokens at least `min_p` times as probable as the first, which always stays.

    Examples
    --------
    >>> select_min_p(start_row(np.log(np.float32([0.5, 0.3, 0.2]))), 0.5).kept.tolist()
    [True, True, False]
    """
    return row.keeping_where(row.weights >= min(1.0, min_p * tolerance.threshold))


def select_typical(row: Row, typical_p: float, tolerance: Tolerance = NOMINAL) -> Row:
    """Keep the tokens whose surprise is nearest to the entropy, up to the share `typical_p`; 1 keeps all.

    All tokens stay that are as near as the one that reaches the share. The rule of transformers 5.23.0, after
    Meister et al., "Locally typical sampling" (2022).

    Examples
    --------
    >>> select_typical(start_row(np.log(np.float32([0.4, 0.2, 0.2, 0.2]))), 0.5).kept.tolist()
    [False, True, True, True]
    """
    if typical_p >= 1:
        return row
    entropy, logprobs = row.entropy, row.logprobs
    distances = np.abs(-logprobs - entropy)
    order = row.order
    nearest = order[np.argsort(distances[order], kind="stable")]
    reached = np.cumsum(row.probs[nearest]) >= typical_p + tolerance.reach
    last = int(reached.argmax()) if reached.any() else nearest.size - 1
    slack: Any = 0.0
    if tolerance.distance:  # a logprob may be -inf at a tiny temperature
        slack = tolerance.distance * (2e-6 + 2.0**-21 * np.maximum(entropy, -logprobs[row.kept]))
    kept = np.zeros_like(row.kept)
    kept[row.kept] = distances[row.kept] <= distances[nearest[last]] + slack
    return row._replace(kept=kept)


def select_epsilon(row: Row, epsilon_cutoff: float, tolerance: Tolerance = NOMINAL) -> Row:
    """Keep tokens of at least this probability, and the highest.

    Examples
    --------
    >>> select_epsilon(start_row(np.log(np.float32([0.5, 0.3, 0.2]))), 0.3).kept.tolist()
    [True, True, False]
    """
    return _select_probable(row, epsilon_cutoff * tolerance.threshold)


def select_eta(row: Row, eta_cutoff: float, tolerance: Tolerance = NOMINAL) -> Row:
    """Keep tokens of at least the probability `min(eta, sqrt(eta) * exp(-entropy))`, and the highest.

    The rule of transformers 5.23.0, after Hewitt et al., "Truncation sampling as language model desmoothing"
    (2022).

    Examples
    --------
    >>> select_eta(start_row(np.log(np.float32([0.5, 0.3, 0.19, 0.01]))), 0.04).kept.tolist()
    [True, True, True, False]
    """
    eta = min(eta_cutoff, float(np.sqrt(eta_cutoff)) * float(np.exp(-row.entropy)))
    return _select_probable(row, eta * tolerance.threshold)


def _select_probable(row: Row, threshold: float) -> Row:
    return row.keeping_where((row.probs >= threshold) | (row.logits == row.highest))


def select_top_n_sigma(row: Row, top_n_sigma: float, tolerance: Tolerance = NOMINAL) -> Row:
    """Keep scores within so many standard deviations of the highest; 0 keeps all.

    The deviation is that of the kept tokens, as of a population, as in llama.cpp; after Tang et al.,
    "Top-n-sigma" (2024).

    Examples
    --------
    >>> select_top_n_sigma(start_row(np.log(np.float32([0.1, 0.2, 0.3, 0.4]))), 1.0).kept.tolist()
    [False, False, True, True]
    """
    logits = row.logits.astype(np.float64)
    sigma = float(logits[row.kept].std())
    if top_n_sigma == 0 or sigma == 0:
        return row
    return row.keeping_where(logits >= row.highest - top_n_sigma * tolerance.sigma * sigma)


def xtc_applies(probability: float, seed: int | None, stream: int, step: int) -> bool:
    """Say whether XTC acts on a row: 64 random bits, as a fraction, are below its probability.

    Examples
    --------
    >>> [xtc_applies(0.5, 7, 0, step) for step in range(4)]
    [False, True, True, False]
    >>> xtc_applies(1.0, None, 0, 0)
    True
    """
    if probability <= 0 or probability >= 1:
        return probability >= 1
    if seed is None:
        raise ValueError("seed must be given where 0 < xtc_probability < 1")
    bits = uniform(seed, stream, step, 0, purpose=1) & (2**64 - 1)
    return bits < probability * 2.0**64


def select_xtc(row: Row, xtc_threshold: float, tolerance: Tolerance = NOMINAL) -> Row:
    """Remove the tokens of at least this probability but for the last of them ("exclude top choices").

    Above one half nothing is removed.

    Examples
    --------
    >>> select_xtc(start_row(np.log(np.float32([0.4, 0.3, 0.2, 0.1]))), 0.19).kept.tolist()
    [False, False, True, True]
    """
    if xtc_threshold > 0.5:
        return row
    order = row.order
    count = int((row.probs[order] >= xtc_threshold * tolerance.xtc_threshold).sum())
    return row.keeping(order[max(0, count - 1) :])


Step = Callable[[Row, Mapping[str, Any], Tolerance], Row]

EDITS: dict[str, Step] = {
    "mask": lambda row, of, _: apply_mask(row, of["mask"]),
    "bias": lambda row, of, _: apply_bias(row, of["bias"]),
    "penalties": lambda row, of, _: apply_penalties(row, of["penalties"]),
    "min_tokens": lambda row, of, _: apply_min_tokens(row, of["forbidden"]),
}
"""The steps that change logits, in their order: always first. Called with a row of `parameters_of`."""

EDITED = "min_tokens"
"""The last of them: what it leaves is what the total order ranks."""

STEPS: dict[str, Step] = {
    "temperature": lambda row, of, _: apply_temperature(row, of["temperature"]),
    "top_k": lambda row, of, _: select_top_k(row, of["top_k"], of["top_k_ties"]),
    "top_p": lambda row, of, within: select_top_p(row, of["top_p"], *_top_p_rules(of), within),
    "top_k_top_p": lambda row, of, within: select_top_k_top_p(
        row, of["top_k"], of["top_p"], of["top_k_ties"], *_top_p_rules(of), within
    ),
    "min_p": lambda row, of, within: select_min_p(row, of["min_p"], within),
    "typical": lambda row, of, within: select_typical(row, of["typical_p"], within),
    "epsilon": lambda row, of, within: select_epsilon(row, of["epsilon_cutoff"], within),
    "eta": lambda row, of, within: select_eta(row, of["eta_cutoff"], within),
    "top_n_sigma": lambda row, of, within: select_top_n_sigma(row, of["top_n_sigma"], within),
    "xtc": lambda row, of, within: select_xtc(row, of["xtc_threshold"], within) if of["xtc_applies"] else row,
}
"""The steps that `steps=` may order; each takes the set that the step before it left."""

ORDER = tuple(name for name in STEPS if name != "top_k_top_p")
"""Their order where `steps=` gives none."""


def _top_p_rules(parameters: Mapping[str, Any]) -> tuple[str, str, str]:
    return parameters["top_p_boundary"], parameters["top_p_ties"], parameters["top_p_mass"]


def is_active(name: str, parameters: Mapping[str, Any], vocab: int) -> bool:
    """Say whether a step may change a row.

    Examples
    --------
    >>> parameters = parameters_of({"top_k": 8, "top_p": 0.5}, 1, 8)[0]
    >>> [name for name in STEPS if is_active(name, parameters, 8)]
    ['top_p', 'top_k_top_p']
    """
    has_top_k = 0 < parameters["top_k"] < vocab
    has_top_p = parameters["top_p"] < 1
    active = {
        "temperature": parameters["temperature"] != 1,
        "top_k": has_top_k,
        "top_p": has_top_p,
        "top_k_top_p": has_top_k or has_top_p,
        "min_p": parameters["min_p"] > 0,
        "typical": parameters["typical_p"] < 1,
        "epsilon": parameters["epsilon_cutoff"] > 0,
        "eta": parameters["eta_cutoff"] > 0,
        "top_n_sigma": parameters["top_n_sigma"] > 0,
        "xtc": parameters["xtc_applies"] and parameters["xtc_threshold"] <= 0.5,
    }
    return bool(active[name])


def run_steps(logits: Logits, parameters: Mapping[str, Any]) -> dict[str, Row]:
    """Return the row as every step leaves it, by the name of the step.

    Examples
    --------
    >>> rows = run_steps(np.float32([3, 2, 1]), parameters_of({"top_k": 2, "top_p": 0.5}, 1, 3)[0])
    >>> [(name, int(row.kept.sum())) for name, row in rows.items() if name.startswith("top")]
    [('top_k', 2), ('top_p', 1), ('top_n_sigma', 1)]
    """
    row = start_row(logits)
    rows = {}
    for name in (*EDITS, *parameters["steps"]):
        if row.kept.any():
            row = (EDITS | STEPS)[name](row, parameters, NOMINAL)
        rows[name] = row
    return rows


# --- The draw ----------------------------------------------------------------------------------------------


def philox4x32_10(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """Return blocks of four random words.

    The function of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), on whole arrays.

    Parameters
    ----------
    counter : array_like of uint32, shape [..., 4]
    key : array_like of uint32, shape [..., 2]

    Examples
    --------
    >>> [f"{word:08x}" for word in philox4x32_10([0, 0, 0, 0], [0, 0])]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    low = np.uint64(0xFFFFFFFF)
    x0, x1, x2, x3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, dtype=np.uint64), -1, 0)
    for _ in range(10):
        product0 = x0 * np.uint64(0xD2511F53)
        product1 = x2 * np.uint64(0xCD9E8D57)
        x0, x1 = (product1 >> np.uint64(32)) ^ x1 ^ k0, product1 & low
        x2, x3 = (product0 >> np.uint64(32)) ^ x3 ^ k1, product0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack(np.broadcast_arrays(x0, x1, x2, x3), axis=-1).astype(np.uint32)


def counter_words(index: int, stream: int, step: int, purpose: int = 0) -> list[int]:
    """Return the counter of one block.

    Examples
    --------
    >>> [hex(word) for word in counter_words(1, 0x0A_0000_000B, 2, purpose=3)]
    ['0x1', '0x300000a', '0xb', '0x2']
    """
    return [index, purpose << 24 | stream >> 32, stream & 0xFFFFFFFF, step]


def uniform(seed: int, stream: int, step: int, index: int, purpose: int = 0) -> int:
    """Return one block of a draw as an integer, uniform in [0, 2^128).

    Examples
    --------
    >>> hex(uniform(seed=0, stream=0, step=0, index=0))
    '0x9b00dbd8bc57ac4ce169c58d6627e8d5'
    """
    words = philox4x32_10(counter_words(index, stream, step, purpose), [seed & 0xFFFFFFFF, seed >> 32])
    return sum(int(word) << (32 * place) for place, word in enumerate(words))


def unit_fraction(uniform_bits: int) -> float:
    """Return a block as a float in [0, 1): cut to 53 significant bits, so that it is never 1.

    Examples
    --------
    >>> unit_fraction(2**127), unit_fraction(2**128 - 1) < 1, unit_fraction(1) == 2.0**-128
    (0.5, True, True)
    """
    cut = max(0, uniform_bits.bit_length() - 53)
    return math.ldexp(uniform_bits >> cut, cut - 128)


def pick(weights: Floats, uniform_bits: int) -> int:
    """Return a child in proportion to its weight, by integers alone.

    The running sum must exceed the target, so that a child of weight zero is never picked.

    Examples
    --------
    >>> [pick(np.array([0.0, 3.0, 1.0]), share << 126) for share in range(4)]
    [1, 1, 1, 2]
    """
    _, exponent = np.frexp(weights.max())
    scaled = [int(weight) for weight in np.ldexp(weights, 91 - exponent)]
    target = uniform_bits * sum(scaled) >> 128
    running = 0
    for child, weight in enumerate(scaled):
        running += weight
        if running > target:
            return child
    raise AssertionError("no child has a weight")


def descend(weights: Floats, uniforms: Sequence[int]) -> int:
    """Draw a token: first its tile, then its lane within the tile, then its place in the lane.

    Examples
    --------
    >>> descend(np.where(np.arange(3000) == 2077, 1.0, 0.0), [0, 0, 0])
    2077
    """
    tiles = np.pad(weights, (0, -weights.size % TILE)).reshape(-1, TILE // LANES, LANES)
    tile = pick(tiles.sum(axis=(1, 2)), uniforms[0])
    lane = pick(tiles[tile].sum(axis=0), uniforms[1])
    place = pick(tiles[tile, :, lane], uniforms[2])
    return (tile * (TILE // LANES) + place) * LANES + lane


def proposal(states: Mapping[str, Row], parameters: Mapping[str, Any]) -> Row | None:
    """Return the set that the first draw takes instead of the final one, if it takes another.

    That is the set before top_p, where its cutoff costs more than a second draw: on rows that no top_k has
    reduced to a short list, where a token's own place in the total order says whether top_p keeps it, and
    where nothing but min_p follows. The joint step counts as top_p where its top_k is off, and else leads to
    none.

    Examples
    --------
    >>> logits = np.float32([3, 2, 1, 0])
    >>> for filters in ({"top_p": 0.5}, {"top_p": 0.5, "top_k": 2}, {"top_p": 0.5, "typical_p": 0.5}):
    ...     (parameters,) = parameters_of(filters, 1, 4)
    ...     row = proposal(run_steps(logits, parameters), parameters)
    ...     print(row and row.kept.tolist())
    [True, True, True, True]
    None
    None
    """
    vocab = states[EDITED].kept.size
    has_top_k = is_active("top_k", parameters, vocab)
    steps = parameters["steps"]
    joint = "top_k_top_p" in steps
    name = "top_k_top_p" if joint else "top_p"
    if name not in steps or not is_active("top_p", parameters, vocab) or (joint and has_top_k):
        return None
    if parameters["temperature"] == 0 or parameters["top_p_ties"] == "highest":
        return None
    place = steps.index(name)
    is_short = has_top_k and parameters["top_k"] <= MAX_LISTED
    if is_short and "top_k" in steps[:place] and states["top_k"].kept.sum() <= MAX_LISTED:
        return None
    if any(is_active(later, parameters, vocab) for later in steps[place + 1 :] if later != "min_p"):
        return None
    return states[steps[place - 1] if place else EDITED]


def draw_token(
    states: Mapping[str, Row],
    parameters: Mapping[str, Any],
    seed: int,
    stream: int,
    step: int,
    purpose: int = 0,
) -> int:
    """Draw one token of the row that the steps left.

    Where there is a `proposal`, the first draw is from that: a token that the later steps keep has the right
    share there too, and for one that they remove a second draw takes the final set.

    Examples
    --------
    >>> parameters = parameters_of({"top_k": 1}, 1, 3)[0]
    >>> draw_token(run_steps(np.float32([1, 3, 2]), parameters), parameters, seed=0, stream=0, step=0)
    1
    """
    final = list(states.values())[-1]
    for attempt, row in enumerate((proposal(states, parameters) or final, final)):
        blocks = [uniform(seed, stream, step, 3 * attempt + level, purpose) for level in range(3)]
        token = descend(row.weights, blocks)
        if final.kept[token]:
            break
    return token


# --- Rows and parameters -----------------------------------------------------------------------------------


def unpack_mask(mask: ArrayLike, vocab: int) -> Bools:
    """Return a mask as booleans; packed words hold 32 tokens, least significant bit first.

    A word row that is too short forbids the rest; one that is too long must forbid what lies past the vocab.

    Examples
    --------
    >>> unpack_mask(np.int32([5]), 4).tolist()
    [True, False, True, False]
    """
    values = np.asarray(mask)
    if values.dtype == np.bool_:
        return values
    bits = (values[..., None].astype(np.int64) >> np.arange(32)) & 1
    bits = bits.reshape(*values.shape[:-1], -1).astype(np.bool_)
    if values.shape[-1] > -(-vocab // 32) and bits[..., vocab:].any():
        raise ValueError("mask must not allow a token past the vocab")
    missing = max(0, vocab - bits.shape[-1])
    return np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])[..., :vocab]


def bias_array(bias: Mapping[int, float] | ArrayLike, vocab: int) -> Logits:
    """Return a bias as a float32 array.

    Examples
    --------
    >>> bias_array({1: -2.5}, 3).tolist()
    [0.0, -2.5, 0.0]
    """
    if not isinstance(bias, Mapping):
        return np.asarray(bias).astype(np.float32)
    values = np.zeros(vocab, dtype=np.float32)
    for token, value in bias.items():
        values[token] = value
    return values


def per_row(value: Any, rows: int) -> list[Any]:
    """Return one Python value per row of a scalar, or of an array in C order.

    Examples
    --------
    >>> per_row(0.5, 2), per_row([[1], [2**64 - 1]], 2)
    ([0.5, 0.5], [1, 18446744073709551615])
    """
    values: list[Any] = np.broadcast_to(np.asarray(value, dtype=object).reshape(-1), (rows,)).tolist()
    return values


Place = tuple[int | None, int, int]
"""The seed, stream and step of a row."""

_NUMBERS: dict[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_n_sigma": 0.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.1,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_last_n": -1,
    "min_tokens": 0,
}
"""What may differ from row to row, by default neutral."""

_RULES: dict[str, Any] = {
    "top_k_ties": "exact",
    "top_p_boundary": "reach",
    "top_p_ties": "lowest",
    "top_p_mass": "left",
}
"""What is the same for all rows and goes to the steps as it is."""

_HISTORIES = ("repetition", "frequency", "presence", "dry")


def places_of(rows: int, seed: Any = None, stream: Any = None, step: Any = 0) -> list[Place]:
    """Return the seed, stream and step of every row.

    Examples
    --------
    >>> places_of(2, seed=7), places_of(2, seed=[7, 8], step=3)
    ([(7, 0, 0), (7, 1, 0)], [(7, 0, 3), (8, 0, 3)])
    """
    if stream is None:
        stream = np.arange(rows) if np.ndim(seed) == 0 else 0
    return list(zip(per_row(seed, rows), per_row(stream, rows), per_row(step, rows), strict=True))


def histories_of(history: Any, rows: int) -> list[list[int]]:
    """Return one list of tokens per row, without padding.

    Examples
    --------
    >>> histories_of([[3, 1, 3], []], 2), histories_of(np.array([[-1, 4], [5, -1]]), 2)
    ([[3, 1, 3], []], [[4], [5]])
    """
    if history is None:
        return [[]] * rows
    if isinstance(history, np.ndarray):
        history = history.reshape(rows, -1)
    elif rows == 1 and not any(np.ndim(tokens) for tokens in history):
        history = [history]
    return [[int(token) for token in tokens if token != -1] for tokens in history]


def _penalties_of(values: Mapping[str, Any], breakers: Sequence[int], seen: Mapping[str, Any]) -> Penalties:
    """Return the penalties of a row by its parameters and the histories that they see."""
    return Penalties(
        repetition=values["repetition_penalty"],
        repetition_history=seen["repetition"],
        frequency=values["frequency_penalty"],
        frequency_history=seen["frequency"],
        presence=values["presence_penalty"],
        presence_history=seen["presence"],
        dry=dry_penalties(
            seen["dry"],
            multiplier=values["dry_multiplier"],
            base=values["dry_base"],
            allowed_length=values["dry_allowed_length"],
            last_n=values["dry_last_n"],
            breakers=breakers,
        ),
    )


def parameters_of(
    filters: Mapping[str, Any], rows: int, vocab: int, places: Sequence[Place] | None = None
) -> list[dict[str, Any]]:
    """Return what every step is called with, row by row.

    Examples
    --------
    >>> [parameters["top_k"] for parameters in parameters_of({"top_k": [None, 4]}, 2, 8)]
    [0, 4]
    """
    unknown = set(filters) - set(Filters.__annotations__)
    if unknown:
        raise TypeError(f"unknown filters: {sorted(unknown)}")
    mask, bias = filters.get("mask"), filters.get("bias")
    shape = (rows, vocab)
    columns = {
        "mask": [None] * rows if mask is None else _rows_of(unpack_mask(mask, vocab), shape),
        "bias": [None] * rows if bias is None else _rows_of(bias_array(bias, vocab), shape),
        "top_k": [k or 0 for k in per_row(filters.get("top_k"), rows)],
        "place": places_of(rows) if places is None else places,
        "history": histories_of(filters.get("history"), rows),
        "prompt_length": per_row(
            0 if filters.get("prompt_lengths") is None else filters["prompt_lengths"], rows
        ),
        **{name: per_row(filters.get(name, neutral), rows) for name, neutral in _NUMBERS.items()},
    }
    values = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [_resolved(row, filters) for row in values]


def _resolved(values: dict[str, Any], filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's parameters with what follows from its history and its place."""
    chosen = filters.get("penalty_history", "all")
    rules = {name: chosen if isinstance(chosen, str) else chosen.get(name, "all") for name in _HISTORIES}
    whole, output = values["history"], values["history"][values["prompt_length"] :]
    seen = {name: output if rule == "output" else whole for name, rule in rules.items()}
    eos = filters.get("eos_token_id")
    ending = [] if eos is None else np.ravel(eos).tolist()
    steps = filters.get("steps") or ORDER
    return {
        **values,
        **{name: filters.get(name, default) for name, default in _RULES.items()},
        "steps": tuple(name for name in steps if name in STEPS),
        "penalties": _penalties_of(values, filters.get("dry_breakers", ()), seen),
        "forbidden": ending if values["place"][2] < values["min_tokens"] else [],
        "xtc_applies": xtc_applies(values["xtc_probability"], *values["place"]),
    }


def _rows_of(values: NDArray[Any], shape: tuple[int, int]) -> list[NDArray[Any]]:
    return list(np.broadcast_to(values.reshape(-1, shape[1]), shape))


def _matrix(logits: ArrayLike) -> tuple[Logits, tuple[int, ...]]:
    values = np.asarray(logits)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError("logits must hold at least one token per row")
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    return rounded.reshape(int(np.prod(values.shape[:-1])), values.shape[-1]), values.shape[:-1]


def _shaped(values: list[Any], leading: tuple[int, ...], dtype: type, width: tuple[int, ...] = ()) -> Any:
    array: NDArray[Any] = np.array(values, dtype=dtype).reshape(leading + width)
    return array.item() if array.ndim == 0 else array


def _fault(logits: Logits) -> str:
    if np.isnan(logits).any():
        return "NaN"
    return "+inf" if np.isposinf(logits).any() else ""


class _Result(NamedTuple):
    """A row after all steps, or the reason why there is none."""

    raw: Logits
    parameters: dict[str, Any]
    states: dict[str, Row]
    fault: str

    @property
    def final(self) -> Row:
        return list(self.states.values())[-1]

    @property
    def place(self) -> Any:
        return self.parameters["place"]


def _each_row(matrix: Logits, filters: Mapping[str, Any], places: Sequence[Place]) -> Iterator[_Result]:
    rows, vocab = matrix.shape
    for logits, parameters in zip(matrix, parameters_of(filters, rows, vocab, places), strict=True):
        fault = _fault(logits)
        states = {} if fault else run_steps(logits, parameters)
        if not fault and not states[EDITED].kept.any():
            fault = "no finite score"
        yield _Result(logits, parameters, states, fault)


def _split_place(filters: Mapping[str, Any], rows: int) -> tuple[dict[str, Any], list[Place]]:
    """Return filters without seed, stream and step, and what these say about every row."""
    named = ("seed", "stream", "step")
    place = {name: filters[name] for name in named if name in filters}
    return {name: filters[name] for name in filters if name not in named}, places_of(rows, **place)


def _refuse(faults: list[str], on_invalid: OnInvalid, tokens: Any) -> None:
    named = [f"row {row} ({fault})" for row, fault in enumerate(faults) if fault]
    if named and on_invalid == "raise":
        raise InvalidLogitsError("nothing can be drawn from " + ", ".join(named), tokens)


# --- The public names --------------------------------------------------------------------------------------


def sample(
    logits: ArrayLike,
    *,
    seed: Any,
    stream: Any = None,
    step: Any = 0,
    on_invalid: OnInvalid = "raise",
    **filters: Unpack[Filters],
) -> Any:
    """Draw one token per row.

    Examples
    --------
    >>> sample([[0.0, 1.0], [9.0, 0.0]], temperature=[1.0, 0.0], seed=7).tolist()
    [1, 0]
    """
    draws = draw(logits, seed=seed, stream=stream, step=step, on_invalid=on_invalid, **filters)
    return draws.tokens


def draw(
    logits: ArrayLike,
    *,
    seed: Any,
    stream: Any = None,
    step: Any = 0,
    logprobs: int = 0,
    on_invalid: OnInvalid = "raise",
    **filters: Unpack[Filters],
) -> Draws:
    """Draw one token per row, and report its log-probabilities, its rank and the highest tokens.

    Parameters
    ----------
    logits : array_like, shape [..., vocab]
    seed, stream, step : int or one per row
        The stream is the row's index for one seed, and 0 where every row has its own.
    logprobs : int
        The number of highest tokens to report.
    on_invalid : {"raise", "mark"}

    Examples
    --------
    >>> draws = draw([0.0, 2.0, 1.0], top_k=1, seed=0, logprobs=2)
    >>> draws.tokens, draws.logprobs, draws.ranks, draws.kept, draws.top_tokens.tolist()
    (1, 0.0, 0, 1, [1, 2])
    """
    matrix, leading = _matrix(logits)
    faults, columns = [], []
    for result in _each_row(matrix, filters, places_of(len(matrix), seed, stream, step)):
        faults.append(result.fault)
        columns.append(_failed(logprobs) if result.fault else _report(result, logprobs))
    draws = _gather(columns, leading, logprobs)
    _refuse(faults, on_invalid, draws.tokens)
    return draws


def _report(result: _Result, count: int) -> Draws:
    token = draw_token(result.states, result.parameters, *result.place)
    logprobs = result.final.logprobs
    highest = result.states[EDITED].order[:count]
    padding = count - len(highest)
    return Draws(
        token,
        logprobs[token],
        start_row(result.raw).logprobs[token],
        int(np.flatnonzero(total_order(result.raw) == token)[0]),
        int(result.final.kept.sum()),
        True,
        [*highest, *[-1] * padding],
        [*logprobs[highest], *[-np.inf] * padding],
        result.final.entropy,
    )


def _failed(count: int) -> Draws:
    return Draws(-1, np.nan, np.nan, -1, 0, False, [-1] * count, [np.nan] * count, np.nan)


def _gather(columns: list[Draws], leading: tuple[int, ...], count: int) -> Draws:
    dtypes = (
        np.int32,
        np.float64,
        np.float64,
        np.int32,
        np.int32,
        np.bool_,
        np.int32,
        np.float64,
        np.float64,
    )
    widths: tuple[tuple[int, ...], ...] = (*[()] * 6, (count,), (count,), ())
    fields = range(len(Draws._fields))
    return Draws(*(_shaped([draws[i] for draws in columns], leading, dtypes[i], widths[i]) for i in fields))


def greedy(logits: ArrayLike, *, on_invalid: OnInvalid = "raise") -> Any:
    """Return the first token of every row.

    Examples
    --------
    >>> greedy([[1.0, 5.0, 5.0], [3.0, 1.0, 2.0]]).tolist()
    [1, 0]
    """
    return sample(logits, temperature=0.0, seed=0, on_invalid=on_invalid)


def top_k(logits: ArrayLike, k: int, *, on_invalid: OnInvalid = "raise") -> tuple[Any, Any]:
    """Return the values and tokens of the first `k` tokens of every row; past the finite ones -inf and -1.

    A `k` above the vocab means the vocab.

    Examples
    --------
    >>> values, tokens = top_k([1.0, 3.0, 2.0], 2)
    >>> values.tolist(), tokens.tolist()
    ([3.0, 2.0], [1, 2])
    """
    matrix, leading = _matrix(logits)
    k = min(k, matrix.shape[1])
    values = np.full((len(matrix), k), -np.inf)
    tokens = np.full((len(matrix), k), -1, dtype=np.int32)
    faults = []
    for row, result in enumerate(_each_row(matrix, {}, places_of(len(matrix)))):
        faults.append(result.fault)
        if result.fault:
            values[row] = np.nan
            continue
        first = result.final.order[:k]
        tokens[row, : len(first)] = first
        values[row, : len(first)] = result.raw[first]
    tokens = tokens.reshape(*leading, k)
    _refuse(faults, on_invalid, tokens)
    return values.reshape(*leading, k), tokens


def _map_rows(
    logits: ArrayLike, filters: Mapping[str, Any], on_invalid: OnInvalid, value: Callable[[Row], Floats]
) -> Floats:
    matrix, leading = _matrix(logits)
    values = np.full(matrix.shape, np.nan)
    faults = []
    for row, result in enumerate(_each_row(matrix, *_split_place(filters, len(matrix)))):
        faults.append(result.fault)
        if not result.fault:
            values[row] = value(result.final)
    values = values.reshape(*leading, matrix.shape[1])
    _refuse(faults, on_invalid, values)
    return values


def softmax(
    logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[PlacedFilters]
) -> Floats:
    """Return the probabilities of the kept tokens, 0 elsewhere.

    Examples
    --------
    >>> softmax([0.0, 0.0, -9.0], top_k=2).tolist()
    [0.5, 0.5, 0.0]
    """
    return _map_rows(logits, filters, on_invalid, lambda row: row.weights / row.weights.sum())


def log_softmax(
    logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[PlacedFilters]
) -> Floats:
    """Return the log-probabilities of the kept tokens, -inf elsewhere.

    Examples
    --------
    >>> log_softmax([1.0, 0.0], temperature=0).tolist()
    [0.0, -inf]
    """
    return _map_rows(logits, filters, on_invalid, lambda row: row.logprobs)


def filter_logits(
    logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[PlacedFilters]
) -> Floats:
    """Return the scores of the kept tokens, at least the lowest float32, and -inf elsewhere.

    Examples
    --------
    >>> filter_logits([1.0, 3.0, 2.0], temperature=0.5, top_k=2).tolist()
    [-inf, 0.0, -2.0]
    """
    return _map_rows(
        logits, filters, on_invalid, lambda row: np.where(row.kept, np.maximum(row.scores, -FLT_MAX), -np.inf)
    )


def kept_set(
    logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[PlacedFilters]
) -> KeptSet:
    """Return the kept tokens of every row, ascending, with their log-probabilities.

    Examples
    --------
    >>> kept = kept_set([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]], top_k=[2, 1])
    >>> kept.tokens.tolist(), kept.offsets.tolist()
    ([1, 2, 0], [0, 2, 3])
    """
    matrix, _ = _matrix(logits)
    faults, lengths = [], [0]
    tokens, logprobs = [np.zeros(0, dtype=np.int32)], [np.zeros(0)]
    for result in _each_row(matrix, *_split_place(filters, len(matrix))):
        faults.append(result.fault)
        if not result.fault:
            tokens.append(np.flatnonzero(result.final.kept).astype(np.int32))
            logprobs.append(result.final.logprobs[tokens[-1]])
        lengths.append(0 if result.fault else len(tokens[-1]))
    kept = KeptSet(np.concatenate(tokens), np.concatenate(logprobs), np.cumsum(lengths))
    _refuse(faults, on_invalid, kept.tokens)
    return kept


# --- Beams -------------------------------------------------------------------------------------------------


def top_continuations(
    logits: ArrayLike, scores: ArrayLike, k: int, *, on_invalid: OnInvalid = "raise"
) -> tuple[Floats, NDArray[np.int32], NDArray[np.int32]]:
    """Return scores, beams and tokens of the `k` best continuations of every prompt's beams.

    A continuation scores `scores[beam] + log_softmax(logits[beam])[token]`. Equal scores rank by lower beam,
    and those of one beam by the total order. Past the last one -inf, -1 and -1; a prompt with an invalid row
    is NaN, -1 and -1. The rows of a beam at -inf are not looked at.

    Parameters
    ----------
    logits : array_like, shape [..., beams, vocab]
    scores : array_like, shape [..., beams]
    k : int
    on_invalid : {"raise", "mark"}

    Examples
    --------
    >>> scores, parents, tokens = top_continuations(np.log([[6, 3, 1], [1, 8, 1]]), np.log([0.4, 0.5]), 3)
    >>> np.exp(scores).round(3).tolist(), parents.tolist(), tokens.tolist()
    ([0.4, 0.24, 0.12], [1, 0, 0], [1, 0, 1])
    """
    matrix, (*prompts, beams) = _matrix(logits)
    count = int(np.prod(prompts))
    best_scores = np.full((count, k), -np.inf)
    parents, tokens = np.full((count, k), -1, dtype=np.int32), np.full((count, k), -1, dtype=np.int32)
    faults: list[str] = []
    for prompt, starts in enumerate(np.asarray(scores, dtype=np.float64).reshape(count, beams)):
        rows = matrix[prompt * beams : (prompt + 1) * beams]
        found = [_beam_fault(row, start) for row, start in zip(rows, starts, strict=True)]
        faults += found
        if any(found):
            best_scores[prompt] = np.nan
            continue
        best = [column[:k] for column in _continuations(rows, starts)]
        for result, column in zip((best_scores, parents, tokens), best, strict=True):
            result[prompt, : len(column)] = column
    shape = (*prompts, k)
    _refuse(faults, on_invalid, tokens.reshape(shape))
    return best_scores.reshape(shape), parents.reshape(shape), tokens.reshape(shape)


def _beam_fault(logits: Logits, start: float) -> str:
    if start == -np.inf:
        return ""
    return _fault(logits) or ("" if start_row(logits).kept.any() else "no finite score")


def _continuations(rows: Logits, starts: Floats) -> tuple[Floats, Ints, Ints]:
    """Return all continuations of a prompt, best first: scores, beams and tokens."""
    columns = [(np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for beam in np.flatnonzero(starts > -np.inf):
        row = start_row(rows[beam])
        order = row.order
        columns.append((starts[beam] + row.logprobs[order], np.full(order.size, beam), order))
    values, parents, tokens = (np.concatenate(column) for column in zip(*columns, strict=True))
    ranked = np.argsort(-values, kind="stable")  # equal ones stay as they were listed
    return values[ranked], parents[ranked], tokens[ranked]


# --- Drafts ------------------------------------------------------------------------------------------------


def residual(p: Floats, q: Floats) -> Floats:
    """Return what follows a rejected draft: max(p - q, 0), normalised; p itself where nothing is left.

    Examples
    --------
    >>> residual(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])).tolist()
    [1.0, 0.0, 0.0]
    """
    left = np.maximum(p - q, 0.0)
    total = left.sum()
    return left / total if total > 0 else p


def without(q: Floats, token: int) -> Floats:
    """Return probabilities without a token, normalised; all zero where that was the last one.

    Examples
    --------
    >>> without(np.array([0.5, 0.25, 0.25]), 1).round(3).tolist()
    [0.667, 0.0, 0.333]
    """
    left = np.where(np.arange(q.size) == token, 0.0, q)
    total = left.sum()
    return left / total if total > 0 else left


def verify_position(
    p: Floats,
    q: Floats | None,
    drafts: Sequence[int],
    place: tuple[int, int, int],
    *,
    replacement: bool = False,
) -> tuple[int, int | None]:
    """Return the token of one position, and which of the drafts it is; None if it is none of them.

    `drafts` were drawn one after another from `q`; where that is None, each was certain. `place` is a seed, a
    stream and a step.

    Examples
    --------
    >>> verify_position(np.array([0.0, 1.0]), np.array([0.5, 0.5]), [0, 1], (7, 0, 0))
    (1, 1)
    """
    for sibling, token in enumerate(drafts):
        proposed = np.where(np.arange(p.size) == token, 1.0, 0.0) if q is None else q
        if unit_fraction(uniform(*place, sibling, purpose=2)) * proposed[token] < p[token]:
            return token, sibling
        p = residual(p, proposed)
        if q is not None and not replacement:
            q = without(q, token)
    return descend(p, [uniform(*place, level, purpose=3) for level in range(3)]), None


def verify_draft(
    draft_tokens: ArrayLike,
    draft_logits: ArrayLike | None,
    target_logits: ArrayLike,
    *,
    parents: ArrayLike | None = None,
    replacement: bool = False,
    seed: Any,
    stream: Any = None,
    step: Any = 0,
    on_invalid: OnInvalid = "raise",
    **filters: Unpack[Filters],
) -> Verified:
    """Accept or replace drafts so that the tokens follow the target.

    Parameters
    ----------
    draft_tokens : array_like of int, shape [..., n]
        -1 past a row's last.
    draft_logits : array_like, shape [..., n, vocab], or None
    target_logits : array_like, shape [..., n + 1, vocab]
    parents : array_like of int, shape [..., n], optional
    replacement : bool
    seed, stream, step : int or one per row
    on_invalid : {"raise", "mark"}

    Examples
    --------
    >>> target = np.log([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
    >>> verified = verify_draft([1, 1], None, target, top_k=1, seed=0)
    >>> verified.tokens.tolist(), verified.accepted
    ([1, 0, -1], 1)
    """
    targets, (*leading, positions) = _matrix(target_logits)
    count, vocab = math.prod(leading), targets.shape[1]
    shape = (count, positions - 1)
    drafts = np.asarray(draft_tokens, dtype=np.int64).reshape(shape)
    chain = np.broadcast_to(np.arange(positions - 1) - 1, shape)
    above = chain if parents is None else np.asarray(parents, dtype=np.int64).reshape(shape)
    sources = None if draft_logits is None else _matrix(draft_logits)[0].reshape(*shape, vocab)
    tokens = np.full((count, positions), -1, dtype=np.int32)
    accepted, faults = [0] * count, [""] * count
    for row, place in enumerate(places_of(count, seed, stream, step)):
        tree = _Tree(
            drafts[row].tolist(),
            above[row].tolist(),
            targets.reshape(count, positions, vocab)[row],
            None if sources is None else sources[row],
        )
        parameters = functools.partial(_position_parameters, filters, row, place, (count, positions, vocab))
        path, accepted[row], faults[row] = _follow(tree, parameters, replacement)
        tokens[row, : len(path)] = path
    emitted = tokens.reshape(*leading, positions)
    _refuse(faults, on_invalid, emitted)
    return Verified(emitted, _shaped(accepted, tuple(leading), np.int64))


class _Tree(NamedTuple):
    """The drafts of one row, the target's logits before and after each, and those they were drawn from."""

    tokens: list[int]
    parents: list[int]
    targets: Logits
    sources: Logits | None

    def children(self, draft: int) -> list[int]:
        return [i for i, token in enumerate(self.tokens) if token >= 0 and self.parents[i] == draft]


def _follow(
    tree: _Tree, parameters_at: Callable[[int, Sequence[int]], dict[str, Any]], replacement: bool
) -> tuple[list[int], int, str]:
    """Return the tokens of a row, how many of them are drafts, and why it ends early."""
    draft = -1
    path: list[int] = []
    while True:
        children = tree.children(draft)
        parameters = parameters_at(draft + 1, path)
        target, fault = _states(tree.targets[draft + 1], parameters)
        source: dict[str, Row] = {}
        if children and tree.sources is not None and not fault:
            source, fault = _states(tree.sources[children[0]], parameters)
        if fault:
            return path, len(path), fault
        seed, stream, step = parameters["place"]
        if not children:
            return [*path, draw_token(target, parameters, seed, stream, step, purpose=3)], len(path), ""
        token, sibling = verify_position(
            _final(target).probs,
            _final(source).probs if source else None,
            [tree.tokens[child] for child in children],
            (seed, stream, step),
            replacement=replacement,
        )
        path.append(token)
        if sibling is None:
            return path, len(path) - 1, ""
        draft = children[sibling]


def _final(states: Mapping[str, Row]) -> Row:
    return list(states.values())[-1]


def _states(logits: Logits, parameters: Mapping[str, Any]) -> tuple[dict[str, Row], str]:
    """Return a row after each step, and why nothing can be drawn from it."""
    fault = _fault(logits)
    states = {} if fault else run_steps(logits, parameters)
    if not fault and not states[EDITED].kept.any():
        fault = "no finite score"
    return states, fault


def _position_parameters(
    filters: Mapping[str, Any],
    row: int,
    place: Place,
    shape: tuple[int, int, int],
    position: int,
    path: Sequence[int],
) -> dict[str, Any]:
    """Return the parameters of one position: a step, a history and maybe a mask of its own."""
    rows, positions, vocab = shape

    def own(values: NDArray[Any]) -> NDArray[Any]:
        matrix: NDArray[Any] = values.reshape(-1, vocab)
        by_position = np.broadcast_to(
            matrix[None] if len(matrix) == 1 else matrix.reshape(rows, -1, vocab), (rows, positions, vocab)
        )
        return np.asarray(by_position[row, position])

    of_row: dict[str, Any] = dict(filters)
    for name in (*_NUMBERS, "top_k", "prompt_lengths"):
        if filters.get(name) is not None:
            of_row[name] = per_row(filters[name], rows)[row]
    mask, bias = filters.get("mask"), filters.get("bias")
    if mask is not None:
        of_row["mask"] = own(unpack_mask(mask, vocab))
    if bias is not None:
        of_row["bias"] = own(bias_array(bias, vocab))
    of_row["history"] = [[*histories_of(filters.get("history"), rows)[row], *path]]
    seed, stream, step = place
    return parameters_of(of_row, 1, vocab, [(seed, stream, step + len(path))])[0]


class _Beam(NamedTuple):
    """Tokens after the prompt, what they are ranked by, and their log-probability."""

    tokens: tuple[int, ...]
    score: float
    logprob: float


def beam_search(
    logits_of: Callable[[list[int]], ArrayLike],
    prompt: Sequence[int] = (),
    *,
    num_beams: int,
    max_new_tokens: int,
    eos_token_id: Sequence[int] = (),
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    min_new_tokens: int = 0,
    no_repeat_ngram_size: int = 0,
    num_groups: int = 1,
    diversity_penalty: float = 0.0,
    length: str = "generated",
    candidates: int = 0,
    finishing: str = "top",
    patience: float = 1.0,
) -> list[tuple[list[int], float, float]]:
    """Return tokens, score and log-probability of the hypotheses of a beam search, best first.

    Parameters
    ----------
    logits_of : callable
        The logits [vocab] after a list of tokens, the prompt's first.
    prompt : sequence of int
    num_beams, max_new_tokens, eos_token_id, length_penalty, early_stopping, min_new_tokens, \
    no_repeat_ngram_size, num_groups, diversity_penalty, length, candidates, finishing, patience
        As for `tokendraw.BeamSearch`.

    Examples
    --------
    >>> [best] = beam_search(lambda tokens: np.log([0.1, 0.6, 0.3]), num_beams=1, max_new_tokens=2)
    >>> best[0], round(np.exp(best[2]), 3)
    ([1, 1], np.float64(0.36))
    """
    width = num_beams // num_groups
    wanted = width * (candidates or max(2, 1 + len(eos_token_id)))
    capacity = max(1, int(np.floor(width * patience + 0.5)))
    live = [[_Beam((), 0.0, 0.0)] for _ in range(num_groups)]
    finished: list[list[_Beam]] = [[] for _ in range(num_groups)]
    done = [False] * num_groups

    def factor(generated: int, at_eos: bool) -> float:
        counted = generated - (at_eos and length != "generated")
        counted += len(prompt) if length == "sequence_without_eos" else 0
        return float(max(counted, 1) ** length_penalty)

    def continuations(beam: _Beam, taken: list[int]) -> Iterator[_Beam]:
        before = [*prompt, *beam.tokens]
        row = start_row(np.asarray(logits_of(before), dtype=np.float32))
        forbidden = {*(eos_token_id if len(beam.tokens) < min_new_tokens else ())}
        if no_repeat_ngram_size:
            forbidden |= _repeats(before, no_repeat_ngram_size)
        for token in row.order.tolist():
            if token not in forbidden:
                logprob = float(row.logprobs[token])
                penalty = diversity_penalty * taken.count(token)
                yield _Beam((*beam.tokens, token), beam.score + logprob - penalty, beam.logprob + logprob)

    def has_enough(group: int, generated: int) -> bool:
        if len(finished[group]) < capacity or early_stopping == "exhaust":
            return False
        if early_stopping is True:
            return True
        reach = max_new_tokens if early_stopping == "never" and length_penalty > 0 else generated
        return live[group][0].score / factor(reach, False) <= finished[group][-1].score

    for generated in range(1, max_new_tokens + 1):
        taken: list[int] = []
        for group in range(num_groups):
            if done[group]:
                continue
            found = [new for beam in live[group] for new in continuations(beam, taken)]
            found = sorted(found, key=lambda new: -new.score)[:wanted]
            running = []
            for rank, new in enumerate(found):
                at_eos = new.tokens[-1] in eos_token_id
                if not at_eos and generated < max_new_tokens:
                    running.append(new)
                elif rank < width or finishing == "all":
                    ended = new._replace(score=new.score / factor(generated, at_eos))
                    finished[group] = sorted([*finished[group], ended], key=lambda end: -end.score)[:capacity]
            if running or finished[group]:
                live[group] = running[:width]
            done[group] = not running or has_enough(group, generated)
            taken += [beam.tokens[-1] for beam in live[group]] if running else []

    def scored(beams: list[list[_Beam]], at_end: bool) -> list[_Beam]:
        flat = [beam for group in beams for beam in group if beam.tokens]
        if not at_end:
            flat = [beam._replace(score=beam.score / factor(len(beam.tokens), False)) for beam in flat]
        return sorted(flat, key=lambda beam: -beam.score)

    best = [*scored(finished, True), *scored(live, False)][:num_beams]
    return [(list(beam.tokens), beam.score, beam.logprob) for beam in best]


def _repeats(tokens: Sequence[int], size: int) -> set[int]:
    """Return the tokens that would complete an n-gram that is there already."""
    last = tuple(tokens[len(tokens) - size + 1 :])
    grams = [tuple(tokens[begin : begin + size]) for begin in range(len(tokens) - size + 1)]
    return {gram[-1] for gram in grams if gram[:-1] == last}


def token_logprobs(
    logits: ArrayLike,
    tokens: ArrayLike,
    ranks: bool = False,
    *,
    temperature: ArrayLike = 1.0,
    on_invalid: OnInvalid = "raise",
) -> Any:
    """Return the log-probability of one token per row; with `ranks` also how many tokens rank before it.

    Examples
    --------
    >>> logprobs, ranks = token_logprobs(np.log([[6, 3, 1], [1, 8, 1]]), [1, 1], ranks=True)
    >>> np.exp(logprobs).round(3).tolist(), ranks.tolist()
    ([0.3, 0.8], [1, 0])
    """
    matrix, leading = _matrix(logits)
    given = np.broadcast_to(np.asarray(tokens).ravel(), len(matrix))
    rows, faults = _whole_rows(matrix, temperature)
    found, before_it = np.full(len(matrix), np.nan), np.full(len(matrix), -1)
    for place, (row, token) in enumerate(zip(rows, given, strict=True)):
        if row is not None:
            found[place] = row.logprobs[token]
            before_it[place] = np.flatnonzero(total_order(row.logits) == token)[0]
    logprobs = _shaped(found.tolist(), leading, np.float64)
    _refuse(faults, on_invalid, logprobs)
    return (logprobs, _shaped(before_it.tolist(), leading, np.int64)) if ranks else logprobs


def logsumexp(logits: ArrayLike, *, temperature: ArrayLike = 1.0, on_invalid: OnInvalid = "raise") -> Any:
    """Return the logarithm of the sum of exp(logits / temperature), per row.

    Examples
    --------
    >>> round(np.exp(logsumexp(np.log([1, 2, 7]))), 4)
    np.float64(10.0)
    """
    return _per_whole_row(
        logits,
        temperature,
        on_invalid,
        lambda row: row.highest / row.temperature + float(np.log(row.weights.sum())),
    )


def entropy(logits: ArrayLike, *, temperature: ArrayLike = 1.0, on_invalid: OnInvalid = "raise") -> Any:
    """Return the entropy of every row in nats.

    Examples
    --------
    >>> round(entropy(np.zeros(8)) / np.log(2), 4)
    np.float64(3.0)
    """
    return _per_whole_row(logits, temperature, on_invalid, lambda row: row.entropy)


def _whole_rows(matrix: Logits, temperature: ArrayLike) -> tuple[list[Row | None], list[str]]:
    """Return every row after temperature alone, None where it is invalid, and why."""
    faults = [_beam_fault(logits, 0.0) for logits in matrix]
    rows = [
        None if fault else apply_temperature(start_row(logits), float(degree))
        for logits, fault, degree in zip(matrix, faults, _per_row(temperature, len(matrix)), strict=True)
    ]
    return rows, faults


def _per_row(values: ArrayLike, rows: int) -> Floats:
    return np.broadcast_to(np.asarray(values, dtype=np.float64).ravel(), rows)


def _per_whole_row(
    logits: ArrayLike, temperature: ArrayLike, on_invalid: OnInvalid, value: Callable[[Row], float]
) -> Any:
    matrix, leading = _matrix(logits)
    rows, faults = _whole_rows(matrix, temperature)
    values = _shaped([np.nan if row is None else value(row) for row in rows], leading, np.float64)
    _refuse(faults, on_invalid, values)
    return values


def cross_entropy(
    logits: ArrayLike,
    tokens: ArrayLike,
    reduction: Literal["mean", "sum", "none"] = "mean",
    ignore_index: int = -100,
    *,
    label_smoothing: float = 0.0,
    temperature: ArrayLike = 1.0,
    gradient: bool = False,
    scale: ArrayLike = 1.0,
    on_invalid: OnInvalid = "raise",
) -> Any:
    """Return the loss of rows against one token each, and with `gradient` what it gains per logit.

    Examples
    --------
    >>> loss, gradient = cross_entropy(np.log([[6, 3, 1], [1, 8, 1]]), [0, 1], gradient=True)
    >>> round(loss, 4), (2 * gradient).round(3).tolist()
    (0.367, [[-0.4, 0.3, 0.1], [0.1, -0.2, 0.1]])
    """
    matrix, leading = _matrix(logits)
    given = np.broadcast_to(np.asarray(tokens).ravel(), len(matrix))
    counts = given != ignore_index
    rows, faults = _whole_rows(matrix, temperature)
    faults = [fault if counted else "" for fault, counted in zip(faults, counts, strict=True)]
    losses, gradients = np.zeros(len(matrix)), np.zeros(matrix.shape)
    for place in np.flatnonzero(counts):
        row, token = rows[place], int(given[place])
        losses[place], gradients[place] = (
            (np.nan, np.nan) if row is None else _loss(row, token, label_smoothing)
        )
    loss: Any = float(losses.sum())
    if reduction == "mean":
        loss = loss / int(counts.sum()) if counts.any() else np.nan
    elif reduction == "none":
        loss = _shaped(losses.tolist(), leading, np.float64)
    _refuse(faults, on_invalid, loss)
    if not gradient:
        return loss
    weight = 1 / max(counts.sum(), 1) if reduction == "mean" else 1.0
    factors = weight * _per_row(scale, len(matrix))
    return loss, (gradients * factors[:, None]).reshape(np.shape(logits))


def _loss(row: Row, token: int, label_smoothing: float) -> tuple[float, Floats]:
    """Return a row's loss and its gradient with respect to the logits."""
    target = np.full(row.logits.size, label_smoothing / row.logits.size)
    target[token] += 1 - label_smoothing
    logprobs = row.logprobs
    loss = -float((target[target > 0] * logprobs[target > 0]).sum())
    return loss, (np.exp(logprobs) - target) / row.temperature


def kl_divergence(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    on_invalid: OnInvalid = "raise",
) -> Any:
    """Return sum of p * ln(p / q) per row; infinite where q excludes a token that p does not.

    Examples
    --------
    >>> round(kl_divergence(np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.25, 0.5])) / np.log(2), 4)
    np.float64(0.25)
    """
    return _per_pair(logits, other_logits, temperature, on_invalid, _kl)


def js_divergence(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    on_invalid: OnInvalid = "raise",
) -> Any:
    """Return the mean divergence of both rows from the mean of their distributions.

    Examples
    --------
    >>> with np.errstate(divide="ignore"):
    ...     round(js_divergence(np.log([1.0, 0.0]), np.log([0.0, 1.0])) / np.log(2), 4)
    np.float64(1.0)
    """

    def js(logprobs: Floats, others: Floats) -> float:
        mean = np.logaddexp(logprobs, others) - np.log(2)
        return (_kl(logprobs, mean) + _kl(others, mean)) / 2

    return _per_pair(logits, other_logits, temperature, on_invalid, js)


def _kl(logprobs: Floats, others: Floats) -> float:
    possible = logprobs > -np.inf
    return float((np.exp(logprobs[possible]) * (logprobs[possible] - others[possible])).sum())


def _per_pair(
    logits: ArrayLike,
    other_logits: ArrayLike,
    temperature: ArrayLike,
    on_invalid: OnInvalid,
    value: Callable[[Floats, Floats], float],
) -> Any:
    matrix, leading = _matrix(logits)
    rows, faults = _whole_rows(matrix, temperature)
    others, other_faults = _whole_rows(np.broadcast_to(_matrix(other_logits)[0], matrix.shape), temperature)
    faults = [one or other for one, other in zip(faults, other_faults, strict=True)]
    values = [
        np.nan if row is None or other is None else _pair_value(row, other, value)
        for row, other in zip(rows, others, strict=True)
    ]
    shaped = _shaped(values, leading, np.float64)
    _refuse(faults, on_invalid, shaped)
    return shaped


def _pair_value(row: Row, other: Row, value: Callable[[Floats, Floats], float]) -> float:
    # 0 * inf where a probability is less than the smallest float64: the token is possible all the same.
    if (row.kept & ~other.kept).any() and value is _kl:
        return np.inf
    return value(row.logprobs, other.logprobs)

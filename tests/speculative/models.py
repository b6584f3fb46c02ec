# SPDX-License-Identifier: Apache-2.0
"""Tables as language models, their drafts, and the verification in plain NumPy: right, and with faults."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from tokendraw.reference import philox4x32_10

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Verify = Callable[..., tuple[Ints, Ints]]

SHARED = "noise of the draft"
EQUAL = "accept if equal"
NOT_STRICT = "u <= instead of u <"
FROM_TARGET = "target instead of residual"
NOT_NORMALISED = "residual not normalised"
KEPT_SIBLING = "rejected sibling still in the draft"
REMOVED_SIBLING = "rejected sibling taken out though drawn with replacement"
SAME_TARGET = "every sibling against the whole target"
FAULTS = (SHARED, EQUAL, NOT_STRICT, FROM_TARGET, NOT_NORMALISED, KEPT_SIBLING, REMOVED_SIBLING, SAME_TARGET)


def core(
    drafts: Ints, draft_logits: Any, target_logits: Any, seed: int, streams: Ints, steps: Ints, **options: Any
) -> tuple[Ints, Ints]:
    """Verify with the package."""
    verified = td.verify_draft(
        drafts, draft_logits, target_logits, seed=seed, stream=streams, step=steps, **options
    )
    return verified.tokens.astype(np.int64), verified.accepted


def fractions(seed: int, streams: Ints, steps: Ints, index: int, purpose: int) -> Floats:
    """Return the highest 53 bits of a block of each row."""
    second = (purpose << 24) | (streams >> 32)
    counter = np.stack(np.broadcast_arrays(index, second, streams & 0xFFFFFFFF, steps), axis=-1)
    block = philox4x32_10(counter, [seed & 0xFFFFFFFF, seed >> 32]).astype(np.uint64)
    bits = block[..., 3] << np.uint64(21) | block[..., 2] >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def model(fault: str = "") -> Verify:
    """Return the verification of one tree for all rows, in plain float64, with a fault or none."""

    def verify(
        drafts: Ints,
        draft_logits: Any,
        target_logits: Any,
        seed: int,
        streams: Ints,
        steps: Ints,
        *,
        parents: Ints | None = None,
        replacement: bool = False,
        **filters: Any,
    ) -> tuple[Ints, Ints]:
        rows, count = drafts.shape
        above = np.arange(count) - 1 if parents is None else parents[0]
        target = td.softmax(target_logits, **filters).astype(np.float64)
        source = (
            np.eye(target.shape[-1])[drafts]
            if draft_logits is None
            else td.softmax(draft_logits, **filters).astype(np.float64)
        )
        tokens = np.full((rows, count + 1), -1)
        accepted = np.zeros(rows, dtype=np.int64)
        at = np.full(rows, -1)
        for node in range(-1, count):
            here = np.flatnonzero(at == node)
            children = np.flatnonzero(above == node)
            p = target[here, node + 1]
            if not children.size:
                q = np.broadcast_to(p[:, None], (len(p), 1, p.shape[1]))
            elif draft_logits is None:
                q = source[here][:, children]
            else:
                q = source[here][:, children[:1]]
            place = _Place(seed, streams[here], steps[here] + accepted[here], fault)
            taken, drawn = _position(p, q, drafts[here][:, children], place, replacement)
            tokens[here, accepted[here]] = drawn
            went = taken >= 0
            at[here] = count
            at[here[went]] = children[taken[went]]
            accepted[here[went]] += 1
        return tokens, accepted

    return verify


class _Place(NamedTuple):
    seed: int
    streams: Ints
    steps: Ints
    fault: str

    def fraction(self, index: int, purpose: int) -> Floats:
        if self.fault == SHARED:  # the block that a draft of a small row was picked by
            index, purpose = 1, 0
        return fractions(self.seed, self.streams, self.steps, index, purpose)


def _position(p: Floats, qs: Floats, drafts: Ints, place: _Place, replacement: bool) -> tuple[Ints, Ints]:
    """Return which draft each row takes, -1 for none, and its token. qs [rows, 1 or one per draft, vocab]."""
    fault = place.fault
    whole = p
    rows = np.arange(len(p))
    taken = np.full(len(p), -1)
    drawn = np.full(len(p), -1)
    q = qs[:, 0]
    for sibling, token in enumerate(drafts.T):
        u = place.fraction(sibling, 2)
        is_certain = qs.shape[1] > 1
        if is_certain:
            q = qs[:, sibling]
        tested = whole if fault == SAME_TARGET else p
        left, right = u * q[rows, token], tested[rows, token]
        accepts = left <= right if fault == NOT_STRICT else left < right
        if fault == EQUAL:
            accepts = token == _picked(p, u)
        fresh = accepts & (taken < 0)
        taken[fresh], drawn[fresh] = sibling, token[fresh]
        p = _normalised(np.maximum(p - q, 0), p)
        taking_out = replacement if fault == REMOVED_SIBLING else not replacement
        if taking_out and fault != KEPT_SIBLING and not is_certain:
            q = q.copy()
            q[rows, token] = 0
            q = _normalised(q, q)
    if fault in (FROM_TARGET, EQUAL):
        p = whole
    if fault == NOT_NORMALISED and drafts.size:
        p = np.maximum(whole - q, 0)
        p[:, -1] += 1 - p.sum(axis=1)
    none = taken < 0
    drawn[none] = _picked(p, place.fraction(1, 3))[none]
    return taken, drawn


def _normalised(weights: Floats, otherwise: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1), otherwise)


def _picked(p: Floats, u: Floats) -> Ints:
    borders = np.cumsum(p, axis=1)
    return (borders[:, :-1] <= u[:, None] * borders[:, -1:]).sum(axis=1)


# --- Sequences ---------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A target and a draft: logits by the token before; the first token follows token 0."""

    target: NDArray[np.float32]
    draft: NDArray[np.float32]


def pair(vocab: int, seed: int, spread: float = 1.2) -> Pair:
    """Return models that have little to do with each other."""
    random = np.random.default_rng(seed)
    tables = random.normal(0, spread, (2, vocab, vocab)).astype(np.float32)
    return Pair(*tables)


Propose = Callable[[Pair, Ints, int, Ints, Ints, dict[str, Any]], tuple[Ints, Any]]


def chain(count: int) -> Propose:
    """Return drafts in a chain, drawn by `sample` with the seed, streams and steps of the verification."""

    def propose(
        models: Pair, last: Ints, seed: int, streams: Ints, steps: Ints, filters: dict[str, Any]
    ) -> tuple[Ints, Any]:
        tokens, logits = [], []
        for place in range(count):
            logits.append(models.draft[last])
            last = td.sample(logits[-1], seed=seed, stream=streams, step=steps + place, **filters)
            tokens.append(last)
        return np.stack(tokens, axis=1).astype(np.int64), np.stack(logits, axis=1)

    return propose


def tree(parents: Sequence[int], replacement: bool) -> Propose:
    """Return drafts in a tree: siblings are drawn by other seeds, one after another."""

    def propose(
        models: Pair, last: Ints, seed: int, streams: Ints, steps: Ints, filters: dict[str, Any]
    ) -> tuple[Ints, Any]:
        rows, vocab = np.arange(len(last)), models.draft.shape[0]
        tokens = np.empty((len(last), len(parents)), dtype=np.int64)
        logits = np.empty((len(last), len(parents), vocab), dtype=np.float32)
        allowed = {parent: np.ones((len(last), vocab), dtype=np.bool_) for parent in parents}
        for place, parent in enumerate(parents):
            before = last if parent < 0 else tokens[:, parent]
            logits[:, place] = models.draft[before]
            kept = td.filter_logits(logits[:, place], **filters)
            left = np.where(allowed[parent], kept, -np.inf)
            drawn = td.sample(left, seed=seed + 1 + place, stream=streams, step=steps, on_invalid="mark")
            # Where all that the draft keeps is drawn, a sibling is said again: it is never accepted.
            tokens[:, place] = np.where(drawn < 0, tokens[:, parents.index(parent)], drawn)
            if not replacement:
                allowed[parent][rows, tokens[:, place]] = False
        return tokens, logits

    return propose


def emit(
    verify: Verify, models: Pair, propose: Propose, sequences: int, length: int, seed: int, **options: Any
) -> Ints:
    """Return sequences [sequences, length] of as many rounds as it takes."""
    filters = {name: value for name, value in options.items() if name not in ("parents", "replacement")}
    text = np.zeros((sequences, length), dtype=np.int64)
    sizes = np.zeros(sequences, dtype=np.int64)
    while (sizes < length).any():
        open_rows = np.flatnonzero(sizes < length)
        steps = sizes[open_rows]
        last = np.where(steps > 0, text[open_rows, steps - 1], 0)
        drafts, logits = propose(models, last, seed, open_rows, steps, filters)
        before = np.concatenate([last[:, None], drafts], axis=1)
        if "parents" in options:
            options["parents"] = np.broadcast_to(options["parents"][:1], drafts.shape)
        tokens, accepted = verify(drafts, logits, models.target[before], seed, open_rows, steps, **options)
        for place in range(tokens.shape[1]):
            has = (place <= accepted) & (steps + place < length)
            text[open_rows[has], steps[has] + place] = tokens[has, place]
        sizes[open_rows] = np.minimum(steps + accepted + 1, length)
    return text


def sequence_probs(table: NDArray[np.float32], length: int, **filters: Any) -> Floats:
    """Return the probabilities of all sequences under a model alone, the last token moving fastest."""
    step = np.exp(td.log_softmax(table.astype(np.float64), **filters).astype(np.float64))
    probs = step[0]
    for _ in range(length - 1):
        probs = probs[..., None] * step
    return probs.ravel()

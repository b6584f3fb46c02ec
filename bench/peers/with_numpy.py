# SPDX-License-Identifier: Apache-2.0
"""NumPy as well as it can: partial sorts, one exponential per needed token, cumulative sums."""

import numpy as np
from numpy.typing import NDArray

from bench.peers import Peer
from tokendraw.budgets import JOBS

Rows = NDArray[np.floating]
Tokens = NDArray[np.integer]

GUESS = 1024
"""A nucleus is looked for among so many tokens before everything is sorted."""


def peer() -> Peer:
    random = np.random.default_rng(5)

    def draw(weights: Rows) -> Tokens:
        """Draw a place in each row in proportion to weights."""
        reached = np.cumsum(weights, axis=-1, dtype=np.float64)
        targets = random.random(len(weights)) * reached[:, -1]
        return np.array(
            [row.searchsorted(target, side="right") for row, target in zip(reached, targets, strict=True)]
        )

    def draw_temperature(logits: Rows) -> Tokens:
        weights = logits - logits.max(axis=-1, keepdims=True)
        weights *= np.float32(1 / JOBS["temperature"].parameters["temperature"])
        return draw(np.exp(weights, out=weights))

    def draw_top_k(logits: Rows) -> Tokens:
        parameters = JOBS["top_k"].parameters
        tokens = highest(logits, parameters["top_k"])
        best = np.take_along_axis(logits, tokens, -1)
        weights = np.exp((best - best.max(axis=-1, keepdims=True)) / parameters["temperature"])
        return take(tokens, draw(weights))

    def draw_top_k_top_p(logits: Rows) -> Tokens:
        parameters = JOBS["top_k_top_p"].parameters
        tokens = in_order(logits, highest(logits, parameters["top_k"]))
        best = np.take_along_axis(logits, tokens, -1)
        weights = np.exp((best - best[:, :1]) / parameters["temperature"])
        before = np.cumsum(weights, axis=-1) - weights
        weights[before >= parameters["top_p"] * weights.sum(-1, keepdims=True)] = 0
        return take(tokens, draw(weights))

    def draw_top_p(logits: Rows) -> Tokens:
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        bounds = JOBS["top_p_peaked"].parameters["top_p"] * weights.sum(axis=-1)
        return np.concatenate([draw_nucleus(*row) for row in zip(weights, bounds, strict=True)])

    def draw_nucleus(weights: Rows, bound: float) -> Tokens:
        row = weights[None]
        tokens = in_order(row, highest(row, GUESS)) if weights.size > GUESS else (-row).argsort(axis=-1)
        if weights[tokens].sum() < bound:
            tokens = (-row).argsort(axis=-1)
        likely = weights[tokens]
        kept = np.searchsorted(likely[0].cumsum(), bound) + 1
        return take(tokens, draw(likely[:, :kept]))

    def draw_min_p(logits: Rows) -> Tokens:
        margin = np.float32(np.log(JOBS["min_p"].parameters["min_p"]))
        drawn = []
        for row in logits:
            highest_logit = row.max()
            tokens = np.flatnonzero(row >= highest_logit + margin)
            drawn.append(tokens[draw(np.exp(row[tokens] - highest_logit)[None])])
        return np.concatenate(drawn)

    return Peer(
        {
            "greedy": lambda logits: np.argmax(logits, axis=-1),
            "temperature": draw_temperature,
            "token_logprobs": token_logprobs,
            "top_k": draw_top_k,
            "top_p_peaked": draw_top_p,
            "top_p_flat": draw_top_p,
            "top_k_top_p": draw_top_k_top_p,
            "min_p": draw_min_p,
            "beam_step": continue_beams,
        }
    )


def highest(values: Rows, count: int) -> Tokens:
    return np.argpartition(values, -count, axis=-1)[:, -count:]


def in_order(values: Rows, tokens: Tokens) -> Tokens:
    order = np.argsort(-np.take_along_axis(values, tokens, -1), axis=-1)
    return np.take_along_axis(tokens, order, -1)


def take(tokens: Tokens, places: Tokens) -> Tokens:
    return np.take_along_axis(tokens, places[:, None], -1)[:, 0]


def log_normalisers(logits: Rows) -> Rows:
    largest = logits.max(axis=-1, keepdims=True)
    weights = logits - largest
    return largest + np.log(np.exp(weights, out=weights).sum(axis=-1, keepdims=True))


def token_logprobs(logits: Rows, tokens: Tokens) -> Rows:
    return (np.take_along_axis(logits, tokens[:, None], -1) - log_normalisers(logits))[:, 0]


def continue_beams(logits: Rows, scores: Rows) -> tuple[Rows, Tokens, Tokens]:
    """Take the best of each row first: most of the vocabulary is then out of the way."""
    count = JOBS["beam_step"].parameters["k"]
    tokens = highest(logits, count)
    best = np.take_along_axis(logits, tokens, -1) - log_normalisers(logits) + scores[:, None]
    places = (-best).argsort(axis=None)[:count]
    return best.ravel()[places], places // count, tokens.ravel()[places]

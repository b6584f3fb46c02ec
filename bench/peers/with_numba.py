# SPDX-License-Identifier: Apache-2.0
"""numba: loops written by hand and compiled for this processor, with fast-math, on one thread."""

import math

import numpy as np

from bench.peers import Peer
from tokendraw.budgets import JOBS


def peer() -> Peer:
    import numba

    compiled = numba.njit(fastmath={"reassoc", "nsz", "arcp", "contract", "afn"}, nogil=True)

    @compiled
    def largest(row):
        found = row[0]
        for value in row:
            found = max(found, value)
        return found

    @compiled
    def pick(weights, total):
        target = np.random.random() * total  # noqa: NPY002 (numba keeps a state of its own)
        reached = 0.0
        for place in range(weights.size):
            reached += weights[place]
            if reached > target:
                return place
        return weights.size - 1

    @compiled
    def draw_row(row, factor, weights):
        """Weigh everything once, in blocks whose sums lead to the token."""
        block = 512
        count = (row.size + block - 1) // block
        sums = np.empty(count, np.float64)
        top = largest(row)
        for i in range(count):
            total = np.float32(0)
            for token in range(i * block, min(row.size, (i + 1) * block)):
                weight = np.exp((row[token] - top) * factor)
                weights[token] = weight
                total += weight
            sums[i] = total
        chosen = pick(sums, sums.sum())
        start, end = chosen * block, min(row.size, (chosen + 1) * block)
        return start + pick(weights[start:end], sums[chosen])

    @compiled
    def draw_rows(logits, factor):
        tokens = np.empty(len(logits), np.int64)
        weights = np.empty(logits.shape[1], np.float32)
        for i in range(len(logits)):
            tokens[i] = draw_row(logits[i], factor, weights)
        return tokens

    @compiled
    def argmax_rows(logits):
        tokens = np.empty(len(logits), np.int64)
        for i in range(len(logits)):
            row = logits[i]
            top = largest(row)
            for token in range(row.size):
                if row[token] == top:
                    tokens[i] = token
                    break
        return tokens

    @compiled
    def sift_down(values, tokens):
        """Restore the heap whose root, the smallest value, was replaced."""
        place, value, token = 0, values[0], tokens[0]
        while True:
            child = 2 * place + 1
            if child >= values.size:
                break
            if child + 1 < values.size and values[child + 1] < values[child]:
                child += 1
            if values[child] >= value:
                break
            values[place], tokens[place] = values[child], tokens[child]
            place = child
        values[place], tokens[place] = value, token

    @compiled
    def best_of_row(row, values, tokens):
        """Keep the highest in a heap; blocks whose maximum is below its root are passed over."""
        block = 128
        values[:] = -np.inf
        tokens[:] = 0
        for start in range(0, row.size, block):
            end = min(row.size, start + block)
            if largest(row[start:end]) <= values[0]:
                continue
            for token in range(start, end):
                if row[token] > values[0]:
                    values[0], tokens[0] = row[token], token
                    sift_down(values, tokens)

    @compiled
    def draw_best(logits, k, factor, top_p):
        drawn = np.empty(len(logits), np.int64)
        values, tokens = np.empty(k, np.float32), np.empty(k, np.int64)
        for i in range(len(logits)):
            best_of_row(logits[i], values, tokens)
            order = np.argsort(-values)
            weights = np.exp((values[order] - values[order[0]]) * factor)
            bound = top_p * weights.sum()
            reached, kept = 0.0, 0
            while kept < k and reached < bound:
                reached += weights[kept]
                kept += 1
            drawn[i] = tokens[order[pick(weights[:kept], reached)]]
        return drawn

    @compiled
    def draw_above(logits, margin):
        drawn = np.empty(len(logits), np.int64)
        tokens = np.empty(logits.shape[1], np.int64)
        weights = np.empty(logits.shape[1], np.float32)
        block = 128
        for i in range(len(logits)):
            row = logits[i]
            top = largest(row)
            lowest = top + margin
            count, total = 0, 0.0
            for start in range(0, row.size, block):
                end = min(row.size, start + block)
                if largest(row[start:end]) < lowest:
                    continue
                for token in range(start, end):
                    if row[token] >= lowest:
                        tokens[count] = token
                        weights[count] = np.exp(row[token] - top)
                        total += weights[count]
                        count += 1
            drawn[i] = tokens[pick(weights[:count], total)]
        return drawn

    @compiled
    def token_logprobs(logits, tokens):
        found = np.empty(len(logits), np.float32)
        for i in range(len(logits)):
            row = logits[i]
            top = largest(row)
            total = 0.0
            for value in row:
                total += np.exp(value - top)
            found[i] = row[tokens[i]] - top - np.log(total)
        return found

    def inverse(name):
        return np.float32(1 / JOBS[name].parameters["temperature"])

    top_k, both = JOBS["top_k"].parameters, JOBS["top_k_top_p"].parameters
    factors = {name: inverse(name) for name in ("temperature", "top_k", "top_k_top_p")}
    margin = np.float32(math.log(JOBS["min_p"].parameters["min_p"]))
    return Peer(
        {
            "greedy": argmax_rows,
            "temperature": lambda logits: draw_rows(logits, factors["temperature"]),
            "token_logprobs": token_logprobs,
            "top_k": lambda logits: draw_best(logits, top_k["top_k"], factors["top_k"], 1.0),
            "top_k_top_p": lambda logits: draw_best(
                logits, both["top_k"], factors["top_k_top_p"], both["top_p"]
            ),
            "min_p": lambda logits: draw_above(logits, margin),
        }
    )

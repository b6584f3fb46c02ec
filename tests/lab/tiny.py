# SPDX-License-Identifier: Apache-2.0
"""A model so small that all its prefixes can be tried."""

from typing import NamedTuple

import numpy as np


class TinyState(NamedTuple):
    hidden: np.ndarray


class TinyModel:
    """Five tokens and one that begins a document; a random recurrent layer, whose memory fades slowly.

    It counts in `read` the tokens it has read, but for the one that begins a document.
    """

    bos_token_id = 5
    vocab_size = 6

    def __init__(self, seed=1, units=8):
        rng = np.random.default_rng(seed)
        self._embedding = rng.normal(0, 1.0, (self.vocab_size, units)).astype(np.float32)
        self._recurrent = rng.normal(0, 1.2 / np.sqrt(units), (units, units)).astype(np.float32)
        self._output = rng.normal(0, 1.0, (units, self.vocab_size)).astype(np.float32)
        self.read = 0

    def start(self, prompts):
        state = TinyState(np.zeros((len(prompts), len(self._recurrent)), dtype=np.float32))
        for row, prompt in enumerate(prompts):
            assert prompt, "an empty prompt has no logits"
            self.read += len(prompt) - 1
            for token in prompt:
                state.hidden[row] = self._after(state.hidden[row : row + 1], [token])[0]
        return state, self._logits(state.hidden)

    def step(self, state, tokens):
        self.read += len(tokens)
        hidden = self._after(state.hidden, np.asarray(tokens))
        return TinyState(hidden), self._logits(hidden)

    def select(self, state, rows):
        return TinyState(state.hidden[np.asarray(rows, dtype=np.intp)])

    def concat(self, states):
        return TinyState(np.concatenate([state.hidden for state in states]))

    def _after(self, hidden, tokens):
        # einsum adds in one order whatever the number of rows, unlike a matrix product.
        return np.tanh(self._embedding[tokens] + np.einsum("ru,uv->rv", hidden, self._recurrent))

    def _logits(self, hidden):
        return np.einsum("ru,uv->rv", hidden, self._output).astype(np.float32)

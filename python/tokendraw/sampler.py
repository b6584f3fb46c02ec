# SPDX-License-Identifier: Apache-2.0
"""Draws that follow one another: the sampler that counts its steps, and what draws return."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from tokendraw._core import sample
from tokendraw.params import SamplingParams

__all__ = ["Draws", "KeptSet", "Sampler"]


class Draws(NamedTuple):
    """One drawn token per row and what is known about it; every field has the leading shape of the logits.

    Attributes
    ----------
    tokens : int32
        -1 in an invalid row.
    logprobs : float32
        After all steps, over the kept set, in nats.
    raw_logprobs : float32
        Of the unmodified logits.
    ranks : int64
        Tokens above the drawn one in the total order of the unmodified logits; 0 is the best.
    kept : int64
        Tokens not removed.
    valid : bool
        Whether the row could be drawn from.
    top_tokens, top_logprobs : int32 and float32 [..., logprobs]
        The first tokens of the total order after mask, bias and penalties; -inf where a step removed one, -1
        past the last.
    entropies : float32
        Of the kept set, in nats.
    """

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
    """The kept tokens of all rows: row i is ``tokens[offsets[i]:offsets[i + 1]]``, ascending.

    Attributes
    ----------
    tokens : int32 [total]
    logprobs : float32 [total]
        Over the row's kept set, in nats.
    offsets : int64 [rows + 1]
    """

    tokens: Any
    logprobs: Any
    offsets: Any


class Sampler:
    """A callable that draws one token per row and moves on by one step.

    Parameters
    ----------
    params : SamplingParams, optional
    seed : int or one per row, optional
        None takes entropy from the system once.
    **parameters
        Instead of, or over, `params`.

    Attributes
    ----------
    step : int
        The step of the next call; set it to repeat or to skip.

    Examples
    --------
    >>> import numpy as np
    >>> import tokendraw as td
    >>> logits = np.zeros((2, 1000), np.float32)
    >>> sampler = td.Sampler(top_k=100, seed=7)
    >>> first, second = sampler(logits), sampler(logits)
    >>> bool((second == td.sample(logits, top_k=100, seed=7, step=1)).all())
    True
    """

    def __init__(self, params: SamplingParams | None = None, *, seed: Any = None, **parameters: Any) -> None:
        if params is None:
            params = SamplingParams(**parameters)
        elif parameters:
            params = params.replace(**parameters)
        self.params = params
        self.seed = secrets.randbits(64) if seed is None else seed
        self.step = 0

    def __call__(self, logits: Any, **arguments: Any) -> Any:
        """Draw as `sample` does; takes its mask, bias, stream, on_invalid, out and threads."""
        tokens = sample(logits, params=self.params, seed=self.seed, step=self.step, **arguments)
        self.step += 1
        return tokens

    def __repr__(self) -> str:
        return f"Sampler({self.params!r}, seed={self.seed!r}, step={self.step})"

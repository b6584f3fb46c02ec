# SPDX-License-Identifier: Apache-2.0
"""What a search returns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokendraw.models.base import Tokenizer

__all__ = ["Hypothesis", "text_of"]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A completion that a search found.

    Attributes
    ----------
    tokens : list of int
        The tokens after the prompt, the end token included.
    score : float
        What the search ranks by; higher is better.
    logprob : float
        The log-probability of the tokens, in nats: the sum of `logprobs`.
    logprobs : list of float
        The log-probability of each token, after the steps that the search was given.
    finished : bool
        Whether an end token was reached, rather than the limit of tokens.
    text : str or None
        The text of the tokens without the end token; None where the model has no tokenizer.
    log_inclusion : float or None
        Of a stochastic beam search, the log-probability that the tokens lie above the threshold of the
        sample: an average over sequences weighs each by ``exp(logprob - log_inclusion)``.

    Examples
    --------
    >>> found = Hypothesis([5, 2], -0.7, -1.4, [-0.4, -1.0], finished=True)
    >>> found.tokens, found.score
    ([5, 2], -0.7)
    """

    tokens: list[int]
    score: float
    logprob: float
    logprobs: list[float]
    finished: bool
    text: str | None = None
    log_inclusion: float | None = None


def text_of(tokenizer: Tokenizer | None, tokens: Sequence[int], ends: Collection[int]) -> str | None:
    """Return the text of a completion without its end token; None without a tokenizer."""
    if tokenizer is None:
        return None
    has_end = len(tokens) > 0 and tokens[-1] in ends
    return tokenizer.decode(tokens[:-1] if has_end else tokens)

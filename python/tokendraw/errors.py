# SPDX-License-Identifier: Apache-2.0
"""What tokendraw raises beside ValueError and TypeError."""

from __future__ import annotations

from typing import Any

__all__ = ["InvalidLogitsError"]


class InvalidLogitsError(ValueError):
    """Rows that cannot be drawn from: NaN, +inf, or no finite score left.

    Raised after all other rows were computed.

    Attributes
    ----------
    tokens : array, int or None
        The tokens of all rows, -1 in the invalid ones; None where the call draws none.
    rows : tuple of int
        The invalid rows, in C order of the leading axes.
    hypotheses : sequence of Hypothesis
        What a search had found; empty where none was running.

    Examples
    --------
    >>> import numpy as np
    >>> import tokendraw as td
    >>> try:
    ...     td.greedy(np.float32([[1, 2], [np.nan, 0]]))
    ... except td.InvalidLogitsError as error:
    ...     print(error, error.tokens.tolist(), error.rows)
    nothing can be drawn from row 1 (NaN) [1, -1] (1,)
    """

    tokens: Any
    rows: tuple[int, ...]
    hypotheses: Any = ()

    def __init__(self, message: str, tokens: Any = None, rows: Any = ()) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.rows = tuple(rows)

# SPDX-License-Identifier: Apache-2.0
"""The parameters of the steps as one validated value."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np

from tokendraw._core import _check_filters

__all__ = ["SamplingParams"]

Real: TypeAlias = Any  # a number, or an array or sequence of them
Integer: TypeAlias = Any


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SamplingParams:
    """Parameters of the steps, checked when made and never changed.

    Every parameter is a scalar, or an array with one value per row of the logits it will be used with. A step
    at its default changes nothing.

    Parameters
    ----------
    temperature : float >= 0
        Divides the logits; 0 takes the first token of the total order.
    top_k : int >= 0 or None
        Keep the k first tokens of the total order; 0 or None keeps all.
    top_p : float in (0, 1]
        Keep the shortest beginning of the total order whose mass reaches this share.
    min_p : float in [0, 1]
        Keep tokens at least this fraction as probable as the best one.

    Raises
    ------
    ValueError, TypeError
        For an illegal value, in one sentence with the rule, the value and the row.

    Examples
    --------
    >>> import tokendraw as td
    >>> params = td.SamplingParams(temperature=0.8, top_p=0.95)
    >>> params
    SamplingParams(temperature=0.8, top_p=0.95)
    >>> params.replace(top_k=50)
    SamplingParams(temperature=0.8, top_k=50, top_p=0.95)
    >>> td.SamplingParams(top_p=1.5)
    Traceback (most recent call last):
    ValueError: top_p must be in (0, 1], got 1.5
    """

    temperature: Real = 1.0
    top_k: Integer = 0
    top_p: Real = 1.0
    min_p: Real = 0.0

    def __post_init__(self) -> None:
        _check_filters(**self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as keyword arguments of `sample`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def replace(self, **changes: Any) -> SamplingParams:
        """Return a copy with other values for some parameters."""
        return dataclasses.replace(self, **changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SamplingParams):
            return NotImplemented
        mine, theirs = self.as_dict(), other.as_dict()
        return all(np.array_equal(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        values = [value for value in self.as_dict().values() if value is not None]
        return hash(tuple(np.asarray(value, dtype=np.float64).tobytes() for value in values))

    def __repr__(self) -> str:
        defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(self)}
        given = self.as_dict().items()
        changed = [f"{name}={value!r}" for name, value in given if not np.array_equal(value, defaults[name])]
        return f"SamplingParams({', '.join(changed)})"

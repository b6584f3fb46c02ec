# SPDX-License-Identifier: Apache-2.0
"""Rows that break samplers, by name: the same ones for every step, instruction set and benchmark."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype(np.float64),
}

SMALL_SIZES = (1, 15, 16, 17, 31, 33, 65, 1023, 1024, 1025, 2049)
LARGE_SIZES = (32000, 128256, 262144)


def generator(*words: int) -> np.random.Generator:
    return np.random.default_rng(words)


def constant(size: int) -> Row:
    return np.full(size, 1.25, dtype=np.float32)


def ascending(size: int) -> Row:
    return np.linspace(-12, 4, size, dtype=np.float32)


def descending(size: int) -> Row:
    return ascending(size)[::-1].copy()


def normal(size: int) -> Row:
    return generator(size, 1).normal(0, 2, size).astype(np.float32)


def peaked(size: int) -> Row:
    return generator(size, 2).normal(0, 6, size).astype(np.float32)


def few_levels(size: int) -> Row:
    """Every cutoff falls inside a group of equal logits."""
    return generator(size, 3).integers(-4, 3, size).astype(np.float32)


def two_levels(size: int) -> Row:
    """The last quarter ranks first, so that ties are cut far from where the tokens stand."""
    row = np.zeros(size, dtype=np.float32)
    row[size - size // 4 :] = 1
    return row


def spike(size: int) -> Row:
    row = np.full(size, -3, dtype=np.float32)
    row[size // 2] = 14
    return row


def last_alone(size: int) -> Row:
    row = np.full(size, -np.inf, dtype=np.float32)
    row[-1] = -2.5
    return row


def holes(size: int) -> Row:
    """Whole tiles and every third token removed, the last token kept."""
    row = normal(size)
    row[::3] = -np.inf
    row[: size // 2] = -np.inf
    row[-1] = 0.5
    return row


def zeros_of_both_signs(size: int) -> Row:
    row = np.zeros(size, dtype=np.float32)
    row[generator(size, 4).random(size) < 0.5] = -0.0
    return row


def denormal(size: int) -> Row:
    return generator(size, 5).normal(0, 1, size).astype(np.float32) * np.float32(1e-39)


def huge(size: int) -> Row:
    """The spread overflows float32, and so does any product with 1/T."""
    row = generator(size, 6).choice(np.float32([-3e38, -1e30, -7, 0, 1e30, 3e38]), size)
    return row.astype(np.float32)


def far_from_zero(size: int) -> Row:
    return (generator(size, 7).normal(0, 2, size) + 4000).astype(np.float32)


def wide(size: int) -> Row:
    """Weights from 1 down to far below the smallest float32."""
    return generator(size, 8).uniform(-500, 0, size).astype(np.float32)


def one_step_apart(size: int) -> Row:
    """Neighbouring floats: equal in lower precision, not in the total order."""
    return (np.float32(2) + np.arange(size, dtype=np.float32) % 7 * np.float32(2.0**-22)).astype(np.float32)


VALID: dict[str, Callable[[int], Row]] = {
    row.__name__: row
    for row in (
        constant,
        ascending,
        descending,
        normal,
        peaked,
        few_levels,
        two_levels,
        spike,
        last_alone,
        holes,
        zeros_of_both_signs,
        denormal,
        huge,
        far_from_zero,
        wide,
        one_step_apart,
    )
}


def with_nan(size: int) -> Row:
    row = normal(size)
    row[size // 3] = np.nan
    return row


def with_infinity(size: int) -> Row:
    row = normal(size)
    row[-1] = np.inf
    return row


def nothing_left(size: int) -> Row:
    return np.full(size, -np.inf, dtype=np.float32)


INVALID: dict[str, Callable[[int], Row]] = {
    row.__name__: row for row in (with_nan, with_infinity, nothing_left)
}


def matrix(size: int, dtype: np.dtype) -> NDArray:
    """Return all valid rows that stay valid in `dtype`, one below the other."""
    with np.errstate(over="ignore"):
        rows = np.stack([row(size) for row in VALID.values()]).astype(dtype)
    values = rows.astype(np.float32)
    return rows[np.isfinite(values).any(axis=1) & ~np.isposinf(values).any(axis=1)]

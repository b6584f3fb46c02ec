# SPDX-License-Identifier: Apache-2.0
"""Exact linear algebra over the field of two elements, F2, where 1 + 1 = 0.

A matrix is a uint8 array of 0 and 1. Elimination runs on rows packed eight entries to a byte, so that adding
one row to many is a single exclusive or.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Matrix",
    "density",
    "inverse",
    "invertible_fraction",
    "lightest_sums",
    "multiply",
    "rank",
    "sparse_invertible",
]

Matrix: TypeAlias = npt.NDArray[np.uint8]

_ATTEMPTS = 10_000

_MOST_ROWS = 20  # of which all sums are enumerated


def multiply(left: npt.ArrayLike, right: npt.ArrayLike) -> Matrix:
    """Return the product of two matrices, or of a matrix and a vector, over F2.

    Parameters
    ----------
    left, right : array-like of 0 and 1
        What `numpy.matmul` takes.

    Returns
    -------
    ndarray, uint8
        The product modulo 2.

    Examples
    --------
    >>> multiply([[1, 1], [0, 1]], [1, 1])
    array([0, 1], dtype=uint8)
    """
    # A sum of bits outgrows uint8 at 256 of them; int32 holds it for any matrix that fits in memory.
    product = np.matmul(_bits("left", left).astype(np.int32), _bits("right", right).astype(np.int32))
    bits: Matrix = (product & 1).astype(np.uint8)
    return bits


def rank(matrix: npt.ArrayLike) -> int:
    """Return the rank of a matrix over F2.

    Parameters
    ----------
    matrix : array-like of 0 and 1, [rows, columns]
        Any matrix.

    Returns
    -------
    int
        The number of independent rows.

    Examples
    --------
    Over the real numbers these three rows are independent; over F2 the third is the sum of the others.

    >>> rank([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    2
    """
    bits = _matrix(matrix)
    return len(_eliminate(np.packbits(bits, axis=1), bits.shape[1]))


def inverse(matrix: npt.ArrayLike) -> Matrix:
    """Return the inverse of a square matrix over F2.

    Parameters
    ----------
    matrix : array-like of 0 and 1, [size, size]
        A matrix of full rank, else ValueError.

    Returns
    -------
    ndarray, uint8 [size, size]
        The matrix whose product with `matrix`, on either side, is the identity.

    Examples
    --------
    >>> inverse([[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]], dtype=uint8)
    """
    bits = _matrix(matrix)
    size = len(bits)
    if bits.shape != (size, size):
        raise ValueError(f"matrix must be square, got shape {bits.shape}")
    both = np.packbits(np.concatenate([bits, np.eye(size, dtype=np.uint8)], axis=1), axis=1)
    pivots = _eliminate(both, size)
    if len(pivots) < size:
        raise ValueError(f"matrix must be invertible, got rank {len(pivots)} of {size}")
    return np.unpackbits(both, axis=1, count=2 * size)[:, size:]


def density(matrix: npt.ArrayLike) -> float:
    """Return the share of ones in a matrix.

    Parameters
    ----------
    matrix : array-like of 0 and 1
        A matrix that is not empty.

    Returns
    -------
    float
        The number of ones divided by the number of entries.

    Examples
    --------
    >>> density([[1, 0], [1, 1]])
    0.75
    """
    bits = _bits("matrix", matrix)
    if bits.size == 0:
        raise ValueError(f"matrix must not be empty, got shape {bits.shape}")
    return float(bits.mean())


def invertible_fraction(size: int) -> float:
    """Return the share of all square matrices of a size that are invertible over F2.

    It is the product of 1 - 2**-k for k from 1 to `size`: the k-th row from the end may be any vector outside
    the span of the rows before it.

    Parameters
    ----------
    size : int
        Rows and columns.

    Returns
    -------
    float

    Examples
    --------
    >>> invertible_fraction(2), round(invertible_fraction(64), 4)
    (0.375, 0.2888)
    """
    return float(np.prod(1.0 - 0.5 ** np.arange(1, size + 1)))


def lightest_sums(matrix: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return for each bit of y = A x the fewest bits that sum to it, among those of x and earlier ones of y.

    A row of A says that a bit of y is a sum of as many bits of x as the row has ones. Who also knows the bits
    before may find a shorter sum. All sums of rows are enumerated.

    Parameters
    ----------
    matrix : array-like of 0 and 1, [rows, columns]
        A, of at most 20 rows and 64 columns.

    Returns
    -------
    ndarray, int64 [rows]
        Numbers of bits.

    Examples
    --------
    Each row is the one before and one bit more, so that each bit of y is the one before plus one bit of x.

    >>> lightest_sums([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    array([1, 2, 2, 2])
    """
    bits = _matrix(matrix)
    rows, columns = bits.shape
    if rows > _MOST_ROWS or columns > 64:
        raise ValueError(f"matrix must have at most {_MOST_ROWS} rows and 64 columns, got shape {bits.shape}")
    packed = bits.astype(np.uint64) @ (np.uint64(1) << np.arange(columns, dtype=np.uint64))
    # All sums of the rows so far, and how many rows are in each.
    sums, terms = np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.int64)
    fewest = np.empty(rows, dtype=np.int64)
    for place, row in enumerate(packed):
        with_row = sums ^ row
        fewest[place] = (terms + _ones(with_row)).min()
        sums, terms = np.concatenate([sums, with_row]), np.concatenate([terms, terms + 1])
    return fewest


def _ones(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return how many bits of each number are set."""
    counts: npt.NDArray[np.int64] = np.unpackbits(numbers.view(np.uint8)).reshape(-1, 64).sum(axis=1)
    return counts.astype(np.int64)


def sparse_invertible(size: int, weight: int, random: np.random.Generator) -> Matrix:
    """Draw a sparse matrix that is invertible over F2.

    A random permutation matrix gets random further ones until its rows have their weights; what is singular
    is drawn again. Every row has `weight` ones if that is odd. If it is even, half of the rows have one less
    and the others one more: a matrix whose rows all have an even number of ones takes the vector of ones to 0
    and is singular. An invertible matrix has a permutation among its ones, so that every one with these row
    weights can be drawn; not all are equally likely.

    Parameters
    ----------
    size : int
        Rows and columns, at least 1; even if `weight` is.
    weight : int
        Mean number of ones in a row, at least 1 and less than `size`, or 1 of 1.
    random : numpy.random.Generator
        Where the ones come from.

    Returns
    -------
    ndarray, uint8 [size, size]
        A matrix of rank `size`.

    Examples
    --------
    >>> matrix = sparse_invertible(6, 3, np.random.default_rng(0))
    >>> matrix.sum(axis=1).tolist(), rank(matrix)
    ([3, 3, 3, 3, 3, 3], 6)
    """
    weights = _row_weights(size, weight)
    for _ in range(_ATTEMPTS):
        matrix = _around_permutation(random.permutation(weights), random)
        if rank(matrix) == size:
            return matrix
    raise ValueError(
        f"weight must allow an invertible matrix, got {weight} of {size}: none in {_ATTEMPTS} draws"
    )


def _row_weights(size: int, weight: int) -> npt.NDArray[np.int64]:
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not 1 <= weight < max(size, 2):
        raise ValueError(f"weight must be at least 1 and less than size {size}, got {weight}")
    if weight % 2:
        return np.full(size, weight)
    if size % 2:
        raise ValueError(f"size must be even where weight is, got size {size} and weight {weight}")
    return np.repeat([weight - 1, weight + 1], size // 2)


def _around_permutation(weights: npt.NDArray[np.int64], random: np.random.Generator) -> Matrix:
    size = len(weights)
    order = random.random((size, size))
    # Each row takes its smallest entries, the one on the permutation first.
    order[np.arange(size), random.permutation(size)] = -1.0
    places = np.argsort(np.argsort(order, axis=1), axis=1)
    return (places < weights[:, np.newaxis]).astype(np.uint8)


def _eliminate(rows: npt.NDArray[np.uint8], columns: int) -> list[int]:
    """Bring packed rows into reduced echelon form, in place, and return the columns of the pivots."""
    pivots: list[int] = []
    for column in range(columns):
        byte, bit = column // 8, np.uint8(0x80 >> column % 8)
        place = len(pivots)
        below = np.flatnonzero(rows[place:, byte] & bit)
        if not below.size:
            continue
        rows[[place, place + below[0]]] = rows[[place + below[0], place]]
        others = (rows[:, byte] & bit) != 0
        others[place] = False
        rows[others] ^= rows[place]
        pivots.append(column)
        if len(pivots) == len(rows):
            break
    return pivots


def _matrix(values: npt.ArrayLike) -> Matrix:
    bits = _bits("matrix", values)
    if bits.ndim != 2:
        raise ValueError(f"matrix must have 2 axes, got shape {bits.shape}")
    return bits


def _bits(name: str, values: npt.ArrayLike) -> Matrix:
    array = np.asarray(values)
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"{name} must hold 0 and 1, got {wrong[0]}")
    return array.astype(np.uint8)

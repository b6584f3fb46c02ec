# SPDX-License-Identifier: Apache-2.0
"""Linear algebra over F2, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tokendraw.lab.binary_algebra import (
    density,
    inverse,
    invertible_fraction,
    lightest_sums,
    multiply,
    rank,
    sparse_invertible,
)


def matrices(rows: st.SearchStrategy[int], columns: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(rows, columns)
    return shapes.flatmap(lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 1)))


def all_sums(matrix: np.ndarray) -> set[tuple[int, ...]]:
    """Return every sum of rows: there are 2 ** rank of them."""
    sums = {(0,) * matrix.shape[1]}
    for row in matrix:
        sums |= {tuple(a ^ b for a, b in zip(each, row.tolist(), strict=True)) for each in sums}
    return sums


@given(matrices(st.integers(0, 8), st.integers(0, 20)))
def test_rank_counts_the_sums_of_rows(matrix):
    assert 2 ** rank(matrix) == len(all_sums(matrix))


@given(matrices(st.integers(1, 40), st.integers(1, 40)))
def test_rank_of_the_transpose(matrix):
    kept = matrix.copy()
    assert rank(matrix) == rank(matrix.T)
    np.testing.assert_array_equal(matrix, kept)


@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_an_inverse_is_one_on_both_sides(size, seed):
    random = np.random.default_rng(seed)
    # A product of triangular matrices with ones on the diagonal is invertible, and not sparse.
    dense = random.integers(0, 2, (2, size, size), dtype=np.uint8)
    lower, upper = np.tril(dense[0], -1), np.triu(dense[1], 1)
    identity = np.eye(size, dtype=np.uint8)
    matrix = random.permutation(multiply(lower + identity, upper + identity))
    inverted = inverse(matrix)
    assert inverted.dtype == np.uint8
    np.testing.assert_array_equal(multiply(inverted, matrix), identity)
    np.testing.assert_array_equal(multiply(matrix, inverted), identity)


def test_every_small_matrix():
    """All 512 matrices of size 3: an inverse exists where the determinant is odd, and nowhere else."""
    invertible = 0
    for entries in itertools.product((0, 1), repeat=9):
        matrix = np.reshape(entries, (3, 3))
        if round(np.linalg.det(matrix)) % 2:
            invertible += 1
            np.testing.assert_array_equal(multiply(matrix, inverse(matrix)), np.eye(3))
        else:
            with pytest.raises(ValueError, match=r"matrix must be invertible, got rank [012] of 3"):
                inverse(matrix)
    assert invertible == 512 * invertible_fraction(3) == 168


def test_a_product_of_many_ones_does_not_overflow():
    ones = np.ones((1, 1001), dtype=np.uint8)
    assert multiply(ones, ones.T).tolist() == [[1]]
    assert multiply(ones[:, 1:], ones[:, 1:].T).tolist() == [[0]]


@pytest.mark.parametrize("size", [1, 2, 5, 8, 16, 33, 64])
@pytest.mark.parametrize("weight", [1, 3, 5])
def test_sparse_matrices_of_an_odd_weight(size, weight):
    if weight >= max(size, 2):
        with pytest.raises(
            ValueError, match=rf"weight must be at least 1 and less than size {size}, got {weight}"
        ):
            sparse_invertible(size, weight, np.random.default_rng(0))
        return
    matrix = sparse_invertible(size, weight, np.random.default_rng(0))
    assert matrix.sum(axis=1).tolist() == [weight] * size
    assert rank(matrix) == size
    assert density(matrix) == weight / size


@pytest.mark.parametrize("weight", [2, 4])
def test_sparse_matrices_of_an_even_weight(weight):
    matrix = sparse_invertible(10, weight, np.random.default_rng(0))
    assert sorted(matrix.sum(axis=1).tolist()) == [weight - 1] * 5 + [weight + 1] * 5
    assert rank(matrix) == 10


@given(matrices(st.just(8), st.just(7)))
def test_rows_of_even_weight_are_never_invertible(matrix):
    """Why an even weight is a mean of odd ones."""
    even = np.concatenate([matrix, matrix.sum(axis=1, keepdims=True, dtype=np.uint8) % 2], axis=1)
    assert rank(even) < 8


def test_the_inverse_of_a_sparse_matrix_is_dense():
    """About half ones, as a random matrix has: the reason for the experiment."""
    densities = [density(inverse(sparse_invertible(64, 3, np.random.default_rng(seed)))) for seed in range(5)]
    assert 0.35 < min(densities) <= max(densities) < 0.65


@given(matrices(st.integers(1, 5), st.integers(1, 5)))
def test_lightest_sums_are_those_of_all_subsets(matrix):
    """A bit of y is a sum of known bits if that holds for every x."""
    rows, columns = matrix.shape
    xs = np.array(list(itertools.product((0, 1), repeat=columns)), dtype=np.uint8)
    ys = multiply(xs, matrix.T)
    for place in range(rows):
        known = np.concatenate([xs, ys[:, :place]], axis=1)
        subsets = np.array(list(itertools.product((0, 1), repeat=columns + place)), dtype=np.uint8)
        equal = (multiply(known, subsets.T) == ys[:, [place]]).all(axis=0)
        assert lightest_sums(matrix)[place] == subsets[equal].sum(axis=1).min()


def test_every_sparse_matrix_is_drawn():
    """There are 6 permutations of size 3, each as likely as another."""
    random = np.random.default_rng(0)
    drawn = [sparse_invertible(3, 1, random).tobytes() for _ in range(1200)]
    counts = [drawn.count(each) for each in set(drawn)]
    assert len(counts) == 6
    assert min(counts) > 140


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank([[0, 2]]), "matrix must hold 0 and 1, got 2"),
        (lambda: rank([0, 1]), r"matrix must have 2 axes, got shape \(2,\)"),
        (lambda: inverse([[1, 0]]), r"matrix must be square, got shape \(1, 2\)"),
        (lambda: inverse([[1, 1], [1, 1]]), "matrix must be invertible, got rank 1 of 2"),
        (lambda: multiply([[0.5]], [[1]]), "left must hold 0 and 1, got 0.5"),
        (lambda: density(np.zeros((0, 3))), r"matrix must not be empty, got shape \(0, 3\)"),
        (lambda: lightest_sums(np.zeros((21, 3))), r"at most 20 rows and 64 columns, got shape \(21, 3\)"),
        (lambda: sparse_invertible(0, 1, np.random.default_rng()), "size must be at least 1, got 0"),
        (
            lambda: sparse_invertible(7, 2, np.random.default_rng()),
            "size must be even where weight is, got size 7",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

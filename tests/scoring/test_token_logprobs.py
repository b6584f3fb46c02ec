# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities and ranks of given tokens, logsumexp, entropy: the reference's, in every guise."""

from collections.abc import Callable

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import DTYPES, INVALID, LARGE_SIZES, SMALL_SIZES, VALID, generator, matrix
from tokendraw import reference

SetIsa = Callable[[str], None]


def check(logits: np.ndarray, tokens: np.ndarray) -> None:
    """Check valid rows to the contract's accuracy; ranks to the last."""
    with np.errstate(over="ignore"):
        floats = logits.astype(np.float32)
    exact, ranks = reference.token_logprobs(floats, tokens, ranks=True)
    found, found_ranks = td.token_logprobs(logits, tokens, ranks=True)
    assert (found.dtype, found_ranks.dtype) == (np.float32, np.int64)
    assert found_ranks.tolist() == ranks.tolist()
    close(found, np.maximum(exact, -float(reference.FLT_MAX)), exact > -np.inf)
    assert (found[exact == -np.inf] == -np.inf).all()
    np.testing.assert_array_equal(td.token_logprobs(logits, tokens), found)
    sums = np.array(reference.logsumexp(floats))
    close(
        td.logsumexp(logits), np.clip(sums, -float(reference.FLT_MAX), float(reference.FLT_MAX)), sums == sums
    )
    entropies = np.array(reference.entropy(floats))
    np.testing.assert_allclose(td.entropy(logits), entropies, rtol=2e-6, atol=2e-6)


def close(found: np.ndarray, exact: np.ndarray, where: np.ndarray) -> None:
    error = np.abs(found.astype(np.float64) - exact)[where]
    assert (error <= 1e-6 + 2**-22 * np.abs(exact[where])).all()


@pytest.mark.parametrize("size", SMALL_SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_row_is_as_the_reference_says(dtype: str, size: int, isa: str):
    for row in matrix(size, DTYPES[dtype]):
        tokens = np.unique(np.r_[0, size // 2, size - 1, generator(size).integers(0, size, 5)])
        check(np.repeat(row[None], len(tokens), axis=0), tokens)


@pytest.mark.parametrize("size", LARGE_SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_rows(dtype: str, size: int, isa: str):
    random = generator(size, 7)
    check(random.normal(0, 3, (3, size)).astype(DTYPES[dtype]), random.integers(0, size, 3))


@pytest.mark.parametrize("size", [1, 33, 1025, 4000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_temperatures(dtype: str, size: int, isa: str):
    rows = matrix(size, DTYPES[dtype])
    with np.errstate(over="ignore"):
        floats = rows.astype(np.float32)
    tokens = generator(size, 3).integers(0, size, len(rows))
    temperatures = np.resize([0.0, 0.5, 1.0, 3.0, 1e-3, 40.0, 0.7], len(rows))
    exact, ranks = reference.token_logprobs(floats, tokens, ranks=True, temperature=temperatures)
    found, found_ranks = td.token_logprobs(rows, tokens, ranks=True, temperature=temperatures)
    assert found_ranks.tolist() == ranks.tolist()
    assert ((found == -np.inf) == (exact == -np.inf)).all()
    close(found, np.maximum(exact, -float(reference.FLT_MAX)), exact > -np.inf)
    entropies = np.array(reference.entropy(floats, temperature=temperatures))
    np.testing.assert_allclose(td.entropy(rows, temperature=temperatures), entropies, rtol=2e-6, atol=2e-6)
    above_zero = np.where(temperatures == 0, 2.0, temperatures)
    sums = np.array(reference.logsumexp(floats, temperature=above_zero))
    largest = float(reference.FLT_MAX)
    close(td.logsumexp(rows, temperature=above_zero), np.clip(sums, -largest, largest), sums == sums)


def test_temperature_zero_is_the_best_token():
    logits = np.float32([[1, 3, 3], [-np.inf, -1, -np.inf]])
    assert td.token_logprobs(logits, [1, 1], temperature=0).tolist() == [0, 0]
    assert td.token_logprobs(logits, [2, 0], temperature=[0, 0]).tolist() == [-np.inf, -np.inf]
    assert td.entropy(logits, temperature=0).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"temperature must be finite and > 0, got 0 \(row 1\)"):
        td.logsumexp(logits, temperature=[1, 0])
    with pytest.raises(ValueError, match="temperature must be finite and >= 0, got -1"):
        td.token_logprobs(logits, 0, temperature=-1)
    with pytest.raises(td.InvalidLogitsError, match="row 0"):
        td.entropy(np.float32([[np.nan, 1]]), temperature=0)


@pytest.mark.parametrize("name", INVALID)
def test_invalid_rows(name: str):
    logits = np.stack([VALID["normal"](33), INVALID[name](33)])
    with pytest.raises(td.InvalidLogitsError, match="row 1"):
        td.token_logprobs(logits, [0, 0])
    found, ranks = td.token_logprobs(logits, [0, 0], ranks=True, on_invalid="mark")
    assert np.isnan(found).tolist() == [False, True]
    assert ranks[1] == -1
    for function in (td.logsumexp, td.entropy):
        assert np.isnan(function(logits, on_invalid="mark")).tolist() == [False, True]
        with pytest.raises(td.InvalidLogitsError, match="row 1"):
            function(logits)


def test_shapes_strides_and_threads(set_isa: SetIsa):
    logits = generator(5).normal(0, 2, (4, 3, 70000)).astype(np.float32)
    tokens = generator(6).integers(0, 70000, (4, 3))
    found = td.token_logprobs(logits, tokens)
    assert found.shape == (4, 3)
    np.testing.assert_array_equal(td.token_logprobs(logits, tokens.ravel(), threads=3), found)
    turned = np.ascontiguousarray(logits.swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_array_equal(td.token_logprobs(turned, tokens), found)
    out = np.empty((4, 3), np.float32)
    assert td.token_logprobs(logits, tokens, out=out) is out
    np.testing.assert_array_equal(out, found)
    one = td.token_logprobs(logits[1, 2], int(tokens[1, 2]))
    assert isinstance(one, float)
    assert one == found[1, 2]
    np.testing.assert_array_equal(td.token_logprobs(logits[0], 5), td.token_logprobs(logits[0], [5, 5, 5]))
    expected = td.entropy(logits)
    set_isa("scalar")
    np.testing.assert_array_equal(td.token_logprobs(logits, tokens), found)
    np.testing.assert_array_equal(td.entropy(logits), expected)


def test_it_agrees_with_draw():
    logits = generator(8).normal(0, 2, (6, 5000)).astype(np.float32)
    draws = td.draw(logits, seed=1)
    logprobs, ranks = td.token_logprobs(logits, draws.tokens, ranks=True)
    np.testing.assert_array_equal(logprobs, draws.raw_logprobs)
    np.testing.assert_array_equal(ranks, draws.ranks)
    np.testing.assert_array_equal(td.entropy(logits), draws.entropies)


def test_no_rows():
    assert td.token_logprobs(np.zeros((0, 5), np.float32), np.zeros(0, int)).shape == (0,)
    assert td.logsumexp(np.zeros((0, 5), np.float32)).shape == (0,)


def test_torch_in_torch_out():
    torch = pytest.importorskip("torch")
    logits = torch.randn(3, 100, generator=torch.Generator().manual_seed(1))
    found = td.token_logprobs(logits, torch.tensor([1, 2, 3]))
    torch.testing.assert_close(found, torch.log_softmax(logits, -1)[range(3), [1, 2, 3]])
    torch.testing.assert_close(td.logsumexp(logits), torch.logsumexp(logits, -1))


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([1, 5], ValueError, r"tokens must be in \[0, 5\), got 5 \(row 1\)"),
        ([-1, 0], ValueError, r"tokens must be in \[0, 5\), got -1 \(row 0\)"),
        (7, ValueError, r"tokens must be in \[0, 5\), got 7"),
        ([1, 2, 3], ValueError, r"tokens must have one value per row \(2\), got 3"),
        (None, TypeError, "tokens must be an integer, or an array with one per row, got None"),
        ([0.5, 1.0], TypeError, "tokens must be an integer, or an array with one per row"),
    ],
)
def test_bad_tokens(tokens: object, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        td.token_logprobs(np.zeros((2, 5), np.float32), tokens)

# SPDX-License-Identifier: Apache-2.0
"""Kullback-Leibler and Jensen-Shannon: the reference's, and where rows are nearly equal that of 50 digits."""

from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokendraw as td
from tests.adversarial import DTYPES, INVALID, LARGE_SIZES, SMALL_SIZES, VALID, generator, matrix
from tokendraw import reference

SetIsa = Callable[[str], None]

RELATIVE = 1e-6
"""As documented. Below 1e-9 the reference is noise of float64, and 50 digits take its place."""


def as_floats(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return logits.astype(np.float32)


def check(logits: np.ndarray, other: np.ndarray, temperature: float = 1.0) -> None:
    for name in ("kl_divergence", "js_divergence"):
        exact = getattr(reference, name)(as_floats(logits), as_floats(other), temperature=temperature)
        found = getattr(td, name)(logits, other, temperature=temperature)
        assert found.dtype == np.float32
        assert (found >= 0).all()
        np.testing.assert_array_equal(np.isinf(found), np.isinf(exact))
        finite = np.isfinite(exact)
        exact = np.minimum(exact[finite], float(reference.FLT_MAX))
        error = np.abs(found[finite].astype(np.float64) - exact)
        allowed = RELATIVE * exact + 1e-14
        assert (error <= allowed).all(), f"{name} off by {(error / allowed).max():.3g} times what is allowed"


@pytest.mark.parametrize("size", SMALL_SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_pair_is_as_the_reference_says(dtype: str, size: int, isa: str):
    rows = matrix(size, DTYPES[dtype])
    for shift, temperature in (0, 1.0), (1, 0.5), (3, 1.0), (7, 3.0):
        check(rows, np.roll(rows, shift, axis=0), temperature=temperature)


@pytest.mark.parametrize("size", LARGE_SIZES)
def test_large_rows_of_mixed_types(size: int, isa: str):
    random = generator(size, 7)
    rows = random.normal(0, 3, (2, size)).astype(np.float32)
    check(rows, (rows + random.normal(0, 1, (2, size))).astype(np.float16), temperature=0.8)
    check(rows.astype(DTYPES["bfloat16"]), rows)


def exact_kl(logits: np.ndarray, other: np.ndarray) -> tuple[Decimal, Decimal]:
    """Return KL and JS of one row to 50 digits."""
    with localcontext() as context:
        context.prec = 50
        p, q = (softmax(row) for row in (logits, other))
        means = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return kl(p, q), (kl(p, means) + kl(q, means)) / 2


def softmax(row: np.ndarray) -> list[Decimal]:
    weights = [Decimal(float(logit)).exp() for logit in row]
    return [weight / sum(weights) for weight in weights]


def kl(p: list[Decimal], q: list[Decimal]) -> Decimal:
    return sum((a * (a / b).ln() for a, b in zip(p, q, strict=True)), Decimal(0))


@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-4, 1e-6, 3e-8])
@pytest.mark.parametrize("shift", [0.0, 8.0])
def test_rows_that_are_nearly_equal(noise: float, shift: float, isa: str):
    """The smallest divergences here are 1e-16: a difference of logarithms would be all noise."""
    random = generator(21)
    for spread in (0.1, 1.0, 4.0):
        logits = random.normal(0, spread, 60).astype(np.float32)
        other = (logits + shift + random.normal(0, noise, 60)).astype(np.float32)
        if np.array_equal(other, logits + np.float32(shift)):
            other[7] = np.nextafter(other[7], np.float32(np.inf))
        exact = [float(value) for value in exact_kl(logits, other)]
        assert exact[0] > 0
        assert td.kl_divergence(logits, other) == pytest.approx(exact[0], rel=RELATIVE, abs=1e-22)
        assert td.js_divergence(logits, other) == pytest.approx(exact[1], rel=RELATIVE, abs=1e-22)


def test_equal_rows_and_shifted_ones():
    rows = np.stack([row(3000) for name, row in VALID.items() if name != "huge"])
    for other in (rows, np.where(rows > -np.inf, rows, -np.inf)):
        assert (td.kl_divergence(rows, other) <= 1e-20).all()
        assert (td.js_divergence(rows, other) <= 1e-20).all()
    integers = generator(2).integers(-20, 20, (3, 500)).astype(np.float32)
    assert (td.kl_divergence(integers, integers + 64) <= 1e-20).all()


def test_tokens_that_one_row_excludes():
    row = np.float32([0, 1, 2])
    without = np.float32([0, -np.inf, 2])
    assert td.kl_divergence(row, without) == np.inf
    share = float(td.softmax(row)[[0, 2]].sum(dtype=np.float64))
    assert td.kl_divergence(without, row) == pytest.approx(-np.log(share), rel=1e-6)
    assert 0 < td.js_divergence(row, without) < np.log(2)
    assert td.js_divergence(row, without) == td.js_divergence(without, row)
    apart = np.float32([-np.inf, 5, -np.inf])
    assert np.log(2) - 1e-7 <= td.js_divergence(without, apart) <= np.log(2)
    assert td.kl_divergence(without, apart) == np.inf
    improbable = np.float32([0, -2000, 2])  # the weight is 0, the probability is not
    assert td.kl_divergence(improbable, without) == np.inf
    lowest = np.float32([-reference.FLT_MAX, -np.inf]), np.full(2, -reference.FLT_MAX)
    assert td.kl_divergence(*lowest) == pytest.approx(np.log(2), rel=1e-6)


@settings(max_examples=80)
@given(
    pair=st.lists(
        st.tuples(*[st.one_of(st.floats(-40, 40, width=32), st.just(-np.inf))] * 2), min_size=1, max_size=40
    ),
    temperature=st.sampled_from([0.25, 1.0, 2.0]),
)
def test_signs_symmetry_and_bounds(pair: list[tuple[float, float]], temperature: float):
    logits, other = np.array([(0.0, 0.0), *pair], dtype=np.float32).T.copy()
    kl = td.kl_divergence(logits, other, temperature=temperature)
    js = td.js_divergence(logits, other, temperature=temperature)
    assert kl >= 0
    assert 0 <= js <= np.log(2)
    assert td.js_divergence(other, logits, temperature=temperature) == js
    both_ways = kl + td.kl_divergence(other, logits, temperature=temperature)
    assert js <= both_ways / 4 * (1 + 1e-5) + 1e-20  # KL is convex in its second argument
    halved = td.js_divergence(logits / 2, other / 2, temperature=temperature / 2)
    assert halved == pytest.approx(js, rel=1e-5, abs=1e-20)
    order = generator(len(pair)).permutation(len(logits))
    assert td.js_divergence(logits[order], other[order], temperature=temperature) == pytest.approx(
        js, rel=1e-5, abs=1e-20
    )


@pytest.mark.parametrize("name", INVALID)
def test_invalid_rows(name: str):
    logits = np.stack([VALID["normal"](33), INVALID[name](33), VALID["spike"](33)])
    valid = np.repeat(VALID["normal"](33)[None], 3, axis=0)
    for function in (td.kl_divergence, td.js_divergence):
        for pair in (logits, valid), (valid, logits):
            with pytest.raises(td.InvalidLogitsError, match="row 1"):
                function(*pair)
            assert np.isnan(function(*pair, on_invalid="mark")).tolist() == [False, True, False]


def test_shapes_threads_and_instruction_sets(set_isa: SetIsa):
    random = generator(9)
    logits = random.normal(0, 2, (4, 3, 70001)).astype(np.float32)
    other = random.normal(0, 2, (4, 3, 70001)).astype(np.float32)
    for function in (td.kl_divergence, td.js_divergence):
        found = function(logits, other, threads=1)
        assert found.shape == (4, 3)
        out = np.empty((4, 3), np.float32)
        assert function(logits, other, threads=3, out=out) is out
        np.testing.assert_array_equal(out, found)
        np.testing.assert_array_equal(function(logits, other[0, 0])[0, 0], found[0, 0])
        one = function(logits[1, 2], other[1, 2])
        assert isinstance(one, float)
        assert one == found[1, 2]
        turned = np.ascontiguousarray(other.swapaxes(0, 1)).swapaxes(0, 1)
        np.testing.assert_array_equal(function(logits, turned), found)
        assert function(logits[:0], other[:0]).shape == (0, 3)
    expected = td.kl_divergence(logits[0], other[0]), td.js_divergence(logits[0], other[0])
    for name in td.build_info()["isas"]:
        set_isa(name)
        np.testing.assert_array_equal(td.kl_divergence(logits[0], other[0]), expected[0])
        np.testing.assert_array_equal(td.js_divergence(logits[0], other[0]), expected[1])


def test_it_is_what_torch_says():
    torch = pytest.importorskip("torch")
    source = torch.Generator().manual_seed(1)
    logits, other = (torch.randn(5, 700, generator=source) * 3 for _ in range(2))
    found = td.kl_divergence(logits, other, temperature=2.0)
    assert isinstance(found, torch.Tensor)
    p, q = ((rows.double() / 2).log_softmax(-1) for rows in (logits, other))
    exact = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(found.double(), exact, rtol=RELATIVE, atol=0)


@pytest.mark.parametrize(
    ("other", "options", "error", "message"),
    [
        (
            np.zeros((2, 4), np.float32),
            {},
            ValueError,
            r"other_logits must have the shape of logits, \(2, 5\), or be one row, got \(2, 4\)",
        ),
        (np.zeros((1, 5), np.float32), {}, ValueError, r"or be one row, got \(1, 5\)"),
        (np.zeros((2, 5), int), {}, TypeError, "other_logits must be float32, float16, bfloat16 or float64"),
        (None, {}, TypeError, "other_logits must be an array"),
        (
            np.zeros(5, np.float32),
            {"temperature": 0},
            ValueError,
            "temperature must be finite and > 0, got 0",
        ),
        (np.zeros(5, np.float32), {"temperature": [1, -1]}, ValueError, r"temperature must be .* \(row 1\)"),
    ],
)
def test_bad_arguments(other: object, options: dict, error: type[Exception], message: str):
    for function in (td.kl_divergence, td.js_divergence):
        with pytest.raises(error, match=message):
            function(np.zeros((2, 5), np.float32), other, **options)

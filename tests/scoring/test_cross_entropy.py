# SPDX-License-Identifier: Apache-2.0
"""The loss of rows and its gradient: the reference's, torch's, and in every guise and memory."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokendraw as td
from tests.adversarial import DTYPES, INVALID, LARGE_SIZES, SMALL_SIZES, VALID, generator, matrix
from tokendraw import reference

SetIsa = Callable[[str], None]

HALF_STEP = {"float32": 0.0, "float64": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float32": 0.0, "float64": 0.0, "float16": 2.0**-24, "bfloat16": 2.0**-133}
"""What rounding a gradient to its own type may cost: relative, and below its normal numbers."""


def as_floats(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return logits.astype(np.float32)


def check(logits: np.ndarray, tokens: np.ndarray, **parameters: object) -> None:
    """Check the losses of valid rows and a float32 gradient to the documented accuracy."""
    parameters = {"reduction": "none", **parameters}
    exact, exact_gradient = reference.cross_entropy(as_floats(logits), tokens, gradient=True, **parameters)
    loss, gradient = td.cross_entropy(logits, tokens, gradient=True, **parameters)
    check_losses(loss, exact)
    assert (gradient.dtype, gradient.shape) == (np.float32, logits.shape)
    check_gradient(gradient, exact_gradient, bounds(logits, tokens, parameters))
    assert np.array_equal(td.cross_entropy(logits, tokens, **parameters), loss)


def check_losses(found: np.ndarray, exact: np.ndarray) -> None:
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(np.asarray(found)[~finite], exact[~finite])
    largest = np.minimum(exact[finite], float(reference.FLT_MAX))
    assert (np.abs(np.asarray(found, dtype=np.float64)[finite] - largest) <= 1e-6 + 2**-22 * largest).all()
    assert (np.asarray(found)[finite] >= 0).all()


def bounds(logits: np.ndarray, tokens: np.ndarray, parameters: dict) -> np.ndarray:
    """Return how far each element of a gradient may be off: 2**-20 of what it is the difference of."""
    temperature = np.broadcast_to(parameters.get("temperature", 1.0), len(logits))[:, None]
    smoothing = parameters.get("label_smoothing", 0.0)
    rows = [
        reference.apply_temperature(reference.start_row(row), float(degree)).logprobs
        for row, degree in zip(as_floats(logits), temperature.ravel(), strict=True)
    ]
    parts = np.exp(np.array(rows))
    own = np.arange(len(logits)), tokens
    parts[own] = -np.expm1(np.array(rows)[own])  # 1 - p: the others' share
    return (2**-20 * (parts + smoothing) + 1e-15 + 2**-126) / temperature


def check_gradient(found: np.ndarray, exact: np.ndarray, allowed: np.ndarray, dtype: str = "float32") -> None:
    error = np.abs(np.asarray(found, dtype=np.float64) - exact)
    rounding = HALF_STEP[dtype] * np.abs(exact) + SMALLEST[dtype]
    excess = error - allowed - rounding
    assert (excess <= 0).all(), f"gradient off by {excess.max():.3g} more than allowed"


def some_tokens(size: int, rows: int) -> np.ndarray:
    """Return tokens at both ends, in the middle, and anywhere."""
    ends = [0, size - 1, size // 2]
    return np.r_[ends, generator(size, 11).integers(0, size, max(0, rows - 3))][:rows]


@pytest.mark.parametrize("size", SMALL_SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_row_is_as_the_reference_says(dtype: str, size: int, isa: str):
    rows = matrix(size, DTYPES[dtype])
    tokens = some_tokens(size, len(rows))
    best = as_floats(rows).argmax(axis=1)
    temperatures = np.tile([0.3, 1.0, 2.5], len(rows))[: len(rows)]
    check(rows, tokens)
    check(rows, best, temperature=temperatures)
    check(rows, best, label_smoothing=0.1)
    check(rows, tokens, label_smoothing=1.0, temperature=temperatures)


@pytest.mark.parametrize("size", LARGE_SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_rows(dtype: str, size: int, isa: str):
    random = generator(size, 7)
    logits = random.normal(0, 3, (2, size)).astype(DTYPES[dtype])
    check(logits, random.integers(0, size, 2), label_smoothing=0.05, temperature=0.8)


def test_a_gradient_of_a_certain_token_is_not_noise():
    """What is left to learn of a token of probability 1 - 1e-12 is told to the accuracy of what is left."""
    logits = np.zeros((1, 2000), np.float32)
    logits[0, 700] = np.log(1999 / 1e-12)
    _, gradient = td.cross_entropy(logits, [700], gradient=True)
    exact = -np.float64(1999) / (1999 + np.exp(logits[0, 700].astype(np.float64)))
    assert gradient[0, 700] == pytest.approx(exact, rel=2**-20)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 31, 1025, 4000])
def test_a_gradient_in_place_and_in_its_own_type(dtype: str, size: int, isa: str):
    logits = matrix(size, DTYPES[dtype])
    tokens = some_tokens(size, len(logits))
    options = {"temperature": 0.7, "label_smoothing": 0.1, "scale": 3.0, "reduction": "sum"}
    loss, wide = td.cross_entropy(logits, tokens, gradient=True, **options)
    own = np.empty_like(logits)
    assert td.cross_entropy(logits, tokens, out=own, **options) == pytest.approx(loss, nan_ok=True)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(own, wide.astype(DTYPES[dtype]))
    floats = np.empty_like(wide)
    _, returned = td.cross_entropy(logits, tokens, gradient=True, out=floats, **options)
    assert returned is floats
    np.testing.assert_array_equal(floats, wide)
    there = logits.copy()
    _, returned = td.cross_entropy(there, tokens, gradient=True, out=there, **options)
    assert returned is there
    np.testing.assert_array_equal(there, own)


def test_reductions_and_ignored_rows():
    random = generator(3)
    logits = random.normal(0, 2, (2, 3, 500)).astype(np.float32)
    tokens = random.integers(0, 500, (2, 3))
    tokens[0, 1] = tokens[1, 2] = -100
    logits[1, 2] = np.nan  # not read
    each, gradients = td.cross_entropy(logits, tokens, "none", gradient=True)
    assert each.shape == (2, 3)
    assert (each[tokens == -100] == 0).all()
    assert (gradients[tokens == -100] == 0).all()
    kept = tokens != -100
    expected = -td.token_logprobs(logits[kept], tokens[kept])
    np.testing.assert_array_equal(each[kept], expected)
    total, gradient = td.cross_entropy(logits, tokens, "sum", gradient=True)
    assert isinstance(total, float)
    assert total == pytest.approx(each.sum(dtype=np.float64), rel=1e-7)
    np.testing.assert_array_equal(gradient, gradients)
    mean, gradient = td.cross_entropy(logits, tokens, gradient=True)
    assert mean == pytest.approx(total / 4, rel=1e-7)
    np.testing.assert_allclose(gradient, gradients / 4, rtol=1e-6)
    other = np.where(kept, tokens, 7)
    assert td.cross_entropy(logits, other, ignore_index=7) == pytest.approx(
        td.cross_entropy(logits, np.where(other == 7, -100, other)), rel=1e-7
    )


def test_nothing_counts():
    logits = np.zeros((2, 5), np.float32)
    mean, gradient = td.cross_entropy(logits, [-100, -100], gradient=True)
    assert np.isnan(mean)
    assert (gradient == 0).all()
    assert td.cross_entropy(logits, -100, "sum") == 0
    assert np.isnan(td.cross_entropy(logits[:0], np.zeros(0, int)))
    assert td.cross_entropy(logits[:0], np.zeros(0, int), "none").shape == (0,)
    assert td.cross_entropy(logits[0], -100, "none") == 0


def test_one_row():
    row = np.log(np.float32([0.5, 0.25, 0.25]))
    loss, gradient = td.cross_entropy(row, 1, "none", gradient=True)
    assert isinstance(loss, float)
    assert loss == pytest.approx(np.log(4))
    np.testing.assert_allclose(gradient, [0.5, -0.75, 0.25], rtol=1e-6)


@pytest.mark.parametrize("name", INVALID)
def test_invalid_rows(name: str):
    logits = np.stack([VALID["normal"](33), INVALID[name](33), VALID["spike"](33)])
    with pytest.raises(td.InvalidLogitsError, match="row 1"):
        td.cross_entropy(logits, [0, 0, 0])
    losses, gradient = td.cross_entropy(logits, [0, 0, 0], "none", gradient=True, on_invalid="mark")
    assert np.isnan(losses).tolist() == [False, True, False]
    assert np.isnan(gradient).all(axis=1).tolist() == [False, True, False]
    assert np.isnan(td.cross_entropy(logits, 0, on_invalid="mark"))
    alone, its_gradient = td.cross_entropy(logits[::2], [0, 0], "none", gradient=True)
    np.testing.assert_array_equal(losses[::2], alone)
    np.testing.assert_array_equal(gradient[::2], its_gradient)
    assert td.cross_entropy(logits, [0, -100, 0]) == td.cross_entropy(logits[::2], [0, 0])
    halves = np.empty((3, 33), np.float16)
    td.cross_entropy(logits.astype(np.float16), 0, on_invalid="mark", out=halves)
    assert np.isnan(halves[1]).all()


def test_the_same_bits_whatever_the_machine(set_isa: SetIsa):
    random = generator(4)
    logits = random.normal(0, 3, (5, 70001)).astype(np.float32)
    tokens = random.integers(0, 70001, 5)
    options = {"reduction": "none", "gradient": True, "label_smoothing": 0.1, "temperature": 0.9}
    losses, gradients = td.cross_entropy(logits, tokens, **options, threads=1)
    # Three threads share the tiles of one row.
    single, of_one = td.cross_entropy(logits[3:4], tokens[3:4], **options, threads=3)
    np.testing.assert_array_equal(single, losses[3:4])
    np.testing.assert_array_equal(of_one, gradients[3:4])
    for name in td.build_info()["isas"]:
        set_isa(name)
        for threads in (1, 3):
            found, gradient = td.cross_entropy(logits, tokens, **options, threads=threads)
            np.testing.assert_array_equal(found, losses)
            np.testing.assert_array_equal(gradient, gradients)


def test_strided_rows_and_outputs():
    random = generator(5)
    wide = random.normal(0, 2, (3, 4, 3000)).astype(np.float32)
    logits = wide[:, ::2, 500:1500]
    tokens = random.integers(0, 1000, (3, 2))
    expected, gradient = td.cross_entropy(np.ascontiguousarray(logits), tokens, gradient=True)
    assert td.cross_entropy(logits, tokens) == expected
    beside = wide[:, ::2, 1500:2500]  # between the rows of logits, and not among them
    td.cross_entropy(logits, tokens, out=beside)
    np.testing.assert_array_equal(beside, gradient)
    rest = wide.copy()
    td.cross_entropy(logits, tokens, out=logits)
    np.testing.assert_array_equal(logits, gradient)
    rest[:, ::2, 500:1500] = gradient
    np.testing.assert_array_equal(wide, rest)
    one_for_all = np.broadcast_to(random.normal(0, 2, 1000).astype(np.float32), (3, 2, 1000))
    np.testing.assert_array_equal(
        td.cross_entropy(one_for_all, tokens, gradient=True)[1],
        td.cross_entropy(one_for_all.copy(), tokens, gradient=True)[1],
    )


def test_scale_reaches_the_gradient_alone():
    random = generator(6)
    logits = random.normal(0, 2, (3, 200)).astype(np.float32)
    loss, gradient = td.cross_entropy(logits, [1, 2, 3], gradient=True)
    same, scaled = td.cross_entropy(logits, [1, 2, 3], gradient=True, scale=[1024.0, -2.0, 0.0])
    assert same == loss
    np.testing.assert_array_equal(scaled, gradient * np.float32([[1024], [-2], [0]]))


@settings(max_examples=60)
@given(
    rows=st.lists(st.lists(st.floats(-30, 30, width=32), min_size=7, max_size=7), min_size=1, max_size=4),
    token=st.integers(0, 6),
    smoothing=st.sampled_from([0.0, 0.1, 0.7]),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    shift=st.sampled_from([0.0, 16.0, -64.0]),
)
def test_gradients_are_slopes_that_sum_to_nothing(
    rows: list[list[float]], token: int, smoothing: float, temperature: float, shift: float
):
    options = {"label_smoothing": smoothing, "temperature": temperature}
    logits = np.array(rows, dtype=np.float32)
    loss, gradient = td.cross_entropy(logits, token, "none", gradient=True, **options)
    assert np.abs(gradient.sum(axis=1, dtype=np.float64)).max() <= 2e-6 / temperature
    step = 2.0**-12
    for place in range(logits.shape[1]):
        # The reference's loss is exact enough for a difference; the core's own is held against it elsewhere.
        above, below = (
            reference.cross_entropy(moved(logits, place, sign * step), token, "none", **options)
            for sign in (1, -1)
        )
        width = moved(logits, place, step)[:, place] - moved(logits, place, -step)[:, place]
        slopes = (above - below) / width.astype(np.float64)
        np.testing.assert_allclose(gradient[:, place], slopes, atol=1e-5 / temperature**2)
    moved_loss = td.cross_entropy(logits + np.float32(shift), token, "none", **options)
    np.testing.assert_allclose(moved_loss, loss, rtol=2e-5, atol=1e-4)


def moved(logits: np.ndarray, place: int, step: float) -> np.ndarray:
    copy = logits.copy()
    copy[:, place] += np.float32(step)
    return copy


def test_it_trains():
    """Softmax regression by its gradient finds the frequencies of the tokens."""
    tokens = np.array([0] * 5 + [1] * 3 + [2] * 2)
    logits = np.zeros((1, 3), np.float32)
    for _ in range(300):
        _, gradient = td.cross_entropy(np.broadcast_to(logits, (10, 3)), tokens, gradient=True)
        logits -= 3 * gradient.sum(axis=0)
    np.testing.assert_allclose(td.softmax(logits)[0], [0.5, 0.3, 0.2], atol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_it_is_what_torch_says(reduction: str, smoothing: float):
    torch = pytest.importorskip("torch")
    generator_ = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 300, generator=generator_, dtype=torch.float64).float().requires_grad_()
    tokens = torch.tensor([0, 5, -100, 299, 17, -100])
    expected = torch.nn.functional.cross_entropy(
        logits, tokens, reduction=reduction, label_smoothing=smoothing
    )
    expected.sum().backward()
    loss, gradient = td.cross_entropy(
        logits.detach(), tokens, reduction, label_smoothing=smoothing, gradient=True
    )
    assert isinstance(gradient, torch.Tensor)
    torch.testing.assert_close(torch.as_tensor(loss), expected.detach())
    torch.testing.assert_close(gradient, logits.grad)
    halves = logits.detach().bfloat16()
    own = torch.empty_like(halves)
    td.cross_entropy(halves, tokens, reduction, label_smoothing=smoothing, out=own)
    torch.testing.assert_close(own, gradient.bfloat16(), rtol=0.05, atol=1e-4)


def test_torch_agrees_about_nothing_and_infinity():
    torch = pytest.importorskip("torch")
    logits = torch.tensor([[0.0, 1.0, -torch.inf]])
    for tokens, smoothing in ([-100], 0.0), ([2], 0.0), ([1], 0.1):
        exact = torch.nn.functional.cross_entropy(logits, torch.tensor(tokens), label_smoothing=smoothing)
        found = td.cross_entropy(logits, tokens, label_smoothing=smoothing)
        np.testing.assert_array_equal(found, exact.item())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"tokens": [1, 5]},
            ValueError,
            r"tokens must be in \[0, 5\) or ignore_index, -100, got 5 \(row",
        ),
        ({"tokens": -1}, ValueError, r"tokens must be in \[0, 5\) or ignore_index, -100, got -1"),
        ({"tokens": None}, TypeError, "tokens must be an integer, or an array with one per row, got None"),
        ({"tokens": [0.5, 1.0]}, TypeError, "tokens must be an integer"),
        ({"tokens": [1]}, ValueError, r"tokens must have one value per row \(2\), got 1"),
        ({"reduction": "max"}, ValueError, """reduction must be "mean", "sum" or "none", got 'max'"""),
        ({"ignore_index": 1.5}, TypeError, "ignore_index must be an integer, got float"),
        ({"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\], got 1.5"),
        ({"label_smoothing": "x"}, TypeError, "label_smoothing must be a number, got str"),
        ({"temperature": 0.0}, ValueError, "temperature must be finite and > 0, got 0"),
        ({"temperature": [1.0, 0.0]}, ValueError, r"temperature must be finite and > 0, got 0 \(row 1\)"),
        ({"scale": np.nan}, ValueError, "scale must be finite, got nan"),
        ({"gradient": 1}, TypeError, "gradient must be True or False, got 1"),
        ({"out": np.zeros((2, 4), np.float32)}, ValueError, r"out must have shape \(2, 5\), got \(2, 4\)"),
        ({"out": np.zeros((2, 5), np.float16)}, TypeError, "out must be float32, got float16"),
        ({"out": np.zeros((5, 2), np.float32).T}, ValueError, "out must have a contiguous last axis"),
    ],
)
def test_bad_arguments(arguments: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        td.cross_entropy(np.zeros((2, 5), np.float32), **{"tokens": [0, 1], **arguments})


def test_memory_that_logits_and_gradient_share_in_part():
    memory = np.zeros((4, 10), np.float32)
    for out in (memory[1:4, :5], memory[:3, 2:7], memory[2::-1, :5]):
        with pytest.raises(ValueError, match="out must be the memory of logits or share none of it, got row"):
            td.cross_entropy(memory[:3, :5], [0, 1, 2], out=out)
    td.cross_entropy(memory[:3, :5], [0, 1, 2], out=memory[1:, 5:])
    doubles = np.zeros((3, 5))
    with pytest.raises(ValueError, match="out must be the memory of logits"):
        td.cross_entropy(doubles, [0, 1, 2], out=doubles.view(np.float32)[:, :5])

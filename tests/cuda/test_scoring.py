# SPDX-License-Identifier: Apache-2.0
"""What rows say on a device: what has one answer is the CPU's, log-probabilities are within tolerance."""

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import DTYPES, VALID, matrix
from tests.cuda import emulated
from tests.cuda.arrays import numpy_of, to_device

pytestmark = pytest.mark.usefixtures("cuda")


def assert_close(found, expected):
    """The contract's tolerance, which both sides may use up."""
    np.testing.assert_allclose(found, expected, rtol=2.0**-21, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("k", [0, 1, 7, 1024, 1500])
@pytest.mark.parametrize("size", [1, 33, 1025, 3001])
def test_top_k(size, k):
    logits = matrix(size, DTYPES["float32"])[::2]
    for found, expected in zip(td.top_k(to_device(logits), k), td.top_k(logits, k), strict=True):
        np.testing.assert_array_equal(numpy_of(found), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_top_k_of_other_types(dtype):
    logits = matrix(2050, DTYPES[dtype])[::3]
    for found, expected in zip(td.top_k(to_device(logits), 20), td.top_k(logits, 20), strict=True):
        np.testing.assert_array_equal(numpy_of(found), expected)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 65, 2049])
def test_token_logprobs(size, dtype, temperature):
    logits = matrix(size, DTYPES[dtype])
    tokens = np.arange(len(logits)) * 7 % size
    expected = td.token_logprobs(logits, tokens, ranks=True, temperature=temperature)
    for given in (tokens, to_device(tokens), to_device(tokens.astype(np.int32))):
        array = to_device(logits)
        logprobs, ranks = td.token_logprobs(array, given, ranks=True, temperature=temperature)
        assert_close(numpy_of(logprobs), expected[0])
        np.testing.assert_array_equal(numpy_of(ranks), expected[1])


@pytest.mark.parametrize("size", [1, 1000, 2049])
def test_logsumexp_and_entropy(size):
    logits = matrix(size, DTYPES["float32"])
    temperature = np.linspace(0.5, 2, len(logits)).astype(np.float32)
    for function in (td.logsumexp, td.entropy):
        expected = function(logits, temperature=temperature)
        for given in (temperature, to_device(temperature)):
            found = function(to_device(logits), temperature=given)
            assert_close(numpy_of(found), expected)


def test_out_holds_the_logprobs():
    logits = matrix(100, DTYPES["float32"])
    out = to_device(np.zeros(len(logits), np.float32))
    assert td.token_logprobs(to_device(logits), 3, out=out) is out
    assert_close(numpy_of(out), td.token_logprobs(logits, 3))


def test_a_token_outside_of_the_vocab_on_the_device_marks_its_row():
    logits = np.stack([VALID["normal"](50)] * 3)
    tokens = to_device(np.int64([50, -1, 49]))
    found = numpy_of(td.token_logprobs(to_device(logits), tokens))
    assert np.isnan(found).tolist() == [True, True, False]
    with pytest.raises(ValueError, match=r"tokens must be in \[0, 50\), got 50 \(row 0\)"):
        td.token_logprobs(to_device(logits), [50, -1, 49])


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("schedule", [1, 2])
def test_any_order_of_threads(schedule):
    emulated.library().emulated_set_schedule(schedule)
    logits = np.stack([VALID["few_levels"](33000)])
    np.testing.assert_array_equal(numpy_of(td.top_k(to_device(logits), 30)[1]), td.top_k(logits, 30)[1])
    assert_close(numpy_of(td.logsumexp(to_device(logits))), td.logsumexp(logits))


FILTERS = {
    "none": {},
    "greedy": {"temperature": 0.0},
    "hot": {"temperature": 1.7},
    "top_k": {"top_k": 9},
    "top_p": {"top_p": 0.8},
    "all": {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02},
}


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("size", [1, 33, 1025])
def test_what_is_known_about_draws(size, filters):
    logits = matrix(size, DTYPES["float32"])
    arguments = {**FILTERS[filters], "seed": size, "logprobs": 3}
    found, expected = td.draw(to_device(logits), **arguments), td.draw(logits, **arguments)
    for name in ("tokens", "ranks", "kept", "valid", "top_tokens"):
        np.testing.assert_array_equal(numpy_of(getattr(found, name)), getattr(expected, name), err_msg=name)
    for name in ("logprobs", "raw_logprobs", "top_logprobs", "entropies"):
        assert_close(numpy_of(getattr(found, name)), getattr(expected, name))


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("size", [1, 33, 1025])
def test_transforms(size, filters):
    logits = matrix(size, DTYPES["float32"])
    for function in (td.softmax, td.log_softmax, td.filter_logits):
        found = numpy_of(function(to_device(logits), **FILTERS[filters]))
        expected = function(logits, **FILTERS[filters])
        assert (np.isfinite(found) == np.isfinite(expected)).all()
        assert_close(found, expected)


# ---- losses ----


def losses_of(logits, tokens, given, **parameters):
    """Return a loss and its gradient on the device, as arrays of the host."""
    loss, gradient = td.cross_entropy(to_device(logits), given, gradient=True, **parameters)
    assert (loss.dtype, gradient.dtype, gradient.shape) == (np.float32, np.float32, logits.shape)
    return numpy_of(loss), numpy_of(gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 65, 2049])
def test_cross_entropy(size, dtype, reduction):
    logits = matrix(size, DTYPES[dtype])
    tokens = np.arange(len(logits)) * 7 % size
    tokens[2::5] = -100
    parameters = {"reduction": reduction, "label_smoothing": 0.1 if reduction == "sum" else 0.0}
    loss, gradient = td.cross_entropy(logits, tokens, gradient=True, **parameters)
    for given in (tokens, to_device(tokens), to_device(tokens.astype(np.int32))):
        found, found_gradient = losses_of(logits, tokens, given, **parameters)
        np.testing.assert_allclose(found, np.float32(loss), rtol=2.0**-21, atol=2e-6)
        np.testing.assert_array_equal(found_gradient, gradient)


def test_parameters_of_losses():
    logits = matrix(100, DTYPES["float32"])
    count = len(logits)
    tokens, temperature = np.arange(count) % 100, np.linspace(0.5, 2.0, count)
    scale = np.linspace(-1.0, 3.0, count)
    tokens[0] = 7
    parameters = {"ignore_index": 7, "reduction": "mean"}
    loss, gradient = td.cross_entropy(
        logits, tokens, gradient=True, temperature=temperature, scale=scale, **parameters
    )
    for wrap in (np.asarray, to_device):
        given = {"temperature": wrap(temperature), "scale": wrap(scale)}
        found, found_gradient = losses_of(logits, tokens, wrap(tokens), **given, **parameters)
        assert_close(found, loss)
        np.testing.assert_array_equal(found_gradient, gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_row_counts(reduction):
    logits = matrix(40, DTYPES["float32"])[:3]
    for tokens, rows in ((np.full(3, -100), logits), (np.zeros(0, np.int64), logits[:0])):
        expected, gradient = td.cross_entropy(rows, tokens, reduction, gradient=True)
        for given in (tokens, to_device(tokens)):
            found, found_gradient = losses_of(rows, tokens, given, reduction=reduction)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(found_gradient, gradient)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_gradient_in_place_and_elsewhere(dtype):
    logits = matrix(1030, DTYPES[dtype])[:4]
    tokens = [0, 5, 1029, -100]
    expected = np.zeros_like(logits)
    loss = td.cross_entropy(logits, tokens, out=expected)
    array, other = to_device(logits), to_device(np.zeros_like(logits))
    assert_close(numpy_of(td.cross_entropy(array, tokens, out=other)), loss)
    found, returned = td.cross_entropy(array, tokens, out=array, gradient=True)
    assert returned is array
    assert_close(numpy_of(found), loss)
    for written in (other, array):
        np.testing.assert_array_equal(numpy_of(written).astype(np.float32), expected.astype(np.float32))


def test_one_row_has_one_loss():
    row = VALID["normal"](300)
    found = td.cross_entropy(to_device(row), 5)
    assert found.shape == ()
    assert_close(numpy_of(found), td.cross_entropy(row, 5))


def test_what_is_illegal_on_the_device_marks_its_row():
    logits = np.stack([VALID["normal"](50)] * 4)
    tokens, temperature = to_device(np.int64([50, -1, 49, 3])), to_device(np.float32([1, 1, 1, 0]))
    found, gradient = losses_of(logits, None, tokens, reduction="none", temperature=temperature)
    assert np.isnan(found).tolist() == [True, True, False, True]
    assert np.isnan(gradient).all(axis=1).tolist() == [True, True, False, True]
    assert np.isnan(numpy_of(td.cross_entropy(to_device(logits), tokens)))
    with pytest.raises(ValueError, match=r"tokens must be in .* or ignore_index, -100, got 50 \(row 0\)"):
        td.cross_entropy(to_device(logits), [50, -1, 49, 3])


def test_invalid_rows_of_losses():
    logits = np.stack([VALID["normal"](50)] * 3)
    logits[1, 4] = np.nan
    array = to_device(logits)
    found = numpy_of(td.cross_entropy(array, [1, 2, 3], "none"))
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])
    assert np.isnan(numpy_of(td.cross_entropy(array, [1, 2, 3])))
    assert np.isfinite(numpy_of(td.cross_entropy(array, [1, -100, 3])))
    with pytest.raises(td.InvalidLogitsError, match=r"row 1 \(NaN\)"):
        td.cross_entropy(array, [1, 2, 3], on_invalid="raise")


def test_the_mean_of_many_rows():
    """More rows than a block has threads."""
    logits = np.random.default_rng(5).normal(0, 2, (1100, 12)).astype(np.float32)
    tokens = np.arange(1100) % 12
    tokens[::3] = -100
    for reduction in ("mean", "sum", "none"):
        found = numpy_of(td.cross_entropy(to_device(logits), to_device(tokens), reduction))
        np.testing.assert_allclose(found, td.cross_entropy(logits, tokens, reduction), rtol=2.0**-22)

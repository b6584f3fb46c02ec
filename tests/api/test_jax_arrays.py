# SPDX-License-Identifier: Apache-2.0
"""JAX arrays: read through their legacy capsules, answered with JAX arrays, never written."""

import numpy as np
import pytest

from tokendraw import _core

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

DTYPES = ["float32", "float16", "bfloat16", "bool", "uint8", "int8", "int16", "uint16", "int32", "uint32"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_is_seen_and_answered(dtype):
    values = jnp.arange(6).reshape(2, 3).astype(dtype)
    seen = _core._describe_array(values)
    assert seen["pointer"] == values.unsafe_buffer_pointer()
    del seen["pointer"]
    assert seen == {
        "dtype": dtype,
        "shape": (2, 3),
        "strides": (3, 1),
        "writable": False,
        "cuda": False,
        "library": "jax",
    }
    copy = _core._copy_like(values)
    assert isinstance(copy, jax.Array)
    assert (copy.dtype, copy.shape, copy.devices()) == (values.dtype, values.shape, values.devices())
    assert jnp.array_equal(copy, values)


def test_wide_types_where_jax_has_them():
    with jax.enable_x64(True):
        for dtype in ["float64", "int64", "uint64"]:
            values = jnp.arange(3).astype(dtype)
            assert _core._describe_array(values)["dtype"] == dtype
            assert _core._copy_like(values).dtype == dtype
    assert _core._copy_like(values).dtype == "uint32"


def test_an_array_still_being_computed_is_waited_for():
    values = jnp.ones((500, 500))
    for _ in range(5):
        values = values @ values / 500
    np.testing.assert_array_equal(_core._copy_like(values), np.asarray(values))


def test_numbers_and_empty_arrays():
    assert _core._copy_like(jnp.float32(1.5)) == 1.5
    assert type(_core._copy_like(jnp.int32(7))) is int
    assert _core._copy_like(jnp.ones((0, 3))).shape == (0, 3)


def test_an_array_is_never_written():
    values = jnp.zeros(3, jnp.int32)
    with pytest.raises(
        ValueError, match=r"^out must be writable, got an array of type .* that is read-only or does not"
    ):
        _core._fill_output(values, 7)
    assert values.tolist() == [0, 0, 0]


def test_a_deleted_array():
    values = jnp.zeros(3)
    values.delete()
    with pytest.raises(ValueError, match=r"^x must be an array that its library hands out, got "):
        _core._describe_array(values, "x")


def test_inside_a_trace():
    with pytest.raises((TypeError, ValueError), match=r"^x must be an array"):
        jax.jit(lambda x: _core._describe_array(x, "x"))(jnp.ones(3))


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn"])
def test_other_dtypes(dtype):
    with pytest.raises((TypeError, ValueError), match=r"^x must be "):
        _core._describe_array(jnp.zeros(3, dtype), "x")

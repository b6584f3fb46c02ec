# SPDX-License-Identifier: Apache-2.0
"""NumPy arrays and buffers: seen as they are, given back as they were, written only where that is safe."""

import array
import ctypes
import pathlib

import hypothesis
import hypothesis.extra.numpy as numpy_strategies
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

from tokendraw import _core

DTYPES = [
    "float32",
    "float16",
    "float64",
    "bool",
    "uint8",
    "int8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "longlong",
    "ulonglong",
    "intc",
    "long",
]


class Numpy:
    """NumPy's memory behind the DLPack methods alone: what any other library looks like."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **arguments):
        return self.values.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_is_seen_as_it_is(dtype):
    values = np.ones((2, 3), dtype)
    assert _core._describe_array(values) == {
        "dtype": np.dtype(dtype).name,
        "shape": (2, 3),
        "strides": (3, 1),
        "pointer": values.ctypes.data,
        "writable": True,
        "cuda": False,
        "library": "numpy",
    }


def test_bfloat16_of_ml_dtypes():
    values = np.arange(6, dtype=np.float32).reshape(2, 3).astype(ml_dtypes.bfloat16)
    assert _core._describe_array(values)["dtype"] == "bfloat16"
    copy = _core._copy_like(values)
    assert copy.dtype == values.dtype
    np.testing.assert_array_equal(copy, values)


@pytest.mark.parametrize(
    "dtype",
    [
        ">f4",
        ">i8",
        "complex64",
        "longdouble",
        "object",
        "S4",
        "U4",
        "datetime64[s]",
        [("x", "f4")],
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.int4,
    ],
)
def test_other_dtypes_are_refused_by_name(dtype):
    values = np.zeros(3, dtype)
    with pytest.raises(TypeError, match=r"^logits must be float32, .* in native byte order, got ") as caught:
        _core._describe_array(values, "logits")
    assert str(caught.value).endswith(f"got {values.dtype}")


VIEWS = {
    "rows apart": lambda a: a[::2],
    "rows backwards": lambda a: a[::-1],
    "columns backwards": lambda a: a[:, ::-1],
    "columns apart": lambda a: a[:, ::3],
    "transposed": lambda a: a.T,
    "one row, many times": lambda a: np.broadcast_to(a[0], (5, a.shape[1])),
    "one number, many times": lambda a: np.broadcast_to(a[0, 0], (2, 3)),
    "no rows": lambda a: a[:0],
    "no columns": lambda a: a[:, :0],
    "more axes": lambda a: a.reshape(2, 2, 1, 6),
    "as many axes as can be": lambda a: a.reshape((1,) * 30 + a.shape),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("wrap", [np.asarray, memoryview], ids=["numpy", "memoryview"])
def test_any_strides_are_taken_without_a_copy(view, wrap):
    values = view(np.arange(24, dtype=np.float32).reshape(4, 6))
    seen = _core._describe_array(wrap(values))
    assert seen["shape"] == values.shape
    moving = [
        (s // 4, t) for s, t, n in zip(values.strides, seen["strides"], values.shape, strict=True) if n > 1
    ]
    assert values.size == 0 or all(expected == got for expected, got in moving)
    assert values.size == 0 or seen["pointer"] == values.ctypes.data
    np.testing.assert_array_equal(_core._copy_like(wrap(values)), values)


@hypothesis.given(st.data())
def test_every_basic_view_comes_back_equal(data):
    shape = data.draw(numpy_strategies.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    values = np.arange(np.prod(shape)).astype(data.draw(st.sampled_from(DTYPES))).reshape(shape)
    view = values[data.draw(numpy_strategies.basic_indices(shape, allow_newaxis=True))]
    copy = _core._copy_like(view)
    np.testing.assert_array_equal(copy, view)
    if isinstance(view, np.ndarray) and view.ndim > 0:
        assert copy.dtype == view.dtype
        assert copy.flags.c_contiguous
        assert not np.shares_memory(copy, view)


def test_read_only_is_seen():
    values = np.zeros(3, np.float32)
    values.flags.writeable = False
    assert not _core._describe_array(values)["writable"]
    assert not _core._describe_array(Numpy(values))["writable"]


def test_a_subclass_is_an_array(tmp_path: pathlib.Path):
    values = np.memmap(tmp_path / "logits", np.float32, "w+", shape=(2, 3))
    assert _core._describe_array(values)["shape"] == (2, 3)
    del values


def test_elements_must_lie_where_the_processor_can_read_them():
    packed = np.zeros(4, np.dtype([("flag", "u1"), ("x", "f4")]))["x"]
    with pytest.raises(
        ValueError, match=r"^x must have strides in whole elements of 4 bytes, got 5 bytes in axis 0$"
    ):
        _core._describe_array(packed, "x")
    shifted = np.zeros(17, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match=r"^x must be aligned to its elements, got an unaligned array$"):
        _core._describe_array(shifted, "x")
    with pytest.raises(ValueError, match=r"^x must be aligned to its 4-byte elements, got address 0x"):
        _core._describe_array(memoryview(shifted), "x")


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 has no more than 32 axes")
def test_too_many_axes():
    with pytest.raises(ValueError, match=r"^x must have 0 to 32 dimensions, got 33$"):
        _core._describe_array(np.zeros((1,) * 33), "x")


@pytest.mark.parametrize("thing", [[1.0], (1,), 1.5, 3, None, "text", object(), {1: 2}, np.ndarray], ids=repr)
def test_what_is_no_array(thing):
    with pytest.raises(
        TypeError, match=r"^logits must be an array \(NumPy, or anything with __dlpack__\), got "
    ):
        _core._describe_array(thing, "logits")


BUFFERS = {
    "bytes": (b"abc", "uint8", False),
    "bytearray": (bytearray(b"abc"), "uint8", True),
    "array f": (array.array("f", [1, 2, 3]), "float32", True),
    "array d": (array.array("d", [1, 2, 3]), "float64", True),
    "array q": (array.array("q", [1, 2, 3]), "int64", True),
    "array l": (array.array("l", [1, 2, 3]), f"int{8 * ctypes.sizeof(ctypes.c_long)}", True),
    "array H": (array.array("H", [1, 2, 3]), "uint16", True),
    "ctypes": ((ctypes.c_float * 3)(1, 2, 3), "float32", True),
    "ctypes bool": ((ctypes.c_bool * 3)(1, 0, 1), "bool", True),
    "half": (memoryview(np.ones(3, np.float16)), "float16", True),
}


@pytest.mark.parametrize(("buffer", "dtype", "writable"), BUFFERS.values(), ids=BUFFERS.keys())
def test_buffers(buffer, dtype, writable):
    seen = _core._describe_array(buffer)
    assert (seen["dtype"], seen["shape"], seen["writable"], seen["library"]) == (
        dtype,
        (3,),
        writable,
        "other",
    )
    np.testing.assert_array_equal(
        _core._copy_like(buffer), np.asarray(buffer) if dtype != "uint8" else [97, 98, 99]
    )


@pytest.mark.parametrize(
    "buffer",
    [
        (ctypes.c_float.__ctype_be__ * 3)(),
        array.array("u", "ab") if "u" in array.typecodes else (ctypes.c_wchar * 2)(),
        memoryview(np.zeros(3, np.complex64)),
        memoryview(np.zeros(3, "S4")),
    ],
    ids=["big-endian", "text", "complex", "strings"],
)
@pytest.mark.filterwarnings("ignore:.*'u'.*:DeprecationWarning")
def test_other_buffers_are_refused(buffer):
    with pytest.raises(TypeError, match=r"^x must be float32, .*, got buffer format "):
        _core._describe_array(buffer, "x")


def test_a_buffer_is_released_after_the_call():
    buffer = bytearray(8)
    _core._copy_like(buffer)
    with pytest.raises(TypeError, match="got buffer format"):
        _core._describe_array(memoryview(buffer).cast("c"))
    buffer.extend(b"more")


def test_a_closed_buffer_is_an_error():
    view = memoryview(bytearray(8))
    view.release()
    with pytest.raises(
        ValueError, match=r"^x must be an array that its library hands out, got ValueError: "
    ) as caught:
        _core._describe_array(view, "x")
    assert isinstance(caught.value.__cause__, ValueError)


def test_another_library_gets_numpy_results():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert _core._describe_array(Numpy(values))["library"] == "other"
    copy = _core._copy_like(Numpy(values))
    assert type(copy) is np.ndarray
    np.testing.assert_array_equal(copy, values)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float32(1.5), float),
        (np.float16(-0.25), float),
        (np.float64(1e300), float),
        (np.int64(-(2**40)), int),
        (np.uint64(2**64 - 1), int),
        (np.int32(-7), int),
        (np.uint8(255), int),
        (np.bool_(True), bool),
        (ml_dtypes.bfloat16(3.0), float),
    ],
)
def test_an_empty_shape_gives_a_python_number(value, kind):
    result = _core._copy_like(np.asarray(value))
    assert type(result) is kind
    assert result == value


OUTPUTS = {
    "contiguous": lambda: np.zeros((4, 3), np.int64),
    "int32": lambda: np.zeros((4, 3), np.int32),
    "float32": lambda: np.zeros((4, 3), np.float32),
    "column": lambda: np.zeros((4, 3), np.int64)[:, 1],
    "backwards": lambda: np.zeros((4, 3), np.int64)[::-1, ::-1],
    "transposed": lambda: np.zeros((4, 3), np.int64).T,
    "apart": lambda: np.zeros((8, 9), np.int64)[::2, 1::3],
    "empty": lambda: np.zeros((0, 3), np.int64),
    "scalar": lambda: np.zeros((), np.int64),
    "one row": lambda: np.zeros((1, 3), np.int64),
    "dlpack": lambda: Numpy(np.zeros((4, 3), np.int64)),
    "buffer": lambda: array.array("q", [0, 0, 0]),
}


@pytest.mark.parametrize("make", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_outputs_are_filled_in_place(make):
    out = make()
    _core._fill_output(out, 7)
    values = np.asarray(getattr(out, "values", out))
    assert (values == 7).all()
    if isinstance(values.base, np.ndarray):
        assert np.count_nonzero(values.base) == values.size


def locked(values):
    values.flags.writeable = False
    return values


@pytest.mark.parametrize(
    ("out", "shape", "error", "message"),
    [
        (
            locked(np.zeros(3, np.int64)),
            None,
            ValueError,
            "out must be writable, got an array of type numpy.ndarray that is read-only or does not say",
        ),
        (
            Numpy(locked(np.zeros(3, np.int64))),
            None,
            ValueError,
            "out must be writable, got an array of type Numpy that is read-only or does not say",
        ),
        (
            bytes(8),
            None,
            ValueError,
            "out must be writable, got an array of type bytes that is read-only or does not say",
        ),
        (np.zeros(3, np.int64), (4,), ValueError, "out must have shape (4,), got (3,)"),
        (np.zeros((3, 1), np.int64), (3,), ValueError, "out must have shape (3,), got (3, 1)"),
        (np.zeros(1, np.int64), (), ValueError, "out must have shape (), got (1,)"),
        (np.zeros(3, np.float64), None, TypeError, "out must be float32 or int32 or int64, got float64"),
        (
            np.lib.stride_tricks.as_strided(np.zeros(4, np.int64), (2, 3), (8, 8)),
            None,
            ValueError,
            "out must have elements that share no memory, got a stride of 1 over 3 elements",
        ),
        (
            np.lib.stride_tricks.as_strided(np.zeros(4, np.int64), (3,), (0,)),
            None,
            ValueError,
            "out must have elements that share no memory, got a stride of 0 over 3 elements",
        ),
        (
            np.lib.stride_tricks.as_strided(np.zeros(8, np.int64), (2, 4), (16, 8)),
            None,
            ValueError,
            "out must have elements that share no memory, got a stride of 2 over 2 elements",
        ),
        ([0, 0], None, TypeError, "out must be an array (NumPy, or anything with __dlpack__), got list"),
    ],
)
def test_outputs_that_cannot_be_written(out, shape, error, message):
    with pytest.raises(error) as caught:
        _core._fill_output(out, 7, shape)
    assert str(caught.value) == message

# SPDX-License-Identifier: Apache-2.0
"""Producers that lie: every fault is one clear error, and every tensor taken is deleted exactly once.

What no consumer can see is the true extent of the memory: a shape larger than its buffer is trusted.
"""

import ctypes
import gc
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tokendraw import _core


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Legacy(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

LEGACY, VERSIONED, EXCHANGE = b"dltensor", b"dltensor_versioned", b"dlpack_exchange_api"
KINDS = pytest.mark.parametrize("kind", [Legacy, Versioned], ids=["legacy", "versioned"])
NAMES = {Legacy: LEGACY, Versioned: VERSIONED}


def extents(*values):
    return (ctypes.c_int64 * max(1, len(values)))(*values)


class Producer:
    """Two rows of three float32 numbers; `faults` overwrite fields of its tensor or of its struct."""

    def __init__(self, kind=Versioned, name=None, **faults):
        self.values = np.arange(6, dtype=np.float32).reshape(2, 3)
        self.deleted = 0
        self.asked = []
        self.name = NAMES[kind] if name is None else name
        self.managed = kind()
        self.managed.deleter = Deleter(self.delete)
        if kind is Versioned:
            self.managed.major, self.managed.minor = 1, 3
        self.fields = {
            "data": self.values.ctypes.data,
            "device_type": 1,
            "device_index": 0,
            "ndim": 2,
            "code": 2,
            "bits": 32,
            "lanes": 1,
            "shape": extents(2, 3),
            "strides": extents(3, 1),
            "byte_offset": 0,
        }
        for field, value in (self.fields | faults).items():
            setattr(self.managed.tensor if field in self.fields else self.managed, field, value)

    def delete(self, address):
        assert address == ctypes.addressof(self.managed)
        self.deleted += 1

    def __dlpack_device__(self):
        return (self.managed.tensor.device_type, 0)

    def __dlpack__(self, **arguments):
        self.asked.append(arguments)
        return new_capsule(ctypes.addressof(self.managed), self.name, None)


def rejected(producer, call=_core._describe_array, error=ValueError):
    with pytest.raises(error) as caught:
        call(producer, "x")
    return str(caught.value)


@KINDS
def test_an_honest_producer_is_read_and_deleted_once(kind):
    producer = Producer(kind)
    np.testing.assert_array_equal(_core._copy_like(producer), producer.values)
    assert producer.deleted == 1
    assert producer.asked == [{"max_version": (1, 3)}]
    seen = _core._describe_array(producer)
    assert seen["pointer"] == producer.values.ctypes.data
    assert seen["writable"] == (kind is Versioned)
    assert producer.deleted == 2


LEAST = -(2**63)
FAULTS = {
    "device": ({"device_type": 10}, "be on a CPU or a CUDA device, got DLPack device type 10"),
    "no lanes": ({"lanes": 0}, "have 1 lane per element, got 0"),
    "lanes": ({"lanes": 4}, "have 1 lane per element, got 4"),
    "negative ndim": ({"ndim": -1}, "have 0 to 32 dimensions, got -1"),
    "large ndim": ({"ndim": 2**31 - 1}, "have 0 to 32 dimensions, got 2147483647"),
    "no shape": ({"shape": None}, "have a shape for its 2 dimensions, got NULL"),
    "negative extent": ({"shape": extents(2, -3)}, "have extents of at least 0, got -3 in axis 1"),
    "least extent": ({"shape": extents(LEAST, 3)}, f"have extents of at least 0, got {LEAST} in axis 0"),
    "wrapping product": (
        {"shape": extents(2**62, 4)},
        f"have fewer than 2^63 bytes, got an extent of {2**62} in axis 0",
    ),
    "wide product": (
        {"shape": extents(2**40, 2**40)},
        f"have fewer than 2^63 bytes, got an extent of {2**40} in axis 1",
    ),
    "hidden product": (
        {"ndim": 3, "shape": extents(0, 2**40, 2**40), "strides": extents(1, 1, 1)},
        f"have fewer than 2^63 bytes, got an extent of {2**40} in axis 2",
    ),
    "no data": ({"data": None}, "point to its 6 elements, got NULL"),
    "no data, an offset": ({"data": None, "byte_offset": 4096}, "point to its 6 elements, got NULL"),
    "wrapping offset": (
        {"byte_offset": 2**64 - 4},
        f"lie within the address space, got a byte offset of {2**64 - 4}",
    ),
    "far offset": ({"byte_offset": 2**63}, "lie within the address space, got "),
    "misaligned offset": ({"byte_offset": 2}, "be aligned to its 4-byte elements, got address 0x"),
    "negative stride": ({"strides": extents(-3, 1)}, "have strides of at least 0, got -3 in axis 0"),
    "far stride": (
        {"strides": extents(2**46, 1)},
        f"lie within the address space, got a stride of {2**46} over 2 ",
    ),
    "wrapping stride": (
        {"strides": extents(2**62, 1)},
        f"lie within the address space, got a stride of {2**62} over 2 ",
    ),
    "far extent": (
        {"shape": extents(2**47, 3), "strides": extents(3, 1)},
        f"lie within the address space, got a stride of 3 over {2**47} elements in axis 0 from address 0x",
    ),
}


@KINDS
@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_is_an_error(kind, fault, message):
    producer = Producer(kind, **fault)
    producer.__class__ = type("Liar", (Producer,), {"__dlpack_device__": lambda self: (1, 0)})
    assert rejected(producer).startswith(f"x must {message}")
    assert producer.deleted == 1


@KINDS
@pytest.mark.parametrize(
    ("code", "bits"), [(5, 64), (1, 1), (2, 24), (2, 128), (2, 8), (4, 32), (6, 1), (8, 8), (99, 32)]
)
def test_other_dtypes(kind, code, bits):
    producer = Producer(kind, code=code, bits=bits)
    message = rejected(producer, error=TypeError)
    assert message.startswith("x must be float32, float16, ")
    assert message.endswith(f"got DLPack type code {code} of {bits} bits")
    assert producer.deleted == 1


def test_a_device_out_of_reach_is_not_even_asked_for_a_capsule():
    producer = Producer(device_type=7)
    assert rejected(producer) == "x must be on a CPU or a CUDA device, got DLPack device type 7"
    assert producer.asked == []


@pytest.mark.parametrize("device_type", [2, 13])
def test_cuda_is_recognised_and_told_not_to_wait(device_type):
    producer = Producer(device_type=device_type, device_index=3)
    assert _core._describe_array(producer)["cuda"]
    assert producer.asked == [{"max_version": (1, 3), "stream": -1}]
    with pytest.raises(ValueError, match=r"^array must be in host memory, got an array on CUDA device 3$"):
        _core._copy_like(producer)
    assert producer.deleted == 2


def test_pinned_host_memory_is_host_memory():
    producer = Producer(device_type=3)
    np.testing.assert_array_equal(_core._copy_like(producer), producer.values)


@pytest.mark.parametrize("answer", [None, 1, (1,), (1, 2, 3), ("cpu", 0), (2**40, 0)], ids=repr)
def test_a_device_that_is_no_device(answer):
    producer = type("Lost", (Producer,), {"__dlpack_device__": lambda self: answer})()
    assert rejected(producer) == f"x must answer __dlpack_device__ with two ints, got {answer!r}"
    assert producer.deleted == 0


@pytest.mark.parametrize(("major", "minor"), [(0, 8), (2, 0), (2**32 - 1, 0)])
def test_another_major_version_is_deleted_unread(major, minor):
    producer = Producer(major=major, minor=minor, shape=None, data=None)
    assert rejected(producer) == f"x must speak DLPack 1, got version {major}.{minor}"
    assert producer.deleted == 1


def test_a_later_minor_version_is_read():
    producer = Producer(minor=99)
    np.testing.assert_array_equal(_core._copy_like(producer), producer.values)
    assert producer.deleted == 1


@pytest.mark.parametrize("name", [b"used_dltensor", b"used_dltensor_versioned", b"dltensor_v2", b""])
def test_capsules_of_another_name(name):
    producer = Producer(name=name)
    assert rejected(producer) == (
        f"x must give a capsule named dltensor_versioned or dltensor from __dlpack__, got {name.decode()}"
    )
    assert producer.deleted == 0


def test_a_capsule_without_a_name():
    capsule = new_capsule(1, None, None)
    producer = type("Nameless", (Producer,), {"__dlpack__": lambda self, **_: capsule})()
    assert rejected(producer).endswith("from __dlpack__, got one without a name")


@pytest.mark.parametrize("answer", [None, 3, (), "capsule"], ids=repr)
def test_what_is_no_capsule(answer):
    producer = type("Empty", (Producer,), {"__dlpack__": lambda self, **_: answer})()
    assert rejected(producer) == f"x must give a capsule from __dlpack__, got {type(answer).__name__}"


class Repeating(Producer):
    """Gives the same capsule twice."""

    def __dlpack__(self, **arguments):
        self.capsule = getattr(self, "capsule", None) or super().__dlpack__(**arguments)
        return self.capsule


@KINDS
def test_a_capsule_is_taken_once(kind):
    producer = Repeating(kind)
    _core._describe_array(producer)
    assert rejected(producer).endswith(f"from __dlpack__, got used_{NAMES[kind].decode()}")
    assert producer.deleted == 1


class Reentrant(Repeating):
    """Its deleter offers the same capsule again, and uses other arrays."""

    def delete(self, address):
        super().delete(address)
        self.again = rejected(self)
        self.copy = _core._copy_like(self.values)


@KINDS
@pytest.mark.parametrize("faults", [{}, {"lanes": 2}], ids=["read", "rejected"])
def test_a_deleter_may_come_back(kind, faults):
    producer = Reentrant(kind, **faults)
    if faults:
        assert rejected(producer) == "x must have 1 lane per element, got 2"
    else:
        _core._describe_array(producer)
    assert producer.deleted == 1
    assert producer.again.endswith(f"got used_{NAMES[kind].decode()}")
    np.testing.assert_array_equal(producer.copy, producer.values)


class Raising(Producer):
    def delete(self, address):
        super().delete(address)
        raise RuntimeError("from a deleter")


@KINDS
@pytest.mark.parametrize("faults", [{}, {"data": None}], ids=["read", "rejected"])
def test_a_deleter_may_raise(kind, faults, monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda caught: lost.append(str(caught.exc_value)))
    producer = Raising(kind, **faults)
    if faults:
        assert rejected(producer) == "x must point to its 6 elements, got NULL"
    else:
        _core._describe_array(producer)
    assert producer.deleted == 1
    assert lost == ["from a deleter"]


@KINDS
@pytest.mark.parametrize("faults", [{}, {"lanes": 2}], ids=["read", "rejected"])
def test_no_deleter_is_legal(kind, faults):
    producer = Producer(kind, deleter=Deleter(), **faults)
    if faults:
        assert rejected(producer) == "x must have 1 lane per element, got 2"
    else:
        np.testing.assert_array_equal(_core._copy_like(producer), producer.values)


@KINDS
def test_no_strides_mean_row_major(kind):
    producer = Producer(kind, strides=None)
    assert _core._describe_array(producer)["strides"] == (3, 1)
    np.testing.assert_array_equal(_core._copy_like(producer), producer.values)


@KINDS
@pytest.mark.parametrize("strides", [None, extents(-5, 2**62)])
def test_an_empty_array_needs_no_memory(kind, strides):
    producer = Producer(kind, data=None, shape=extents(0, 3), strides=strides)
    assert _core._copy_like(producer).shape == (0, 3)


@KINDS
def test_no_axes_need_no_shape(kind):
    producer = Producer(kind, ndim=0, shape=None, strides=None, byte_offset=8)
    assert _core._copy_like(producer) == 2.0


@KINDS
def test_an_axis_of_stride_0_and_an_offset(kind):
    producer = Producer(kind, shape=extents(4, 2), strides=extents(0, 1), byte_offset=4)
    np.testing.assert_array_equal(_core._copy_like(producer), [[1, 2]] * 4)


class Refusing(Producer):
    error = RuntimeError("not today\nat line 3")

    def __dlpack__(self, **_):
        raise self.error


@pytest.mark.parametrize(
    "error", [RuntimeError("not today\nat line 3"), BufferError("not today"), TypeError("not today")]
)
def test_a_producer_may_refuse(error):
    producer = Refusing()
    producer.error = error
    message = f"x must be an array that its library hands out, got {type(error).__name__}: not today"
    assert rejected(producer) == message
    with pytest.raises(ValueError, match="hands out") as caught:
        _core._fill_output(producer, 1, (2, 3))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_errors_that_are_not_the_arrays_pass(error):
    producer = Refusing()
    producer.error = error()
    with pytest.raises(error) as caught:
        _core._describe_array(producer)
    assert caught.value is producer.error


def test_a_producer_without_a_device():
    producer = type("Homeless", (), {"__dlpack__": lambda self: None})()
    assert rejected(producer).startswith(
        "x must be an array that its library hands out, got AttributeError: "
    )


class Old(Producer):
    """From before `max_version`."""

    def __dlpack__(self, *, stream="none given"):
        return super().__dlpack__(stream=stream)


@pytest.mark.parametrize(("device_type", "stream"), [(1, "none given"), (2, -1)])
def test_a_producer_from_before_versions(device_type, stream):
    producer = Old(Legacy, device_type=device_type)
    _core._describe_array(producer)
    assert producer.asked == [{"stream": stream}]
    assert producer.deleted == 1


OUTPUT_FAULTS = {
    "legacy": (Legacy, {}, "be writable, got an array of type Producer that is read-only or does not say"),
    "read-only": (
        Versioned,
        {"flags": 1},
        "be writable, got an array of type Producer that is read-only or does not say",
    ),
    "a copy": (
        Versioned,
        {"flags": 2},
        "be writable, got an array of type Producer that is read-only or does not say",
    ),
    "shape": (Versioned, {"shape": extents(3, 2), "strides": extents(2, 1)}, "have shape (2, 3), got (3, 2)"),
    "ndim": (Versioned, {"ndim": 1}, "have shape (2, 3), got (2,)"),
    "row twice": (
        Versioned,
        {"strides": extents(0, 1)},
        "have elements that share no memory, got a stride of 0 over 2 ",
    ),
    "rows overlap": (
        Versioned,
        {"strides": extents(2, 1)},
        "have elements that share no memory, got a stride of 2 over 2 ",
    ),
    "same place": (
        Versioned,
        {"strides": extents(3, 0)},
        "have elements that share no memory, got a stride of 0 over 3 ",
    ),
}


@pytest.mark.parametrize(("kind", "faults", "message"), OUTPUT_FAULTS.values(), ids=OUTPUT_FAULTS.keys())
def test_outputs_of_producers(kind, faults, message):
    producer = Producer(kind, **faults)
    before = producer.values.copy()
    with pytest.raises(ValueError, match=r"^out must ") as caught:
        _core._fill_output(producer, 7, (2, 3))
    assert str(caught.value).startswith(f"out must {message}")
    assert producer.deleted == 1
    np.testing.assert_array_equal(producer.values, before)


def test_an_honest_output_is_filled():
    producer = Producer()
    _core._fill_output(producer, 7, (2, 3))
    assert (producer.values == 7).all()
    assert producer.deleted == 1


Export = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.POINTER(Versioned)))
Borrow = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Tensor))


class Table(ctypes.Structure):
    pass


Table._fields_ = [
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("previous", ctypes.POINTER(Table)),
    ("allocate", ctypes.c_void_p),
    ("export_owned", Export),
    ("import_owned", ctypes.c_void_p),
    ("export_borrowed", Borrow),
    ("current_stream", ctypes.c_void_p),
]


@Export
def export_owned(producer, out):
    producer.asked.append("owned")
    if producer.status == 0:
        out[0] = ctypes.pointer(producer.managed)
    return producer.status


@Borrow
def export_borrowed(producer, out):
    producer.asked.append("borrowed")
    ctypes.memmove(out, ctypes.addressof(producer.managed.tensor), ctypes.sizeof(Tensor))
    return producer.status


def with_table(status=0, name=EXCHANGE, borrowed=export_borrowed, major=1, previous=None, **faults):
    table = Table(major, 3, previous, None, export_owned, None, borrowed, None)
    capsule = new_capsule(ctypes.addressof(table), name, None)
    members = {"__dlpack_c_exchange_api__": capsule, "table": table, "status": status}
    return type("Fast", (Producer,), members)(**faults)


def test_a_table_lends_for_reading_and_hands_over_for_writing():
    producer = with_table()
    np.testing.assert_array_equal(_core._copy_like(producer), producer.values)
    assert (producer.asked, producer.deleted) == (["borrowed"], 0)
    assert not _core._describe_array(producer)["writable"]
    producer.asked.clear()
    _core._fill_output(producer, 7, (2, 3))
    assert (producer.asked, producer.deleted) == (["owned"], 1)
    assert (producer.values == 7).all()


def test_a_table_that_only_hands_over():
    producer = with_table(borrowed=Borrow())
    np.testing.assert_array_equal(_core._copy_like(producer), producer.values)
    assert (producer.asked, producer.deleted) == (["owned"], 1)


@pytest.mark.parametrize("borrowed", [export_borrowed, Borrow()], ids=["borrowed", "owned"])
@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_through_a_table(borrowed, fault, message):
    producer = with_table(borrowed=borrowed, **fault)
    assert rejected(producer).startswith(f"x must {message}")
    assert producer.deleted == (borrowed is not export_borrowed)


@pytest.mark.parametrize("borrowed", [export_borrowed, Borrow()], ids=["borrowed", "owned"])
def test_a_table_that_fails_without_a_reason(borrowed):
    producer = with_table(status=-1, borrowed=borrowed)
    assert rejected(producer) == (
        "x must be an array that its library hands out, got BufferError: "
        "the exchange table gave no array and no reason"
    )
    assert producer.deleted == 0


def test_an_older_table_is_found_behind_a_newer_one():
    older = with_table()
    producer = with_table(major=2, previous=ctypes.pointer(older.table))
    assert _core._describe_array(producer)["shape"] == (2, 3)
    assert producer.asked == ["borrowed"]


@pytest.mark.parametrize("change", [{"major": 2}, {"name": b"something_else"}], ids=["version", "name"])
def test_a_table_of_another_kind_is_left_alone(change):
    producer = with_table(**change)
    assert _core._describe_array(producer)["shape"] == (2, 3)
    assert (producer.asked, producer.deleted) == ([{"max_version": (1, 3)}], 1)


def test_the_producer_is_not_kept():
    producer = Producer()
    before = sys.getrefcount(producer)
    for _ in range(100):
        _core._describe_array(producer)
        rejected(Producer(lanes=3))
    gc.collect()
    assert sys.getrefcount(producer) == before
    assert producer.deleted == 100


def describe_or_none(producer):
    try:
        return _core._describe_array(producer, "x")
    except (TypeError, ValueError):
        return None


NUMBERS = st.one_of(
    st.integers(-4, 8),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**31, 2**47, 2**62, 2**63 - 1, -(2**63)]),
)


@hypothesis.given(
    kind=st.sampled_from([Legacy, Versioned]),
    data=st.one_of(st.none(), st.integers(1, 2**64 - 1)),
    byte_offset=st.one_of(st.integers(0, 64), st.integers(0, 2**64 - 1)),
    dtype=st.tuples(
        st.integers(0, 8), st.sampled_from([1, 8, 16, 24, 32, 64, 128]), st.sampled_from([1, 1, 1, 0, 2])
    ),
    axes=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5),
)
def test_no_claim_gets_through_that_leaves_the_address_space(kind, data, byte_offset, dtype, axes):
    code, bits, lanes = dtype
    shape, strides = [n for n, _ in axes], [s for _, s in axes]
    producer = Producer(
        kind,
        data=data,
        byte_offset=byte_offset,
        code=code,
        bits=bits,
        lanes=lanes,
        ndim=len(axes),
        shape=extents(*shape),
        strides=extents(*strides),
    )
    seen = describe_or_none(producer)
    assert producer.deleted == 1
    if seen is None or 0 in shape:
        return
    size = bits // 8
    last = seen["pointer"] + size * sum((n - 1) * s for n, s in axes)
    assert lanes == 1
    assert min(shape, default=0) >= 0
    assert min(strides, default=0) >= 0
    assert seen["pointer"] == data + byte_offset
    assert seen["pointer"] % size == 0
    assert last + size <= 2**64

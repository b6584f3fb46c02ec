# SPDX-License-Identifier: Apache-2.0
"""torch tensors: seen without a copy, answered with tensors, and never read with the wrong sign."""

import resource
import sys

import numpy as np
import pytest

from tokendraw import _core

torch = pytest.importorskip("torch", reason="torch is not installed")

DTYPES = [
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
]


@pytest.fixture(params=["table", "capsule"])
def way(request, monkeypatch):
    """Run a test through torch's C table, and as a torch from before it."""
    if request.param == "capsule":
        monkeypatch.delattr(torch.Tensor, "__dlpack_c_exchange_api__")
    elif not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip("this torch has no exchange table")
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_is_seen_and_answered(way, dtype):
    tensor = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    assert _core._describe_array(tensor) == {
        "dtype": dtype,
        "shape": (2, 3),
        "strides": (3, 1),
        "pointer": tensor.data_ptr(),
        "writable": True,
        "cuda": False,
        "library": "torch",
    }
    copy = _core._copy_like(tensor)
    assert type(copy) is torch.Tensor
    assert (copy.dtype, copy.device.type, copy.shape) == (tensor.dtype, "cpu", tensor.shape)
    assert copy.is_contiguous()
    assert torch.equal(copy, tensor)
    assert copy.data_ptr() != tensor.data_ptr()


VIEWS = {
    "rows apart": lambda t: t[::2],
    "columns apart": lambda t: t[:, ::3],
    "an offset": lambda t: t[1:, 2:],
    "transposed": lambda t: t.T,
    "one row, many times": lambda t: t[0].expand(5, 6),
    "one number, many times": lambda t: t[0, 0].expand(2, 3),
    "no rows": lambda t: t[:0],
    "no columns": lambda t: t[:, :0],
    "more axes": lambda t: t.reshape(2, 2, 1, 6),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_any_strides_are_taken_without_a_copy(way, view):
    tensor = view(torch.arange(24, dtype=torch.float32).reshape(4, 6))
    seen = _core._describe_array(tensor)
    assert seen["shape"] == tuple(tensor.shape)
    assert tensor.numel() == 0 or seen["pointer"] == tensor.data_ptr()
    moving = [(s, t) for s, t, n in zip(tensor.stride(), seen["strides"], tensor.shape, strict=True) if n > 1]
    assert tensor.numel() == 0 or all(expected == got for expected, got in moving)
    assert torch.equal(_core._copy_like(tensor), tensor)


def test_numbers_come_back_as_numbers(way):
    for value in [True, 7, 1.5]:
        result = _core._copy_like(torch.tensor(value))
        assert type(result) is type(value)
        assert result == value
    assert _core._copy_like(torch.tensor(-2.5, dtype=torch.bfloat16)) == -2.5


def test_gradients_are_no_obstacle():
    tensor = torch.ones(3, requires_grad=True)
    copy = _core._copy_like(tensor * 2)
    assert copy.tolist() == [2, 2, 2]
    assert not copy.requires_grad
    assert not _core._copy_like(torch.nn.Parameter(torch.ones(3))).requires_grad


def test_a_subclass_gets_a_tensor():
    class Logits(torch.Tensor):
        pass

    tensor = torch.ones(2, 3).as_subclass(Logits)
    assert _core._describe_array(tensor)["library"] == "torch"
    assert torch.equal(_core._copy_like(tensor), torch.ones(2, 3))


NEGATED = {
    "whole": lambda z: z.imag,
    "one element": lambda z: z.imag[0, :1],
    "rows": lambda z: z.imag[::2],
    "columns": lambda z: z.T.imag,
    "flat": lambda z: z.imag.reshape(-1),
    "spread": lambda z: z.imag[:, :1].expand(3, 5),
    "diagonal": lambda z: z.imag.diagonal(),
}


@pytest.mark.parametrize("view", NEGATED.values(), ids=NEGATED.keys())
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_negated_view_is_never_read_with_the_wrong_sign(view, dtype):
    tensor = view(torch.full((3, 4), 1 + 2j, dtype=getattr(torch, dtype)).conj())
    assert tensor.is_neg()
    with pytest.raises(ValueError, match=r"^x must be stored with its own sign, got a negated view \(its "):
        _core._describe_array(tensor, "x")
    with pytest.raises(ValueError, match=r"^array must be stored with its own sign"):
        _core._copy_like(tensor)
    assert torch.equal(_core._copy_like(tensor.resolve_neg()), tensor)


def test_real_parts_are_read_in_place():
    tensor = torch.full((3, 4), 1 + 2j).conj()
    assert torch.equal(_core._copy_like(tensor.real), torch.ones(3, 4))
    assert torch.equal(_core._copy_like(tensor.resolve_conj().imag), torch.full((3, 4), -2.0))


@pytest.mark.parametrize(
    "make",
    [lambda: torch.ones(2, 3, device="meta"), lambda: torch.ones(2, 3).to_sparse()],
    ids=["meta", "sparse"],
)
def test_tensors_without_memory(way, make):
    with pytest.raises(ValueError, match=r"^x must be an array that its library hands out, got ") as caught:
        _core._describe_array(make(), "x")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn", "float8_e5m2"])
def test_other_dtypes(dtype):
    with pytest.raises(TypeError, match=r"^x must be float32, .* got DLPack type code "):
        _core._describe_array(torch.zeros(3, dtype=getattr(torch, dtype)), "x")


def test_the_tensor_class_is_no_tensor():
    with pytest.raises(TypeError, match=r"must be an array \(NumPy"):
        _core._describe_array(torch.Tensor)


OUTPUTS = {
    "contiguous": lambda: torch.zeros(4, 3, dtype=torch.int64),
    "int32": lambda: torch.zeros(4, 3, dtype=torch.int32),
    "float32": lambda: torch.zeros(4, 3),
    "column": lambda: torch.zeros(4, 3, dtype=torch.int64)[:, 1],
    "transposed": lambda: torch.zeros(4, 3, dtype=torch.int64).T,
    "empty": lambda: torch.zeros(0, 3, dtype=torch.int64),
}


@pytest.mark.parametrize("make", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_outputs_are_filled_in_place(way, make):
    out = make()
    _core._fill_output(out, 7)
    assert bool((out == 7).all())
    assert out._base is None or int((out._base == 7).sum()) == out.numel()


def test_outputs_that_cannot_be_written(way):
    with pytest.raises(
        ValueError, match=r"^out must have elements that share no memory, got a stride of 0 over 4 "
    ):
        _core._fill_output(torch.zeros(1, dtype=torch.int64).expand(4), 7)
    with pytest.raises(ValueError, match=r"^out must have shape \(4,\), got \(3,\)$"):
        _core._fill_output(torch.zeros(3, dtype=torch.int64), 7, (4,))
    with pytest.raises(TypeError, match=r"^out must be float32 or int32 or int64, got bfloat16$"):
        _core._fill_output(torch.zeros(3, dtype=torch.bfloat16), 7)


def test_results_stay_on_the_host_whatever_the_default_device(way):
    values = torch.ones(2, 3)
    torch.set_default_device("meta")
    try:
        copy = _core._copy_like(values)
    finally:
        torch.set_default_device(None)
    assert copy.device.type == "cpu"


def test_a_result_outlives_everything_and_is_freed(way):
    tensor = torch.ones(1 << 20)
    kept = _core._copy_like(tensor)[5:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        _core._copy_like(tensor)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 200 * tensor.nbytes / 2
    assert kept.sum() == (1 << 20) - 5


def test_results_are_aligned_for_vectors():
    for n in range(1, 9):
        assert _core._copy_like(torch.ones(n)).data_ptr() % 64 == 0


def test_a_tensor_lent_to_numpy_is_the_same_memory():
    tensor = torch.zeros(3, dtype=torch.int64)
    _core._fill_output(tensor.numpy(), 7)
    np.testing.assert_array_equal(tensor.numpy(), [7, 7, 7])
    assert tensor.tolist() == [7, 7, 7]

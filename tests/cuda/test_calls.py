# SPDX-License-Identifier: Apache-2.0
"""Calls with logits on a device: what comes back, where, on which stream; what is refused, in which words."""

import ctypes
import subprocess
import sys
import threading

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import normal
from tests.cuda import emulated
from tests.cuda.emulated import DeviceArray, ExchangedArray
from tokendraw import _core

pytestmark = pytest.mark.usefixtures("cuda")


def rows_of(count=4, vocab=1500):
    return np.stack([normal(vocab + row)[:vocab] for row in range(count)])


# ---- results ----


def test_results_are_the_caller_s_kind_of_array_on_its_device():
    logits = rows_of()
    for result, of_host in zip(
        td.top_k(ExchangedArray(logits, device=1), 5), td.top_k(logits, 5), strict=True
    ):
        assert type(result) is ExchangedArray
        assert (result.device, result.dtype, result.shape) == (1, of_host.dtype, of_host.shape)
        np.testing.assert_array_equal(result.numpy(), of_host)


@pytest.mark.parametrize("shape", [(700,), (1, 700), (2, 3, 700), (0, 700), (2, 0, 3, 700)])
def test_any_leading_shape(shape):
    logits = normal(int(np.prod(shape))).reshape(shape)
    tokens = td.sample(ExchangedArray(logits), seed=5)
    assert tokens.shape == shape[:-1]
    np.testing.assert_array_equal(tokens.numpy(), td.sample(logits, seed=5))


def views_of(logits):
    """Yield rows as a library may lay them out, with the same values as NumPy sees them."""
    rows, vocab = logits.shape
    padded = np.zeros((rows, vocab + 3), np.float32)
    padded[:, 2 : vocab + 2] = logits
    array = ExchangedArray(padded)
    yield "odd rows, misaligned", array.view((rows, vocab), (vocab + 3, 1), 2), logits
    array = ExchangedArray(logits)
    yield "one row for all", array.view((3, vocab), (0, 1), vocab), np.broadcast_to(logits[1], (3, vocab))
    yield "every other row", array.view((rows // 2, vocab), (2 * vocab, 1)), logits[::2]
    turned = (2, rows // 2, vocab), (vocab, 2 * vocab, 1)
    yield "axes exchanged", array.view(*turned), logits.reshape(rows // 2, 2, vocab).swapaxes(0, 1)


@pytest.mark.parametrize("vocab", [3, 1021, 2050])
def test_rows_lie_where_they_are(vocab):
    for name, array, values in views_of(rows_of(4, vocab)):
        tokens = td.sample(array, seed=8, temperature=1.5).numpy()
        np.testing.assert_array_equal(tokens, td.sample(values, seed=8, temperature=1.5), err_msg=name)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_out_is_written_and_returned(dtype):
    logits = rows_of()
    out = DeviceArray(np.full(4, -7, dtype))
    assert td.sample(DeviceArray(logits), seed=1, out=out) is out
    np.testing.assert_array_equal(out.numpy(), td.sample(logits, seed=1))


def test_a_library_that_lends_no_memory_gives_out():
    with pytest.raises(TypeError, match="give out"):
        td.sample(DeviceArray(rows_of()), seed=1)


class CupyModule:
    """What tokendraw uses of CuPy."""

    entered: list[int]
    stream = 0

    def __init__(self):
        self.entered = []
        self.cuda = self

    def Device(self, index):
        class Entered:
            def __enter__(_):
                self.entered.append(index)

            def __exit__(_, *error):
                self.entered.append(-1)

        return Entered()

    def get_current_stream(self, device):
        return type("Stream", (), {"ptr": emulated.current_stream(device)})

    def empty(self, shape, dtype):
        array = CupyArray.empty(dtype, shape, self.entered[-1])
        pointer = type("Pointer", (), {"ptr": array.memory.address})
        array.data = pointer
        return array


# The name of its type is how CuPy's array is known.
CupyArray = type("cupy.ndarray", (DeviceArray,), {})


def test_cupy_makes_results_on_the_device_and_names_its_stream(monkeypatch):
    module = CupyModule()
    monkeypatch.setitem(sys.modules, "cupy", module)
    logits = rows_of()
    with emulated.stream(1):
        tokens = td.sample(CupyArray(logits, device=1), seed=2)
    assert module.entered == [1, -1]
    assert tokens.device == 1
    np.testing.assert_array_equal(tokens.numpy(), td.sample(logits, seed=2))


# ---- invalid rows ----


def broken_rows():
    logits = rows_of(4, 300)
    logits[1, 7] = np.nan
    logits[2] = -np.inf
    logits[3, 299] = np.inf
    return logits


def test_invalid_rows_are_marked_by_default():
    logits = broken_rows()
    tokens = td.sample(ExchangedArray(logits), seed=4).numpy()
    np.testing.assert_array_equal(tokens, td.sample(logits, seed=4, on_invalid="mark"))
    assert (tokens < 0).tolist() == [False, True, True, True]
    values, ranked = td.top_k(ExchangedArray(logits), 2)
    assert np.isnan(values.numpy()).any(axis=1).tolist() == [False, True, True, True]
    assert (ranked.numpy()[1:] == -1).all()
    assert td.draw(ExchangedArray(logits), seed=4).valid.numpy().tolist() == [True, False, False, False]


def test_raise_waits_and_names_the_rows():
    array = ExchangedArray(broken_rows())
    _, _, waits = emulated.counts()
    with pytest.raises(
        td.InvalidLogitsError, match=r"row 1 \(NaN\), row 2 \(no finite score\), row 3 \(\+inf\)"
    ) as caught:
        td.sample(array, seed=4, on_invalid="raise")
    assert emulated.counts()[2] == waits + 1
    assert caught.value.tokens.numpy()[1:].tolist() == [-1, -1, -1]


# ---- devices and streams ----


@pytest.mark.parametrize("current", [0, 1])
@pytest.mark.parametrize("device", [0, 1])
def test_any_device_may_be_current(current, device):
    logits = rows_of()
    emulated.library().emulated_set_device(current)
    try:
        tokens = td.sample(ExchangedArray(logits, device), seed=6)
        assert emulated.library().emulated_current_device() == current
    finally:
        emulated.library().emulated_set_device(0)
    np.testing.assert_array_equal(tokens.numpy(), td.sample(logits, seed=6))


def test_work_goes_to_the_current_stream_and_nobody_waits():
    logits = rows_of()
    array = ExchangedArray(logits)
    with emulated.stream():
        td.sample(array, seed=1, temperature=[0.5, 1, 1, 2])  # allocates what later calls use
        emulated.call("synchronize", 0)
        launches, allocations, waits = emulated.counts()
        tokens = td.sample(array, seed=1, temperature=[0.5, 1, 1, 2])
        assert emulated.counts() == (launches, allocations + 1, waits), "the tokens are all that is allocated"
    np.testing.assert_array_equal(tokens.numpy(), td.sample(logits, seed=1, temperature=[0.5, 1, 1, 2]))


def test_arguments_of_the_host_may_change_at_once():
    logits = rows_of()
    temperature, mask = np.array([0.5, 1, 1, 2.0]), np.ones((4, 1500), bool)
    mask[:, ::2] = False
    expected = td.sample(logits, seed=1, temperature=temperature, mask=mask)
    with emulated.stream():
        tokens = td.sample(ExchangedArray(logits), seed=1, temperature=temperature, mask=mask)
        temperature[:] = 0
        mask[:] = False
    np.testing.assert_array_equal(tokens.numpy(), expected)


def test_many_calls_before_anything_runs():
    """More copies in flight than there is pinned memory for."""
    logits = rows_of(2, 40)
    array = ExchangedArray(logits)
    with emulated.stream():
        tokens = [td.sample(array, seed=[i, 2 * i]) for i in range(150)]
    for i, found in enumerate(tokens):
        np.testing.assert_array_equal(found.numpy(), td.sample(logits, seed=[i, 2 * i]))


def test_threads_on_one_stream_and_on_several():
    logits = rows_of(3, 400)
    expected = [td.sample(logits, seed=[seed] * 3) for seed in range(8)]
    wrong = []

    def work():
        for seed, tokens in enumerate(expected):
            if (td.sample(ExchangedArray(logits), seed=[seed] * 3).numpy() != tokens).any():
                wrong.append(seed)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- places that do not fit together ----


HERE = "on CUDA device 0, as logits are"


def on(device, values):
    return ExchangedArray(np.asarray(values), device)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda: {"mask": on(1, np.ones(1500, bool))}, f"mask must be {HERE}, got an array on CUDA device 1"),
        (lambda: {"bias": on(1, np.ones(1500, np.float32))}, "bias must be on CUDA device 0"),
        (lambda: {"temperature": on(1, np.ones(4))}, "temperature must be on CUDA device 0"),
        (lambda: {"seed": on(1, np.ones(4, np.int64))}, "seed must be on CUDA device 0"),
        (lambda: {"out": on(1, np.ones(4, np.int32))}, "out must be on CUDA device 0"),
        (lambda: {"out": np.ones(4, np.int32)}, f"out must be {HERE}, got an array in host memory"),
        (lambda: {"out": on(0, np.ones((4, 2), np.int32)).view((4,), (2,))}, "out must be contiguous"),
        (lambda: {"out": on(0, np.ones(5, np.int32))}, r"out must have shape \(4,\), got \(5,\)"),
        (lambda: {"top_p": on(0, np.ones(8)).view((4,), (2,))}, "top_p must be contiguous on a CUDA device"),
        (lambda: {"top_p": on(0, np.ones(5))}, r"top_p must have one value per row \(4\), got 5"),
        (lambda: {"mask": on(0, np.ones((4, 3000), bool)).view((4, 1500), (3000, 2))}, "mask must have one"),
        (lambda: {"bias": dict.fromkeys(range(257), 0.5)}, "bias must have at most 256 tokens .* got 257"),
        (lambda: {"bias": {3: np.inf}}, r"bias must be finite or -inf, got inf \(token 3\)"),
        (lambda: {"temperature": [1, 1, -1, 1]}, r"temperature must be finite and >= 0, got -1 \(row 2\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(arguments, message):
    launches = emulated.counts()[0]
    with pytest.raises(ValueError, match=message):
        td.sample(on(0, rows_of()), **{"seed": 1, **arguments()})
    assert emulated.counts()[0] == launches


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda: {"top_k": on(0, np.ones(4))}, "top_k must be an integer, .* got an array of another dtype"),
        (lambda: {"min_p": on(0, np.ones(4, bool))}, "min_p must be a number"),
        (lambda: {"bias": on(0, np.ones(1500, np.float16))}, "bias must be float32 on a CUDA device"),
        (lambda: {"out": on(0, np.ones(4, np.float32))}, "out must be int32 or int64"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        td.sample(on(0, rows_of()), **{"seed": 1, **arguments()})


@pytest.mark.parametrize("name", ["mask", "bias", "temperature", "stream", "out"])
def test_logits_of_the_host_take_nothing_of_a_device(name):
    values = {"mask": np.ones(1500, bool), "bias": np.ones(1500, np.float32), "stream": np.ones(4, np.int64)}
    array = on(0, values.get(name, np.ones(4, np.int32)))
    with pytest.raises(
        ValueError, match=f"{name} must be in host memory, as logits are, got an array on CUDA device 0"
    ):
        td.sample(rows_of(), seed=1, **{name: array})


def test_a_strided_last_axis_is_refused():
    array = on(0, rows_of()).view((4, 750), (1500, 2))
    with pytest.raises(ValueError, match="logits must have a contiguous last axis on a CUDA device"):
        td.sample(array, seed=1)


# ---- what a device does not have ----


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"typical_p": 0.9}, "typical_p"),
        ({"epsilon_cutoff": 0.01}, "epsilon_cutoff"),
        ({"eta_cutoff": [0.01, 0, 0, 0]}, "eta_cutoff"),
        ({"top_n_sigma": 1.0}, "top_n_sigma"),
        ({"xtc_probability": 0.5}, "xtc_probability"),
        ({"repetition_penalty": 1.1, "history": [[1]] * 4}, "repetition_penalty"),
        ({"frequency_penalty": 1.1, "history": [[1]] * 4}, "frequency_penalty"),
        ({"presence_penalty": 1.1, "history": [[1]] * 4}, "presence_penalty"),
        ({"dry_multiplier": 1.1, "history": [[1]] * 4}, "dry_multiplier"),
        ({"min_tokens": 3, "eos_token_id": 1}, "min_tokens"),
        ({"steps": ("top_p", "temperature"), "top_p": 0.9}, "steps in another order"),
        ({"steps": ("top_k_top_p",), "top_k": 3}, "steps in another order"),
        ({"top_k_ties": "all"}, "top_k_ties"),
        ({"top_p_ties": "highest"}, "top_p_ties"),
        ({"top_p_boundary": "exceed"}, "top_p_boundary"),
        ({"top_p_mass": "original"}, "top_p_mass"),
    ],
)
def test_what_is_missing_is_named(arguments, name):
    with pytest.raises(NotImplementedError, match=f"^{name}.*is not implemented for logits on a CUDA device"):
        td.sample(on(0, rows_of()), seed=1, **arguments)


def test_neutral_values_of_what_is_missing_are_nothing():
    neutral = {"typical_p": 1.0, "xtc_probability": [0.0] * 4, "repetition_penalty": 1, "min_tokens": 0}
    tokens = td.sample(on(0, rows_of()), seed=1, steps=("temperature", "min_p"), **neutral)
    np.testing.assert_array_equal(tokens.numpy(), td.sample(rows_of(), seed=1))


@pytest.mark.parametrize(
    "function",
    [
        td.kept_set,
        lambda logits: td.kl_divergence(logits, logits),
        lambda logits: td.js_divergence(logits, logits),
        lambda logits: td.verify_draft([[1], [1]], None, logits.view((2, 2, 1500), (3000, 1500, 1)), seed=1),
    ],
)
def test_functions_that_are_missing_say_so(function):
    with pytest.raises(NotImplementedError, match="is not implemented for logits on a CUDA device"):
        function(on(0, rows_of()))


# ---- no CUDA ----

PROBLEMS = """
import numpy as np
import tokendraw as td
from tests.cuda import emulated
from tokendraw import _core
library = emulated.library()
_core._use_cuda(library.capsule)
array = emulated.ExchangedArray(np.zeros((2, 8), np.float32))

def said():
    assert not td.cuda.available()
    try:
        td.sample(array, seed=1)
    except RuntimeError as error:
        print(error)
    return td.cuda.problem()

library.emulated_set_driver(0)
said()
library.emulated_set_driver(12080)
said()
library.emulated_set_driver(13010)
library.emulated_set_compute_capability(0, 7, 0)
said()
library.emulated_set_compute_capability(0, 7, 5)
assert td.cuda.available()
print(td.sample(array, seed=1).numpy().tolist() == td.sample(np.zeros((2, 8), np.float32), seed=1).tolist())
print(td.cuda.problem(3))
"""


def test_what_keeps_kernels_from_running_is_said():
    """In an interpreter of its own: a device that once was fine stays so."""
    command = [sys.executable, "-c", PROBLEMS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=emulated.ROOT)
    assert done.returncode == 0, done.stderr
    begin = "logits are on CUDA device 0, but "
    assert done.stdout.splitlines() == [
        begin + "this machine has no CUDA driver (libcuda.so.1 was not found)",
        begin + "this machine's driver is for CUDA 12.8, and this build needs one for CUDA 13.0 or newer",
        begin + "this build has kernels for compute capabilities 90, and none for that of device 0, 7.0",
        "True",
        "this machine has 3 CUDA devices, and none of them is number 3",
    ]


def test_a_build_without_cuda_says_so(monkeypatch):
    _core._use_cuda(None)
    monkeypatch.setitem(sys.modules, "tokendraw._cuda", None)
    array = on(0, rows_of())
    if td.build_info()["cuda"]:
        pytest.skip("this build has CUDA")
    assert td.cuda.problem() == "this build of tokendraw is without CUDA"
    with pytest.raises(RuntimeError, match="is without CUDA: build it with TOKENDRAW_CUDA=ON"):
        td.sample(array, seed=1)


def test_a_module_of_another_build_is_refused():
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    with pytest.raises(ValueError, match="PyCapsule_GetPointer"):
        _core._use_cuda(new(1, b"tokendraw._cuda.something", None))

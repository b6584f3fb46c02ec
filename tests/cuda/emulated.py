# SPDX-License-Identifier: Apache-2.0
"""CUDA without a GPU, from Python: `tokendraw._cuda` on emulated devices, and arrays in their memory."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import tokendraw as td

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "tests" / "cuda" / "emulator"
CAPABILITIES = ((9, 0), (9, 0), (8, 0))  # of the emulated devices: with clusters, and without


# ---- the build ----


@dataclass(frozen=True)
class Variant:
    """How kernels, the emulator and everything around them are compiled; see emulator/README.md."""

    name: str
    common: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    link: tuple[str, ...] = ()


_ASAN = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("plain"),  # compiled in a third of the time, and the tests are as fast
        Variant("optimised", kernels=("-O1",)),
        Variant(
            "checked",
            common=("-DTOKENDRAW_EMULATOR_CHECKED",),
            kernels=("-fsanitize=thread,alignment", "--param=tsan-instrument-func-entry-exit=0"),
        ),
        # These need LD_PRELOAD of the sanitizer's library in the interpreter.
        Variant("address", common=_ASAN, link=_ASAN),
        Variant(
            "thread",
            common=("-DTOKENDRAW_EMULATOR_TSAN",),
            kernels=("-fsanitize=thread",),
            link=("-fsanitize=thread",),
        ),
    )
}
CHOSEN = "TOKENDRAW_EMULATOR"  # the environment's name for the variant of a run


def variant() -> Variant:
    """Return the variant that the environment asks for, the plain one by default."""
    return VARIANTS[os.environ.get(CHOSEN, "plain")]


def compiler() -> list[str] | None:
    """Return the C++ compiler as the beginning of a command, or None where there is none."""
    command = shlex.split(os.environ.get("CXX", "c++"))
    return command if shutil.which(command[0]) else None


def run_compiler(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler, without the sanitizer that this interpreter may have been started with."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def kernels() -> list[Path]:
    return sorted((ROOT / "cpp" / "cuda").glob("*.cu"))


def sources() -> list[Path]:
    """Return what the library is made of: the module as it is shipped, the driver apart, and the emulator."""
    shipped = [path for path in (ROOT / "cpp" / "cuda").glob("*.cpp") if path.name != "driver.cpp"]
    around = [ROOT / "cpp" / "bindings" / "cuda_module.cpp", *(ROOT / "cpp" / "plan").glob("*.cpp")]
    own = (ROOT / "tests" / "cuda").glob("emulated_*.cpp")
    emulator = [path for path in EMULATOR.glob("*.cpp") if not path.name.startswith("test_")]
    return [*kernels(), *sorted([*shipped, *around, *own, *emulator])]


def flags(source: Path, chosen: Variant) -> list[str]:
    """Return how a source is compiled."""
    includes = [EMULATOR / "include", EMULATOR, ROOT / "cpp", Path(sysconfig.get_path("include"))]
    definitions = {
        "TOKENDRAW_CUDA_EMULATED": "1",
        "TOKENDRAW_VERSION": f'"{td.__version__}"',
        "TOKENDRAW_CUDA_ARCHS": '"90"',
    }
    optimised = "-O0" if source.suffix == ".cu" else "-O2"
    options = ["-std=c++17", optimised, "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-w"]
    options += [f"-I{path}" for path in includes]
    options += [f"-D{name}={value}" for name, value in definitions.items()]
    own = chosen.kernels if source.suffix == ".cu" else ()
    language = ["-x", "c++"] if source.suffix == ".cu" else []
    return [*options, *chosen.common, *own, *language]


def identity(command: list[str], chosen: Variant) -> str:
    """Return a name for all that the library depends on, the same in every checkout."""
    digest = hashlib.sha256()
    version = run_compiler([*command, "--version"]).stdout
    options = [option.replace(str(ROOT), "") for option in flags(kernels()[0], chosen)]
    compiled = (version, sysconfig.get_config_var("SOABI"), command, options)
    digest.update(repr(compiled).encode())
    folders = [
        "cpp/core",
        "cpp/plan",
        "cpp/cuda",
        "tests/cuda",
        "tests/cuda/emulator",
        "tests/cuda/emulator/include",
    ]
    for folder in folders:
        for path in sorted((ROOT / folder).iterdir()):
            if path.suffix in {".h", ".cpp", ".cu", ".cuh"}:
                digest.update(path.name.encode() + path.read_bytes())
    digest.update((ROOT / "cpp" / "bindings" / "cuda_module.cpp").read_bytes())
    return digest.hexdigest()[:24]


def cache_folder() -> Path:
    """Return a folder outside of the sources that outlives a test run."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tokendraw" / "emulated"


def build(command: list[str], chosen: Variant) -> Path:
    """Compile the library unless it is there, and return where it is."""
    library = cache_folder() / f"_cuda-{chosen.name}-{identity(command, chosen)}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)

    def run(arguments: list[str]) -> None:
        done = run_compiler([*command, *arguments])
        assert done.returncode == 0, done.stderr

    with tempfile.TemporaryDirectory(dir=library.parent) as folder:

        def compile_one(source: Path) -> str:
            target = str(Path(folder) / f"{source.parent.name}-{source.name}.o")
            run([*flags(source, chosen), "-c", str(source), "-o", target])
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, sources()))
        unfinished = str(Path(folder) / "linked.so")
        run(["-shared", *chosen.link, *objects, "-ldl", "-o", unfinished])
        os.replace(unfinished, library)  # whoever else builds it finds all of it or nothing
    return library


@cache
def library() -> Any:
    """Load the emulated module and return its functions for tests; `capsule` is what tokendraw takes."""
    command = compiler()
    assert command is not None
    path = build(command, variant())
    loader = importlib.machinery.ExtensionFileLoader("_cuda", str(path))
    spec = importlib.util.spec_from_loader("_cuda", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    loaded = ctypes.CDLL(str(path))
    loaded.capsule = module.module
    pointer, size, handle = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "malloc": (pointer, [ctypes.c_int, size]),
        "free": (ctypes.c_int, [ctypes.c_int, pointer, handle]),
        "write": (ctypes.c_int, [ctypes.c_int, pointer, pointer, size]),
        "read": (ctypes.c_int, [ctypes.c_int, pointer, pointer, size]),
        "copy": (ctypes.c_int, [ctypes.c_int, pointer, pointer, size, handle]),
        "synchronize": (ctypes.c_int, [ctypes.c_int]),
        "current_device": (ctypes.c_int, []),
        "set_device": (ctypes.c_int, [ctypes.c_int]),
        "new_stream": (handle, [ctypes.c_int]),
        "begin_capture": (ctypes.c_int, [ctypes.c_int, handle]),
        "end_capture": (pointer, [ctypes.c_int, handle]),
        "launch_graph": (ctypes.c_int, [ctypes.c_int, pointer, handle]),
        "set_schedule": (None, [size]),
        "set_compute_capability": (None, [ctypes.c_int] * 3),
        "forget_loaded_kernels": (None, []),
        "set_driver": (None, [ctypes.c_int]),
        "take_report": (ctypes.c_char_p, []),
        "counts": (None, [ctypes.POINTER(size)] * 3),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, f"emulated_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded


def call(name: str, *arguments: Any) -> None:
    """Call a function of the emulator that must not fail."""
    error = getattr(library(), f"emulated_{name}")(*arguments)
    assert error == 0, f"{name}: CUDA error {error}: {take_report()}"


def take_report() -> str:
    """Return what was wrong with a kernel since the last call, or an empty string."""
    return str(library().emulated_take_report().decode())


def counts() -> tuple[int, int, int]:
    """Return launches, allocations and waits of the host so far."""
    numbers = [ctypes.c_uint64() for _ in range(3)]
    library().emulated_counts(*[ctypes.byref(number) for number in numbers])
    return numbers[0].value, numbers[1].value, numbers[2].value


# ---- streams and graphs ----

_current_streams: dict[int, int] = {}


def current_stream(device: int) -> int:
    """Return what a library would call its current stream."""
    return _current_streams.get(device, 0)


@contextmanager
def stream(device: int = 0, handle: int | None = None) -> Iterator[int]:
    """Make a stream, a new one by default, the current one."""
    before = current_stream(device)
    _current_streams[device] = library().emulated_new_stream(device) if handle is None else handle
    try:
        yield _current_streams[device]
    finally:
        _current_streams[device] = before


# Addresses of memory that was allocated before a capture, for what is made during it; else None.
_spare: list[int] | None = None
_late: list[int] = []
_SPARE_BYTES = 1 << 16


def _free(device: int, addresses: list[int], stream: int) -> None:
    for address in addresses:
        library().emulated_free(device, address, stream)


class Graph:
    """A graph: what was enqueued on the current stream while it was captured."""

    def __init__(self, device: int = 0) -> None:
        self.device = device
        self.executable: int | None = None

    @contextmanager
    def capture(self, arrays: int = 16) -> Iterator[None]:
        """Capture the current stream, not the default one; memory for small results is set aside."""
        global _spare
        handle = current_stream(self.device)
        spare = [library().emulated_malloc(self.device, _SPARE_BYTES) for _ in range(arrays)]
        call("begin_capture", self.device, handle)
        _spare = spare
        try:
            yield
        finally:
            _spare = None
            self.executable = library().emulated_end_capture(self.device, handle)
            _free(self.device, spare, handle)
            # The graph writes to results that were dropped while it was captured: they live as long as it.
            weakref.finalize(self, _free, self.device, list(_late), handle)
            _late.clear()

    def replay(self) -> None:
        assert self.executable is not None, "the capture was spoilt"
        call("launch_graph", self.device, self.executable, current_stream(self.device))


# ---- arrays ----


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("context", ctypes.c_void_p),
    ("deleter", _Deleter),
    ("flags", ctypes.c_uint64),
    ("tensor", _Tensor),
)

_CUDA = 2
# A capsule points to its name.
_TENSOR_NAME, _TABLE_NAME = b"dltensor_versioned", b"dlpack_exchange_api"
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = (
    ctypes.py_object,
    [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
)


def _data_type(dtype: np.dtype[Any]) -> _DataType:
    code = 4 if dtype.name == "bfloat16" else _CODES[dtype.kind]
    return _DataType(code, 8 * dtype.itemsize, 1)


def _numpy_dtype(data_type: _DataType) -> np.dtype[Any]:
    kind = next(kind for kind, code in _CODES.items() if code == data_type.code)
    return np.dtype("bool" if kind == "b" else f"{kind}{data_type.bits // 8}")


class _Memory:
    """Memory of a device, freed in the order of the stream that was current when it was made."""

    def __init__(self, device: int, size: int) -> None:
        self.device = device
        self.stream = current_stream(device)
        self.address = library().emulated_malloc(device, max(size, 1)) if _spare is None else _spare.pop()
        assert self.address, "no memory on the device"

    def __del__(self) -> None:
        if _spare is not None:  # freed when the capture is over, as a caching allocator has it
            _late.append(self.address)
            return
        library().emulated_free(self.device, self.address, self.stream)


class DeviceArray:
    """An array in the memory of an emulated device, as a library without an exchange table shows it."""

    def __init__(self, values: Any, device: int = 0) -> None:
        values = np.ascontiguousarray(values)
        self._lay_out(values.dtype, values.shape, device)
        call("write", device, self.memory.address, values.ctypes.data, values.nbytes)

    def _lay_out(self, dtype: np.dtype[Any], shape: tuple[int, ...], device: int) -> None:
        self.dtype, self.shape, self.device = dtype, tuple(shape), device
        self.strides = np.empty(self.shape, np.int8).strides  # of bytes: elements
        self.memory = _Memory(device, int(np.prod(shape)) * dtype.itemsize)
        self.offset = 0  # in elements

    @classmethod
    def empty(cls, dtype: Any, shape: tuple[int, ...], device: int = 0) -> DeviceArray:
        array = cls.__new__(cls)
        array._lay_out(np.dtype(dtype), shape, device)
        return array

    def view(self, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> DeviceArray:
        """Return another look at the same memory; everything counts elements."""
        array = type(self).__new__(type(self))
        array.__dict__.update(self.__dict__)
        array.shape, array.strides, array.offset = tuple(shape), tuple(strides), offset
        return array

    @property
    def elements(self) -> int:
        """The elements from the first to the last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((extent - 1) * step for extent, step in zip(self.shape, self.strides, strict=True))

    def numpy(self) -> np.ndarray[Any, Any]:
        """Wait for the device and copy."""
        flat = np.empty(max(self.elements, 1), self.dtype)
        address = self.memory.address + self.offset * self.dtype.itemsize
        size = self.elements * self.dtype.itemsize
        call("read", self.device, flat.ctypes.data, address, size)
        steps = [step * self.dtype.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(flat, self.shape, steps).copy()

    def write(self, values: Any) -> None:
        """Replace all elements of a contiguous array, when the device has done what it has to do."""
        values = np.ascontiguousarray(np.broadcast_to(np.asarray(values, self.dtype), self.shape))
        call("synchronize", self.device)
        call(
            "write",
            self.device,
            self.memory.address + self.offset * values.itemsize,
            values.ctypes.data,
            values.nbytes,
        )

    def _tensor(self) -> tuple[_Tensor, Any]:
        extents = (ctypes.c_int64 * max(len(self.shape), 1))(*self.shape)
        strides = (ctypes.c_int64 * max(len(self.shape), 1))(*self.strides)
        address = self.memory.address + self.offset * self.dtype.itemsize
        data_type = _data_type(self.dtype)
        tensor = _Tensor(
            address, _Device(_CUDA, self.device), len(self.shape), data_type, extents, strides, 0
        )
        return tensor, (extents, strides)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self.device

    def __dlpack__(self, *, stream: int | None = None, max_version: Any = None) -> Any:
        assert stream == -1, "nobody may wait for a stream"
        return _new_capsule(ctypes.addressof(_exported(self)), _TENSOR_NAME, None)


# What is lent out, by the address of what was lent.
_lent: dict[int, Any] = {}


@_Deleter
def _take_back(managed: Any) -> None:
    del _lent[ctypes.addressof(managed.contents)]


def _exported(array: DeviceArray) -> _Managed:
    tensor, kept = array._tensor()
    managed = _Managed(1, 0, None, _take_back, 0, tensor)
    _lent[ctypes.addressof(managed)] = (managed, kept, array)
    return managed


# ---- an exchange table, as torch has one ----

_ManagedOut = ctypes.POINTER(ctypes.POINTER(_Managed))
_Allocate = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(_Tensor), _ManagedOut, ctypes.c_void_p, ctypes.c_void_p
)
_ExportOwned = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, _ManagedOut)
_ImportOwned = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Managed), ctypes.POINTER(ctypes.c_void_p))
_ExportBorrowed = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Tensor))
_CurrentStream = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
)


class _Table(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", _Allocate),
        ("export_owned", _ExportOwned),
        ("import_owned", _ImportOwned),
        ("export_borrowed", _ExportBorrowed),
        ("current_stream", _CurrentStream),
    )


@_Allocate
def _allocate(prototype: Any, out: Any, _context: Any, _set_error: Any) -> int:
    wanted = prototype.contents
    shape = tuple(wanted.shape[axis] for axis in range(wanted.ndim))
    array = ExchangedArray.empty(_numpy_dtype(wanted.dtype), shape, wanted.device.index)
    out[0] = ctypes.pointer(_exported(array))
    return 0


@_ExportOwned
def _export_owned(array: Any, out: Any) -> int:
    out[0] = ctypes.pointer(_exported(array))
    return 0


@_ImportOwned
def _import_owned(managed: Any, out: Any) -> int:
    _, _, array = _lent.pop(ctypes.addressof(managed.contents))
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
    out[0] = id(array)
    return 0


_borrowed: list[Any] = []


@_ExportBorrowed
def _export_borrowed(array: Any, out: Any) -> int:
    tensor, kept = array._tensor()
    _borrowed[:] = [*_borrowed[-16:], kept]  # until control returns to Python, and a few calls longer
    out[0] = tensor
    return 0


@_CurrentStream
def _current_stream(_device_type: int, device: int, out: Any) -> int:
    out[0] = current_stream(device)
    return 0


_table = _Table(1, 3, None, _allocate, _export_owned, _import_owned, _export_borrowed, _current_stream)


class ExchangedArray(DeviceArray):
    """The same, as a library with an exchange table shows it; results of tokendraw are such arrays too."""

    __dlpack_c_exchange_api__ = _new_capsule(ctypes.addressof(_table), _TABLE_NAME, None)

# SPDX-License-Identifier: Apache-2.0
"""An emulated device as bench/gpu.py sees a library of arrays, with a made-up clock that counts launches."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.cuda import emulated
from tests.cuda.emulated import ExchangedArray, Graph
from tokendraw import _core

SECONDS_OF_A_LAUNCH = 0.001


class EmulatedLibrary:
    name = "the emulator"
    dtypes = ("float32", "float16")
    note = "No GPU: this is a run of the emulator, and its times count launches. Nothing here was measured."

    def __init__(self) -> None:
        self._capturing = emulated.library().emulated_new_stream(0)

    def put(self, values: NDArray[Any], dtype: str | None = None) -> ExchangedArray:
        return ExchangedArray(values if dtype is None else values.astype(dtype))

    def host(self, array: ExchangedArray) -> NDArray[Any]:
        return array.numpy()

    def get(self, array: Any) -> NDArray[Any]:
        return array.numpy() if isinstance(array, ExchangedArray) else np.asarray(array)

    def copy(self, target: ExchangedArray, source: ExchangedArray) -> None:
        size, stream = source.elements * source.dtype.itemsize, emulated.current_stream(0)
        emulated.call("copy", 0, target.memory.address, source.memory.address, size, stream)

    def wait(self) -> None:
        emulated.call("synchronize", 0)
        report = emulated.take_report()
        if report:
            raise RuntimeError(report)

    def seconds(self, work: Callable[[], Any]) -> float:
        self.wait()  # nothing runs before somebody waits
        before = emulated.counts()[0]
        work()
        self.wait()
        return SECONDS_OF_A_LAUNCH * max(emulated.counts()[0] - before, 1)

    def graph(self, work: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
        with emulated.stream(0, self._capturing):
            captured = Graph()
            with captured.capture(arrays=64):
                results = work()

        def replay() -> None:
            with emulated.stream(0, self._capturing):
                captured.replay()
            self.wait()

        return replay, results

    def describe(self) -> dict[str, Any]:
        major, minor = emulated.CAPABILITIES[0]
        return {"gpu": "an emulated device", "compute_capability": f"{major}.{minor}", "l2_bytes": 4096}


@cache
def library() -> EmulatedLibrary:
    """Let tokendraw take emulated devices for those of CUDA; ImportError where they cannot be built."""
    if emulated.compiler() is None:
        raise ImportError("no C++ compiler to build the emulator of CUDA with is installed")
    _core._use_cuda(emulated.library().capsule)
    return EmulatedLibrary()

# SPDX-License-Identifier: Apache-2.0
"""Arrays of CuPy on the current GPU, on a stream of their own: the default one cannot be captured."""

from collections.abc import Callable
from typing import Any

import cupy
from numpy.typing import NDArray


class CupyLibrary:
    name = f"CuPy {cupy.__version__}"
    dtypes = ("float32", "float16")
    note = ""

    def __init__(self) -> None:
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._stream.use()

    def put(self, values: NDArray[Any], dtype: str | None = None) -> Any:
        return cupy.asarray(values if dtype is None else values.astype(dtype, copy=False))

    def host(self, array: Any) -> NDArray[Any]:
        return cupy.asnumpy(array)

    def get(self, array: Any) -> NDArray[Any]:
        return cupy.asnumpy(array)

    def copy(self, target: Any, source: Any) -> None:
        cupy.copyto(target, source)

    def wait(self) -> None:
        self._stream.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        before, after = cupy.cuda.Event(), cupy.cuda.Event()
        before.record(self._stream)
        work()
        after.record(self._stream)
        after.synchronize()
        return float(cupy.cuda.get_elapsed_time(before, after)) / 1e3

    def graph(self, work: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
        self.wait()
        self._stream.begin_capture()
        try:
            results = work()
        finally:
            captured = self._stream.end_capture()
        return (lambda: captured.launch(self._stream)), results

    def describe(self) -> dict[str, Any]:
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        return {
            "gpu": properties["name"].decode(),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "multiprocessors": properties["multiProcessorCount"],
            "memory_bytes": properties["totalGlobalMem"],
            "l2_bytes": properties["l2CacheSize"],
            "library": f"{self.name}, with CUDA runtime {cupy.cuda.runtime.runtimeGetVersion()}",
        }


def library() -> CupyLibrary:
    """Return CuPy's arrays; ImportError where it has no GPU."""
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError("CuPy is installed, and sees no GPU") from error
    return CupyLibrary()

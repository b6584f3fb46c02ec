# SPDX-License-Identifier: Apache-2.0
"""What the bench asks of the library whose arrays lie on the GPU: torch, or CuPy where there is no torch."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

LIBRARIES = {"torch": "bench.device.torch_arrays", "cupy": "bench.device.cupy_arrays"}


class Library(Protocol):
    """A library's arrays on one device. Work goes to its current stream."""

    name: str
    dtypes: tuple[str, ...]
    note: str
    """What a reader must know about the times; empty for those of a GPU."""

    def put(self, values: NDArray[Any], dtype: str | None = None) -> Any:
        """Return an array of the device that holds the values, rounded to `dtype`."""

    def host(self, array: Any) -> Any:
        """Return the same values in host memory, as an array that tokendraw takes."""

    def get(self, array: Any) -> NDArray[Any]:
        """Return an array of the device, or of the host, as NumPy's; not one of bfloat16."""

    def copy(self, target: Any, source: Any) -> None:
        """Enqueue a copy between two arrays of the device."""

    def wait(self) -> None:
        """Wait for the device, and fail where it did."""

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return what the device takes from before to after what `work` enqueues, by events."""

    def graph(self, work: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
        """Capture work that has been done before; return what replays it, and what `work` returned."""

    def describe(self) -> dict[str, Any]:
        """Say what the device is, what drives it, and how large its L2 cache is (`l2_bytes`)."""


def load(name: str) -> Library:
    """Return a library by its name, or by that of a module with a function `library`; or ImportError."""
    return importlib.import_module(LIBRARIES.get(name, name)).library()


def find() -> str:
    """Return the name of the first library that is installed and sees a GPU; or ImportError."""
    reasons = []
    for name in LIBRARIES:
        try:
            load(name)
        except ImportError as error:
            reasons.append(str(error))
        else:
            return name
    raise ImportError(f"no library holds arrays on one ({'; '.join(reasons)})")

# SPDX-License-Identifier: Apache-2.0
"""Arrays of torch on the first GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class TorchLibrary:
    name = f"torch {torch.__version__}"
    dtypes = ("float32", "bfloat16", "float16")
    note = ""

    def __init__(self, device: str = "cuda:0") -> None:
        self._device = torch.device(device)

    def put(self, values: NDArray[Any], dtype: str | None = None) -> torch.Tensor:
        own = np.array(values, order="C")  # writable, which torch asks for
        if own.dtype.name == "bfloat16":  # of ml_dtypes, which torch does not know
            array = torch.from_numpy(own.view(np.int16)).view(torch.bfloat16)
        else:
            array = torch.from_numpy(own)
        return array.to(self._device, getattr(torch, dtype) if dtype else None)

    def host(self, array: torch.Tensor) -> torch.Tensor:
        return array.cpu()

    def get(self, array: torch.Tensor) -> NDArray[Any]:
        return array.cpu().numpy()

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        target.copy_(source)

    def wait(self) -> None:
        torch.cuda.synchronize(self._device)

    def seconds(self, work: Callable[[], Any]) -> float:
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        work()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) / 1e3

    def graph(self, work: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
        captured = torch.cuda.CUDAGraph()
        self.wait()
        with torch.cuda.graph(captured):
            results = work()
        return captured.replay, results

    def describe(self) -> dict[str, Any]:
        properties = torch.cuda.get_device_properties(self._device)
        return {
            "gpu": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": getattr(properties, "L2_cache_size", 0),
            "library": f"{self.name}, for CUDA {torch.version.cuda}",
        }


def library() -> TorchLibrary:
    """Return torch's arrays; ImportError where it has no GPU."""
    if not torch.cuda.is_available():
        raise ImportError("torch is installed, and sees no GPU")
    return TorchLibrary()

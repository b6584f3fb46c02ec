# SPDX-License-Identifier: Apache-2.0
"""Arrays of the device that a run is on: emulated, or a GPU's if TOKENDRAW_TEST_DEVICE names a library."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.cuda import emulated

CHOSEN = "TOKENDRAW_TEST_DEVICE"  # torch or cupy


def is_emulated() -> bool:
    return not os.environ.get(CHOSEN)


@cache
def library() -> Any:
    """Return the library whose arrays lie on the GPU."""
    from bench.device import arrays

    return arrays.load(os.environ[CHOSEN])


def to_device(values: Any, device: int = 0) -> Any:
    """Return values as an array on a device."""
    if is_emulated():
        return emulated.ExchangedArray(values, device)
    values = np.asarray(values)
    if values.dtype.name == "bfloat16" and "bfloat16" not in library().dtypes:
        pytest.skip(f"{library().name} has no bfloat16, on a GPU")
    return library().put(values)


def numpy_of(array: Any) -> np.ndarray[Any, Any]:
    """Wait for the device and copy."""
    return array.numpy() if is_emulated() else library().get(array)

# SPDX-License-Identifier: Apache-2.0
"""The emulated devices as a fixture: built on first use, in their default state when a test begins."""

from collections.abc import Iterator

import pytest

from tests.cuda import emulated
from tokendraw import _core


@pytest.fixture
def cuda() -> Iterator[None]:
    """Let arrays on emulated devices be arrays on CUDA devices; no kernel may have been wrong afterwards."""
    if emulated.compiler() is None:
        pytest.skip("no C++ compiler to build the emulator of CUDA with is installed")
    library = emulated.library()
    library.emulated_set_schedule(0)
    library.emulated_set_driver(13000)
    for device, capability in enumerate(emulated.CAPABILITIES):
        library.emulated_set_compute_capability(device, *capability)
    emulated.take_report()
    _core._use_cuda(library.capsule)
    yield
    _core._use_cuda(None)
    for device in range(len(emulated.CAPABILITIES)):
        library.emulated_synchronize(device)
    assert emulated.take_report() == ""

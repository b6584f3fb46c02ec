# SPDX-License-Identifier: Apache-2.0
"""The devices of a test as fixtures: emulated ones, built on first use, in their default state; or a GPU."""

from collections.abc import Iterator

import pytest

import tokendraw as td
from tests.cuda import arrays, emulated
from tokendraw import _core


@pytest.fixture
def cuda() -> Iterator[None]:
    """Let arrays on devices be worked on; no kernel may have been wrong afterwards."""
    yield from on_emulated_devices() if arrays.is_emulated() else on_a_gpu()


@pytest.fixture
def emulator() -> None:
    """Ask for the emulator: a test that no GPU can run."""
    if not arrays.is_emulated():
        pytest.skip("needs the emulator, and this run is on a GPU")


def on_a_gpu() -> Iterator[None]:
    arrays.library()
    problem = td.cuda.problem()
    assert problem is None, problem
    yield
    arrays.library().wait()


def on_emulated_devices() -> Iterator[None]:
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

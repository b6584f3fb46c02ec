# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every room of the tests shares."""

from collections.abc import Callable, Iterator

import hypothesis
import pytest

import tokendraw as td
from tokendraw import _core

hypothesis.settings.register_profile(
    "tokendraw", derandomize=True, deadline=None, database=None, print_blob=True
)
hypothesis.settings.load_profile("tokendraw")


@pytest.fixture
def set_isa() -> Iterator[Callable[[str], None]]:
    """Force an instruction set for the rest of a test."""
    before = td.build_info()["isa"]
    yield _core._set_isa
    _core._set_isa(before)


@pytest.fixture(params=td.build_info()["isas"])
def isa(request: pytest.FixtureRequest, set_isa: Callable[[str], None]) -> str:
    """Run a test once on every instruction set of this machine."""
    name: str = request.param
    set_isa(name)
    return name

# SPDX-License-Identifier: Apache-2.0
"""Facts about the steps hold for the reference and for the core on every instruction set alike."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tokendraw import reference

LIBRARIES = ("reference", *td.build_info()["isas"])


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, set_isa: Callable[[str], None]) -> Any:
    """Run a test on the reference, and on the core with every instruction set."""
    if request.param == "reference":
        return reference
    set_isa(request.param)
    return td


@pytest.fixture
def kept(library: Any) -> Callable[..., list[int]]:
    """Return the kept tokens of one row."""

    def tokens(logits: Any, **filters: Any) -> list[int]:
        found: Sequence[int] = library.kept_set(np.asarray(logits, dtype=np.float32), **filters).tokens
        return sorted(int(token) for token in found)

    return tokens

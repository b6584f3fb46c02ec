# SPDX-License-Identifier: Apache-2.0
import pytest

from tokendraw.models import load
from tokendraw.models.kjv import GruModel


@pytest.fixture(scope="session")
def draft() -> GruModel:
    """The fastest of the embedded models."""
    return load("kjv-draft")

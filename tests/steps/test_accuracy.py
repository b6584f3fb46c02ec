# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities and probabilities against float64 at the largest vocab of the promise."""

import numpy as np
import pytest

import tokendraw as td
from tests import oracle

pytestmark = pytest.mark.usefixtures("isa")

SIZE = 262144


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("center", [0.0, -200.0, 60000.0])
def test_logprobs_and_probabilities(spread: float, center: float) -> None:
    row = (np.random.default_rng(3).normal(0, 1, SIZE) * spread + center).astype(np.float32)
    expected = oracle.expect(row)
    oracle.check_distribution(expected, row, {})
    oracle.check_kept(expected, td.kept_set(row))


def test_many_small_weights_beside_a_large_one() -> None:
    """Half of the mass in 262143 equal tokens: a running float32 sum would lose most of it."""
    row = np.zeros(SIZE, dtype=np.float32)
    row[SIZE // 2] = np.log(SIZE)
    oracle.check_distribution(oracle.expect(row), row, {})
    draws = td.draw(row, temperature=0.0, seed=0)
    assert draws.raw_logprobs == pytest.approx(-np.log(2 - 1 / SIZE), abs=1.2e-6)

# SPDX-License-Identifier: Apache-2.0
"""Events of probability 1e-6 to 1e-9 happen at their rate to 2^-20, at each of the three choices of a draw.

Each vector is a draw whose uniform was found within that distance of an end. A row of two tokens is made
whose rare one has a share just above the distance, then just below: it must be drawn, then not.
"""

from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tests.draw import models
from tests.vectors import rare_events

VECTORS = rare_events.load()
# Two tokens that only the tile, the lane, the place in the lane tells apart.
PAIRS = ((0, 1024), (0, 1), (0, 32))
TOLERANCE = 2.0**-20


def share(logit: np.float32) -> float:
    weight = np.exp(np.float64(logit))
    return float(weight / (1 + weight))


def logit_beyond(bound: float, direction: float) -> np.float32:
    """Return the float32 nearest to `bound` whose share lies on the given side of it."""
    logit = np.float32(np.log(bound / (1 - bound)))
    while (share(logit) - bound) * direction < 0:
        logit = np.nextafter(logit, np.float32(direction * np.inf))
    return logit


def outcomes(vector: dict[str, int], sampler: models.Sampler) -> tuple[bool, bool]:
    """Say whether the rare token falls where its share is just above, and where just below."""
    tail = rare_events.rarity(vector)
    first, second = PAIRS[vector["level"]]
    rare, common = (first, second) if vector["uniform"] < 2**127 else (second, first)
    drawn = []
    for direction in (1.0, -1.0):
        row = np.full(second + 1, -np.inf, dtype=np.float32)
        row[[common, rare]] = 0, logit_beyond(tail * (1 + direction * TOLERANCE), direction)
        place = (np.array([vector[name]]) for name in ("seed", "stream", "step"))
        drawn.append(int(sampler(row, *place)[0]) == rare)
    return drawn[0], drawn[1]


def test_the_vectors_reach_far_and_on_both_sides() -> None:
    for level in range(3):
        for side in (0, 1):
            found = [v for v in VECTORS if v["level"] == level and (v["uniform"] >> 127) == side]
            distances = sorted(rare_events.rarity(vector) for vector in found)
            assert distances[0] < 4e-9
            assert 1e-7 < distances[-1] < 1e-6
            assert len(distances) >= 10


def test_the_core_draws_rare_tokens_at_their_rate(isa: str) -> None:
    assert isa in td.build_info()["isas"]
    for vector in VECTORS:
        assert outcomes(vector, models.core) == (True, False), vector


@pytest.mark.parametrize("bits", [24, 28])
@pytest.mark.parametrize("level", range(3))
def test_a_coarse_uniform_is_found(level: int, bits: int) -> None:
    sampler = models.nested(models.coarse(bits))
    found: list[Any] = [outcomes(vector, sampler) for vector in VECTORS if vector["level"] == level]
    assert found.count((True, False)) < len(found) / 2


def test_the_right_model_draws_rare_tokens_at_their_rate() -> None:
    for vector in VECTORS:
        assert outcomes(vector, models.nested()) == (True, False), vector


@pytest.mark.parametrize("end", [0, 1])
def test_a_token_of_weight_zero_is_never_drawn_at_the_ends(end: int, isa: str) -> None:
    """The smallest and the largest uniforms fall on the first and the last token that can be drawn."""
    extreme = [vector for vector in VECTORS if vector["level"] == 0 and vector["uniform"] >> 127 == end]
    row = np.full(7 * 1024, -np.inf, dtype=np.float32)
    row[[1500, 1501, 5999]] = 0
    for vector in extreme:
        place = {name: vector[name] for name in ("seed", "stream", "step")}
        assert td.sample(row, **place) in ((1500, 1501), (5999,))[end]

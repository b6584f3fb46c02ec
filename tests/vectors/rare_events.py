# SPDX-License-Identifier: Apache-2.0
"""Search for draws whose uniform falls within 1e-6 .. 1e-9 of either end, one block index at a time.

`python -m tests.vectors.rare_events` writes rare_events.csv anew, in about 15 minutes.
"""

import csv
import math
from pathlib import Path

import numpy as np

from tokendraw.reference import philox4x32_10, uniform

PATH = Path(__file__).with_name("rare_events.csv")
FIELDS = ("level", "seed", "stream", "step", "uniform")
SEED = 20261122
CHUNK = 1 << 16
# How many draws to look at, and how far from the ends their highest word may be.
SEARCHES = ((1 << 23, 1 << 12), (1 << 30, 1 << 5))


def search(level: int, stream: int, count: int, reach: int) -> list[tuple[int, int, int, int, str]]:
    """Return the draws of one stream, steps 0 .. count, whose highest word is within `reach` of an end."""
    found = []
    for first in range(0, count, CHUNK):
        steps = np.arange(first, first + CHUNK, dtype=np.uint64)
        words = np.broadcast_arrays(np.uint64(level), np.uint64(0), np.uint64(stream), steps)
        highest = philox4x32_10(np.stack(words, axis=-1), [SEED, 0])[:, 3]
        for step in steps[(highest < reach) | (highest >= 2**32 - reach)].tolist():
            found.append((level, SEED, stream, step, f"{uniform(SEED, stream, step, level):032x}"))
    return found


def main() -> None:
    """Write the vectors of all searches."""
    with PATH.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for level in range(3):
            for stream, (count, reach) in enumerate(SEARCHES):
                writer.writerows(search(level, stream, count, reach))


def load() -> list[dict[str, int]]:
    """Return the vectors, the uniform as an integer in [0, 2^128)."""
    with PATH.open(newline="", encoding="ascii") as file:
        return [
            {name: int(value, 16 if name == "uniform" else 10) for name, value in line.items()}
            for line in csv.DictReader(file)
        ]


def rarity(vector: dict[str, int]) -> float:
    """Return the distance of the uniform from the nearer end, as a probability."""
    return math.ldexp(min(vector["uniform"], 2**128 - vector["uniform"]), -128)


if __name__ == "__main__":
    main()

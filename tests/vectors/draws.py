# SPDX-License-Identifier: Apache-2.0
"""The draws that no release may change without saying so under "Streams" in the CHANGELOG.

`python -m tests.vectors.draws` writes draws.csv anew from the installed package.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from tokendraw.reference import philox4x32_10

PATH = Path(__file__).with_name("draws.csv")
COUNT = 2000
CASTS = {
    "logits": int,
    "vocab": int,
    "spread": float,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "seed": int,
    "stream": int,
    "step": int,
    "token": int,
}
VOCABS = (1, 2, 31, 32, 33, 257, 1023, 1024, 1025, 2048, 3001)
SPREADS = (0.0, 2.0, 8.0, 32.0)
TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.0, 1.7)
TOP_KS = (0, 0, 0, 1, 40, 1024, 1500)
TOP_PS = (1.0, 1.0, 0.95, 0.6)
MIN_PS = (0.0, 0.0, 0.05)


def logits_of(draw: dict[str, Any]) -> NDArray[np.float32]:
    """Return logits that need no library's generator: 16 random bits each, scaled by a power of two."""
    blocks = np.arange(-(-draw["vocab"] // 4))
    counters = np.stack(np.broadcast_arrays(blocks, draw["logits"], 0, 0), axis=-1)
    words = philox4x32_10(counters, [2026, 1122]).ravel()[: draw["vocab"]]
    return (words >> np.uint32(16)).astype(np.float32) * np.float32(draw["spread"] * 2.0**-16)


def requests() -> list[dict[str, Any]]:
    """Return every draw of the file, without its token."""
    words = philox4x32_10(np.stack(np.broadcast_arrays(np.arange(COUNT), 0, 0, 1), axis=-1), [2026, 1122])
    more = philox4x32_10(np.stack(np.broadcast_arrays(np.arange(COUNT), 1, 0, 1), axis=-1), [2026, 1122])
    return [_request(index, words[index].tolist(), more[index].tolist()) for index in range(COUNT)]


def _request(index: int, words: list[int], more: list[int]) -> dict[str, Any]:
    def one_of(choices: tuple[Any, ...], shift: int) -> Any:
        return choices[(words[0] >> shift) % len(choices)]

    return {
        "logits": index // 8,
        "vocab": VOCABS[index // 8 % len(VOCABS)],
        "spread": SPREADS[index // 8 // len(VOCABS) % len(SPREADS)],
        "temperature": one_of(TEMPERATURES, 0),
        "top_k": one_of(TOP_KS, 8),
        "top_p": one_of(TOP_PS, 16),
        "min_p": one_of(MIN_PS, 24),
        "seed": words[1] << 32 | words[2],
        "stream": more[0] << 24 | words[3] >> 8,
        "step": more[1],
    }


def token_of(draw: dict[str, Any]) -> int:
    """Return what the package draws."""
    names = [name for name in CASTS if name not in ("logits", "vocab", "spread", "token")]
    return int(td.sample(logits_of(draw), **{name: draw[name] for name in names}))


def load() -> list[dict[str, Any]]:
    """Return the draws of the file."""
    with PATH.open(newline="", encoding="ascii") as file:
        return [{name: CASTS[name](value) for name, value in line.items()} for line in csv.DictReader(file)]


def main() -> None:
    """Write the draws of the installed package."""
    with PATH.open("w", newline="", encoding="ascii") as file:
        writer = csv.DictWriter(file, CASTS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**request, "token": token_of(request)} for request in requests())


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The accuracy table: errors against float64 beside the ratio to `np.max`, by vocab, dtype and ISA.

python -m bench.accuracy > docs/accuracy.md
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from tokendraw import _core
from tokendraw.budgets import (
    FLOOR,
    JOBS,
    ROWS,
    Contestant,
    Ratio,
    copies,
    floor_of,
    machine,
    make_rows,
    time_in_turn,
)

VOCABS = (32000, 128256, 262144)
ROUNDS = 31
COUNT = 2

HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# Accuracy beside speed

The largest error of `log_softmax` over all tokens, and of the sum of `softmax`, against NumPy in float64 on
the float32 values of the input, over {count} rows of each kind: {kinds}. The promise is an error of at most
1e-6 + 2^-22 |logprob| and a sum within 1e-6; *share* is the largest part of the allowed error that was used.
(The heavy-tailed rows hold logprobs of several hundred, where float32 itself has steps of 3e-5 to 6e-5.)
Beside them the time of a draw at temperature 0.8 from one flat row in cache, as a multiple of `np.max` over
the same row in float32: median of {rounds} rounds in turn, 95 % interval.

Machine: {machine}.

| vocab | dtype | ISA | logprob error | share | sum error | draw / `np.max` |
|---:|---|---|---:|---:|---:|---:|"""


class Errors(NamedTuple):
    """The largest errors over some rows; `share` is the part of what the promise allows."""

    logprob: float
    share: float
    total: float

    @classmethod
    def of(cls, logits: NDArray[Any]) -> "Errors":
        """Compare all log-probabilities and probabilities of rows with float64."""
        exact = log_softmax(logits.astype(np.float32).astype(np.float64))
        errors = np.abs(td.log_softmax(logits).astype(np.float64) - exact)
        totals = td.softmax(logits).sum(axis=-1, dtype=np.float64)
        allowed = 1e-6 + 2.0**-22 * np.abs(exact)
        return cls(errors.max(), (errors / allowed).max(), np.abs(totals - 1).max())


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    distances = logits - logits.max(axis=-1, keepdims=True)
    return distances - np.log(np.exp(distances).sum(axis=-1, keepdims=True))


def dtypes() -> Iterator[np.dtype[Any]]:
    yield np.dtype(np.float32)
    yield np.dtype(np.float16)
    try:
        import ml_dtypes
    except ImportError:
        return
    yield np.dtype(ml_dtypes.bfloat16)


def speed(logits: NDArray[Any]) -> Ratio:
    """Time a draw at a temperature on one row in cache, beside `np.max` over the float32 values."""
    floor = floor_of(copies(logits.astype(np.float32)))
    drawn = Contestant(JOBS["temperature"].prepare(logits.shape), copies(logits))
    for _ in time_in_turn({FLOOR: floor, "drawn": drawn}, ROUNDS):
        pass
    return Ratio.of(drawn.seconds, floor.seconds)


def lines() -> Iterator[str]:
    """Write the page."""
    yield HEAD.format(count=COUNT, kinds=", ".join(ROWS), rounds=ROUNDS, machine=machine())
    before = td.build_info()["isa"]
    try:
        for vocab in VOCABS:
            yield from _lines_of(vocab)
    finally:
        _core._set_isa(before)
    yield ""
    yield "Made by `python -m bench.accuracy`. The errors are the same on every ISA because the bits are."


def _lines_of(vocab: int) -> Iterator[str]:
    batches = [make_rows(kind, COUNT, vocab) for kind in ROWS]
    flat = make_rows("flat", 1, vocab)
    for dtype in dtypes():
        for isa in td.build_info()["isas"]:
            _core._set_isa(isa)
            found = np.array([Errors.of(batch.astype(dtype)) for batch in batches])
            logprob, share, total = found.max(axis=0)
            low, median, high = speed(flat.astype(dtype))
            yield (
                f"| {vocab} | {dtype.name} | {isa} | {logprob:.2g} | {share:.2f} | {total:.2g} |"
                f" {median:.1f} ({low:.1f} .. {high:.1f}) |"
            )


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)

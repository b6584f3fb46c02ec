# SPDX-License-Identifier: Apache-2.0
"""One step of a beam search beside its floor, and beside what NumPy and torch can do.

    TOKENDRAW_THREADS=1 pytest bench/bench_beam.py

One thread everywhere; the ratio to `np.max` over the same rows is that of a row. As in bench_sample.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tokendraw as td

Rows = NDArray[np.float32]

BEAMS, BEST = 4, 8
WIDE, WIDE_VOCAB = 5000, 32000
KINDS = ("peaked", "flat")


def scores_of(logits: Rows) -> NDArray[np.float64]:
    return -np.random.default_rng(4).exponential(1.0, len(logits)) - 5


def step_with_numpy(logits: Rows, scores: NDArray[np.float64], k: int) -> Any:
    """Step as well as NumPy can: a log-softmax of all rows, then a partial sort."""
    highest = logits.max(-1, keepdims=True)
    totals = np.exp(logits - highest).sum(-1, keepdims=True)
    sums = (logits - (highest + np.log(totals) - scores[:, None].astype(np.float32))).ravel()
    best = np.argpartition(sums, -k)[-k:]
    best = best[np.argsort(-sums[best], kind="stable")]
    return sums[best], best // logits.shape[1], best % logits.shape[1]


def step_with_torch(logits: Rows, scores: NDArray[np.float64], k: int) -> Callable[[], Any]:
    def step() -> Any:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        torch.set_num_threads(1)
        rows, starts = torch.from_numpy(logits), torch.from_numpy(scores)
        best, places = torch.topk((torch.log_softmax(rows, -1) + starts[:, None].float()).flatten(), k)
        return best, places // rows.shape[1], places % rows.shape[1]

    return step


def jobs_of(logits: Rows, k: int) -> dict[str, Callable[[], Any]]:
    scores = scores_of(logits)
    return {
        "tokendraw": lambda: td.top_continuations(logits, scores, k, threads=1),
        "numpy": lambda: step_with_numpy(logits, scores, k),
        "torch": step_with_torch(logits, scores, k),
    }


def test_the_peers_find_the_same(logits_of: Callable[..., Rows]):
    for kind in KINDS:
        jobs = jobs_of(logits_of(kind, BEAMS), BEST)
        scores, parents, tokens = jobs.pop("tokendraw")()
        for job in jobs.values():
            their_scores, their_parents, their_tokens = map(np.asarray, job())
            np.testing.assert_allclose(their_scores, scores, rtol=1e-5)
            assert (their_parents.tolist(), their_tokens.tolist()) == (parents.tolist(), tokens.tolist())


@pytest.mark.benchmark(group="beam step, 8 best of 4 x 128256")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("contestant", ["tokendraw", "numpy", "torch"])
def test_beam_step(
    contestant: str, kind: str, logits_of: Callable[..., Rows], time_beside_floor: Callable[..., Any]
):
    logits = logits_of(kind, BEAMS)
    job = jobs_of(logits, BEST)[contestant]
    best = time_beside_floor(job, logits, 3.3 if contestant == "tokendraw" else None)
    assert len(best[2]) == BEST


@pytest.fixture(scope="module")
def wide_logits() -> Rows:
    logits = np.random.default_rng(5).standard_normal((WIDE, WIDE_VOCAB), np.float32)
    logits *= 3
    return logits


@pytest.mark.benchmark(group="beam step, 10000 best of 5000 x 32000")
def test_wide_beam_step(wide_logits: Rows, time_beside_floor: Callable[..., Any]):
    best = time_beside_floor(jobs_of(wide_logits, 2 * WIDE)["tokendraw"], wide_logits, 2.2)
    assert len(best[2]) == 2 * WIDE

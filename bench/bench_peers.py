# SPDX-License-Identifier: Apache-2.0
"""What is timed against must do the job: the same tokens are kept, and drawn about as often."""

from typing import Any

import numpy as np
import pytest

import tokendraw as td
from bench import peers
from bench.contest import call_of
from tokendraw.budgets import JOBS, make_rows

SHAPE = (2, 3000)
DRAWS = 400
SAMPLING = [name for name, job in JOBS.items() if job.function == "sample"]
# A peer's float32 sums may put the boundary of a nucleus a token further.
LOOSE = {"top_p": 0.001, "min_p": -0.0005}


def prepared(library: str, name: str) -> tuple[Any, np.ndarray]:
    peer = peers.load(library)
    if isinstance(peer, str):
        pytest.skip(peer)
    if name not in peer.jobs:
        pytest.skip(f"{library} has no {name}")
    rows = make_rows(JOBS[name].rows, *SHAPE)
    call = call_of(peer, name, SHAPE)
    own = peer.wrap(rows)
    return (lambda: call(own)), rows


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("library", peers.NAMES)
def test_a_peer_draws_from_the_same_tokens(library, name):
    draw, rows = prepared(library, name)
    parameters = dict(JOBS[name].parameters)
    probs = td.softmax(rows, **parameters)
    loose = {key: value + LOOSE.get(key, 0) for key, value in parameters.items()}
    allowed = td.softmax(rows, **loose) > 0
    drawn = np.stack([np.asarray(draw()) for _ in range(DRAWS)])
    for row in range(len(rows)):
        assert allowed[row, drawn[:, row]].all()
        counts = np.bincount(drawn[:, row], minlength=SHAPE[1])
        for token in np.argsort(-probs[row])[:3]:
            expected = DRAWS * probs[row, token]
            assert abs(counts[token] - expected) < 5 * np.sqrt(expected) + 3


@pytest.mark.parametrize("library", peers.NAMES)
def test_a_peer_finds_the_first_token(library):
    draw, rows = prepared(library, "greedy")
    assert np.asarray(draw()).tolist() == rows.argmax(axis=-1).tolist()


@pytest.mark.parametrize("library", peers.NAMES)
def test_a_peer_gathers_logprobs(library):
    gather, rows = prepared(library, "token_logprobs")
    (tokens,) = JOBS["token_logprobs"].inputs(SHAPE)
    exact = td.log_softmax(rows)[np.arange(len(rows)), tokens]
    np.testing.assert_allclose(np.asarray(gather()), exact, rtol=1e-4)


@pytest.mark.parametrize("library", peers.NAMES)
def test_a_peer_continues_beams(library):
    step, rows = prepared(library, "beam_step")
    (scores,) = JOBS["beam_step"].inputs(SHAPE)
    found, parents, tokens = (np.asarray(part) for part in step())
    total = td.log_softmax(rows) + scores[:, None]
    best = np.argsort(-total, axis=None)[: len(found)]
    np.testing.assert_allclose(found, total.ravel()[best], rtol=1e-4)
    assert (parents * SHAPE[1] + tokens).tolist() == best.tolist()

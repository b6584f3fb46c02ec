# SPDX-License-Identifier: Apache-2.0
"""A step of beam search: 4 beams, the 8 best of 4 x vocab continuations; the floor reads the same 4 rows."""

from bench.contest import beside_peers, contests
from tokendraw.budgets import JOBS


@contests(beside_peers("beam_step"))
def test_beam_step(play):
    answer = play()
    if not isinstance(answer, tuple):  # the floor: the largest logit of every row
        assert answer.shape == (4,)
        return
    scores, parents, tokens = answer
    assert len(scores) == len(parents) == len(tokens) == JOBS["beam_step"].parameters["k"]

# SPDX-License-Identifier: Apache-2.0
"""The first token of the total order, beside `np.argmax` and its like."""

from bench.contest import beside_peers, contests


@contests(beside_peers("greedy"))
def test_greedy(play, contest):
    assert len(play()) == contest.rows

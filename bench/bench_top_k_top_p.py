# SPDX-License-Identifier: Apache-2.0
"""top_k 50, then top_p 0.95, at temperature 0.8: what most models are served with."""

from bench.contest import beside_peers, contests


@contests(beside_peers("top_k_top_p"))
def test_top_k_top_p(play, contest):
    assert len(play()) == contest.rows

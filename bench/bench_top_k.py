# SPDX-License-Identifier: Apache-2.0
"""top_k 50 at temperature 0.8."""

from bench.contest import beside_peers, contests


@contests(beside_peers("top_k"))
def test_top_k(play, contest):
    assert len(play()) == contest.rows

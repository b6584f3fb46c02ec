# SPDX-License-Identifier: Apache-2.0
"""min_p 0.05 on peaked rows: no normaliser is needed."""

from bench.contest import beside_peers, contests


@contests(beside_peers("min_p"))
def test_min_p(play, contest):
    assert len(play()) == contest.rows

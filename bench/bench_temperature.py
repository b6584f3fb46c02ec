# SPDX-License-Identifier: Apache-2.0
"""A draw from the whole distribution at temperature 0.8."""

from bench.contest import beside_peers, contests


@contests(beside_peers("temperature"))
def test_temperature(play, contest):
    assert len(play()) == contest.rows

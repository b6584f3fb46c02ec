# SPDX-License-Identifier: Apache-2.0
"""The log-probability of one token per row: log-softmax and gather."""

from bench.contest import beside_peers, contests


@contests(beside_peers("token_logprobs"))
def test_token_logprobs(play, contest):
    assert len(play()) == contest.rows

# SPDX-License-Identifier: Apache-2.0
"""top_p 0.95: on peaked rows with a nucleus below 1,000 tokens, on flat rows with one above 50,000."""

from bench.contest import beside_peers, contests, nucleus
from tokendraw.budgets import make_rows


@contests(beside_peers("top_p_peaked") + beside_peers("top_p_flat"))
def test_top_p(play, contest):
    assert len(play()) == contest.rows


def test_the_rows_are_what_their_names_say():
    assert nucleus(make_rows("peaked", 1)) < 1000
    assert nucleus(make_rows("flat", 1)) > 50000

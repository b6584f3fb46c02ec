# SPDX-License-Identifier: Apache-2.0
"""The stream of tokens is what it was."""

import numpy as np

import tokendraw as td
from tests.vectors import draws
from tokendraw import reference

GOLDEN = draws.load()
PLACE = ("temperature", "top_k", "top_p", "min_p", "seed", "stream", "step")


def test_the_file_holds_what_its_script_asks_for() -> None:
    asked = [{name: value for name, value in draw.items() if name != "token"} for draw in GOLDEN]
    assert asked == draws.requests()
    assert len({draw["token"] for draw in GOLDEN}) > 500


def test_tokens(isa: str) -> None:
    changed = [index for index, draw in enumerate(GOLDEN) if draws.token_of(draw) != draw["token"]]
    assert changed == []


def test_tokens_in_batches(isa: str) -> None:
    """Eight draws share their logits, and none of their parameters."""
    for first in range(0, len(GOLDEN), 8):
        batch = GOLDEN[first : first + 8]
        columns = {name: [draw[name] for draw in batch] for name in PLACE}
        columns["seed"] = np.array(columns["seed"], dtype=np.uint64)
        rows = np.broadcast_to(draws.logits_of(batch[0]), (len(batch), batch[0]["vocab"]))
        assert td.sample(rows, **columns).tolist() == [draw["token"] for draw in batch]


def test_the_reference_draws_the_same() -> None:
    for draw in GOLDEN[::4]:
        place = {name: draw[name] for name in PLACE}
        assert reference.sample(draws.logits_of(draw), **place) == draw["token"], draw

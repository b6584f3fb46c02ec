# SPDX-License-Identifier: Apache-2.0
"""The stream of tokens is what it was."""

import dataclasses

import numpy as np
import pytest

import tokendraw as td
from tests.vectors import draws, golden
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


# ---- one hundred thousand draws ----

GROUPS = golden.groups()
KEPT = golden.load()


def test_a_hundred_thousand_draws_are_kept() -> None:
    assert sum(group.draws for group in GROUPS) >= 100_000
    assert {group.name: group.draws for group in GROUPS} == {name: len(kept) for name, kept in KEPT.items()}
    assert all(len(np.unique(tokens)) > 100 for tokens in KEPT.values())


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_the_hash_is_that_of_the_tokens(group: golden.Group) -> None:
    """The C++ test, which runs where there are no files, knows the hashes alone."""
    assert golden.hash_of(KEPT[group.name]) == group.hash
    assert golden.hash_of(KEPT[group.name][: golden.FIRST]) == group.first_hash


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_golden_draws(isa: str, group: golden.Group) -> None:
    changed = np.flatnonzero(golden.tokens_of(group) != KEPT[group.name])
    assert changed.size == 0, (
        f"{changed.size} of {group.draws} draws moved, the first: {changed[:8].tolist()}"
    )


def test_a_column_that_a_group_leaves_empty_changes_none_of_its_draws() -> None:
    """So that a new step is a new column and a new group."""
    group = GROUPS[0]
    neutral = dataclasses.replace(group, choices={**group.choices, "min_p": ("0",), "mask": ("none",)})
    drawn = [td.sample(batch.logits, **batch.keywords) for batch in golden.batches(neutral)]
    expected = [KEPT[group.name][batch.draws] for batch in golden.batches(neutral)]
    assert all((a == b).all() for a, b in zip(drawn, expected, strict=True))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_the_reference_draws_the_golden_tokens(group: golden.Group) -> None:
    """The first draws of every batch; in float64, which rounds none of these differently."""
    for batch in golden.cases()[group.name]:
        if batch.logits.shape[-1] > 4096:
            continue
        first = batch.first(4)
        tokens = reference.sample(first.logits, **first.keywords)
        assert tokens.tolist() == KEPT[group.name][first.draws].tolist()

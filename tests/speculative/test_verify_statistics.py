# SPDX-License-Identifier: Apache-2.0
"""What is emitted follows the target alone, and each planted fault is seen.

Seeds are fixed, so no run fails by chance. A p-value below ALARM fails: under new seeds each comparison would
raise a false alarm once in a million runs, all of this file together less than once in 20,000.
"""

from typing import Any

import numpy as np
import pytest
from scipy import stats

import tokendraw as td
from tests.draw.statistics import chi_square
from tests.speculative import models
from tests.speculative.models import Verify

ALARM = 1e-6
VOCAB, LENGTH, SEQUENCES = 5, 3, 15_000

TREE = (-1, -1, -1, 0, 0, 1)
"""Three first tokens, two after the first of them, one after the second."""

ALONE = models.pair(VOCAB, 1)
FAR = models.pair(VOCAB, 2, spread=3.0)

FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.8, "temperature": 1.3},
    "min_p": {"min_p": 0.2, "temperature": 0.7},
}


def p_value(verify: Verify, pair: models.Pair, case: str, seed: int = 11, **filters: Any) -> float:
    """Compare sequences with the target alone."""
    options: dict[str, Any] = dict(filters)
    propose = models.chain(2)
    if case != "chain":
        replacement = case == "with replacement"
        propose = models.tree(TREE, replacement)
        options |= {"parents": np.array([TREE]), "replacement": replacement}
    text = models.emit(verify, pair, propose, SEQUENCES, LENGTH, seed, **options)
    probs = models.sequence_probs(pair.target, LENGTH, **filters)
    index = np.ravel_multi_index(tuple(text.T), (VOCAB,) * LENGTH)
    counts = np.bincount(index, minlength=probs.size)
    if counts[probs == 0].any():
        return 0.0
    return chi_square(counts, probs)


CASES = ("chain", "without replacement", "with replacement")


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("case", CASES)
def test_sequences_follow_the_target(case: str, filters: str) -> None:
    assert p_value(models.core, ALONE, case, **FILTERS[filters]) > ALARM


@pytest.mark.parametrize("case", CASES)
def test_a_draft_far_from_the_target(case: str) -> None:
    assert p_value(models.core, FAR, case) > ALARM


@pytest.mark.parametrize("case", CASES)
def test_the_right_model_passes(case: str) -> None:
    assert p_value(models.model(), ALONE, case) > ALARM


FOUND_BY = {
    models.SHARED: ("chain",),
    models.EQUAL: CASES,
    models.FROM_TARGET: CASES,
    models.NOT_NORMALISED: ("chain",),
    models.KEPT_SIBLING: ("without replacement",),
    models.REMOVED_SIBLING: ("with replacement",),
    models.SAME_TARGET: ("without replacement", "with replacement"),
}


@pytest.mark.parametrize(("fault", "case"), [(fault, case) for fault in FOUND_BY for case in FOUND_BY[fault]])
def test_a_planted_fault_is_found(fault: str, case: str) -> None:
    assert p_value(models.model(fault), ALONE, case) < ALARM


def impossible(verify: Verify) -> float:
    """Say how often a draft comes out that neither model can say."""
    rows = 1000
    drafts = np.full((rows, 1), 2)
    draft = np.broadcast_to(np.float32([1, 0, -9]), (rows, 1, 3))
    target = np.broadcast_to(np.float32([0, 1, -9]), (rows, 2, 3))
    streams = np.arange(rows)
    tokens, _ = verify(drafts, draft, target, 5, streams, streams * 0, top_k=2)
    return float(np.mean(tokens[:, 0] == 2))


def test_what_neither_model_can_say_is_never_accepted() -> None:
    assert impossible(models.core) == 0 == impossible(models.model())
    assert impossible(models.model(models.NOT_STRICT)) > 0.9


def test_every_fault_is_planted() -> None:
    assert {*FOUND_BY, models.NOT_STRICT} == set(models.FAULTS)


def first_tokens(count: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return first tokens and the numbers of accepted drafts of one draft by `sample`."""
    streams = np.arange(count)
    drafts, logits = models.chain(1)(ALONE, streams * 0, 21, streams, streams * 0, options)
    target = ALONE.target[np.stack([streams * 0, drafts[:, 0]], axis=1)]
    return models.core(drafts, logits, target, 21, streams, streams * 0, **options)


@pytest.mark.parametrize("filters", FILTERS)
def test_the_acceptance_rate_is_the_overlap(filters: str) -> None:
    options = FILTERS[filters]
    _, accepted = first_tokens(200_000, **options)
    p, q = (td.softmax(table[0].astype(np.float64), **options) for table in ALONE)
    overlap = float(np.minimum(p, q).sum(dtype=np.float64))
    assert stats.binomtest(int(accepted.sum()), accepted.size, overlap).pvalue > ALARM


@pytest.mark.parametrize("count", [1, 2, 3])
def test_more_siblings_are_accepted_more_often(count: int) -> None:
    """Without replacement, all tokens as siblings leave nothing to reject."""
    rates = {}
    for replacement in (False, True):
        streams = np.arange(50_000)
        parents = (-1,) * count
        drafts, logits = models.tree(parents, replacement)(ALONE, streams * 0, 31, streams, streams * 0, {})
        target = ALONE.target[np.concatenate([streams[:, None] * 0, drafts], axis=1)]
        options = {"parents": np.broadcast_to(parents, drafts.shape), "replacement": replacement}
        _, accepted = models.core(drafts, logits, target, 31, streams, streams * 0, **options)
        rates[replacement] = np.mean(accepted > 0)
    overlap = float(np.minimum(*(td.softmax(table[0]) for table in ALONE)).sum())
    assert rates[False] >= rates[True] - 0.01
    assert (rates[True] > overlap + 0.02) == (count > 1)


def test_all_tokens_as_siblings_leave_nothing_to_reject() -> None:
    streams = np.arange(2000)
    parents = (-1,) * VOCAB
    drafts, logits = models.tree(parents, False)(ALONE, streams * 0, 31, streams, streams * 0, {})
    target = ALONE.target[np.concatenate([streams[:, None] * 0, drafts], axis=1)]
    _, accepted = models.core(
        drafts, logits, target, 31, streams, streams * 0, parents=np.broadcast_to(parents, drafts.shape)
    )
    assert (accepted == 1).all()


@pytest.mark.parametrize("case", ["chain", "tree"])
def test_drafts_that_are_certain(case: str) -> None:
    """Drafts by any rule that has no noise: here the least probable tokens."""
    rows, seed = 100_000, 41
    streams = np.arange(rows)
    parents = None if case == "chain" else np.broadcast_to((-1, -1), (rows, 2))
    drafts = np.broadcast_to(np.argsort(ALONE.target[0])[:2], (rows, 2))
    target = ALONE.target[np.concatenate([streams[:, None] * 0, drafts], axis=1)]
    for verify in (models.core, models.model()):
        tokens, accepted = verify(drafts, None, target, seed, streams, streams * 0, parents=parents)
        probs = td.softmax(ALONE.target[0].astype(np.float64)).astype(np.float64)
        assert chi_square(np.bincount(tokens[:, 0], minlength=VOCAB), probs) > ALARM
        expected = probs[drafts[0, 0]] if case == "chain" else probs[drafts[0]].sum()
        hits = int(np.count_nonzero(accepted))
        assert stats.binomtest(hits, rows, float(expected)).pvalue > ALARM


@pytest.mark.parametrize("size", [1025, 5000])
def test_residuals_of_several_tiles(size: int) -> None:
    """Every token of the residual at its rate, whatever its tile and lane."""
    random = np.random.default_rng(size)
    p = random.exponential(1, size) * np.where(np.arange(size) % 3 == 0, 8, 1)
    q = random.exponential(1, size)
    target, draft = np.log(p).astype(np.float32), np.log(q).astype(np.float32)
    rows = 40_000
    streams = np.arange(rows)
    logits = np.broadcast_to(draft, (rows, 1, size))
    drafts = td.sample(logits, seed=51, stream=streams).astype(np.int64)
    tokens, accepted = models.core(
        drafts, logits, np.broadcast_to(target, (rows, 2, size)), 51, streams, streams * 0
    )
    probs = np.exp(target.astype(np.float64))
    assert chi_square(np.bincount(tokens[:, 0], minlength=size), probs / probs.sum()) > ALARM
    replaced = tokens[accepted == 0, 0]
    left = np.maximum(probs / probs.sum() - np.exp(draft.astype(np.float64)) / q.sum(), 0)
    counts = np.bincount(replaced, minlength=size)
    assert counts[left < 1e-9].sum() == 0
    assert chi_square(counts, left / left.sum()) > ALARM

# SPDX-License-Identifier: Apache-2.0
"""Every solver beside the optimum of a game that can be solved by trying everything."""

import functools
import itertools

import numpy as np
import pytest

import tokendraw as td
from tests.lab.tiny import TinyModel
from tokendraw.lab.judge import Judge
from tokendraw.lab.prefix_search import PrefixSearch, candidate_tokens, text_tokens
from tokendraw.lab.solvers import SOLVERS

TEXT = (3, 1, 4, 1, 2, 4, 4, 3, 1, 2, 0, 3)
LENGTH = 3
EFFORT, LITTLE = 3000, 800
WEIGHTS = (1, 2, 3, 4)
# How far from the optimum a solver ends here, at most, in bits. Those that draw from the model stay below it
# where the optimum is improbable; those that look around reach it.
GAPS = {"samples": 2.3, "continuations": 2.3, "swaps": 0.0, "beam": 0.0, "annealing": 0.0}


def played(solver, model=None, effort=LITTLE, seed=1, batch=128, text=TEXT, length=LENGTH, **options):
    judge = Judge(model or TinyModel(), text, batch=batch)
    search = PrefixSearch(judge, length, effort, seed, **options)
    SOLVERS[solver](search)
    return search


@functools.cache
def optimum(weights):
    """Return the best of all prefixes, and its bits."""
    prefixes = [p for length in range(LENGTH + 1) for p in itertools.product(range(5), repeat=length)]
    bits = Judge(TinyModel(weights), TEXT).bits(prefixes)
    return prefixes[int(bits.argmin())], float(bits.min())


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_optimum_is_found(solver, weights):
    best, best_bits = optimum(weights)
    search = played(solver, TinyModel(weights), EFFORT)
    assert best_bits - 1e-6 <= search.best_bits <= best_bits + GAPS[solver] + 1e-6
    if GAPS[solver] == 0:
        assert search.best == best


def test_the_optima_differ_in_length_and_save_bits():
    assert {len(optimum(weights)[0]) for weights in WEIGHTS} == {2, 3}
    for weights in WEIGHTS:
        assert optimum(weights)[1] < Judge(TinyModel(weights), TEXT).empty_bits - 4


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("effort", [1, 50, 777])
def test_no_more_is_read_than_was_granted(solver, effort):
    model = TinyModel()
    search = PrefixSearch(Judge(model, TEXT), LENGTH, effort, 1)
    model.read = 0
    SOLVERS[solver](search)
    assert search.is_over
    assert search.spent == effort
    assert model.read <= effort


@pytest.mark.parametrize("solver", ["swaps", "beam", "annealing"])
def test_effort_is_what_the_model_reads(solver):
    """But for an end that did not suffice for one more prefix."""
    model = TinyModel()
    search = PrefixSearch(Judge(model, TEXT), LENGTH, LITTLE, 1)
    model.read = 0
    SOLVERS[solver](search)
    assert LITTLE - len(TEXT) - LENGTH < model.read <= LITTLE


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_seed_same_search_whatever_the_batch(solver):
    first = played(solver, batch=128)
    again = played(solver, batch=7)
    assert again.gains == first.gains
    assert again.best == first.best


def test_the_embedded_model_whatever_the_batch():
    """Its logits differ in the last place from one batch to another, which moves no choice here."""
    model = td.models.load("kjv")
    text = model.tokenizer.encode(" of Israel went up out of the land of Egypt")
    first, again = (played("beam", model, 6000, batch=batch, text=text) for batch in (128, 50))
    assert again.best == first.best
    assert [gain.effort for gain in again.gains] == [gain.effort for gain in first.gains]
    np.testing.assert_allclose([g.saved for g in again.gains], [g.saved for g in first.gains], atol=1e-4)
    assert model.tokenizer.decode(first.best).endswith(" children")


@pytest.mark.parametrize("solver", SOLVERS)
def test_another_seed_another_search(solver):
    searches = [played(solver, seed=seed, effort=300) for seed in range(5)]
    is_random = len({tuple(search.gains) for search in searches}) > 1
    assert is_random == (solver != "beam")
    assert all(search.is_random == is_random for search in searches)


@pytest.mark.parametrize("solver", SOLVERS)
def test_gains_rise_and_end_with_the_best(solver):
    search = played(solver)
    efforts, saved = zip(*search.gains, strict=True)
    assert search.gains[0] == (0, 0)
    assert list(saved) == sorted(set(saved))
    assert list(efforts) == sorted(efforts)
    assert efforts[-1] <= LITTLE
    assert saved[-1] == search.judge.empty_bits - search.best_bits
    [bits] = search.judge.bits([search.best])
    assert bits == pytest.approx(search.best_bits, rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("length", "text"), [(1, TEXT), (3, (4,)), (1, (2,))])
def test_the_smallest_games(solver, length, text):
    search = played(solver, length=length, text=text, effort=100)
    assert len(search.best) <= length
    assert search.best_bits <= search.judge.empty_bits


def test_prefixes_hold_text_only():
    for solver in SOLVERS:
        assert TinyModel.bos_token_id not in played(solver).best
    tokens = text_tokens(td.models.load("kjv"))
    assert tokens.tolist() == [token for token in range(1024) if token != 256]


def test_progress_adds_up_to_the_effort():
    told = []
    played("annealing", on_progress=told.append)
    assert sum(told) == LITTLE


def test_scores_that_the_effort_does_not_suffice_for_are_infinite():
    search = PrefixSearch(Judge(TinyModel(), TEXT), LENGTH, 30, 1)
    bits = search.score([(1,), (2,), (3,)])
    assert np.isfinite(bits).tolist() == [True, True, False]
    assert search.is_over
    assert search.score([(4,)]).tolist() == [np.inf]
    assert search.score([]).tolist() == []
    assert search.draw(3, after_text=True) == []


def test_a_large_vocabulary_is_tried_in_part():
    model = td.models.load("kjv")
    text = model.tokenizer.encode("And Joseph said unto his brethren, I am Joseph;")
    judge = Judge(model, text)
    allowed = text_tokens(model)
    chosen = candidate_tokens(judge, allowed, 100, np.random.default_rng(1))
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == 100
    assert set(text) <= set(chosen.tolist()) <= set(allowed.tolist())
    assert set(judge.expected(40).tolist()) - {256} <= set(chosen.tolist())
    others = candidate_tokens(judge, allowed, 100, np.random.default_rng(2))
    assert set(others.tolist()) != set(chosen.tolist())
    assert candidate_tokens(judge, allowed, 5, np.random.default_rng(1)).tolist() == sorted(set(text))[:5]
    search = played("beam", model, effort=1000, text=text, candidates=50)
    assert len(search.tokens) == 50
    assert search.spent == 1000

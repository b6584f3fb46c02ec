# SPDX-License-Identifier: Apache-2.0
"""Every solver beside the optimum of a game that can be solved by trying everything."""

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
EFFORT = 3000
# How far from the optimum a solver may end, in bits, with this effort: none of those that look around.
GAPS = {"samples": 0.5, "continuations": 0.5, "swaps": 0, "beam": 0, "annealing": 0}


def played(solver, model=None, effort=EFFORT, seed=1, batch=128, text=TEXT, length=LENGTH, **options):
    judge = Judge(model or TinyModel(), text, batch=batch)
    search = PrefixSearch(judge, length, effort, seed, **options)
    SOLVERS[solver](search)
    return search


def optimum(model):
    prefixes = [p for length in range(LENGTH + 1) for p in itertools.product(range(5), repeat=length)]
    bits = Judge(model, TEXT).bits(prefixes)
    return prefixes[int(bits.argmin())], bits.min()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weights", [1, 2, 3])
def test_the_optimum_is_found(solver, weights):
    model = TinyModel(weights)
    best, best_bits = optimum(model)
    search = played(solver, model)
    assert search.best_bits <= best_bits + GAPS[solver] + 1e-9
    if GAPS[solver] == 0:
        assert search.best == best


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
    """But for what did not suffice for one more prefix at the end, and `generate`, which reads its prompt at the start."""
    model = TinyModel()
    judge = Judge(model, TEXT)
    model.read = 0
    search = PrefixSearch(judge, LENGTH, EFFORT, 1)
    SOLVERS[solver](search)
    prompts = 0 if solver == "beam" else len(TEXT)
    assert EFFORT - 100 <= model.read + prompts <= EFFORT


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_seed_same_search_whatever_the_batch(solver):
    first = played(solver, batch=128)
    again = played(solver, batch=7)
    assert again.gains == first.gains
    assert again.best == first.best


@pytest.mark.parametrize("solver", set(SOLVERS) - {"beam"})
def test_another_seed_another_search(solver):
    assert len({tuple(played(solver, seed=seed, effort=300).gains) for seed in range(5)}) > 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_gains_rise_and_end_with_the_best(solver):
    search = played(solver)
    efforts, saved = zip(*search.gains, strict=True)
    assert search.gains[0] == (0, 0)
    assert list(saved) == sorted(set(saved))
    assert list(efforts) == sorted(efforts)
    assert efforts[-1] <= EFFORT
    assert saved[-1] == search.judge.empty_bits - search.best_bits
    [bits] = search.judge.bits([search.best])
    assert bits == pytest.approx(search.best_bits, rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("length", "text"), [(1, TEXT), (3, (4,)), (1, (2,))])
def test_the_smallest_games(solver, length, text):
    search = played(solver, length=length, text=text, effort=600)
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
    assert sum(told) == EFFORT


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

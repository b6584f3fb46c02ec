# SPDX-License-Identifier: Apache-2.0
"""Best-first search: against brute force over all completions, its budgets, and bad rows."""

import itertools
import math

import numpy as np
import pytest

import tokendraw as td
from tests.search.models import JoiningModel, TableModel, completions, ranked
from tokendraw import _core
from tokendraw.models.base import complete

PROMPT = (1, 0)
CASES = [
    (vocab, depth, ends, levels, seed)
    for vocab, depth, ends in [
        (3, 3, ()),
        (3, 6, (0,)),
        (4, 4, (0, 2)),
        (5, 4, (4,)),
        (6, 3, ()),
        (6, 4, (1, 5)),
    ]
    for levels in (None, 4)
    for seed in range(3)
]


def search(model, **options):
    return td.best_first_search(model, PROMPT, **{"max_new_tokens": 4, "eos_token_id": (), **options})


def facts(found):
    """Return all that must not depend on how the search was done."""
    return [(each.tokens, each.logprob, each.score, each.logprobs, each.finished) for each in found]


def check_exact(found, expected, num_return, ends, length_penalty=0.0):
    """Check proved hypotheses to the last bit."""
    assert found.proved
    best = expected[:num_return]
    assert [tuple(each.tokens) for each in found] == [each.tokens for each in best]
    assert [each.logprob for each in found] == [each.logprob for each in best]
    for each in found:
        assert each.score == each.logprob / len(each.tokens) ** length_penalty
        assert each.logprob == pytest.approx(sum(each.logprobs), abs=1e-12)
        assert each.finished == (each.tokens[-1] in ends)
    if len(expected) > num_return:
        rest = expected[num_return]
        assert rest.logprob / len(rest.tokens) ** length_penalty <= found.bound <= found[-1].score
    else:
        assert found.bound == -math.inf


@pytest.mark.parametrize(("vocab", "depth", "ends", "levels", "seed"), CASES)
def test_it_equals_brute_force(vocab, depth, ends, levels, seed):
    kind = JoiningModel if seed % 2 else TableModel
    model = kind(vocab, seed, levels=levels)
    expected = ranked(completions(model, PROMPT, depth, ends))
    for num_return in (1, 2, 7, len(expected), len(expected) + 3):
        for batch_size, candidates in ((1, 1), (3, 2), (64, 32)):
            found = search(
                model,
                max_new_tokens=depth,
                eos_token_id=ends,
                num_return=num_return,
                batch_size=batch_size,
                candidates=candidates,
                max_expansions=None,
                max_states=2 if candidates == 2 else 512,
            )
            check_exact(found, expected, num_return, ends)


@pytest.mark.parametrize("length_penalty", [0.5, 1.0, 2.0, -0.5, -1.0])
@pytest.mark.parametrize("seed", range(4))
def test_length_penalties_are_exact(length_penalty, seed):
    model = TableModel(4, seed, spread=1.0, levels=None if seed % 2 else 4)
    expected = ranked(completions(model, PROMPT, 5, (0, 3)), length_penalty)
    for num_return, candidates in itertools.product((1, 5), (1, 2, 32)):
        found = search(
            model,
            max_new_tokens=5,
            eos_token_id=(0, 3),
            num_return=num_return,
            length_penalty=length_penalty,
            candidates=candidates,
            batch_size=2,
        )
        check_exact(found, expected, num_return, (0, 3), length_penalty)


@pytest.mark.parametrize(
    "filters",
    [
        {"temperature": 0.3},
        {"temperature": 0},
        {"top_k": 2},
        {"top_p": 0.7, "temperature": 2.0},
        {"typical_p": 0.4},
        {"min_p": 0.2, "bias": {1: 1.5, 2: -math.inf}},
    ],
)
@pytest.mark.parametrize("candidates", [1, 32])
def test_steps_change_what_is_searched(filters, candidates):
    for seed in range(4):
        model = TableModel(5, seed)
        expected = ranked(completions(model, PROMPT, 4, (0,), **filters))
        found = search(model, eos_token_id=0, num_return=3, candidates=candidates, **filters)
        assert found.proved
        assert [tuple(each.tokens) for each in found] == [each.tokens for each in expected[:3]]
        assert [each.logprob for each in found] == [each.logprob for each in expected[:3]]
        params = td.SamplingParams(**{name: value for name, value in filters.items() if name != "bias"})
        as_object = td.best_first_search(
            model, PROMPT, params, max_new_tokens=4, eos_token_id=0, num_return=3, bias=filters.get("bias")
        )
        assert facts(as_object) == facts(found)


def test_min_tokens_keep_the_end_back():
    model = TableModel(4, 3, rows=lambda prefix: [6.0, 1.0, 0.5, len(prefix) * 0.1])
    assert len(search(model, eos_token_id=0)[0].tokens) == 1
    found = search(model, eos_token_id=0, min_tokens=3)
    assert found.proved
    assert len(found[0].tokens) == 4
    assert 0 not in found[0].tokens[:3]


def test_penalties_see_the_prompt_and_the_path():
    model = TableModel(4, rows=lambda prefix: [0.0, 3.0, 2.5, 2.0])
    plain = search(model, max_new_tokens=3)
    assert plain[0].tokens == [1, 1, 1]
    assert search(model, max_new_tokens=3, presence_penalty=9.0)[0].tokens == [2, 3, 1]
    own_only = {"presence_penalty": 9.0, "penalty_history": "output"}
    assert sorted(search(model, max_new_tokens=3, **own_only)[0].tokens) == [1, 2, 3]


def test_a_constraint_depends_on_the_path():
    model = TableModel(6, 5)
    trie = td.TokenTrie([[1, 2], [1, 3, 4], [2, 5, 5], [4]], vocab_size=6, eos_token_id=0)
    expected = ranked(completions(model, PROMPT, 4, (0,), mask=trie.mask))
    assert len(expected) == 4
    for constraint in (trie, lambda prompt, tokens: trie.mask(tokens)):
        found = search(model, eos_token_id=0, num_return=9, constraint=constraint, batch_size=3)
        check_exact(found, expected, 9, (0,))
    without_4 = np.arange(6) != 4
    expected = [each for each in expected if 4 not in each.tokens]
    both = {"constraint": trie, "mask": without_4}
    found = search(model, eos_token_id=0, num_return=9, **both)
    assert found.proved, "after 1, 3 nothing may follow, which disproves nothing"
    assert [tuple(each.tokens) for each in found] == [each.tokens for each in expected]
    with pytest.raises(TypeError, match="mask must be bool where there is a constraint"):
        search(model, constraint=trie, mask=trie.bitmask([[]])[0])
    everywhere = np.arange(6) != 3
    expected = ranked(completions(model, PROMPT, 4, (0,), mask=lambda _: everywhere))
    check_exact(search(model, eos_token_id=0, mask=everywhere), expected, 1, (0,))


# --- Ties --------------------------------------------------------------------------------------------------


def test_equal_scores_are_ordered_by_length_then_by_the_total_order():
    flat = TableModel(3, rows=lambda prefix: [0.0, 0.0, 0.0])
    found = search(flat, max_new_tokens=2, num_return=9)
    assert [each.tokens for each in found] == [list(pair) for pair in itertools.product(range(3), repeat=2)]
    certain = TableModel(
        3, rows=lambda prefix: [-np.inf, 0.0, 0.0] if prefix == PROMPT else [0, -np.inf, -np.inf]
    )
    found = search(certain, max_new_tokens=3, eos_token_id=2, num_return=4)
    assert [each.tokens for each in found] == [[2], [1, 0, 0]], "equally probable, the shorter first"
    assert found[0].logprob == found[1].logprob


# --- Effort ------------------------------------------------------------------------------------------------


def test_nothing_is_read_that_cannot_matter():
    """Beside the greedy path every beginning that was read is at least as probable as the answer."""
    model = JoiningModel(6, 2, spread=2.0)
    found = search(model, max_new_tokens=5, batch_size=1)
    greedy = []
    for _ in range(5):
        greedy.append(int(td.greedy(model.row((*PROMPT, *greedy)))))
    path_logprob = {
        tokens[:depth]: sum(
            float(td.log_softmax(model.row((*PROMPT, *tokens[:place])))[tokens[place]])
            for place in range(depth)
        )
        for tokens in (prefix[len(PROMPT) :] for prefix in model.read)
        for depth in [len(tokens)]
    }
    needless = [
        tokens
        for tokens, logprob in path_logprob.items()
        if logprob < found[0].logprob and tokens != tuple(greedy[: len(tokens)])
    ]
    assert needless == []
    assert len(model.read) == len(set(model.read)) == found.expansions


def test_several_nodes_are_read_in_one_call():
    model = JoiningModel(6, 2, spread=0.5)
    alone = search(model, batch_size=1)
    calls = len(model.calls)
    assert calls == alone.expansions
    model.calls.clear()
    batched = search(model, batch_size=16)
    assert len(model.calls) < calls / 8
    assert facts(batched) == facts(alone)


@pytest.mark.parametrize("kind", [TableModel, JoiningModel])
def test_dropped_states_are_read_again(kind):
    model = kind(5, 7, spread=0.7)
    kept = search(model, max_new_tokens=5, num_return=4)
    read = len(model.read)
    model.read.clear()
    for max_states in (0, 1, 5):
        dropped = search(model, max_new_tokens=5, num_return=4, max_states=max_states)
        assert facts(dropped) == facts(kept)
        assert (dropped.proved, dropped.bound, dropped.expansions) == (True, kept.bound, kept.expansions)
    assert len(model.read) > 3 * read


class Counting(JoiningModel):
    """A model that knows how many rows of its states are alive."""

    alive = most = 0

    class Row:
        def __init__(self, prefix):
            self.prefix = prefix
            Counting.alive += 1
            Counting.most = max(Counting.most, Counting.alive)

        def __del__(self):
            Counting.alive -= 1

    def start(self, prompts):
        state, logits = super().start(prompts)
        return tuple(map(self.Row, state)), logits

    def step(self, state, tokens):
        after, logits = super().step(tuple(row.prefix for row in state), tokens)
        return tuple(map(self.Row, after)), logits


def test_states_are_kept_to_the_limit():
    model = Counting(6, 2, spread=0.3)
    found = search(model, max_new_tokens=5, max_states=20, batch_size=4, max_expansions=None)
    assert found.expansions > 300
    assert Counting.most <= 20 + 4 * 4 + 1
    assert Counting.alive == 0


# --- Budgets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_budget_leaves_a_true_bound(seed):
    model = TableModel(5, seed, spread=0.6)
    expected = ranked(completions(model, PROMPT, 5, (0,)))
    proved = 0
    for budget in (5, 6, 9, 20, 50, 100, 400):
        for num_return in (1, 4):
            found = search(
                model,
                max_new_tokens=5,
                eos_token_id=0,
                max_expansions=budget,
                num_return=num_return,
                batch_size=3,
                candidates=2,
            )
            assert found.expansions <= budget
            mine = {tuple(each.tokens) for each in found}
            missed = next((each.logprob for each in expected if each.tokens not in mine), -math.inf)
            assert missed <= found.bound
            assert found == sorted(found, key=lambda each: -each.logprob)
            is_best = [tuple(each.tokens) for each in found] == [
                each.tokens for each in expected[:num_return]
            ]
            if found.proved:
                proved += 1
                assert is_best
            else:
                assert found.bound >= (found[-1].logprob if len(found) == num_return else -math.inf)
    assert proved


@pytest.mark.parametrize("batch_size", [1, 4])
def test_it_is_never_worse_than_greedy(batch_size):
    for seed in range(10):
        model = TableModel(6, seed)
        logprob, tokens = 0.0, []
        while len(tokens) < 5 and 0 not in tokens:
            logprobs = td.log_softmax(model.row((*PROMPT, *tokens)))
            tokens.append(int(logprobs.argmax()))
            logprob += float(logprobs.max())
        options = {"max_expansions": len(tokens), "batch_size": batch_size}
        found = search(model, max_new_tokens=5, eos_token_id=0, **options)
        assert found[0].logprob >= logprob


def test_too_small_a_budget_finds_nothing_and_says_so():
    found = search(TableModel(5, 1), max_new_tokens=5, max_expansions=1)
    assert list(found) == []
    assert (found.proved, found.expansions) == (False, 1)
    assert found.bound == pytest.approx(float(td.log_softmax(TableModel(5, 1).row(PROMPT)).max()))


def test_progress_is_told():
    told = []
    found = search(TableModel(5, 4), batch_size=2, on_progress=told.append)
    assert told[-1] == (found.expansions, found[0].score, found.bound)
    assert [each.bound for each in told] == sorted((each.bound for each in told), reverse=True)
    assert [each.score for each in told] == sorted(each.score for each in told)
    assert told[0].score == -math.inf


# --- Bad rows ----------------------------------------------------------------------------------------------


def broken(bad, value=np.nan):
    """Return a model with a bad row after some beginnings."""
    good = TableModel(4, 11)

    def rows(prefix):
        row = good.row(prefix)
        return np.full(4, value) if prefix[len(PROMPT) :] in bad else row

    return TableModel(4, rows=rows), good


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "no finite")])
@pytest.mark.parametrize("bias", [None, {0: 0.0}])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_bad_row_loses_no_hypothesis(batch_size, bias, value, reason):
    _, good = broken(())
    second = ranked(completions(good, PROMPT, 3, (0,)))[1].tokens
    bad = (second[: len(second) - 1],)
    if bad[0] == ranked(completions(good, PROMPT, 3, (0,)))[0].tokens[: len(bad[0])]:
        bad = ((3,),)
    model, _ = broken(bad, value)
    options = {
        "bias": bias,
        "max_new_tokens": 3,
        "eos_token_id": 0,
        "num_return": 40,
        "batch_size": batch_size,
    }
    with pytest.raises(td.InvalidLogitsError, match=reason) as caught:
        search(model, **options)
    assert caught.value.__notes__ == [f"after the tokens {[list(bad[0])]}"]
    assert not caught.value.hypotheses.proved
    left = [
        each for each in ranked(completions(good, PROMPT, 3, (0,))) if each.tokens[: len(bad[0])] != bad[0]
    ]
    marked = search(model, on_invalid="mark", **options)
    assert [tuple(each.tokens) for each in marked] == [each.tokens for each in left]
    assert not marked.proved
    lost = [
        each.logprob for each in completions(good, PROMPT, 3, (0,)) if each.tokens[: len(bad[0])] == bad[0]
    ]
    assert marked.bound >= max(lost)


def test_a_bad_row_that_cannot_matter_leaves_the_proof():
    model = TableModel(
        3,
        rows=lambda prefix: (
            [np.nan] * 3 if prefix[-1] == 2 else [9.0, 0.0, -1.0] if prefix == PROMPT else [5, 0, 0]
        ),
    )
    options = {"max_new_tokens": 2, "eos_token_id": 0}
    assert search(model, **options)[0].tokens == [0]
    found = search(model, num_return=3, on_invalid="mark", **options)
    assert found.proved is (found.bound < found[-1].score)


def test_found_hypotheses_come_with_the_error():
    model, good = broken(((1,), (2,), (3,)))
    with pytest.raises(td.InvalidLogitsError) as caught:
        search(model, max_new_tokens=3, eos_token_id=0, num_return=5)
    assert [each.tokens for each in caught.value.hypotheses] == [[0]]
    assert caught.value.hypotheses[0].logprob == float(td.log_softmax(good.row(PROMPT))[0])


def test_all_candidates_masked():
    with pytest.raises(td.InvalidLogitsError, match="nothing can be drawn from row 0"):
        search(TableModel(4), mask=np.zeros(4, dtype=bool))
    found = search(TableModel(4), mask=np.zeros(4, dtype=bool), on_invalid="mark")
    assert (list(found), found.proved, found.bound) == ([], False, 0.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be in [1, 2^31), got 0"),
        ({"num_return": 0}, ValueError, "num_return must be >= 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"candidates": 0}, ValueError, "candidates must be >= 1, got 0"),
        ({"max_states": -1}, ValueError, "max_states must be >= 0, got -1"),
        ({"max_expansions": 0}, ValueError, "max_expansions must be >= 1, got 0"),
        ({"max_expansions": 1.5}, TypeError, "max_expansions must be an integer, got 1.5"),
        ({"length_penalty": math.nan}, ValueError, "length_penalty must be finite, got nan"),
        ({"eos_token_id": 4}, ValueError, "eos_token_id must be in [0, 4), got 4"),
        ({"temperature": [0.5, 1.0]}, ValueError, "temperature must be one value in a search, got 2"),
        ({"xtc_probability": 0.5}, ValueError, "xtc_probability must be 0 or 1 in a search, got 0.5"),
        ({"top_p": 1.5}, ValueError, "top_p must be in (0, 1], got 1.5"),
        ({"on_invalid": "skip"}, ValueError, "on_invalid must be 'raise', 'mark' or None, got 'skip'"),
        ({"num_beams": 2}, TypeError, "best_first_search() got an unexpected keyword argument 'num_beams'"),
    ],
)
def test_bad_arguments(options, error, message):
    model = TableModel(4)
    with pytest.raises(error) as caught:
        search(model, **options)
    assert str(caught.value).replace("2147483648", "2^31") == message
    assert model.calls == []


def test_bad_prompts():
    model = TableModel(4)
    with pytest.raises(ValueError, match=r"prompt tokens must be in \[0, 4\), got 4 \(prompt 0\)"):
        td.best_first_search(model, [4], max_new_tokens=1)
    with pytest.raises(ValueError, match="a text prompt needs a model with a tokenizer"):
        td.best_first_search(model, "a", max_new_tokens=1)


def test_the_heap_refuses_nodes_that_it_does_not_wait_for():
    heap = _core._BestFirst(2, 1, 0.0, [])
    row = np.zeros((1, 2), np.int32), np.zeros((1, 2), np.float32), [False]
    calls = [
        lambda node: heap.expand([node], *row),
        heap.drop,
        heap.path,
        heap.logprob,
        lambda node: heap.promises([node]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="node must be one that next returned, got 7"):
            call(7)
    with pytest.raises(ValueError, match="got 0"):
        heap.drop(0)
    assert heap.next(1) == [(0, -1, -1, 0, 0)]
    with pytest.raises(ValueError, match="got 0"):
        heap.expand([0, 0], *(np.repeat(each, 2, axis=0) for each in row[:2]), [False, False])


# --- The tree, and a real model ----------------------------------------------------------------------------


class Tree:
    """What `SearchTree` is told, as a list."""

    def __init__(self):
        self.nodes = []
        self.kept, self.finished, self.won = set(), set(), None

    def add(self, parent, token, logprob):
        assert -1 <= parent < len(self.nodes)
        self.nodes.append(((() if parent < 0 else self.nodes[parent][0]) + (token,), logprob))
        return len(self.nodes) - 1

    def keep(self, node):
        self.kept.add(node)

    def finish(self, node):
        self.finished.add(node)

    def best(self, node):
        self.won = node


def test_the_tree_holds_what_was_read():
    model, tree = JoiningModel(9, 3), Tree()
    found = search(model, num_return=3, eos_token_id=0, tree=tree, candidates=2)
    paths = [path for path, _ in tree.nodes]
    assert len(set(paths)) == len(paths)
    assert tree.nodes[tree.won] == (tuple(found[0].tokens), found[0].logprob)
    read = {prefix[len(PROMPT) :] for prefix in model.read} - {()}
    completed = {tuple(each.tokens) for each in found}
    assert {paths[node] for node in tree.kept} == read | completed
    assert completed <= {paths[node] for node in tree.finished}
    assert all(path[-1] == 0 or len(path) == 4 for path in (paths[node] for node in tree.finished))
    for path, logprob in tree.nodes:
        rows = [td.log_softmax(model.row((*PROMPT, *path[:place]))) for place in range(len(path))]
        assert logprob == pytest.approx(sum(float(row[token]) for row, token in zip(rows, path, strict=True)))


def test_torch_logits_give_the_same():
    torch = pytest.importorskip("torch")

    class TorchModel(TableModel):
        def _rows_of(self, call, state):
            state, logits = super()._rows_of(call, state)
            return state, torch.tensor(logits)

    options = {"num_return": 3, "max_states": 3, "batch_size": 4, "candidates": 2}
    assert facts(search(TorchModel(5, 3), **options)) == facts(search(TableModel(5, 3), **options))


@pytest.mark.parametrize("prompt", ["And the LORD spake unto", "Blessed are the"])
def test_the_embedded_model(prompt):
    model = td.models.load("kjv")
    assert complete(model) is model
    found = td.best_first_search(model, prompt, max_new_tokens=6, num_return=2)
    assert found.proved
    for hypothesis in found:
        rows = [model.start([model.tokenizer.encode(prompt)])]
        for token in hypothesis.tokens[:-1]:
            rows.append(model.step(rows[-1][0], [token]))
        expected = [
            float(td.log_softmax(logits[0])[token])
            for (_, logits), token in zip(rows, hypothesis.tokens, strict=True)
        ]
        assert hypothesis.logprobs == pytest.approx(expected, abs=1e-4)
        assert hypothesis.text == model.tokenizer.decode(hypothesis.tokens)
    [greedy] = td.generate(model, prompt, max_new_tokens=6, temperature=0)
    assert found[0].logprob >= sum(greedy.raw_logprobs) - 1e-4
    alone = td.best_first_search(model, prompt, max_new_tokens=6, num_return=2, batch_size=1, max_states=3)
    assert [each.tokens for each in alone] == [each.tokens for each in found]

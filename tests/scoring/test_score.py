# SPDX-License-Identifier: Apache-2.0
"""Completions scored in batches, against the reference's log-probabilities read token by token."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import tokendraw as td
from tests.search.models import ExtendingModel, JoiningModel, TableModel
from tokendraw import reference, scoring
from tokendraw.models.tokenizer import Tokenizer

PAIRS = [
    ([1, 2], [3, 0, 4, 4, 1, 2]),
    ([3], [2]),
    ([], [0, 1]),
    ([1, 2], [4]),
    ([2, 2, 2, 2], []),
    ([1], [1, 1, 1, 1, 1, 1, 1, 1, 1]),
]
KINDS = [TableModel, JoiningModel, ExtendingModel]


def brute_force(model, prompt, completion):
    """Return log-probabilities in float64 and ranks, each token after a row of its own."""
    prompt = list(prompt) or [model.bos_token_id]
    if not completion:
        return [], []
    rows = [model.row((*prompt, *completion[:place])) for place in range(len(completion))]
    logprobs, ranks = reference.token_logprobs(np.stack(rows), completion, ranks=True)
    return logprobs.tolist(), ranks.tolist()


def check(model, found, prompt, completion):
    logprobs, ranks = brute_force(model, prompt, completion)
    assert found.tokens == list(completion)
    assert found.ranks == ranks
    assert found.logprobs == pytest.approx(logprobs, rel=2**-22, abs=1e-6)
    assert found.logprob == math.fsum(found.logprobs) == pytest.approx(sum(logprobs), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_pairs_of_any_lengths(kind, batch_size):
    model = kind(5, seed=3, levels=8)
    found = td.score(model, *map(list, zip(*PAIRS, strict=True)), batch_size=batch_size)
    for one, pair in zip(found, PAIRS, strict=True):
        check(model, one, *pair)
        assert td.score(model, pair[0] or [[]], pair[1] or [[]]) in (one, [one]), "alone as in a batch"


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=60)
def test_any_pairs(data):
    tokens = st.lists(st.integers(0, 3), max_size=7)
    pairs = data.draw(st.lists(st.tuples(tokens, tokens), max_size=6))
    model = data.draw(st.sampled_from(KINDS))(4, data.draw(st.integers(0, 9)))
    prompts, completions = [prompt for prompt, _ in pairs], [completion for _, completion in pairs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_CHUNK", data.draw(st.integers(1, 100)))
        found = td.score(model, prompts, completions, batch_size=data.draw(st.integers(1, 5)))
    assert len(found) == len(pairs)
    for one, pair in zip(found, pairs, strict=True):
        check(model, one, *pair)


def test_one_prompt_or_one_completion_for_all():
    model = ExtendingModel(5, seed=1)
    prompts, completions = [[1], [2, 3]], [[4, 4], [0]]
    assert td.score(model, [1], completions) == [td.score(model, [1], each) for each in completions]
    assert td.score(model, prompts, [4, 4]) == [td.score(model, each, [4, 4]) for each in prompts]
    assert td.score(model, prompts, completions) == [
        td.score(model, [1], [4, 4]),
        td.score(model, [2, 3], [0]),
    ]
    assert td.score(model, [[1]], [4]) == [td.score(model, [1], [4])]
    assert td.score(model, [], []) == []
    assert td.score(model, [1], []) == []


@pytest.mark.parametrize("empty", ["", [[]], np.zeros((1, 0), dtype=int)])
def test_an_empty_completion_is_certain(empty):
    model = td.models.load("kjv-draft")
    found = td.score(model, "In the beginning", empty)
    [found] = found if isinstance(found, list) else [found]
    assert found == td.Score(0.0, [], [], [], num_bytes=0)
    assert math.copysign(1.0, found.bits) == 1.0
    assert math.isnan(found.bits_per_byte)


# --- What the model is asked for ---------------------------------------------------------------------------


def test_equal_prompts_are_read_once_and_last_tokens_never():
    model = ExtendingModel(5, seed=1)
    td.score(model, [1, 2], [[3, 0], [4], [3, 0, 1]])
    assert sorted(model.read) == [(1, 2), (1, 2, 3), (1, 2, 3), (1, 2, 3, 0)]
    assert model.calls == ["start", "extend"]


def test_logits_are_kept_for_a_chunk_at_a_time(monkeypatch):
    monkeypatch.setattr(scoring, "_CHUNK", 5 * 2 * 3)
    model = ExtendingModel(5, seed=2)
    shapes = []
    extend = model.extend
    model.extend = lambda state, tokens: (shapes.append(np.shape(tokens)), extend(state, tokens))[1]
    completions = [[1] * 12, [2, 3] * 4]
    found = td.score(model, [0], completions)
    assert shapes == [(2, 3), (2, 3), (2, 3), (1, 2)], "a row that is finished is read no more"
    for one, completion in zip(found, completions, strict=True):
        check(model, one, [0], completion)


def test_batches_are_no_larger_than_asked_and_of_like_lengths():
    model = TableModel(3, seed=1)
    sizes = []
    start = model.start
    model.start = lambda prompts: (sizes.append([len(each) for each in prompts]), start(prompts))[1]
    td.score(model, [[1] * length for length in (5, 1, 4, 2, 3)], [2, 0], batch_size=2)
    assert sizes == [[1, 2], [3, 4], [5]]


# --- Text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kjv-draft", "kjv-backward"])
def test_text_is_scored_in_the_direction_of_the_model(name):
    model = td.models.load(name)
    prompt, completion = (
        ("In the beginning God", " created") if name == "kjv-draft" else (" earth.", "and the")
    )
    found = td.score(model, prompt, completion)
    whole = model.tokenizer.encode(prompt + completion if name == "kjv-draft" else completion + prompt)
    state, logits = model.start([whole[: -len(found.tokens)]])
    for token, logprob in zip(found.tokens, found.logprobs, strict=True):
        assert logprob == pytest.approx(float(td.log_softmax(logits)[0, token]), abs=2e-5)
        state, logits = model.step(state, [token])
    assert model.tokenizer.decode(found.tokens) == completion
    assert found.num_bytes == len(completion)
    assert found.bits_per_byte == found.bits / len(completion)
    assert found.bits == -found.logprob / math.log(2)


def test_a_token_across_the_border_belongs_to_the_completion():
    model = JoiningModel(258, seed=0)
    model.tokenizer = Tokenizer([(ord("b"), ord("c"))])
    found = td.score(model, "ab", "cd")
    assert found.tokens == [257, ord("d")], "the end of the prompt is scored with it"
    assert found.num_bytes == 3
    check(model, found, [ord("a")], found.tokens)
    assert td.score(model, [ord("a"), ord("b")], "cd").tokens == [ord("c"), ord("d")]


def test_models_without_a_tokenizer_score_ids():
    found = td.score(TableModel(5), [1], [2, 3])
    assert found.num_bytes is None
    assert math.isnan(found.bits_per_byte)


# --- What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "completion", "options", "error", "message"),
    [
        ("a", [1], {}, ValueError, r"a text prompt needs a model with a tokenizer, got 'a' \(prompt 0\)"),
        (
            [1],
            "a",
            {},
            ValueError,
            r"a text completion needs a model with a tokenizer, got 'a' \(completion 0\)",
        ),
        (
            [1],
            [[1], [2, 7]],
            {},
            ValueError,
            r"completion tokens must be in \[0, 5\), got 7 \(completion 1\)",
        ),
        (
            [1],
            [[1], b"a"],
            {},
            TypeError,
            r"a completion must be text or token ids, got b'a' \(completion 1\)",
        ),
        ([1], [[1], [0.5]], {}, TypeError, r"completion tokens must be an integer, got 0.5 \(completion 1\)"),
        ([[1], [2]], [[1]] * 3, {}, ValueError, r"one completion per prompt \(2\) or one for all, got 3"),
        ([1], [1], {"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        (
            [1],
            [1],
            {"on_invalid": "skip"},
            ValueError,
            "on_invalid must be None, 'raise' or 'mark', got 'skip'",
        ),
    ],
)
def test_errors_come_before_any_work(prompt, completion, options, error, message):
    model = TableModel(5)
    with pytest.raises(error, match=message):
        td.score(model, prompt, completion, **options)
    assert model.calls == []


def test_an_empty_prompt_needs_a_first_token():
    model = TableModel(5)
    model.bos_token_id = None
    with pytest.raises(ValueError, match="a prompt must not be empty for a model without bos_token_id"):
        td.score(model, [[]], [1])


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_logits(kind):
    def rows(prefix):
        return [np.nan if prefix[-2:] == (1, 2) else 0.5, 0, 0, 1]

    model = kind(4, rows=rows)
    completions = [[3, 3], [1, 2, 0, 3], [2, 1, 2]]
    with pytest.raises(
        td.InvalidLogitsError, match=r"for token 2 of a completion \(completion 1\)$"
    ) as raised:
        td.score(model, [0], completions)
    assert raised.value.rows == (1,)
    marked = td.score(model, [0], completions, on_invalid="mark")
    check(model, marked[0], [0], completions[0])
    check(model, marked[2], [0], completions[2])
    assert np.isnan(marked[1].logprobs).tolist() == [False, False, True, False]
    assert marked[1].ranks[2] == -1
    assert math.isnan(marked[1].logprob)


def test_a_forbidden_token_has_no_probability():
    model = ExtendingModel(3, rows=lambda prefix: [0.0, -np.inf, 0.0])
    found = td.score(model, [0], [2, 1, 0])
    assert found.logprobs[1] == found.logprob == -math.inf
    assert found.bits == math.inf


class Misshapen(TableModel):
    def extend(self, state, tokens):
        return list(itertools.repeat(state, 2)), np.zeros((1, 9, 3), np.float32)


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"logits of shape \(1, 2, vocab\), got \(1, 9, 3\)"):
        td.score(Misshapen(3), [0], [1, 2, 0])


@pytest.mark.parametrize("name", ["float16", "torch"])
def test_logits_of_any_kind(name):
    if name == "torch":
        torch = pytest.importorskip("torch")

    class Model(ExtendingModel):
        def converted(self, logits):
            return torch.tensor(logits) if name == "torch" else logits.astype(name)

        def start(self, prompts):
            state, logits = super().start(prompts)
            return state, self.converted(logits)

        def extend(self, state, tokens):
            states, logits = super().extend(state, tokens)
            return states, self.converted(logits)

    found = td.score(Model(5, seed=4, levels=16), [1], [[2, 0, 3], [4, 4]])
    for one, completion in zip(found, [[2, 0, 3], [4, 4]], strict=True):
        check(ExtendingModel(5, seed=4, levels=16), one, [1], completion)

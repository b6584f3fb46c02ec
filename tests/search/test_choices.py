# SPDX-License-Identifier: Apache-2.0
"""Choices between options, against scoring each one alone; tries, against looking at every sequence."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import tokendraw as td
from tests.search.models import JoiningModel, TableModel
from tokendraw.models.tokenizer import Tokenizer

PROMPT = [2, 0, 1]
OPTIONS = [[3, 1, 2], [3, 1], [3, 1, 2, 0, 0, 1], [4], [0, 0, 0, 0], [3, 2, 2], [4]]


class ExtendingModel(JoiningModel):
    """A model that reads several tokens at once; `read` has every prefix it was asked for."""

    def extend(self, state, tokens):
        columns = np.asarray(tokens).T
        states, logits = [], []
        for column in columns:
            after = [
                prefix if token < 0 else (*prefix, int(token))
                for prefix, token in zip(state, column, strict=True)
            ]
            rows = [
                np.zeros(self.vocab_size, np.float32) if token < 0 else self.row(prefix)
                for prefix, token in zip(after, column, strict=True)
            ]
            self.read += [prefix for prefix, token in zip(after, column, strict=True) if token >= 0]
            state = tuple(after)
            states.append(state)
            logits.append(np.stack(rows))
        self.calls.append("extend")
        return states, np.stack(logits, axis=1)


def direct(model, prompt, option):
    """Return the log-probability of one option, read alone."""
    total = 0.0
    for place, token in enumerate(option):
        total += float(td.log_softmax(model.row((*prompt, *option[:place])))[token])
    return total


class Letters:
    """A tokenizer with a token per letter, that joins some pairs of letters; ids are places in `pieces`."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def encode(self, text):
        ids = []
        while text:
            piece = max((each for each in self.pieces if text.startswith(each)), key=len)
            ids.append(self.pieces.index(piece))
            text = text[len(piece) :]
        return ids

    def decode(self, ids):
        return "".join(self.pieces[token] for token in ids)

    def token_bytes(self, token):
        return self.pieces[token].encode()


def with_letters(*pieces, seed=3, kind=JoiningModel):
    model = kind(len(pieces), seed)
    model.tokenizer = Letters(*pieces)
    return model


# --- Scores ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TableModel, JoiningModel, ExtendingModel])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_sums_are_those_of_each_option_alone(kind, batch_size):
    for seed in range(5):
        model = kind(5, seed)
        expected = [direct(model, PROMPT, option) for option in OPTIONS]
        choice = td.choose(model, PROMPT, OPTIONS, batch_size=batch_size)
        assert choice.logprobs == choice.scores == expected
        assert choice.index == expected.index(max(expected))
        assert choice.option is OPTIONS[choice.index]


@pytest.mark.parametrize("kind", [TableModel, JoiningModel, ExtendingModel])
def test_every_beginning_is_read_once(kind):
    model = kind(5, 1)
    td.choose(model, PROMPT, OPTIONS)
    inner = {tuple(option[:length]) for option in OPTIONS for length in range(len(option))}
    assert sorted(model.read) == sorted((*PROMPT, *beginning) for beginning in inner)
    levels = {TableModel: 6, JoiningModel: 6, ExtendingModel: 3}
    assert len(model.calls) == levels[kind], "start, then level by level, unbranched runs in one go"


def test_batches_are_no_larger_than_asked():
    model = JoiningModel(6, 1)
    sizes = []
    step = model.step
    model.step = lambda state, tokens: (sizes.append(len(tokens)), step(state, tokens))[1]
    options = [list(each) for each in itertools.product(range(6), repeat=3)]
    choice = td.choose(model, PROMPT, options, batch_size=5)
    assert choice.logprobs == [direct(model, PROMPT, option) for option in options]
    assert max(sizes) == 5
    assert sum(sizes) == 6 + 36


def test_several_prompts():
    model = JoiningModel(5, 2)
    prompts = [[1], [2, 3], [1], np.array([4, 4, 4])]
    shared = td.choose(model, prompts, OPTIONS)
    assert shared == [td.choose(model, prompt, OPTIONS) for prompt in prompts]
    own = [OPTIONS[:2], OPTIONS[2:3], OPTIONS[3:], OPTIONS]
    assert td.choose(model, prompts, own) == [
        td.choose(model, prompt, options) for prompt, options in zip(prompts, own, strict=True)
    ]
    assert td.choose(model, [], OPTIONS) == []
    model.read.clear()
    td.choose(model, [[1], [1]], OPTIONS)
    assert len(model.read) == len(set(model.read)), "equal questions are asked once"


def test_torch_logits_give_the_same():
    torch = pytest.importorskip("torch")

    class TorchModel(ExtendingModel):
        def _rows_of(self, call, state):
            state, logits = super()._rows_of(call, state)
            return state, torch.tensor(logits)

        def extend(self, state, tokens):
            states, logits = super().extend(state, tokens)
            return states, torch.tensor(logits)

    for method in ("score", "greedy"):
        options = {"method": method, "eos_token_id": 4}
        choices = [td.choose(kind(5, 2), PROMPT, OPTIONS, **options) for kind in (TorchModel, ExtendingModel)]
        assert choices[0].index == choices[1].index
        np.testing.assert_array_equal(choices[0].logprobs, choices[1].logprobs)


def test_ties_go_to_the_lower_index():
    model = TableModel(4, rows=lambda prefix: [0.0, 0.0, 0.0, 0.0])
    assert td.choose(model, [1], [[2, 1], [3, 3], [0, 0]]).index == 0
    assert td.choose(model, [1], [[2, 1], [3], [0]]).index == 1


# --- Text --------------------------------------------------------------------------------------------------


def test_tokens_are_those_of_the_joined_text():
    model = with_letters("a", "b", "c", "x", " ", " b", " c", "xb")
    for prompt, options in [
        ("ax", ["a", "b", "c"]),
        ("a", [" b", " c a"]),
        ("a ", ["b", "c"]),
        ("", ["a", "xb"]),
    ]:
        choice = td.choose(model, prompt, options)
        whole = [model.tokenizer.encode(prompt + option) for option in options]
        alone = model.tokenizer.encode(prompt)
        shared = max(
            size for size in range(len(alone) + 1) if all(each[:size] == alone[:size] for each in whole)
        )
        start = alone[:shared] or [0]
        assert choice.logprobs == [direct(model, start, each[shared:]) for each in whole]
    assert td.choose(model, "ax", ["b"]).logprobs == [direct(model, [0], [7])], "x and b are one token"


def test_without_a_first_token_they_are_encoded_apart():
    model = with_letters("x", "b", "xb")
    model.bos_token_id = None
    assert td.choose(model, "x", ["b"]).logprobs == [direct(model, [0], [1])]


def test_token_ids_and_text_may_be_mixed():
    model = with_letters("a", "b", "ab")
    mixed = td.choose(model, "a", ["b", [2, 1], "ab"])
    assert mixed.logprobs == [direct(model, [0], option) for option in ([1], [2, 1], [2])]
    assert td.choose(model, [0], ["b"]).logprobs == [direct(model, [0], [1])]


def test_a_tokenizer_may_read_leftward():
    model = td.models.load("kjv-backward")
    choice = td.choose(model, "for ever and ever.", ["endureth", "Moses"], delimiter=" ")
    tokens = [model.tokenizer.encode(option + " for ever and ever.") for option in ("endureth", "Moses")]
    prompt = model.tokenizer.encode("for ever and ever.")
    prompt = prompt[: min(map(len, (prompt, *tokens)))]
    while any(own[: len(prompt)] != prompt for own in tokens):
        prompt.pop()
    for own, logprob in zip(tokens, choice.logprobs, strict=True):
        state, logits = model.start([prompt])
        total = 0.0
        for token in own[len(prompt) :]:
            total += float(td.log_softmax(logits[0])[token])
            state, logits = model.step(state, [token])
        assert logprob == pytest.approx(total, abs=1e-4)


# --- Normalised --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "length"),
    [
        (("token",), lambda option, tokens: len(tokens)),
        (("acc_norm", "character"), lambda option, tokens: len(option)),
        (("acc_bytes", "byte"), lambda option, tokens: len(option.encode())),
        ((None, "acc"), lambda option, tokens: 1),
    ],
)
def test_scores_are_normalised(names, length):
    model = with_letters("a", "ß", "aß", "é", " ", " a")
    options = ["aß", "éé", "a", "ßé a"]
    plain = td.choose(model, "é", options, delimiter=" ")
    tokens = [model.tokenizer.encode("é " + option)[1:] for option in options]
    expected = [
        direct(model, [3], own) / length(option, own) for option, own in zip(options, tokens, strict=True)
    ]
    for name in names:
        choice = td.choose(model, "é", options, normalize=name, delimiter=" ")
        assert choice.scores == expected
        assert choice.logprobs == plain.logprobs
        assert choice.index == expected.index(max(expected))
    as_ids = td.choose(model, [3], tokens, normalize=names[0])
    assert len(as_ids.scores) == 4


@pytest.mark.parametrize("name", ["acc_mutual_info", "unconditional"])
@pytest.mark.parametrize(("bare", "start"), [("", [0]), ("é", [3]), ([4, 4], [4, 4])])
def test_the_unconditional_is_subtracted(name, bare, start):
    model = with_letters("a", "ß", "aß", "é", " ", " a")
    options = ["aß", "éé", "a"]
    choice = td.choose(model, "éé", options, normalize=name, delimiter=" ", unconditional_prompt=bare)
    tokens = [model.tokenizer.encode(" " + option) for option in options]
    expected = [direct(model, [3, 3], own) - direct(model, start, own) for own in tokens]
    assert choice.scores == expected
    assert choice.index == expected.index(max(expected))


def test_what_cannot_be_does_not_win():
    never = [-np.inf, 0.0, 0.0]
    model = TableModel(3, rows=lambda prefix: never)
    choice = td.choose(model, [1], [[0], [1], [0, 1]])
    assert (choice.index, choice.logprobs[0], choice.logprobs[2]) == (1, -np.inf, -np.inf)
    choice = td.choose(model, [1], [[0], [1]], normalize="unconditional")
    assert (choice.index, math.isnan(choice.scores[0])) == (1, True)
    assert td.choose(model, [1], [[0], [0, 0]]).index == 0


# --- Greedily ----------------------------------------------------------------------------------------------


def greedy_by_hand(model, prompt, options, eos=None):
    """Walk with the list of options that are left."""
    path = []
    while True:
        left = [option for option in options if option[: len(path)] == path]
        if all(len(option) == len(path) for option in left):
            return options.index(path)
        row = model.row((*prompt, *path))
        allowed = {option[len(path)] for option in left if len(option) > len(path)}
        if path in left:
            allowed.add(eos)
        token = max(sorted(allowed), key=lambda token: row[token])
        if path in left and token == eos:
            return options.index(path)
        path.append(token)


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_the_greedy_answer_is_one_of_the_options(batch_size):
    random = np.random.default_rng(4)
    for seed in range(8):
        model = JoiningModel(6, seed)
        options = [random.integers(1, 6, size).tolist() for size in random.integers(1, 5, 12)]
        prompts = [[3], [1, 1], [2, 5, 0], [4]]
        found = td.choose(model, prompts, options, method="greedy", eos_token_id=0, batch_size=batch_size)
        for prompt, choice in zip(prompts, found, strict=True):
            assert choice.index == greedy_by_hand(model, prompt, options, 0)
            assert choice.option is options[choice.index]
            expected = direct(model, prompt, options[choice.index])
            assert choice.logprobs[choice.index] == choice.scores[choice.index] == expected
            assert sum(map(math.isnan, choice.logprobs)) == len(options) - 1


def test_the_greedy_answer_costs_a_row_per_token():
    model = JoiningModel(6, 1)
    options = [list(each) for each in itertools.product(range(6), repeat=4)]
    choice = td.choose(model, PROMPT, options, method="greedy")
    assert choice.index == greedy_by_hand(model, PROMPT, options)
    assert model.calls == ["start", "step", "step", "step"]
    assert len(model.read) == 4


def test_greedy_needs_an_end_where_options_begin_others():
    model = TableModel(5)
    with pytest.raises(ValueError, match=r"must not begin another one .* got \[3, 1\] and \[3, 1, 2\]"):
        td.choose(model, PROMPT, [[4], [3, 1], [3, 1, 2]], method="greedy")
    assert td.choose(model, PROMPT, [[3, 1], [3, 1]], method="greedy").index == 0
    model.eos_token_id = 0
    assert td.choose(model, PROMPT, [[3, 1], [3, 1, 2]], method="greedy").index in (0, 1)


# --- The tree ----------------------------------------------------------------------------------------------


def nodes_of(tree):
    """Return every node of a tree by its tokens: log-probability, kept, finished."""
    paths = {
        tuple(each.token for each in map(tree._nodes.__getitem__, tree._path_to(node))): node
        for node in range(len(tree))
    }
    return {path: tree._nodes[node] for path, node in paths.items()}


def test_a_tree_is_told_every_beginning():
    model = TableModel(5, 3)
    tree = td.SearchTree()
    choice = td.choose(model, PROMPT, OPTIONS, normalize="token", tree=tree)
    nodes = nodes_of(tree)
    beginnings = {tuple(option[:length]) for option in OPTIONS for length in range(1, len(option) + 1)}
    assert set(nodes) == beginnings
    assert len(tree) == len(beginnings), "each one once"
    for path, node in nodes.items():
        assert node.logprob == direct(model, PROMPT, path)
        assert node.kept
        assert node.finished == (list(path) in OPTIONS)
    best = sorted(tree._path, key=lambda node: len(tree._path_to(node)))
    assert [tree._nodes[node].token for node in best] == choice.option


def test_a_tree_lacks_what_is_not_known():
    model, _ = nan_after((3, 1))
    tree = td.SearchTree()
    td.choose(model, PROMPT, OPTIONS, on_invalid="mark", tree=tree)
    known = [option for option in OPTIONS if option[:2] != [3, 1]] + [[3, 1]]
    assert set(nodes_of(tree)) == {
        tuple(option[:length]) for option in known for length in range(1, len(option) + 1)
    }
    unknown = td.SearchTree()
    assert td.choose(model, PROMPT, [[3, 1, 2]], on_invalid="mark", tree=unknown).index == -1
    assert len(unknown) == 2
    assert not unknown._path


# --- Bad input ---------------------------------------------------------------------------------------------


def nan_after(*bad):
    good = TableModel(5, 6)
    return TableModel(
        5, rows=lambda prefix: np.full(5, np.nan) if prefix[3:] in bad else good.row(prefix)
    ), good


@pytest.mark.parametrize("method", ["score", "greedy"])
def test_invalid_rows(method):
    model, good = nan_after((3, 1))
    with pytest.raises(td.InvalidLogitsError, match="NaN"):
        td.choose(model, PROMPT, [[3, 1, 2]], method=method)
    marked = td.choose(model, PROMPT, [[3, 1, 2]], method=method, on_invalid="mark")
    assert (marked.index, marked.option) == (-1, None)
    assert math.isnan(marked.logprobs[0])
    marked = td.choose(model, PROMPT, OPTIONS, on_invalid="mark")
    known = [not math.isnan(logprob) for logprob in marked.logprobs]
    assert known == [option[:2] != [3, 1] or len(option) == 2 for option in OPTIONS]
    assert [logprob for logprob in marked.logprobs if logprob == logprob] == [
        direct(good, PROMPT, option) for option, is_known in zip(OPTIONS, known, strict=True) if is_known
    ]
    assert known[marked.index]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1], []), {}, ValueError, "options must not be empty"),
        (([1], [[1], []]), {}, ValueError, "an option must not be empty (option 1) (prompt 0)"),
        (
            ([[1], [2]], [[1]]),
            {"tree": td.SearchTree()},
            ValueError,
            "tree must be given with one prompt and method 'score', got 2 prompts",
        ),
        (
            ([1], [[1]]),
            {"tree": td.SearchTree(), "method": "greedy"},
            ValueError,
            "tree must be given with one prompt and method 'score', got method 'greedy'",
        ),
        (([1], "yes"), {}, TypeError, "options must be a sequence of options, got 'yes'"),
        (([1], [[1, 5]]), {}, ValueError, "option tokens must be in [0, 5), got 5 (option 0)"),
        (
            ([1], ["yes"]),
            {},
            ValueError,
            "a text option needs a model with a tokenizer, got 'yes' (option 0)",
        ),
        (([1], [b"yes"]), {}, TypeError, "an option must be text or token ids, got b'yes' (option 0)"),
        (("", ["yes"]), {}, ValueError, "a text option needs a model with a tokenizer, got 'yes' (option 0)"),
        (
            ([[1], "a"], [[1]]),
            {},
            ValueError,
            "a text prompt needs a model with a tokenizer, got 'a' (prompt 1)",
        ),
        (
            ([[1], [2]], [[[1]], [[2]], [[3]]]),
            {},
            ValueError,
            "options must be those of all prompts or one list per prompt (2), got 3",
        ),
        (
            ([1], [[1]]),
            {"normalize": "length"},
            ValueError,
            "normalize must be one of None, 'acc', 'token', 'character', 'acc_norm', 'byte', 'acc_bytes', "
            "'unconditional', 'acc_mutual_info', got 'length'",
        ),
        (([1], [[1]]), {"method": "beam"}, ValueError, "method must be one of 'score', 'greedy', got 'beam'"),
        (
            ([1], [[1]]),
            {"method": "greedy", "normalize": "token"},
            ValueError,
            "normalize must be None where method is 'greedy', got 'token'",
        ),
        (([1], [[1]]), {"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        (
            ([1], [[1]]),
            {"normalize": "byte"},
            ValueError,
            "bytes of token ids need a model with a tokenizer, got [1]",
        ),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    model = TableModel(5)
    with pytest.raises(error) as caught:
        td.choose(model, *arguments, **options)
    assert str(caught.value) == message
    assert model.calls == []


# --- Tries -------------------------------------------------------------------------------------------------

SEQUENCES = st.lists(st.lists(st.integers(1, 70), max_size=4), max_size=12)


@hypothesis.given(SEQUENCES, st.lists(st.integers(0, 70), max_size=4), st.sampled_from([None, 0, (0, 71)]))
def test_masks_allow_what_some_sequence_has_next(sequences, prefix, eos):
    trie = td.TokenTrie(sequences, vocab_size=80, eos_token_id=eos)
    size = len(prefix)
    allowed = {each[size] for each in sequences if each[:size] == prefix and len(each) > size}
    if prefix in sequences:
        allowed |= {None: set(), 0: {0}, (0, 71): {0, 71}}[eos]
    assert trie.allowed(prefix) == sorted(allowed)
    assert np.flatnonzero(trie.mask(prefix)).tolist() == sorted(allowed)
    assert trie.mask(prefix).shape == (80,)
    words = trie.bitmask([prefix, []])
    assert (words.dtype, len(words)) == (np.int32, 2)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    assert np.flatnonzero(bits[0]).tolist() == sorted(allowed)
    assert (prefix in trie) is (prefix in sequences)
    assert len(trie) == len(sequences)


def test_masks_are_taken_by_sample_and_generate():
    trie = td.TokenTrie([[3, 1], [3, 40], [50]], vocab_size=64, eos_token_id=7)
    logits = np.zeros((200, 64), np.float32)
    for mask in (np.stack([trie.mask([3])] * 200), trie.bitmask([[3]] * 200)):
        assert set(td.sample(logits, mask=mask, seed=1).tolist()) == {1, 40}
    assert td.sample(logits[0], mask=trie.mask([50]), seed=1) == 7
    with pytest.raises(td.InvalidLogitsError):
        td.sample(logits[0], mask=trie.mask([9]), seed=1)
    model = TableModel(64, 1)
    drawn = td.generate(model, [1], max_new_tokens=1, n=50, seed=2, mask=trie.mask([]))
    assert {each.tokens[0] for each in drawn} == {3, 50}


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ([[[1], [2, -1]]], {}, ValueError, "tokens must be in [0, 2^31), got -1 (sequence 1)"),
        ([[[1, 9]]], {"vocab_size": 9}, ValueError, "tokens must be in [0, 9), got 9 (sequence 0)"),
        ([[["a"]]], {}, TypeError, "tokens must be an integer, got 'a' (sequence 0)"),
        ([[]], {"eos_token_id": 9, "vocab_size": 9}, ValueError, "eos_token_id must be in [0, 9), got 9"),
        ([[]], {"vocab_size": 0}, ValueError, "vocab_size must be in [1, 2^31), got 0"),
    ],
)
def test_bad_tries(arguments, options, error, message):
    with pytest.raises(error) as caught:
        td.TokenTrie(*arguments, **options)
    assert str(caught.value).replace("2147483648", "2^31") == message


def test_the_embedded_tokenizer_joins_prompt_and_option():
    model = td.models.load("kjv")
    assert isinstance(model.tokenizer, Tokenizer)
    apart = td.choose(model, "In the beginning God created the", [" heaven", " earth"])
    space_moved = td.choose(model, "In the beginning God created the ", ["heaven", "earth"])
    assert space_moved.logprobs == apart.logprobs

# SPDX-License-Identifier: Apache-2.0
"""The loop, on models small enough to see through, and on the embedded ones."""

import functools

import numpy as np
import pytest

import tokendraw as td

EOS = 0
LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"


class Pieces:
    """A tokenizer whose token i is the i-th piece of bytes; text is encoded letter by letter."""

    def __init__(self, pieces, right_to_left=False):
        self.pieces = pieces
        self.right_to_left = right_to_left

    def encode(self, text):
        ids = [self.pieces.index(letter.encode()) for letter in text]
        return ids[::-1] if self.right_to_left else ids

    def decode(self, ids):
        pieces = [self.pieces[token] for token in ids]
        return b"".join(pieces[::-1] if self.right_to_left else pieces).decode(errors="replace")

    def token_bytes(self, token):
        return self.pieces[token]


class TableModel:
    """A model whose logits depend on the last two tokens; it notes how often and how wide it is called."""

    bos_token_id = EOS
    eos_token_id = EOS

    def __init__(self, table, pieces=(), right_to_left=False):
        self.table = table
        self.vocab_size = table.shape[-1]
        self.tokenizer = Pieces(list(pieces), right_to_left) if pieces else None
        self.started = []
        self.widths = []

    def start(self, prompts):
        self.started.append([list(prompt) for prompt in prompts])
        state = np.array([([EOS, EOS, *prompt])[-2:] for prompt in prompts])
        state.setflags(write=False)
        return state, self.table[state[:, 0], state[:, 1]]

    def step(self, state, tokens):
        assert len(state) == len(tokens)
        self.widths.append(len(tokens))
        return self.start_from(np.stack([state[:, 1], tokens], axis=1))

    def start_from(self, state):
        state.setflags(write=False)
        return state, self.table[state[:, 0], state[:, 1]]

    def select(self, state, rows):
        return state[rows]


def random_model(vocab=30, seed=1, eos=-1.0):
    """Return a model of one-letter tokens, with the logit of the end token shifted."""
    table = np.random.default_rng(seed).normal(0, 1.5, (vocab, vocab, vocab)).astype(np.float32)
    table[..., EOS] += eos
    return TableModel(table, [b"", *(letter.encode() for letter in LETTERS)])


def chain_model(*pieces, right_to_left=False):
    """Return a model that says the pieces in order, one token each, then its end token."""
    size = len(pieces) + 1
    table = np.full((size, size, size), -10, dtype=np.float32)
    for token in range(size):
        table[:, token, (token + 1) % size] = 10
    pieces = [piece if isinstance(piece, bytes) else piece.encode() for piece in pieces]
    return TableModel(table, [b"", *pieces], right_to_left)


def greedy(model, prompts=((EOS,),), **options):
    return td.generate(model, prompts, **{"max_new_tokens": 50, "temperature": 0, **options})


# --- Alone or in a batch -----------------------------------------------------------------------------------

PROMPTS = ["", "a", "the quick brown fox", [3, 1, 4, 1, 5], np.array([2, 7], dtype=np.int32)]


def test_a_sequence_is_the_same_alone_and_in_a_batch():
    model = random_model()
    options = {"max_new_tokens": 60, "seed": 5, "top_p": 0.9}
    batch = td.generate(model, PROMPTS, **options)
    alone = [td.generate(model, [prompt], stream=i, **options)[0] for i, prompt in enumerate(PROMPTS)]
    assert batch == alone
    assert len({len(each.tokens) for each in batch}) > 1, "rows must finish at different steps"


def test_other_sequences_do_not_matter():
    model = random_model()
    few = td.generate(model, ["a", "b"], max_new_tokens=40, seed=5)
    many = td.generate(model, ["a", "b", "c", "dd"], max_new_tokens=[40, 40, 3, 90], seed=5)
    assert few == many[:2]


def test_finished_rows_leave_the_batch():
    model = random_model()
    lengths = [len(each.tokens) for each in td.generate(model, PROMPTS, max_new_tokens=60, seed=5)]
    expected = [sum(length > step for length in lengths) for step in range(1, max(lengths))]
    assert model.widths == expected


def test_parameters_per_prompt_are_those_of_the_prompt_alone():
    model = random_model()
    columns = {
        "temperature": [0.5, 1.0, 2.0, 0.0, 1.3],
        "top_k": np.array([3, 0, 7, 1, 20]),
        "top_p": [1.0, 0.3, 0.9, 1.0, 0.5],
        "max_new_tokens": [5, 60, 1, 0, 30],
        "seed": [1, 2**64 - 1, 3, 4, 1],
        "step": [0, 1, 0, 7, 2**31],
    }
    batch = td.generate(model, PROMPTS, min_p=0.01, **columns)
    for place, prompt in enumerate(PROMPTS):
        own = {name: values[place] for name, values in columns.items()}
        assert td.generate(model, [prompt], min_p=0.01, stream=0, **own) == [batch[place]]


def test_masks_and_biases_are_shared_or_per_prompt():
    model = random_model()
    mask = np.ones((3, 30), dtype=bool)
    mask[0, 1:20] = mask[1, 5:] = False
    bias = np.zeros((3, 30), dtype=np.float32)
    bias[2, 7] = 50
    first, second, third = td.generate(
        model, ["a", "b", "c"], max_new_tokens=20, seed=1, mask=mask, bias=bias
    )
    assert not set(range(1, 20)) & set(first.tokens)
    assert max(second.tokens) < 5
    assert third.tokens == [7] * 20
    [shared] = td.generate(model, "a", max_new_tokens=5, seed=1, bias={7: 50.0})
    assert shared.tokens == [7] * 5


def test_parameters_may_come_as_an_object_and_keywords_win():
    model = random_model()
    params = td.SamplingParams(temperature=0.7, top_k=4)
    options = {"max_new_tokens": 20, "seed": 3}
    as_object = td.generate(model, "a", params, **options)
    assert as_object == td.generate(model, "a", temperature=0.7, top_k=4, **options)
    one_changed = td.generate(model, "a", params, top_k=1, **options)
    assert one_changed == td.generate(model, "a", temperature=0.7, top_k=1, **options) != as_object


# --- Seeds, streams, steps ---------------------------------------------------------------------------------


def test_equal_seeds_give_equal_texts_and_no_seed_a_new_one():
    model = random_model()
    options = {"max_new_tokens": 30, "eos_token_id": ()}
    assert td.generate(model, "a", seed=1, **options) == td.generate(model, "a", seed=1, **options)
    assert td.generate(model, "a", seed=1, **options) != td.generate(model, "a", seed=2, **options)
    assert td.generate(model, "a", **options) != td.generate(model, "a", **options)


def test_samples_of_a_prompt_differ_and_the_prompt_is_read_once():
    model = random_model()
    found = td.generate(model, ["a", "bc"], n=3, max_new_tokens=9, seed=4, eos_token_id=())
    assert len(found) == 6
    assert len({tuple(each.tokens) for each in found}) == 6
    assert model.started == [[[1], [2, 3]]]
    assert model.widths == [6] * 8


@pytest.mark.parametrize(("seed", "first_stream"), [(4, 3), ([8, 4], 0)])
def test_sample_j_takes_the_stream_of_its_prompt_plus_j(seed, first_stream):
    model = random_model()
    found = td.generate(model, ["a", "bc"], n=3, max_new_tokens=30, seed=seed)
    for sample in range(3):
        alone = td.generate(model, "bc", max_new_tokens=30, seed=4, stream=first_stream + sample)
        assert alone == [found[3 + sample]]


def test_a_sequence_can_be_continued_at_its_step():
    model = random_model()
    options = {"seed": 9, "eos_token_id": ()}
    [whole] = td.generate(model, [1], max_new_tokens=25, **options)
    [begun] = td.generate(model, [1], max_new_tokens=10, **options)
    [rest] = td.generate(model, [1, *begun.tokens], max_new_tokens=15, step=10, **options)
    assert begun.tokens + rest.tokens == whole.tokens


# --- What ends a sequence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason", "text", "count"),
    [
        ({}, "eos", "one two", 4),
        ({"max_new_tokens": 2}, "length", "one ", 2),
        ({"max_new_tokens": 4}, "eos", "one two", 4),
        ({"max_new_tokens": 0}, "length", "", 0),
        ({"stop": 3}, "stop", "one ", 3),
        ({"stop": [3, "xyz"]}, "stop", "one ", 3),
        ({"stop": "e t"}, "stop", "on", 3),
        ({"stop": "ne"}, "stop", "o", 1),
        ({"stop": "o"}, "stop", "", 1),
        ({"stop": ["wo", "two"]}, "stop", "one ", 3),
        ({"stop": "two", "max_new_tokens": 3}, "stop", "one ", 3),
        ({"stop": "two!"}, "eos", "one two", 4),
        ({"stop": "two!", "max_new_tokens": 3}, "length", "one two", 3),
        ({"eos_token_id": 2}, "eos", "one", 2),
        ({"eos_token_id": [3, 2]}, "eos", "one", 2),
        ({"eos_token_id": (), "max_new_tokens": 6}, "length", "one twoone ", 6),
    ],
)
def test_why_a_sequence_ends(options, reason, text, count):
    [found] = greedy(chain_model("one", " ", "two"), **options)
    assert (found.finish_reason, found.text, len(found.tokens)) == (reason, text, count)
    assert len(found.logprobs) == len(found.raw_logprobs) == len(found.top_logprobs) == count


def test_a_model_without_end_token_runs_to_the_limit():
    model = chain_model("one", " ", "two")
    model.eos_token_id = None
    [found] = greedy(model, max_new_tokens=9)
    assert (found.finish_reason, found.text) == ("length", "one twoone twoone")


def test_characters_split_over_tokens_are_put_together():
    model = chain_model(b"\xf0\x9f", b"\x98\x80", b"!\xe2\x82")
    pieces = [token.text for token in td.stream_generate(model, [[EOS]], max_new_tokens=9, temperature=0)]
    assert pieces == ["", "\N{GRINNING FACE}", "!", "\N{REPLACEMENT CHARACTER}"]
    [found] = greedy(model, stop="\N{GRINNING FACE}")
    assert (found.text, len(found.tokens), found.finish_reason) == ("", 2, "stop")


def test_text_of_a_backward_model_grows_to_the_left():
    model = chain_model("c", "b", "a", right_to_left=True)
    tokens = td.stream_generate(model, "c", max_new_tokens=9, temperature=0, stop="ax")
    assert [token.text for token in tokens] == ["b", "a", ""]
    assert tokens.results()[0].text == "ab"
    [found] = greedy(model, "c", stop="a")
    assert (found.text, found.tokens) == ("b", [2, 3])


def test_a_model_without_tokenizer_gives_tokens_only():
    model = random_model()
    model.tokenizer = None
    [found] = td.generate(model, [1, 2], max_new_tokens=5, seed=1)
    assert len(found.tokens) == 5
    assert found.text is None
    assert {token.text for token in td.stream_generate(model, [1, 2], max_new_tokens=5, seed=1)} == {""}


# --- What is reported --------------------------------------------------------------------------------------


def test_logprobs_are_those_of_the_distribution_drawn_from():
    model = random_model()
    prompts = [[1, 2], [3]]
    filters = [{"temperature": 0.7, "top_p": 0.8}, {"temperature": 1.5, "top_p": 0.5}]
    columns = {name: [own[name] for own in filters] for name in filters[0]}
    found = td.generate(model, prompts, max_new_tokens=20, seed=2, **columns)
    for prompt, own, sequence in zip(prompts, filters, found, strict=True):
        context = [EOS, *prompt]
        for token, logprob, raw_logprob in zip(
            sequence.tokens, sequence.logprobs, sequence.raw_logprobs, strict=True
        ):
            row = model.table[tuple(context[-2:])]
            np.testing.assert_allclose(logprob, td.log_softmax(row, **own)[token], atol=2e-6)
            np.testing.assert_allclose(raw_logprob, td.log_softmax(row)[token], atol=2e-6)
            context.append(token)


def test_the_highest_candidates_are_reported():
    model = random_model()
    [found] = td.generate(model, [[1]], max_new_tokens=8, seed=1, top_k=2, logprobs=3)
    for token, logprob, candidates in zip(found.tokens, found.logprobs, found.top_logprobs, strict=True):
        assert len(candidates) == 3
        assert dict(candidates)[token] == logprob
        assert candidates[2][1] == -np.inf
        np.testing.assert_allclose(sum(np.exp(value) for _, value in candidates), 1, atol=1e-6)
    [found] = td.generate(model, [[1]], max_new_tokens=1, seed=1, logprobs=99)
    assert sorted(token for token, _ in found.top_logprobs[0]) == list(range(30))


def test_no_prompts_give_no_sequences():
    assert td.generate(random_model(), [], max_new_tokens=5) == []


# --- Streaming ---------------------------------------------------------------------------------------------


def test_streamed_tokens_make_the_same_sequences():
    model = random_model()
    options = {"max_new_tokens": [30, 0, 9], "seed": 6, "n": 2, "stop": ["ab", ". "], "logprobs": 2}
    stream = td.stream_generate(model, ["a", "b", "cd"], **options)
    streamed = list(stream)
    expected = td.generate(model, ["a", "b", "cd"], **options)
    assert stream.results() == expected
    for index, sequence in enumerate(expected):
        own = [token for token in streamed if token.index == index]
        assert [token.position for token in own] == list(range(len(own)))
        assert [token.token for token in own] == sequence.tokens
        assert "".join(token.text for token in own) == sequence.text
        assert [token.logprob for token in own] == sequence.logprobs
        assert [token.top_logprobs for token in own] == sequence.top_logprobs
        assert [token.finish_reason for token in own] == [None] * (len(own) - 1) + [
            sequence.finish_reason
        ] * bool(own)


def test_a_callback_sees_every_token():
    model = random_model()
    seen = []
    options = {"max_new_tokens": 12, "seed": 6}
    found = td.generate(model, ["a", "b"], on_token=seen.append, **options)
    assert seen == list(td.stream_generate(model, ["a", "b"], **options))
    assert "".join(token.text for token in seen if token.index == 1) == found[1].text


def test_streaming_draws_no_further_than_it_is_read():
    model = random_model()
    stream = td.stream_generate(model, "a", max_new_tokens=50, seed=1, eos_token_id=())
    assert model.started == []
    first = [next(stream), next(stream)]
    assert model.widths == [1]
    stream.close()
    [partial] = stream.results()
    assert partial.tokens == [token.token for token in first]
    assert partial.finish_reason is None


def test_logits_are_kept_on_demand():
    model = random_model()
    for token in td.stream_generate(model, ["a", "b"], max_new_tokens=6, seed=1, keep_logits=True):
        np.testing.assert_allclose(td.log_softmax(token.logits)[token.token], token.raw_logprob, atol=2e-6)
    assert next(td.stream_generate(model, "a", max_new_tokens=6)).logits is None


# --- Rows that cannot be drawn from ------------------------------------------------------------------------


def model_with_a_hole():
    """Return a model that finds NaN after token 5, which follows token 4."""
    model = random_model(eos=-np.inf)
    model.table[:, 4] = -np.inf
    model.table[:, 4, 5] = 0
    model.table[:, 5] = np.nan
    return model


def test_an_invalid_row_raises_and_says_where():
    with pytest.raises(td.InvalidLogitsError) as caught:
        td.generate(model_with_a_hole(), [[1], [4]], max_new_tokens=[3, 9], seed=1)
    assert caught.value.__notes__ == ["at position 1 of sequences [1]"]


def test_a_marked_row_ends_its_sequence_only():
    model = model_with_a_hole()
    model.table[..., 4] = -np.inf
    alone = td.generate(model, [[1]], max_new_tokens=9, seed=1, bias={5: -np.inf})
    marked, other = td.generate(
        model, [[4], [1]], max_new_tokens=9, seed=1, stream=[1, 0], on_invalid="mark",
        bias=np.array([[0] * 30, [0] * 5 + [-np.inf] + [0] * 24], dtype=np.float32),
    )  # fmt: skip
    assert (marked.tokens, marked.finish_reason, marked.text) == ([5], "invalid", "e")
    assert [other] == alone


# --- Bad arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "options", "error", "message"),
    [
        ("a", {"max_new_tokens": -1}, ValueError, "max_new_tokens must be in [0, 2^32), got -1"),
        (["a", "b"], {"max_new_tokens": [3, -1]}, ValueError,
         "max_new_tokens must be in [0, 2^32), got -1 (prompt 1)"),
        ("a", {"max_new_tokens": 2.5}, TypeError, "max_new_tokens must be an integer, got 2.5"),
        (["a", "b"], {"max_new_tokens": [1, 2, 3]}, ValueError,
         "max_new_tokens must be one value or one per prompt (2), got 3"),
        ("a", {"n": 0}, ValueError, "n must be >= 1, got 0"),
        ("a", {"logprobs": -1}, ValueError, "logprobs must be >= 0, got -1"),
        ("a", {"seed": 2**64}, ValueError, "seed must be in [0, 2^64), got 18446744073709551616"),
        (["a", "b"], {"seed": [0, -1]}, ValueError, "seed must be in [0, 2^64), got -1 (prompt 1)"),
        ("a", {"stream": True}, TypeError, "stream must be an integer, got True"),
        ("a", {"stream": 2**56}, ValueError, "stream must be in [0, 2^56), got 72057594037927936"),
        ("a", {"step": -1}, ValueError, "step must be in [0, 2^32), got -1"),
        (["a", "b"], {"top_k": [1, 2, 3]}, ValueError,
         "top_k must be one value or one per prompt (2), got 3"),
        (["a", "b"], {"mask": np.ones((3, 30), dtype=bool)}, ValueError,
         "mask must be one value or one per prompt (2), got 3"),
        (["a", "b"], {"top_p": [0.5, 1.5]}, ValueError, "top_p must be in (0, 1], got 1.5 (row 1)"),
        ("a", {"tempreature": 1}, TypeError, "generate() got an unexpected keyword argument 'tempreature'"),
        ("a", {"stop": ""}, ValueError, "a stop string must not be empty"),
        ("a", {"stop": [30]}, ValueError, "stop tokens must be in [0, 30), got 30"),
        ("a", {"stop": 1.5}, TypeError, "stop tokens must be an integer, got 1.5"),
        ("a", {"eos_token_id": 99}, ValueError, "eos_token_id must be in [0, 30), got 99"),
        ([[1], [2, 30]], {}, ValueError, "prompt tokens must be in [0, 30), got 30 (prompt 1)"),
        ([[1], [-1]], {}, ValueError, "prompt tokens must be in [0, 30), got -1 (prompt 1)"),
        ([[1], [0.5]], {}, TypeError, "prompt tokens must be an integer, got 0.5 (prompt 1)"),
        ([[1], 5], {}, TypeError, "a prompt must be text or token ids, got 5 (prompt 1)"),
        (b"abc", {}, TypeError, "a prompt must be text or token ids, got bytes"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", [td.generate, td.stream_generate])
def test_bad_arguments_raise_before_any_work(call, prompts, options, error, message):
    model = random_model()
    with pytest.raises(error) as caught:
        call(model, prompts, **{"max_new_tokens": 5, **options})
    assert str(caught.value) == message
    assert model.started == []


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("abc", {}, "a text prompt needs a model with a tokenizer, got 'abc' (prompt 0)"),
        ([[1], "abc"], {}, "a text prompt needs a model with a tokenizer, got 'abc' (prompt 1)"),
        ([1], {"stop": "."}, "a stop string needs a model with a tokenizer, got '.'"),
        ([[1], []], {}, "a prompt must not be empty for a model without bos_token_id (row 1)"),
    ],
)
def test_what_a_bare_model_cannot_do(prompts, options, message):
    model = random_model()
    model.tokenizer = model.bos_token_id = None
    with pytest.raises(ValueError, match="model") as caught:
        td.generate(model, prompts, max_new_tokens=5, **options)
    assert str(caught.value) == message


def test_logits_of_a_wrong_shape_are_refused():
    model = random_model()
    model.start = lambda prompts: (None, np.zeros(30, dtype=np.float32))
    with pytest.raises(ValueError, match=r"^a model must return logits of shape \(1, vocab\), got \(30,\)$"):
        td.generate(model, "a", max_new_tokens=5)


# --- Other arrays, other models ----------------------------------------------------------------------------


def test_logits_stay_arrays_of_the_model():
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class TorchModel(TableModel):
        def start_from(self, state):
            return state, self.table[state[:, 0], state[:, 1]]

        def start(self, prompts):
            return self.start_from(torch.tensor([([EOS, EOS, *prompt])[-2:] for prompt in prompts]))

        def step(self, state, tokens):
            assert isinstance(tokens, torch.Tensor)
            return self.start_from(torch.stack([state[:, 1], tokens.long()], dim=1))

        def select(self, state, rows):
            return state[torch.as_tensor(rows)]

    model = random_model()
    options = {"max_new_tokens": 30, "seed": 5, "n": 2, "top_p": [0.9, 0.5, 1.0]}
    other = TorchModel(torch.from_numpy(model.table))
    other.tokenizer = model.tokenizer
    expected = td.generate(model, ["a", "bcd", ""], **options)
    assert td.generate(other, ["a", "bcd", ""], **options) == expected


embedded = functools.cache(td.models.load)


def test_the_embedded_model_writes_alike_alone_and_in_a_batch():
    model = embedded("kjv")
    prompts = ["In the beginning", "", "And it came to pass in those days, that"]
    options = {"max_new_tokens": 40, "seed": 1, "temperature": 0.8, "top_p": 0.95}
    batch = td.generate(model, prompts, n=2, **options)
    for index, sequence in enumerate(batch):
        alone = td.generate(model, prompts[index // 2], stream=index, **options)
        assert alone[0].tokens == sequence.tokens
        assert alone[0].text == sequence.text == model.tokenizer.decode(sequence.tokens)


def test_the_backward_model_writes_what_comes_before():
    model = embedded("kjv-backward")
    stream = td.stream_generate(model, " the earth.", max_new_tokens=20, seed=1)
    text = ""
    for token in stream:
        text = token.text + text
    [found] = stream.results()
    assert text == found.text == model.tokenizer.decode(found.tokens)


# --- Penalties and least lengths ---------------------------------------------------------------------------


def by_hand(model, prompt, count, eos=None, **filters):
    """Draw one sequence by `sample`, with its history."""
    state, logits = model.start([prompt])
    drawn = []
    for step in range(count):
        past = {"history": [[*prompt, *drawn]], "prompt_lengths": len(prompt)}
        token = int(td.sample(logits[0], seed=5, stream=0, step=step, eos_token_id=eos, **past, **filters))
        drawn.append(token)
        state, logits = model.step(state, np.array([token]))
    return drawn


def flat_model(vocab=8, seed=3):
    return TableModel(np.random.default_rng(seed).normal(0, 1, (vocab, vocab, vocab)).astype(np.float32))


@pytest.mark.parametrize(
    "filters",
    [
        {"repetition_penalty": 1.4},
        {"frequency_penalty": 0.6, "presence_penalty": 0.3},
        {"frequency_penalty": 0.6, "penalty_history": "output"},
        {"dry_multiplier": 2.0, "dry_allowed_length": 1},
        {"xtc_probability": 0.5, "xtc_threshold": 0.1},
    ],
)
def test_penalties_see_the_prompt_and_what_was_drawn(filters):
    model, prompt = flat_model(), [1, 2, 1, 2]
    expected = by_hand(model, prompt, 30, **filters)
    [found] = td.generate(model, [prompt], max_new_tokens=30, seed=5, eos_token_id=(), **filters)
    assert found.tokens == expected
    plain = td.generate(model, [prompt], max_new_tokens=30, seed=5, eos_token_id=())
    assert found.tokens != plain[0].tokens


def test_penalties_of_a_batch_are_those_of_each_prompt_alone():
    model, prompts = flat_model(), [[1], [2, 2, 2, 2], [3, 4, 3, 4, 3]]
    filters = {"frequency_penalty": [0.5, 0.0, 1.0], "dry_multiplier": [0.0, 1.0, 0.5], "max_new_tokens": 20}
    together = td.generate(model, prompts, seed=[5, 5, 5], eos_token_id=3, n=2, **filters)
    for place, prompt in enumerate(prompts):
        own = {name: value if name == "max_new_tokens" else value[place] for name, value in filters.items()}
        alone = td.generate(model, [prompt], seed=5, eos_token_id=3, n=2, **own)
        assert [found.tokens for found in together[2 * place : 2 * place + 2]] == [
            found.tokens for found in alone
        ]


def test_a_sequence_has_at_least_min_tokens():
    model = TableModel(np.broadcast_to(np.float32([5, 0, 0, 0]), (4, 4, 4)))
    params = td.SamplingParams(min_tokens=4, eos_token_id=0, temperature=0.5)
    for given in ({"min_tokens": 4, "temperature": 0.5}, {"params": params}):
        found = td.generate(model, [[1]] * 20, max_new_tokens=30, seed=1, **given)
        assert all(EOS not in sequence.tokens[:4] for sequence in found)
        assert min(len(sequence.tokens) for sequence in found) == 5
        assert all(sequence.finish_reason == "eos" for sequence in found)


def test_the_end_of_params_ends_a_sequence():
    model = TableModel(np.broadcast_to(np.float32([0, 0, 9, 0]), (4, 4, 4)))
    params = td.SamplingParams(eos_token_id=2, temperature=0)
    [found] = td.generate(model, [[1]], params, max_new_tokens=5)
    assert (found.tokens, found.finish_reason) == ([2], "eos")
    [found] = td.generate(model, [[1]], params, max_new_tokens=5, eos_token_id=())
    assert (found.tokens, found.finish_reason) == ([2] * 5, "length")

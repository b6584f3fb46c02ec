# SPDX-License-Identifier: Apache-2.0
"""Documents scored in windows and batches, against every window read alone by the reference."""

import itertools
import json
import math
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import tokendraw as td
from tests.search.models import ExtendingModel, JoiningModel, TableModel
from tokendraw import corpus, reference
from tokendraw.corpus import Window, windows
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer

KINDS = [TableModel, JoiningModel, ExtendingModel]
DOCUMENTS = [[1, 2, 3, 4, 0, 1, 2, 2, 2, 4, 4, 1], [3], [], [2, 1], [4] * 7, [0, 4, 3, 2, 1, 0, 1, 2, 3]]


def naive(model, document, prefix, context, stride):
    """Return log-probabilities and ranks of the tokens of a document, by the definition of the windows."""
    size = len(document)
    room = size if context is None else context - len(prefix)
    rows, done = [], 0
    while done < size:
        end = min(size, room + 1 if done == 0 else done + stride)
        for place in range(done, end):
            rows.append(model.row((*prefix, *document[max(0, end - 1 - room) : place])))
        done = end
    return reference.token_logprobs(np.stack(rows), document, ranks=True)


def check(model, found, documents, prefix=(0,), context=None, stride=1):
    """Check every token of every document; found was asked for `per_token`."""
    assert len(found) == len(documents)
    for place, document in enumerate(documents):
        if not document:
            assert math.isnan(found.logprobs[place])
            continue
        logprobs, ranks = naive(model, document, prefix, context, stride)
        np.testing.assert_allclose(found.token_logprobs[place], logprobs, rtol=2**-22, atol=1e-6)
        assert found.token_ranks[place].tolist() == ranks.tolist()
        assert found.logprobs[place] == pytest.approx(logprobs.sum(), rel=1e-6)
        assert found.num_tokens[place] == len(document)


# --- Windows -----------------------------------------------------------------------------------------------


@hypothesis.given(st.integers(0, 200), st.integers(0, 40), st.data())
def test_each_token_is_scored_once_with_enough_context(length, capacity, data):
    stride = data.draw(st.integers(1, capacity + 1))
    found = list(windows(length, capacity, stride))
    scored = [token for window in found for token in range(window.begin, window.end)]
    assert scored == list(range(length))
    for number, (first, begin, end) in enumerate(found):
        assert 0 <= first <= begin < end
        assert end - 1 - first <= capacity, "what is read fits"
        assert number == 0 or end - 1 - first == capacity, "and is as much as there may be"
        for token in range(begin, end):
            assert token - first >= min(token, capacity + 1 - stride)


def test_windows_that_are_known():
    assert list(windows(0, 4, 2)) == []
    assert list(windows(5, None, 1)) == [Window(0, 0, 5)]
    assert list(windows(5, 4, 1)) == [Window(0, 0, 5)]
    assert list(windows(6, 4, 5)) == [Window(0, 0, 5), Window(1, 5, 6)]
    assert list(windows(11, 4, 5)) == [Window(0, 0, 5), Window(5, 5, 10), Window(6, 10, 11)]


# --- Documents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("context", "stride"), [(None, None), (1, 1), (4, 1), (4, 3), (5, 5), (100, 7)])
def test_every_window_is_as_if_it_were_alone(kind, context, stride):
    model = kind(5, seed=2, levels=8)
    found = td.score_corpus(model, DOCUMENTS, context=context, stride=stride, batch_size=3, per_token=True)
    check(model, found, DOCUMENTS, context=context, stride=stride)
    assert found.skipped == {2: "empty"}


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=60)
def test_any_documents(data):
    model = data.draw(st.sampled_from(KINDS))(3, data.draw(st.integers(0, 9)))
    documents = data.draw(st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=7))
    prefix = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
    context = data.draw(st.none() | st.integers(len(prefix), 9))
    stride = None if context is None else data.draw(st.integers(1, context - len(prefix) + 1))
    found = td.score_corpus(
        model,
        documents,
        prefix=prefix,
        context=context,
        stride=stride,
        batch_size=data.draw(st.integers(1, 5)),
        per_token=True,
    )
    check(model, found, documents, prefix, context, stride)


def test_totals_and_parts():
    model = td.models.load("kjv-draft")
    texts = ["In the beginning God created the heaven and the earth.", "", "Selah. Ñ", "  two\n words "]
    found = td.score_corpus(model, texts)
    assert found.num_bytes.tolist() == [54, 0, 9, 13]
    assert found.num_words.tolist() == [10, 0, 2, 2]
    assert found.num_tokens.tolist() == [len(model.tokenizer.encode(text)) for text in texts]
    bits = -np.nansum(found.logprobs) / math.log(2)
    assert found.bits_per_byte == pytest.approx(bits / 76)
    assert found.bits_per_word == pytest.approx(bits / 14)
    assert found.bits_per_token == pytest.approx(bits / found.num_tokens.sum())
    assert found.perplexity == pytest.approx(2**found.bits_per_token)
    np.testing.assert_allclose(np.nansum(found.bits), bits)
    part = found.part([2, 1])
    assert (len(part), part.skipped, part.num_bytes.tolist()) == (2, {1: "empty"}, [9, 0])
    assert part.bits_per_byte == pytest.approx(found.bits[2] / 9)
    assert found.part(slice(0, 2)).logprob == found.logprobs[0]
    ids = td.score_corpus(model, [model.tokenizer.encode(text) for text in texts])
    np.testing.assert_array_equal(ids.logprobs, found.logprobs)
    assert (ids.num_bytes.tolist(), ids.num_words.tolist()) == ([54, 0, 9, 13], [10, 0, 2, 2])


def test_one_document_and_none_and_a_generator():
    model = ExtendingModel(5, seed=1)
    alone = td.score_corpus(model, [1, 2, 3])
    assert len(alone) == 1
    assert td.score_corpus(model, iter([[1, 2, 3]])).logprobs.tolist() == alone.logprobs.tolist()
    assert td.score_corpus(model, [np.array([1, 2, 3])]).logprobs.tolist() == alone.logprobs.tolist()
    nothing = td.score_corpus(model, [])
    assert (len(nothing), nothing.logprob) == (0, 0.0)
    assert math.isnan(nothing.bits_per_token)
    assert math.isnan(nothing.perplexity)
    assert alone.num_bytes is None
    assert math.isnan(alone.bits_per_byte)


def test_text_shorter_than_the_context_is_read_whole():
    model = td.models.load("kjv-draft")
    text = "And God said, Let there be light: and there was light."
    whole = td.score_corpus(model, [text])
    assert td.score_corpus(model, [text], context=1000).logprobs.tolist() == whole.logprobs.tolist()
    size = int(whole.num_tokens[0])
    assert td.score_corpus(model, [text], context=size).logprobs.tolist() == whole.logprobs.tolist()
    assert td.score_corpus(model, [text], context=size - 1).logprobs.tolist() != whole.logprobs.tolist()


@pytest.mark.parametrize("name", ["kjv-draft", "kjv-backward"])
def test_text_of_either_direction_with_its_end(name):
    model = td.models.load(name)
    documents = ["Jesus wept.", "", "In the beginning God created the heaven and the earth. Ñ"]
    found = td.score_corpus(model, documents, score_end=True)
    for place, document in enumerate(documents):
        state, logits = model.start([[]])
        expected = 0.0
        for token in [*model.tokenizer.encode(document), SEPARATOR]:
            expected += float(reference.token_logprobs(logits, [token])[0])
            state, logits = model.step(state, [token])
        assert found.logprobs[place] == pytest.approx(expected, rel=1e-5)
    assert found.skipped == {}, "an empty document has an end"


def test_a_prefix_is_given_and_not_scored():
    model = td.models.load("kjv-draft")
    text, prefix = " the heaven and the earth.", "In the beginning God created"
    tokens = model.tokenizer.encode(text)
    found = td.score_corpus(model, [text], prefix=prefix, per_token=True)
    expected = td.score(model, model.tokenizer.encode(prefix), tokens)
    assert found.token_logprobs[0].tolist() == pytest.approx(expected.logprobs, abs=1e-5)
    assert found.token_ranks[0].tolist() == expected.ranks
    assert found.bits_per_byte < td.score_corpus(model, [text]).bits_per_byte


# --- The context of the model ------------------------------------------------------------------------------


class Short(ExtendingModel):
    """A model of a limited context, which counts the tokens that its rows hold."""

    context_length = 6
    begins_with_bos = False

    def _rows_of(self, call, state):
        assert max(map(len, state)) <= self.context_length
        return super()._rows_of(call, state)

    def start(self, prompts):
        if self.begins_with_bos:
            prompts = [
                each if each[0] == self.bos_token_id else [self.bos_token_id, *each] for each in prompts
            ]
        return super().start(prompts)


def test_the_context_is_the_models_own_and_never_exceeded():
    model = Short(5, seed=4)
    found = td.score_corpus(model, DOCUMENTS, per_token=True)
    check(model, found, DOCUMENTS, context=6, stride=3)
    assert max(map(len, model.read)) == 6
    model.begins_with_bos = True
    found = td.score_corpus(model, DOCUMENTS, prefix=[3], per_token=True)
    check(model, found, DOCUMENTS, prefix=(0, 3), context=6, stride=3)
    with pytest.raises(ValueError, match=r"context must be in \[2, 7\), got 7"):
        td.score_corpus(model, DOCUMENTS, prefix=[3], context=7)


def test_batches_are_bounded_by_windows_and_by_tokens(monkeypatch):
    model = Short(5, seed=4)
    sizes = []
    start = model.start
    model.start = lambda prompts: (sizes.append(len(prompts)), start(prompts))[1]
    documents = [[place % 5 for place in range(40)], *([[each, 1, 2]] * 2 for each in range(4))]
    documents = [documents[0], *itertools.chain.from_iterable(documents[1:])]
    whole = td.score_corpus(model, documents, batch_size=5, per_token=True)
    check(model, whole, documents, context=6, stride=3)
    assert max(sizes) <= 5
    monkeypatch.setattr(corpus, "_TOKENS_AT_ONCE", 12)
    sizes.clear()
    again = td.score_corpus(model, documents, batch_size=5, per_token=True)
    assert max(sizes) <= 3
    assert again.logprobs.tolist() == whole.logprobs.tolist()


def test_like_lengths_are_read_together():
    model = TableModel(3, seed=1)
    lengths = [9, 1, 8, 2, 7, 3]
    steps = []
    step = model.step
    model.step = lambda state, tokens: (steps.append(len(tokens)), step(state, tokens))[1]
    td.score_corpus(model, [[1] * length for length in lengths], batch_size=2)
    assert sum(steps) == sum(lengths) - len(lengths)
    assert len(steps) == (2 - 1) + (7 - 1) + (9 - 1), "as many steps as the longest of each pair takes"


# --- Progress ----------------------------------------------------------------------------------------------


def test_progress_counts_documents_and_tokens():
    model = ExtendingModel(5, seed=1)
    seen = []
    td.score_corpus(model, DOCUMENTS, context=4, stride=2, batch_size=2, on_progress=seen.append)
    assert seen[0] == td.CorpusProgress(1, 6, 0, 31)
    assert seen[-1] == td.CorpusProgress(6, 6, 31, 31)
    for one, next_one in itertools.pairwise(seen):
        assert one.documents <= next_one.documents
        assert one.tokens <= next_one.tokens


# --- The file ----------------------------------------------------------------------------------------------


SETTINGS = {"context": 5, "stride": 2, "batch_size": 3, "per_token": True}


class Rounded(ExtendingModel):
    """A model whose rows depend on their batch in the last places, as matrix products do."""

    def _rows_of(self, call, state):
        state, logits = super()._rows_of(call, state)
        return state, logits * np.float32(1 + len(state) * 2.0**-20)

    def extend(self, state, tokens):
        states, logits = super().extend(state, tokens)
        return states, logits * np.float32(1 + len(state) * 2.0**-20)


def same(one, other):
    np.testing.assert_array_equal(one.logprobs, other.logprobs)
    for name in ("token_logprobs", "token_ranks"):
        for left, right in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
    assert one.skipped == other.skipped
    assert one.num_tokens.tolist() == other.num_tokens.tolist()


def test_lines_of_the_file(tmp_path):
    model = td.models.load("kjv-draft")
    path = tmp_path / "out.jsonl"
    names = ["first", "second", "third"]
    found = td.score_corpus(
        model, ["Jesus wept.", "", "a b"], jsonl=path, names=names, per_token=True, score_end=False
    )
    header, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert header["format"] == "tokendraw-corpus-1"
    assert {"context", "stride", "prefix", "end", "documents", "model", "vocab_size"} <= set(header)
    by_document = {line["document"]: line for line in lines}
    assert by_document[1] == {"document": 1, "name": "second", "num_tokens": 0, "skipped": "empty"}
    assert by_document[0] == {
        "document": 0,
        "name": "first",
        "num_tokens": found.num_tokens[0],
        "num_bytes": 11,
        "num_words": 2,
        "logprob": found.logprobs[0],
        "logprobs": found.token_logprobs[0].tolist(),
        "ranks": found.token_ranks[0].tolist(),
    }
    assert sorted(by_document) == [0, 1, 2]


def interrupted_after(call, path, **options):
    """Run until a call of `on_progress`; return whether it got that far."""
    calls = itertools.count()

    def interrupt(progress):
        if next(calls) == call:
            raise KeyboardInterrupt

    try:
        td.score_corpus(Rounded(5, seed=6), DOCUMENTS, jsonl=path, on_progress=interrupt, **options)
    except KeyboardInterrupt:
        return True
    return False


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path):
    whole = td.score_corpus(Rounded(5, seed=6), DOCUMENTS, **SETTINGS)
    resumed = []
    for call in itertools.count():
        path = tmp_path / f"{call}.jsonl"
        if not interrupted_after(call, path, **SETTINGS):
            break
        model = Rounded(5, seed=6)
        again = td.score_corpus(model, DOCUMENTS, jsonl=path, resume=True, **SETTINGS)
        same(again, whole)
        assert again.num_torn == 0
        resumed.append(again.num_resumed)
        complete = td.score_corpus(model, DOCUMENTS, jsonl=path, resume=True, **SETTINGS)
        same(complete, whole)
        assert complete.num_resumed == len(DOCUMENTS)
    assert resumed[0] == 1, "the empty document"
    assert resumed[-1] == len(DOCUMENTS)
    assert len(set(resumed)) >= 4, "interrupted after each group"


def test_a_run_of_the_whole_file_asks_the_model_for_its_probe_only(tmp_path):
    path = tmp_path / "out.jsonl"
    td.score_corpus(Rounded(5, seed=6), DOCUMENTS, jsonl=path, **SETTINGS)
    model = Rounded(5, seed=6)
    td.score_corpus(model, DOCUMENTS, jsonl=path, resume=True, **SETTINGS)
    assert model.calls == ["start"]


def test_any_end_of_the_file_is_gone_on_from(tmp_path):
    """Wherever a write was torn, what was finished before it is kept and the bits are the same."""
    path = tmp_path / "out.jsonl"
    whole = td.score_corpus(Rounded(5, seed=6), DOCUMENTS, jsonl=path, **SETTINGS)
    data = path.read_bytes()
    ends = [place for place, byte in enumerate(data, 1) if byte == ord("\n")]
    cuts = {cut for end in ends for cut in (end - 2, end - 1, end, end + 1, end + 9)}
    for cut in sorted(cut for cut in cuts | {0, 1, 30} if cut <= len(data)):
        path.write_bytes(data[:cut])
        again = td.score_corpus(Rounded(5, seed=6), DOCUMENTS, jsonl=path, resume=True, **SETTINGS)
        same(again, whole)
        assert again.num_torn == int(cut > 0 and cut not in ends)
        assert again.num_resumed == max(0, sum(end <= cut for end in ends) - 1)
        assert sorted(path.read_bytes().splitlines()[1:]) == sorted(data.splitlines()[1:])


def test_infinite_costs_survive_the_file(tmp_path):
    model = ExtendingModel(3, rows=lambda prefix: [0.0, -np.inf, 0.0])
    options = {"jsonl": tmp_path / "out.jsonl", "per_token": True}
    found = td.score_corpus(model, [[0, 1, 2], [2]], **options)
    assert found.logprobs[0] == -math.inf
    assert found.perplexity == math.inf
    same(td.score_corpus(model, [[0, 1, 2], [2]], resume=True, **options), found)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 1}, "it was begun with stride 2, not 1"),
        ({"context": 4}, "it was begun with context 5, not 4"),
        ({"prefix": [3]}, r"it was begun with prefix \[0\], not \[3\]"),
        ({"per_token": False}, "it was begun with per_token True, not False"),
        ({"documents": [*DOCUMENTS[:-1], [1]]}, "it was begun with other documents"),
        ({"documents": DOCUMENTS[:-1]}, "it was begun with num_documents 6, not 5"),
        ({"model": Rounded(5, seed=7)}, "it was begun with another model"),
        ({"model": Rounded(6, seed=6)}, "it was begun with vocab_size 5, not 6"),
    ],
)
def test_another_run_is_not_gone_on_with(tmp_path, changed, message):
    path = tmp_path / "out.jsonl"
    td.score_corpus(Rounded(5, seed=6), DOCUMENTS, jsonl=path, **SETTINGS)
    before = path.read_bytes()
    given = {"model": Rounded(5, seed=6), "documents": DOCUMENTS, **SETTINGS, **changed}
    with pytest.raises(ValueError, match=message):
        td.score_corpus(jsonl=path, resume=True, **given)
    assert path.read_bytes() == before


def test_another_batch_size_goes_on(tmp_path):
    path = tmp_path / "out.jsonl"
    assert interrupted_after(3, path, **SETTINGS)
    again = td.score_corpus(
        Rounded(5, seed=6), DOCUMENTS, jsonl=path, resume=True, **{**SETTINGS, "batch_size": 1}
    )
    whole = td.score_corpus(Rounded(5, seed=6), DOCUMENTS, **SETTINGS)
    assert 1 < again.num_resumed < 6
    np.testing.assert_allclose(again.logprobs, whole.logprobs, rtol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a file of ours", "a file to resume must be one of score_corpus"),
        (b"some text\nmore\n", r"must hold JSON lines, got b'some text' \(line 1\)"),
        (b'{"a": 1}\n', "a file to resume must be one of score_corpus"),
        (b"HEADER\nbroken\n", r"must hold JSON lines, got b'broken' \(line 2\)"),
        (b"HEADER\n[1]\n", r"must hold JSON lines, got b'\[1\]' \(line 2\)"),
        (b'HEADER\n{"document": 6, "num_tokens": 1}\n', r"got document 6 \(line 2\)"),
        (b'HEADER\n{"document": -1, "num_tokens": 9}\n', r"got document -1 \(line 2\)"),
        (b'HEADER\n{"document": 1, "num_tokens": 2, "logprob": -1}\n', r"got document 1 \(line 2\)"),
        (b'HEADER\n{"document": 1, "num_tokens": 1}\n', r"got document 1 \(line 2\)"),
        (b'HEADER\n{"name": "x"}\n', r"got document None \(line 2\)"),
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(tmp_path, content, message):
    path = tmp_path / "out.jsonl"
    td.score_corpus(Rounded(5, seed=6), DOCUMENTS, jsonl=path, **SETTINGS)
    content = content.replace(b"HEADER", path.read_bytes().splitlines()[0])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        td.score_corpus(Rounded(5, seed=6), DOCUMENTS, jsonl=path, resume=True, **SETTINGS)
    assert path.read_bytes() == content


def test_a_file_is_not_written_over(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="jsonl must be a new file where resume is not set"):
        td.score_corpus(TableModel(5), DOCUMENTS, jsonl=path)
    assert path.read_text() == "precious"
    with pytest.raises(ValueError, match="resume needs jsonl"):
        td.score_corpus(TableModel(5), DOCUMENTS, resume=True)
    found = td.score_corpus(TableModel(5), DOCUMENTS, jsonl=tmp_path / "new.jsonl", resume=True)
    assert (found.num_resumed, found.num_torn) == (0, 0), "a file that is not there is begun"


# --- Bad input ---------------------------------------------------------------------------------------------


BAD = [
    ("cut \udce2\udc82", r"a document must be UTF-8 text, got b'\xe2\x82' at its end"),
    ("a\udcff b", r"a document must be UTF-8 text, got b'\xff' at character 1"),
    ("half \ud83d.", r"a document must be UTF-8 text, got '\ud83d' at character 5"),
    ([1, 2, 1024], "document tokens must be in [0, 1024), got 1024"),
    ([-1], "document tokens must be in [0, 1024), got -1"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_document_that_can_not_be_encoded(bad, reason, tmp_path):
    model = td.models.load("kjv-draft")
    documents = ["Jesus wept.", bad, "", "And God said"]
    with pytest.raises(ValueError, match=re.escape(f"{reason} (document 1, b)")):
        td.score_corpus(model, documents, names=list("abcd"), jsonl=tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
    found = td.score_corpus(model, documents, on_error="skip", jsonl=tmp_path / "a.jsonl")
    assert found.skipped == {1: reason, 2: "empty"}
    assert np.isnan(found.logprobs).tolist() == [False, True, True, False]
    assert found.num_tokens[1] == found.num_bytes[1] == found.num_words[1] == 0
    good = td.score_corpus(model, [documents[0], documents[3]])
    assert found.bits_per_byte == pytest.approx(good.bits_per_byte)
    again = td.score_corpus(model, documents, on_error="skip", jsonl=tmp_path / "a.jsonl", resume=True)
    assert again.skipped == found.skipped
    assert again.num_resumed == 4


class Letters:
    """A tokenizer of a few letters; what is not among them is refused, or becomes the last one."""

    def __init__(self, letters, unknown=None):
        self.letters = letters
        self.unknown = unknown

    def encode(self, text):
        table = {letter: token for token, letter in enumerate(self.letters)}
        return [table[each] if self.unknown is None else table.get(each, self.unknown) for each in text]

    def decode(self, ids):
        return "".join(self.letters[token] for token in ids)

    def token_bytes(self, token):
        return self.letters[token].encode()


def test_characters_that_the_tokenizer_does_not_know():
    model = ExtendingModel(3, seed=1)
    model.tokenizer = Letters("ab?")
    with pytest.raises(
        ValueError,
        match=r"^the tokenizer must know every character of a document, got KeyError\('c'\) \(document 1\)",
    ):
        td.score_corpus(model, ["ab", "abc"])
    found = td.score_corpus(model, ["ab", "abc"], on_error="skip")
    assert list(found.skipped) == [1]
    model.tokenizer = Letters("ab?", unknown=2)
    found = td.score_corpus(model, ["ab", "açb", "b"])
    assert found.respelled == (1,), "scored, and told"
    assert found.num_bytes.tolist() == [2, 4, 1], "of the text that was given"
    assert found.part([1, 2]).respelled == (0,)


@pytest.mark.parametrize(
    ("documents", "options", "error", "message"),
    [
        (["a"], {}, ValueError, r"a text document needs a model with a tokenizer, got 'a' \(document 0\)"),
        ([[1], b"a"], {}, TypeError, r"a document must be text or token ids, got b'a' \(document 1\)"),
        ([[[1]]], {}, TypeError, r"a document must be text or token ids, got \[\[1\]\] \(document 0\)"),
        ([[1], [0.5]], {}, TypeError, "document tokens must be integers, got float64"),
        ([[1]], {"stride": 3}, ValueError, "stride needs a context, got 3 alone"),
        ([[1]], {"context": 4, "stride": 5}, ValueError, r"stride must be in \[1, 5\), got 5"),
        ([[1]], {"context": 4, "stride": 0}, ValueError, r"stride must be in \[1, 5\), got 0"),
        ([[1]], {"context": 0}, ValueError, "context must be >= 1, got 0"),
        ([[1]], {"context": 2.0}, TypeError, "context must be an integer, got 2.0"),
        ([[1]], {"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ([[1]], {"names": ["a", "b"]}, ValueError, r"names must be one per document \(1\), got 2"),
        ([[1]], {"score_end": True}, ValueError, "score_end needs a model with eos_token_id"),
        ([[1]], {"on_error": "drop"}, ValueError, "on_error must be 'raise' or 'skip', got 'drop'"),
        ([[1]], {"on_invalid": "drop"}, ValueError, "on_invalid must be None, 'raise' or 'mark', got 'drop'"),
        ([[1]], {"prefix": "a"}, ValueError, "a text prompt needs a model with a tokenizer, got 'a'"),
    ],
)
def test_errors_come_before_any_work(documents, options, error, message):
    model = TableModel(5)
    with pytest.raises(error, match=message):
        td.score_corpus(model, documents, **{"on_error": "skip", **options})
    assert model.calls == []


def test_a_model_without_a_first_token_needs_a_prefix():
    model = TableModel(5)
    model.bos_token_id = None
    with pytest.raises(ValueError, match="prefix must not be empty for a model without bos_token_id"):
        td.score_corpus(model, [[1]])
    check(model, td.score_corpus(model, [[1, 2]], prefix=[4], per_token=True), [[1, 2]], prefix=(4,))


@pytest.mark.parametrize("marks", [False, True])
def test_invalid_logits(marks, tmp_path):
    def rows(prefix):
        return [np.nan if prefix[-2:] == (1, 2) else 0.5, 0, 0, 1, 2]

    model = ExtendingModel(5, rows=rows)
    documents = [[3, 3], [1, 2, 0, 3], [2, 1], [4] * 9]
    options = {"jsonl": tmp_path / "out.jsonl", "per_token": True, "batch_size": 3, "context": 9}
    if marks:
        found = td.score_corpus(model, documents, on_invalid="mark", **options)
        assert found.skipped == {1: "invalid logits for token 2"}
        assert found.num_tokens.tolist() == [2, 0, 2, 9]
        check(model, found, [[3, 3], [], [2, 1], [4] * 9], context=9, stride=4)
        return
    with pytest.raises(td.InvalidLogitsError, match=r"for token 2 \(document 1\)$") as raised:
        td.score_corpus(model, documents, **options)
    assert raised.value.rows == (1,)
    lines = [json.loads(line) for line in options["jsonl"].read_text().splitlines()[1:]]
    assert [line["document"] for line in lines] == [0, 2], "the others of its batch are kept"
    repaired = ExtendingModel(5, rows=lambda prefix: [0.5, 0, 0, 1, 2])
    assert td.score_corpus(repaired, documents, resume=True, **options).num_resumed == 2


def test_merges_of_a_tokenizer_change_tokens_and_not_bytes():
    """One text, two vocabularies: bits per byte compare what bits per token can not."""
    plain, merged = ExtendingModel(257, seed=1, spread=0.0), ExtendingModel(258, seed=1, spread=0.0)
    plain.tokenizer, merged.tokenizer = Tokenizer([]), Tokenizer([(ord("a"), ord("b"))])
    one, other = (td.score_corpus(model, ["abab"]) for model in (plain, merged))
    assert (one.num_tokens[0], other.num_tokens[0]) == (4, 2)
    assert (one.num_bytes[0], other.num_bytes[0]) == (4, 4)
    assert one.perplexity == pytest.approx(257, rel=1e-5)
    assert other.perplexity == pytest.approx(258, rel=1e-5)
    assert other.bits_per_byte == pytest.approx(one.bits_per_byte / 2, rel=1e-2)

# SPDX-License-Identifier: Apache-2.0
"""Markov sources from tables of words, and the sources that sampling from them with filters writes."""

import itertools

import numpy as np
import pytest

import tokendraw as td
from tokendraw.lab.markov import MarkovSource, SymbolTokenizer

TABLE = {
    "": {"we": 0.75, "I": 0.25},
    "we": {" see": 0.6, " seek": 0.3, " saw": 0.1},
    "I": {" see": 0.5, " saw": 0.5},
    " see": {" it": 0.7, "": 0.3},
    " seek": {" it": 1.0},
    " saw": {" it": 0.2, " saw": 0.3, "": 0.5},
}


def test_a_table_is_read_as_it_is_written():
    source = MarkovSource.from_table(TABLE)
    symbols = source.tokenizer.symbols
    assert symbols == ("we", "I", " see", " seek", " saw", " it")
    for before, row in TABLE.items():
        own = source.start if before == "" else source.going_on[symbols.index(before)]
        assert dict(zip(symbols, own.round(12).tolist(), strict=True)) == {
            symbol: row.get(symbol, 0.0) for symbol in symbols
        }
    assert source.end.round(12).tolist() == [0, 0, 0.3, 0, 0.5, 1]  # what has no row is the last


def test_the_model_of_a_table_draws_its_sentences():
    source = MarkovSource.from_table(TABLE)
    for found in td.generate(source.model(), [""] * 50, seed=1, max_new_tokens=99):
        assert found.finish_reason == "eos"
        names = ["", *(source.tokenizer.symbols[token] for token in found.tokens[:-1]), ""]
        pairs = [TABLE.get(first, {"": 1.0}).get(second, 0) for first, second in itertools.pairwise(names)]
        assert np.log(pairs).sum() == pytest.approx(sum(found.logprobs), abs=1e-5)
        assert source.logprobs(found.tokens[:-1]).sum() == pytest.approx(np.log(pairs).sum())


def test_a_table_without_ends_is_endless():
    source = MarkovSource.from_table({"x": {"y": 1.0}, "y": {"x": 0.5, "y": 0.5}})
    assert source.end is None
    assert source.start.tolist() == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"x": {"x": 0.5, "y": 0.4}}, r"rows must be probabilities with the sum 1, .* \(row 0\)"),
        ({"x": {"x": 1.5, "y": -0.5}}, r"rows must be probabilities"),
        ({"": {"x": 0.5}, "x": {"": 1.0}}, r"start must be probabilities"),
        (
            {"x": {"y": 1.0}, "y": {"": 0.5, "z": 0.5}, "z": {"z": 1.0}},
            "able to lead to an end, got symbol 2",
        ),
    ],
)
def test_a_wrong_table_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        MarkovSource.from_table(table)


def test_text_is_cut_into_the_longest_symbols():
    tokenizer = SymbolTokenizer(["a", "ab", "abc", "."])
    assert tokenizer.encode("abcab.a") == [2, 1, 3, 0]
    assert tokenizer.decode([2, 1, 3, 0, 4]) == "abcab.a"  # 4 is the end, without text
    backward = SymbolTokenizer(["a", "ab", "abc", "."], right_to_left=True)
    assert backward.encode("abcab.a") == [0, 3, 1, 2]
    assert backward.decode([0, 3, 1, 2]) == "abcab.a"
    assert tokenizer.encode("") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SymbolTokenizer(["a", "a"]), "symbols must be different texts, none empty"),
        (lambda: SymbolTokenizer(["a", ""]), "symbols must be different texts, none empty"),
        (lambda: SymbolTokenizer("ab").encode("abca"), r"text must consist of symbols, got 'c' \(place 2\)"),
        (lambda: SymbolTokenizer("ab").token_bytes(3), r"token ids must be in \[0, 2\], got 3"),
        (lambda: MarkovSource([[1.0]], symbols=["a", "b"]), "symbols must be 1 texts, got 2"),
    ],
)
def test_wrong_symbols_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


FILTERS = [{"temperature": 0.5}, {"temperature": 3.0}, {"top_k": 2}, {"top_p": 0.65}, {"min_p": 0.4}]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("table", [TABLE, {"x": {"x": 0.2, "y": 0.8}, "y": {"x": 0.7, "y": 0.3}}], ids=len)
def test_a_sampled_source_is_what_the_core_draws_from(table, filters):
    source = MarkovSource.from_table(table)
    model, drawn = source.model(), source.sampled(**filters).model()
    every = [[token] for token in range(len(source.start))] + [[]] * (source.end is not None)
    expected = td.softmax(model.start(every)[1], **filters)
    assert np.exp(drawn.start(every)[1]) == pytest.approx(expected, abs=1e-6)
    assert source.sampled().going_on == pytest.approx(source.going_on, abs=1e-6)


def test_a_sampled_source_keeps_its_text_and_direction():
    source = MarkovSource.from_table(TABLE).reversed()
    drawn = source.sampled(temperature=0.9)
    assert drawn.tokenizer.symbols == source.tokenizer.symbols
    assert drawn.tokenizer.right_to_left


def test_an_endless_sampled_source_starts_as_it_goes_on():
    drawn = MarkovSource([[0.2, 0.8], [0.7, 0.3]]).sampled(temperature=0.5)
    assert drawn.start @ drawn.transition == pytest.approx(drawn.start)

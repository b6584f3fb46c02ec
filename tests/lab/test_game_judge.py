# SPDX-License-Identifier: Apache-2.0
"""The judge against a walk in float64, and the efforts it counts."""

import numpy as np
import pytest

import tokendraw as td
from tests.lab.tiny import TinyModel
from tokendraw.lab.judge import Judge

TEXT = (3, 1, 4, 1, 2, 4, 4, 3, 1, 2, 0, 3, 4, 2, 1, 1, 3, 2, 4, 1)
PREFIXES = [(), (1,), (1, 2), (1, 2, 3), (2,), (4, 4, 4), (1, 2), (2, 1, 0)]


def stepwise_bits(model, prefix, text):
    """Return the bits of the text after the prefix, a token at a time, in float64."""
    state, logits = model.start([[model.bos_token_id, *prefix]])
    bits = 0.0
    for token in text:
        row = np.asarray(logits[0], dtype=np.float64)
        bits += (np.log(np.exp(row - row.max()).sum()) + row.max() - row[token]) / np.log(2)
        state, logits = model.step(state, [token])
    return bits


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
@pytest.mark.parametrize("head", [None, 1, 2, 17, 20, 99])
def test_bits_are_those_of_a_walk(batch, head):
    model = TinyModel()
    found = Judge(model, TEXT, batch=batch).bits(PREFIXES, head)
    wanted = [stepwise_bits(model, prefix, TEXT[:head]) for prefix in PREFIXES]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.dtype == np.float64


def test_bits_of_the_embedded_model():
    model = td.models.load("kjv")
    text = model.tokenizer.encode("And the LORD said unto Moses, Stretch out thine hand over the sea.\n")
    prefixes = [
        model.tokenizer.encode(each) for each in ("", " Moses", " Moses and", "\n", " Moses and the sea")
    ]
    wanted = [stepwise_bits(model, prefix, text) for prefix in prefixes]
    np.testing.assert_allclose(Judge(model, text).bits(prefixes), wanted, rtol=1e-5)
    np.testing.assert_allclose(Judge(model, text, batch=2).bits(prefixes), wanted, rtol=1e-5)


def test_no_prefixes_have_no_bits():
    judge = Judge(TinyModel(), TEXT)
    assert judge.bits([]).shape == (0,)
    assert judge.costs([]).shape == (0,)


@pytest.mark.parametrize("head", [None, 1, 5])
def test_costs_are_what_the_model_reads(head):
    model = TinyModel()
    judge = Judge(model, TEXT, batch=100)
    model.read = 0
    judge.bits(PREFIXES, head)
    assert judge.costs(PREFIXES, head).sum() == model.read


def test_costs_in_detail():
    costs = Judge(TinyModel(), TEXT).costs(PREFIXES)
    rest = len(TEXT) - 1
    assert costs.tolist() == [rest, rest + 1, rest + 1, rest + 1, rest + 1, rest + 3, 0, rest + 2]
    assert Judge(TinyModel(), TEXT).costs(PREFIXES, 1).tolist() == [0, 1, 1, 1, 1, 3, 0, 2]


def test_a_judgement():
    model = TinyModel()
    judgement = Judge(model, TEXT).judgement([1, 2])
    empty, after = (stepwise_bits(model, prefix, TEXT) for prefix in ((), (1, 2)))
    own = stepwise_bits(model, (), (1, 2))
    np.testing.assert_allclose(
        judgement[1:], [after, empty - after, (empty - after) / 2, own, empty - after - own], rtol=1e-5
    )
    assert judgement.prefix == (1, 2)
    nothing = Judge(model, TEXT).judgement([])
    assert nothing[1:] == (pytest.approx(empty, rel=1e-6), 0, 0, 0, 0)


def test_what_the_model_expects():
    model = TinyModel()
    state, logits = model.start([[model.bos_token_id]])
    total = np.zeros(model.vocab_size)
    for token in TEXT:
        total += np.exp(logits[0].astype(np.float64)) / np.exp(logits[0].astype(np.float64)).sum()
        state, logits = model.step(state, [token])
    expected = Judge(model, TEXT).expected(3).tolist()
    assert expected == np.argsort(-total)[:3].tolist()


def test_what_cannot_be_judged():
    with pytest.raises(ValueError, match="a text must have at least one token, got an empty one"):
        Judge(TinyModel(), [])
    with pytest.raises(ValueError, match="batch must be >= 1, got 0"):
        Judge(TinyModel(), TEXT, batch=0)
    model = TinyModel()
    model.bos_token_id = None
    with pytest.raises(ValueError, match="without bos_token_id"):
        Judge(model, TEXT)

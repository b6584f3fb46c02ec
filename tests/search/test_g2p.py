# SPDX-License-Identifier: Apache-2.0
"""Pronunciation, a task with a right answer: what a greedy choice loses, and what searching gains."""

import itertools

import numpy as np
import pytest

import tokendraw as td
from tests.search import g2p

pytestmark = pytest.mark.skipif(not g2p.is_installed(), reason=f"needs `{g2p.INSTALL}`")


@pytest.fixture(scope="module")
def model() -> g2p.Pronouncer:
    return g2p.load()


def test_the_ids_are_those_of_the_weights(model):
    _, logits = model.start([model.tokenizer.encode("hello")])
    assert logits.shape == (1, len(g2p.PHONEMES)) == (1, 74)


# As the package's own code says them.
@pytest.mark.parametrize(
    ("word", "phonemes"),
    [
        ("hello", "HH EH1 L OW0"),
        ("activationist", "AE2 K T IH0 V EY1 SH AH0 N IH0 S T"),
        ("pronunciation", "P R AA2 N AH2 N S IY0 EY1 SH AH0 N"),
    ],
)
def test_words_sound_as_they_do_in_the_package(model, word, phonemes):
    [said] = td.generate(model, word, max_new_tokens=g2p.LONGEST, top_k=1)
    assert said.text is not None
    assert said.text.split() == phonemes.split()
    assert said.finish_reason == "eos"


def test_rows_are_states_of_their_own(model):
    words = [model.tokenizer.encode(word) for word in ("a", "longer", "word")]
    state, logits = model.start(words)
    for row, word in enumerate(words):
        alone, its_logits = model.start([word])
        np.testing.assert_allclose(its_logits[0], logits[row], rtol=0, atol=1e-4)
        np.testing.assert_allclose(alone[0], state[row], rtol=0, atol=1e-5)
    before = state.copy()
    later, stepped = model.step(model.select(state, [2, 0]), [5, 6])
    _, joined = model.step(model.concat([state[2:], state[:1]]), [5, 6])
    np.testing.assert_array_equal(stepped, joined)
    assert later.shape == (2, state.shape[1])
    np.testing.assert_array_equal(state, before)


@pytest.mark.parametrize(
    ("one", "other", "distance"), [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
)
def test_edit_distances(one, other, distance):
    assert g2p.edit_distance(one, other) == g2p.edit_distance(other, one) == distance


def test_errors_are_held_against_the_nearest_pronunciation():
    either = [[g2p.PHONEMES.index(phoneme) for phoneme in one] for one in g2p.dictionary()["either"]]
    assert len(either) == 2
    assert g2p.errors({"either": [*either[1], g2p.END]}) == (0, 0, 0)
    assert g2p.errors({"either": either[0][1:]}) == (1 / 3, 1 / 3, 1)
    stressed_elsewhere = [g2p.PHONEMES.index(phoneme) for phoneme in ("AY2", "DH", "ER0")]
    assert g2p.errors({"either": stressed_elsewhere}) == (1 / 3, 0, 1)


def test_greedy_errors(model):
    """9.9 % of the phonemes, over all 117,493 words of letters; samples of 200 lie far apart."""
    words = g2p.some_words(200)
    said = td.generate(model, words, max_new_tokens=g2p.LONGEST, top_k=1)
    found = g2p.errors({word: one.tokens for word, one in zip(words, said, strict=True)})
    assert 0.06 < found.phonemes < 0.14
    assert 0.04 < found.phonemes_without_stress < found.phonemes
    assert 0.15 < found.words < 0.45


# --- Greedy, beams, and the best there is ------------------------------------------------------------------


def assert_searching_pays(words: list[str]) -> dict[str, g2p.Errors]:
    """Wider is better, exact is best, and greedy is what one beam says; return the errors of each way."""
    found = g2p.searches(words)
    said = td.generate(g2p.load(), words, max_new_tokens=g2p.LONGEST, top_k=1)
    assert list(found["greedy"].tokens.values()) == [one.tokens for one in said]
    means = [one.logprobs.mean() for one in found.values()]
    assert all(wide >= narrow - 1e-6 for narrow, wide in itertools.pairwise(means))
    for one in found.values():
        assert (one.logprobs <= found["exact"].logprobs + 1e-4).all()
    assert 0.02 < found["greedy"].misses(found["exact"]) < 0.1
    assert found["beam 10"].misses(found["exact"]) < 0.01
    return {name: g2p.errors(one.tokens) for name, one in found.items()}


def test_searching_pays_on_200_words():
    errors = assert_searching_pays(g2p.some_words(200))
    assert errors["exact"].phonemes < errors["greedy"].phonemes


@pytest.mark.slow
def test_searching_pays_on_2000_words():
    """Measured: greedy 9.3 % of the phonemes, beam 2 8.6 %, beam 3 8.4 %, beams 5 and 10 and exact 8.3 %."""
    errors = assert_searching_pays(g2p.some_words(2000))
    assert errors["greedy"].phonemes == pytest.approx(0.0932, abs=0.003)
    assert errors["beam 2"].phonemes == pytest.approx(0.0864, abs=0.003)
    for name in ("beam 3", "beam 5", "beam 10", "exact"):
        assert errors[name].phonemes == pytest.approx(0.0838, abs=0.003)
        assert errors[name].words < errors["greedy"].words

# SPDX-License-Identifier: Apache-2.0
"""Both directions of an exactly known source have one optimum; its entropy is what sequences cost."""

import itertools
import math

import numpy as np
import pytest

import tokendraw as td
from tokendraw.lab.markov import MarkovSource, SymbolTokenizer
from tokendraw.models.base import complete

RANDOM = np.random.default_rng(7)
TRANSITION = RANDOM.dirichlet(np.ones(5), 5)
START = RANDOM.dirichlet(np.ones(5))
END = RANDOM.uniform(0.05, 0.3, 5)
WITH_END = MarkovSource(TRANSITION, START, end=END, symbols="abcde")
ENDLESS = MarkovSource(TRANSITION, symbols="abcde")


def model_logprob(model, tokens, boundary):
    """Return the log-probability that the model gives a sequence, read token by token."""
    state, logits = model.start([[]])
    total = 0.0
    for token in [*tokens, *boundary]:
        total += td.log_softmax(logits)[0, token]
        state, logits = model.step(state, [token])
    return float(total)


class TestIdentity:
    def test_every_short_sequence_has_one_probability(self):
        total = 0.0
        backward = WITH_END.reversed()
        for length in range(1, 6):
            for sequence in itertools.product(range(5), repeat=length):
                logprob = WITH_END.logprobs(sequence).sum()
                assert backward.logprobs(sequence[::-1]).sum() == pytest.approx(logprob, abs=1e-12)
                total += math.exp(logprob)
        longer = START @ np.linalg.matrix_power(WITH_END.going_on, 5)
        assert total + longer.sum() == pytest.approx(1, abs=1e-12)

    def test_every_long_sequence_has_one_probability(self):
        backward = ENDLESS.reversed()
        for sequence in ENDLESS.sample(20, length=2000, seed=3):
            forward = ENDLESS.logprobs(sequence).sum()
            assert backward.logprobs(sequence[::-1]).sum() == pytest.approx(forward, rel=1e-12)

    def test_by_bayes_with_any_start(self):
        source = MarkovSource(TRANSITION, [1, 0, 0, 0, 0])
        for sequence in source.sample(20, length=50, seed=4):
            forward = source.logprobs(sequence).sum()
            assert source.backward_logprobs(sequence).sum() == pytest.approx(forward, rel=1e-12)
        assert source.backward_logprobs([1, 0]).sum() == source.logprobs([1, 0]).sum() == -math.inf

    def test_bayes_is_the_reversal_where_there_is_one(self):
        sequence = ENDLESS.sample(1, length=30, seed=5)[0]
        by_place = ENDLESS.backward_logprobs(sequence)
        reversed_ = ENDLESS.reversed().logprobs(sequence[::-1])[::-1]
        np.testing.assert_allclose(by_place, reversed_, rtol=1e-9)

    def test_twice_reversed_is_the_source(self):
        for source in (WITH_END, ENDLESS):
            twice = source.reversed().reversed()
            np.testing.assert_allclose(twice.transition, source.transition, atol=1e-12)
            np.testing.assert_allclose(twice.start, source.start, atol=1e-12)
            assert twice.tokenizer.right_to_left is False
        np.testing.assert_allclose(twice.reversed().transition, ENDLESS.reversed().transition, atol=1e-12)
        assert not np.allclose(ENDLESS.reversed().transition, ENDLESS.transition, atol=0.01)

    def test_both_models_need_the_entropy(self):
        """On average over sequences, and on each one alike."""
        backward = WITH_END.reversed()
        sequences = WITH_END.sample(5000, seed=6)
        bits = np.array([-WITH_END.logprobs(one).sum() for one in sequences]) / math.log(2)
        again = np.array([-backward.logprobs(one[::-1]).sum() for one in sequences]) / math.log(2)
        np.testing.assert_allclose(again, bits, rtol=1e-11)
        assert backward.entropy == pytest.approx(WITH_END.entropy, rel=1e-12)
        error = bits.std() / math.sqrt(len(bits))
        assert abs(bits.mean() - WITH_END.entropy) < 4.5 * error


class TestEntropy:
    def test_of_independent_symbols(self):
        probabilities = [0.5, 0.25, 0.25]
        source = MarkovSource([probabilities] * 3)
        assert source.entropy_rate == pytest.approx(1.5)
        assert source.entropy == source.mean_length == math.inf

    def test_with_an_end_by_enumeration(self):
        source = MarkovSource([[0.2, 0.8], [0.6, 0.4]], [0.3, 0.7], end=[0.5, 0.9])
        sequences = [one for n in range(1, 12) for one in itertools.product(range(2), repeat=n)]
        logprobs = np.array([source.logprobs(one).sum() for one in sequences])
        probs = np.exp(logprobs)
        assert source.entropy == pytest.approx(-(probs @ logprobs) / math.log(2), abs=2e-3)
        lengths = np.array(list(map(len, sequences)))
        assert source.mean_length == pytest.approx(probs @ lengths, abs=2e-3)
        assert source.entropy_rate == source.entropy / source.mean_length

    def test_the_start_stays_the_same(self):
        np.testing.assert_allclose(ENDLESS.start @ TRANSITION, ENDLESS.start, atol=1e-12)

    def test_a_cycle_is_certain(self):
        source = MarkovSource(np.roll(np.eye(4), 1, axis=1))
        assert source.entropy_rate == 0
        assert source.start.tolist() == pytest.approx([0.25] * 4)


class TestModel:
    @pytest.mark.parametrize("source", [WITH_END, WITH_END.reversed()])
    def test_scores_of_the_library_are_the_exact_ones(self, source):
        for sequence in source.sample(10, seed=8):
            exact = source.logprobs(sequence).sum()
            assert model_logprob(source.model(), sequence, [5]) == pytest.approx(exact, rel=1e-5)

    def test_both_directions_score_alike(self):
        forward, backward = ENDLESS.model(), ENDLESS.reversed().model()
        for sequence in ENDLESS.sample(5, length=40, seed=9):
            one = model_logprob(forward, sequence, [])
            assert model_logprob(backward, sequence[::-1], []) == pytest.approx(one, rel=1e-5)

    def test_generated_text_has_the_lengths_of_the_source(self):
        found = td.generate(WITH_END.model(), [""] * 500, max_new_tokens=200, seed=1)
        lengths = np.array([len(one.tokens) - 1 for one in found])
        assert all(one.finish_reason == "eos" for one in found)
        error = lengths.std() / math.sqrt(len(lengths))
        assert abs(lengths.mean() - WITH_END.mean_length) < 4.5 * error

    def test_what_is_read_backwards_is_written_before_the_prompt(self):
        cycle = MarkovSource(np.roll(np.eye(3), 1, axis=1), symbols="abc")
        [forward] = td.generate(cycle.model(), "a", max_new_tokens=4)
        [backward] = td.generate(cycle.reversed().model(), "a", max_new_tokens=4)
        assert (forward.text, backward.text) == ("bcab", "cabc")

    def test_extend_is_a_step_per_column(self):
        model = WITH_END.model()
        assert complete(model) is model
        state, _ = model.start([[0], [1, 2], []])
        tokens = np.array([[1, 2], [-1, 3], [4, -1]])
        states, logits = model.extend(state, tokens)
        assert states[-1].tolist() == [2, 3, 4]
        for row, row_tokens in enumerate(tokens):
            for place, token in enumerate(row_tokens):
                wanted = np.zeros(6) if token < 0 else model.step(np.array([0]), [token])[1][0]
                np.testing.assert_array_equal(logits[row, place], wanted)

    def test_rows_are_selected_and_joined(self):
        model = ENDLESS.model()
        state, _ = model.start([[0], [1], [2]])
        assert model.select(state, [2, 0, 0]).tolist() == [2, 0, 0]
        assert model.concat([state, state[:1]]).tolist() == [0, 1, 2, 0]


class TestSample:
    def test_the_seed_decides(self):
        first, again, other = (ENDLESS.sample(1, 50, seed)[0].tolist() for seed in (1, 1, 2))
        assert first == again != other

    def test_frequencies_are_the_probabilities(self):
        [sequence] = ENDLESS.sample(1, length=10_000, seed=3)
        counts = np.zeros((5, 5))
        np.add.at(counts, (sequence[:-1], sequence[1:]), 1)
        expected = TRANSITION * counts.sum(axis=1, keepdims=True)
        assert ((counts - expected) ** 2 / expected).sum() < 52  # chi-squared, 20 degrees, p = 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.5, 0.5]],), r"transition must have shape \(1, 1\), got \(1, 2\)"),
        (([[0.5, 0.6], [0.5, 0.5]],), r"transition must be probabilities with the sum 1, got .*\(row 0\)"),
        (([[0.5, 0.5], [-0.5, 1.5]],), r"transition must be probabilities .*\(row 1\)"),
        (([[math.nan, 0.5], [0.5, 0.5]],), r"transition must be probabilities .*\(row 0\)"),
        ((np.eye(2), [0.5]), r"start must have shape \(2,\), got \(1,\)"),
        ((np.eye(2),), "transition must lead from any symbol to one set of symbols: give start"),
    ],
)
def test_wrong_sources(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MarkovSource(*arguments)


def test_wrong_ends_and_symbols():
    with pytest.raises(ValueError, match=r"^end must be in \[0, 1\], got 1.5 \(symbol 0\)$"):
        MarkovSource([[0.5, 0.5]] * 2, end=1.5)
    with pytest.raises(ValueError, match=r"^every symbol must be able to lead to an end, got symbol 1$"):
        MarkovSource(np.eye(2), end=[0.5, 0])
    with pytest.raises(ValueError, match=r"^symbols must be 2 texts, got 3$"):
        MarkovSource([[0.5, 0.5]] * 2, symbols="abc")
    with pytest.raises(ValueError, match=r"^symbols must be different texts, none empty, got 'aa'$"):
        SymbolTokenizer("aa")
    with pytest.raises(ValueError, match=r"^text must consist of symbols, got 'x' \(place 1\)$"):
        td.generate(ENDLESS.model(), "axe", max_new_tokens=1)


def test_wrong_questions():
    with pytest.raises(ValueError, match=r"^length must be given for a source without end, got None$"):
        ENDLESS.sample(1)
    with pytest.raises(ValueError, match=r"^length is chosen by the source, got 5$"):
        WITH_END.sample(1, length=5)
    with pytest.raises(
        ValueError, match=r"^a source without end must start as it goes on to have a reversal$"
    ):
        MarkovSource(TRANSITION, START).reversed()
    with pytest.raises(ValueError, match=r"^the length must not be chosen by the source"):
        WITH_END.backward_logprobs([0])
    with pytest.raises(ValueError, match=r"^symbols must be in \[0, 5\), got 5$"):
        ENDLESS.logprobs([0, 5])
    with pytest.raises(TypeError, match=r"^symbols must be a list of integers, got \[0.5\]$"):
        ENDLESS.logprobs([0.5])

# SPDX-License-Identifier: Apache-2.0
"""Beam search against the reference, brute force and theory, on models small enough to enumerate."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

import tokendraw as td
from tests.search.models import TableModel, completions, ranked
from tokendraw import reference

SetIsa = Callable[[str], None]
FALSE_ALARMS = 1e-6  # of each statistical test, whose seeds are fixed


def logprob_of(model: TableModel, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """Return the log-probability of tokens after a prompt, in float64."""
    rows = [model.row([*prompt, *tokens[:place]]).astype(np.float64) for place in range(len(tokens))]
    return sum(
        row[token] - row.max() - np.log(np.exp(row - row.max()).sum())
        for row, token in zip(rows, tokens, strict=True)
    )


OPTIONS = st.fixed_dictionaries(
    {
        "max_new_tokens": st.integers(1, 6),
        "length_penalty": st.sampled_from([0.0, 1.0, 0.6, 2.0, -1.0]),
        "early_stopping": st.sampled_from([False, True, "never", "exhaust"]),
        "eos_token_id": st.sampled_from([(), (0,), (1, 3)]),
        "min_new_tokens": st.integers(0, 3),
        "no_repeat_ngram_size": st.integers(0, 3),
        "length": st.sampled_from(["generated", "generated_without_eos", "sequence_without_eos"]),
        "candidates": st.integers(0, 3),
        "finishing": st.sampled_from(["top", "all"]),
        "patience": st.sampled_from([1.0, 0.5, 2.0]),
    }
)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    options=OPTIONS,
    width=st.integers(1, 6),
    groups=st.integers(1, 3),
    penalty=st.sampled_from([0.0, 0.5, 3.0]),
    vocab=st.integers(2, 9),
    seed=st.integers(0, 2**20),
    prompt=st.lists(st.integers(0, 1), min_size=1, max_size=4),
)
def test_every_rule_is_that_of_the_reference(
    options: dict[str, Any], width: int, groups: int, penalty: float, vocab: int, seed: int, prompt: list[int]
):
    options = {
        **options,
        "num_beams": width * groups,
        "num_groups": groups,
        "diversity_penalty": penalty if groups > 1 else 0.0,
        "eos_token_id": tuple(token for token in options["eos_token_id"] if token < vocab),
    }
    model = TableModel(vocab, seed)
    expected = reference.beam_search(model.row, prompt, **options)
    found = td.beam_search(model, prompt, num_return=options["num_beams"], **options)
    assert [h.tokens for h in found] == [tokens for tokens, _, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score, _ in expected], abs=1e-5)
    assert [h.logprob for h in found] == pytest.approx([logprob for _, _, logprob in expected], abs=1e-5)


@pytest.mark.parametrize("seed", range(30))
def test_a_beam_as_wide_as_the_tree_is_exact(seed: int):
    model, ends = TableModel(3, seed), [(), (0,), (0, 2)][seed % 3]
    best = [each.tokens for each in ranked(completions(model, [1], 4, ends))]
    found = td.beam_search(
        model, [1], num_beams=81, max_new_tokens=4, eos_token_id=ends, length_penalty=0.0, num_return=81
    )
    assert [tuple(h.tokens) for h in found] == best[:81]
    assert [h.finished for h in found] == [tokens[-1] in ends for tokens in best[:81]]


@pytest.mark.parametrize("seed", range(20))
def test_one_beam_is_greedy(seed: int):
    model = TableModel(6, seed)
    [greedy] = td.generate(model, [1], max_new_tokens=8, top_k=1, eos_token_id=0)
    [beam] = td.beam_search(model, [1], num_beams=1, max_new_tokens=8, eos_token_id=0, length_penalty=0.0)
    assert beam.tokens == greedy.tokens
    assert beam.logprobs == pytest.approx(greedy.raw_logprobs, abs=1e-5)


def test_a_batch_is_its_prompts():
    """Widths and lengths of their own; prompts leave the batch when they are done."""
    model = TableModel(12, 5)
    prompts, widths, limits = [[1], [2, 3], [4], [5, 6, 7]], [1, 5, 3, 2], [3, 9, 1, 6]
    options: dict[str, Any] = {"eos_token_id": (0, 7), "length_penalty": 0.7}
    batch = td.beam_search(model, prompts, num_beams=widths, max_new_tokens=limits, **options)
    for prompt, width, limit, found in zip(prompts, widths, limits, batch, strict=True):
        assert found == td.beam_search(model, prompt, num_beams=width, max_new_tokens=limit, **options)


@pytest.mark.parametrize("choice", ["best", "sampled", "stochastic"])
def test_neither_threads_nor_instructions_change_a_beam(choice: str, isa: str, set_isa: SetIsa):
    set_isa(isa)
    model = TableModel(40000, 3)
    options: dict[str, Any] = {
        "num_beams": 4,
        "max_new_tokens": 4,
        "num_return": 4,
        "choice": choice,
        "seed": 5,
    }
    found = td.beam_search(model, [1], **options)
    before = td.get_num_threads()
    try:
        td.set_num_threads(3)
        assert td.beam_search(model, [1], **options) == found
    finally:
        td.set_num_threads(before)
    set_isa("scalar")
    assert td.beam_search(model, [1], **options) == found


def test_drawn_beams_depend_on_their_own_stream():
    """A prompt's beams are the same alone, given its stream."""
    model = TableModel(30, 2)
    options: dict[str, Any] = {"max_new_tokens": 5, "seed": 8, "choice": "stochastic", "eos_token_id": 0}
    batch = td.beam_search(model, [[1], [2]], num_beams=[3, 4], num_return=3, **options)
    assert batch[1] == td.beam_search(model, [2], num_beams=4, num_return=3, stream=3, **options)
    assert batch[0] != td.beam_search(model, [1], num_beams=3, num_return=3, **{**options, "seed": 9})


# --- Drawn beams against theory ----------------------------------------------------------------------------


def chi_square(counts: Counter[Any], expected: dict[Any, float]) -> float:
    """Return the p-value of counts under exact probabilities, the rarest outcomes pooled."""
    total = counts.total()
    ordered = sorted(expected, key=lambda key: expected[key])
    pooled, seen, want = 0.0, 0, []
    observed = []
    for key in ordered:
        if expected[key] * total < 10:
            pooled, seen = pooled + expected[key] * total, seen + counts[key]
        else:
            observed.append(counts[key])
            want.append(expected[key] * total)
    if pooled > 0:
        observed.append(seen)
        want.append(pooled)
    assert sum(observed) == total
    return float(stats.chisquare(observed, np.array(want) * total / sum(want)).pvalue)


def exact_probabilities(model: TableModel, limit: int, ends: Sequence[int]) -> dict[tuple[int, ...], float]:
    return {each.tokens: math.exp(each.logprob) for each in completions(model, [1], limit, ends)}


def test_stochastic_beams_are_a_sample_without_replacement():
    """Ordered pairs of sequences: p(a) p(b) / (1 - p(a))."""
    model, draws = TableModel(3, 7), 4000
    probs = exact_probabilities(model, 3, (0,))
    pairs = {(a, b): probs[a] * probs[b] / (1 - probs[a]) for a in probs for b in probs if a != b}
    counts: Counter[Any] = Counter()
    for seed in range(draws):
        found = td.beam_search(
            model,
            [1],
            num_beams=2,
            max_new_tokens=3,
            eos_token_id=0,
            num_return=2,
            choice="stochastic",
            seed=seed,
        )
        counts[tuple(tuple(h.tokens) for h in found)] += 1
    assert chi_square(counts, pairs) > FALSE_ALARMS


def test_inclusion_weights_make_averages_right():
    """The mean over samples of the weighted sum of f is the expectation of f under the model."""
    model, draws = TableModel(3, 8), 3000
    probs = exact_probabilities(model, 3, (0,))
    exact = sum(prob * len(tokens) for tokens, prob in probs.items())
    sums = []
    for seed in range(draws):
        found = td.beam_search(
            model,
            [1],
            num_beams=3,
            max_new_tokens=3,
            eos_token_id=0,
            num_return=3,
            choice="stochastic",
            seed=seed,
        )
        sums.append(sum(math.exp(h.logprob - h.log_inclusion) * len(h.tokens) for h in found))
    error = (np.mean(sums) - exact) / (np.std(sums) / math.sqrt(draws))
    assert abs(error) < stats.norm.isf(FALSE_ALARMS / 2)


def test_more_beams_than_sequences_are_all_of_them():
    model = TableModel(2, 1)
    found = td.beam_search(
        model, [1], num_beams=9, max_new_tokens=3, num_return=9, choice="stochastic", seed=1, eos_token_id=()
    )
    assert {tuple(h.tokens) for h in found} == {each.tokens for each in completions(model, [1], 3)}
    assert [h.log_inclusion for h in found] == [0.0] * 8  # nothing was dropped
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_one_sampled_beam_is_a_sample():
    """With one candidate a beam is ancestral sampling."""
    model, draws = TableModel(3, 9), 3000
    probs = exact_probabilities(model, 3, ())
    options: dict[str, Any] = {"num_beams": 1, "max_new_tokens": 3, "candidates": 1, "choice": "sampled"}
    drawn = (td.beam_search(model, [1], seed=seed, **options) for seed in range(draws))
    counts = Counter(tuple(found.tokens) for [found] in drawn)
    assert chi_square(counts, probs) > FALSE_ALARMS


def test_sampled_candidates_are_drawn_without_replacement():
    """Two beams of the first step: the unordered pairs of a sample without replacement."""
    model, draws = TableModel(4, 10), 3000
    probs = {token: math.exp(logprob_of(model, [1], [token])) for token in range(4)}
    pairs = {
        frozenset((a, b)): probs[a] * probs[b] * (1 / (1 - probs[a]) + 1 / (1 - probs[b]))
        for a, b in itertools.combinations(range(4), 2)
    }
    counts: Counter[Any] = Counter()
    for seed in range(draws):
        search = td.BeamSearch(2, max_new_tokens=2, candidates=1, choice="sampled", seed=seed)
        counts[frozenset(search.step(model.row([1])[None]).tokens.tolist())] += 1
    assert chi_square(counts, pairs) > FALSE_ALARMS


@pytest.mark.parametrize("choice", ["sampled", "stochastic"])
def test_noise_reaches_what_is_rare(choice: str):
    """Among a vocabulary of many tiles a token of probability 1e-3 is drawn at its rate."""
    vocab, draws = 5000, 4000
    logits = np.zeros((1, vocab), np.float32)
    logits[0, 4321] = math.log(5.0)
    prob = 5.0 / (vocab + 4)
    hits = 0
    for seed in range(draws):
        search = td.BeamSearch(1, max_new_tokens=2, candidates=1, choice=choice, seed=seed)
        hits += search.step(logits).tokens.tolist() == [4321]
    assert stats.binomtest(hits, draws, prob).pvalue > FALSE_ALARMS


# --- What may follow ---------------------------------------------------------------------------------------


def test_a_mask_takes_tokens_and_leaves_probabilities():
    model, mask = TableModel(6, 4), np.array([1, 0, 1, 1, 0, 1], bool)
    for h in td.beam_search(
        model, [1], num_beams=4, max_new_tokens=3, mask=mask, num_return=4, eos_token_id=()
    ):
        assert mask[h.tokens].all()
        assert h.logprob == pytest.approx(logprob_of(model, [1], h.tokens), abs=1e-5)
    [best] = td.beam_search(model, [1], num_beams=4, max_new_tokens=1, mask=mask, renormalize=True)
    shares = td.log_softmax(model.row([1]), mask=mask)
    assert best.logprob == pytest.approx(float(shares.max()), abs=1e-6)


def test_filters_narrow_the_beam():
    model = TableModel(20, 4)
    options: dict[str, Any] = {"num_beams": 6, "max_new_tokens": 4, "num_return": 6, "eos_token_id": ()}
    for filters in (
        {"top_k": 3},
        {"top_p": 0.6},
        {"min_p": 0.3},
        {"top_k": 5, "top_p": 0.9},
        {"typical_p": 0.5},
    ):
        for h in td.beam_search(model, [1], **options, **filters):
            for place, token in enumerate(h.tokens):
                row = model.row([1, *h.tokens[:place]])
                assert td.softmax(row, **filters)[token] > 0
            assert h.logprob == pytest.approx(logprob_of(model, [1], h.tokens), abs=1e-5)


def test_temperature_and_penalties_change_the_distribution():
    """One beam follows the best of log_softmax with the same parameters, histories included."""
    model, tokens, total = TableModel(8, 6), [3, 3, 1], 0.0
    steps: dict[str, Any] = {"temperature": 0.7, "repetition_penalty": 1.5, "bias": {2: 0.8}}
    [found] = td.beam_search(model, tokens, num_beams=1, max_new_tokens=6, **steps)
    for _ in range(6):
        row = td.log_softmax(model.row(tokens)[None], history=[tokens], **steps)[0]
        tokens = [*tokens, int(row.argmax())]
        total += float(row.max())
    assert found.tokens == tokens[3:]
    assert found.logprob == pytest.approx(total, abs=1e-5)


def test_a_constraint_says_what_may_follow():
    """Here: no token twice, in either form that a constraint may have; dead ends are left."""
    model = TableModel(5, 2)

    def unused(prompt: int, generated: list[int]) -> list[int]:
        return [token for token in range(5) if token not in generated]

    def unused_mask(prompt: int, generated: list[int]) -> np.ndarray:
        return ~np.isin(np.arange(5), generated)

    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 9, "num_return": 3, "eos_token_id": ()}
    found = td.beam_search(model, [1], constraint=unused, **options)
    assert [sorted(h.tokens) for h in found] == [[0, 1, 2, 3, 4]] * 3
    assert td.beam_search(model, [1], constraint=unused_mask, **options) == found


def test_an_identity_scorer_changes_nothing():
    model = TableModel(9, 2)
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 5, "num_return": 3, "eos_token_id": 0}
    seen = []

    def scorer(candidates: td.BeamCandidates, state: Any) -> np.ndarray:
        seen.append((len(candidates.rows), len(state)))
        return candidates.scores

    assert td.beam_search(model, [1], scorer=scorer, **options) == td.beam_search(model, [1], **options)
    assert seen[0] == (6, 1)


def test_a_scorer_ranks():
    """Contrastive search (Su et al., 2022): probability against likeness to what was said."""
    model, alpha = TableModel(9, 2), 0.4

    def hidden(tokens: Sequence[int]) -> np.ndarray:
        vector = np.random.default_rng([7, *tokens]).normal(0, 1, 4)
        return vector / np.linalg.norm(vector)

    def score(probability: float, tokens: list[int]) -> float:
        past = [hidden(tokens[:end]) @ hidden(tokens) for end in range(1, len(tokens))]
        return (1 - alpha) * probability - alpha * max(past)

    def scorer(candidates: td.BeamCandidates, state: Any) -> list[float]:
        found = zip(candidates.rows, candidates.tokens, candidates.logprobs, strict=True)
        return [score(math.exp(logprob), [*state[row], int(token)]) for row, token, logprob in found]

    [found] = td.beam_search(model, [1], num_beams=1, candidates=4, max_new_tokens=6, scorer=scorer)
    tokens = [1]
    for _ in range(6):
        probs = td.softmax(model.row(tokens))
        best = max(
            np.argsort(-probs)[:4].tolist(), key=lambda token: score(float(probs[token]), [*tokens, token])
        )
        tokens.append(best)
    assert found.tokens == tokens[1:]


def test_a_scorer_ranks_in_every_group():
    """The penalty of the second group is taken from what the scorer said: that token 5 is best by far."""
    model = TableModel(8, 3)

    def scorer(candidates: td.BeamCandidates) -> np.ndarray:
        return candidates.scores + 50.0 * (candidates.tokens == 5)

    search = td.BeamSearch(2, max_new_tokens=3, num_groups=2, diversity_penalty=1.0, candidates=8)
    assert search.step(model.row([1])[None], scorer=scorer).tokens.tolist() == [5, 5]


# --- Step by step ------------------------------------------------------------------------------------------


def test_a_step_says_which_rows_go_on():
    model = TableModel(7, 3)
    search = td.BeamSearch([2, 3], max_new_tokens=3, prompts=[[1], [2]], no_repeat_ngram_size=2)
    state, logits = model.start([[1], [2]])
    while search.num_live:
        step = search.step(logits)
        assert step.tokens.dtype == np.int32
        assert step.parents.dtype == np.int64
        assert step.tokens.tolist() == search.tokens.tolist()
        assert step.parents.tolist() == search.parents.tolist()
        assert step.done.tolist() == search.done.tolist()
        assert len(search.row_prompts) == len(search.scores) == search.num_live == len(step.tokens)
        if search.num_live:
            state, logits = model.step(model.select(state, step.parents), step.tokens)
            assert list(map(list, state)) == search.histories
    assert [len(best) for best in search.finish()] == [2, 3]
    with pytest.raises(ValueError, match="must have a prompt that is not done"):
        search.step(logits)


def test_a_search_that_is_left_early_returns_what_it_has():
    model = TableModel(7, 3)
    search = td.BeamSearch(3, max_new_tokens=9)
    search.step(model.row([1])[None])
    found = search.finish()[0]
    assert [len(h.tokens) for h in found] == [1, 1, 1]
    assert not any(h.finished for h in found)


def test_memory_follows_what_is_alive():
    random = np.random.default_rng(0)
    search = td.BeamSearch(8, max_new_tokens=1000)
    logits = random.normal(0, 3, (1, 50)).astype(np.float32)
    for _ in range(400):
        step = search.step(logits)
        logits = random.normal(0, 3, (len(step.tokens), 50)).astype(np.float32)
    assert search._core.allocated < 700  # of 400 * 8 kept and 400 * 16 looked at


def test_torch_in_torch_out():
    torch = pytest.importorskip("torch")
    search = td.BeamSearch(2, max_new_tokens=2)
    step = search.step(torch.tensor([[0.0, 2.0, 1.0]]))
    assert step.tokens.dtype == torch.int32
    assert step.parents.dtype == torch.int64
    assert step.tokens.tolist() == [1, 2]


# --- Bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_invalid_row_ends_its_beam_alone(bad: float):
    model = TableModel(6, 1)
    search = td.BeamSearch(2, max_new_tokens=4, prompts=[[1], [2]], eos_token_id=0)
    state, logits = model.start([[1], [2]])
    step = search.step(logits)
    state, logits = model.step(model.select(state, step.parents), step.tokens)
    logits = np.where(
        [[False], [False], [True], [True]], np.float32(bad), logits
    )  # those of the second prompt
    with pytest.raises(td.InvalidLogitsError, match=r"row 2 .*row 3") as caught:
        search.step(logits)
    assert caught.value.rows == (2, 3)
    assert search.done.tolist() == [False, True]
    while search.num_live:
        state, logits = model.step(model.select(state, search.parents), search.tokens)
        search.step(logits)
    expected = td.beam_search(model, [1], num_beams=2, max_new_tokens=4, eos_token_id=0, num_return=2)
    assert search.finish()[0] == expected
    assert [len(h.tokens) for h in search.finish()[1]] == [1, 1]


def test_what_is_finished_is_never_lost():
    """A row that dies after a hypothesis has finished."""
    search = td.BeamSearch(1, max_new_tokens=5, eos_token_id=0, length_penalty=3.0, early_stopping="never")
    search.step(np.float32([[2.0, 1.9, 0.0]]))
    with pytest.raises(td.InvalidLogitsError, match="nothing can be drawn from row 0"):
        search.step(np.float32([[np.nan, 0.0, 0.0]]))
    [[found]] = search.finish()
    assert (found.tokens, found.finished) == ([0], True)


def test_a_mask_that_allows_nothing():
    search = td.BeamSearch(2, max_new_tokens=5)
    with pytest.raises(td.InvalidLogitsError, match="nothing can be drawn from row 0"):
        search.step(np.zeros((1, 4), np.float32), mask=np.zeros(4, bool))
    assert search.finish() == [[]]
    search = td.BeamSearch(2, max_new_tokens=5)
    step = search.step(np.zeros((1, 4), np.float32), mask=np.zeros(4, bool), on_invalid="mark")
    assert step.valid.tolist() == [False]
    assert step.tokens.size == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, r"num_beams must be in \[1, 2\^24\), got 0"),
        ({"num_beams": [2, 0], "prompts": 2}, r"num_beams must be in \[1, 2\^24\), got 0 \(prompt 1\)"),
        (
            {"num_beams": [2, 2, 2], "prompts": 2},
            r"num_beams must be one value or one per prompt \(2\), got 3",
        ),
        ({"max_new_tokens": 0}, r"max_new_tokens must be in \[1, 2\^32\), got 0"),
        ({"length_penalty": math.nan}, "length_penalty must be finite, got nan"),
        (
            {"early_stopping": "maybe"},
            'early_stopping must be False, True, "never" or "exhaust", got \'maybe\'',
        ),
        ({"min_new_tokens": -1}, "min_new_tokens must be >= 0, got -1"),
        ({"num_groups": 3}, r"num_beams must be a multiple of num_groups \(3\), got 4 \(prompt 0\)"),
        ({"num_groups": 2, "choice": "sampled"}, "num_groups must be 1 where beams are drawn, got 2"),
        ({"diversity_penalty": -1.0}, "diversity_penalty must be >= 0, got -1"),
        ({"patience": 0.0}, "patience must be finite and > 0, got 0"),
        ({"choice": "worst"}, 'choice must be "best", "sampled" or "stochastic", got \'worst\''),
        (
            {"params": td.SamplingParams(min_tokens=3, eos_token_id=1)},
            "min_tokens must be 0 in a beam search, which has min_new_tokens, got 3",
        ),
        ({"eos_token_id": -2}, r"eos_token_id must be in \[0, 2\^31\), got -2"),
        ({"seed": 2**64}, r"seed must be in \[0, 2\^64\), got 18446744073709551616"),
        ({"temperature": -1.0}, "temperature must be finite and >= 0, got -1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        td.BeamSearch(**{"num_beams": 4, "max_new_tokens": 3, **options})


def test_bad_steps():
    search = td.BeamSearch(2, max_new_tokens=3, eos_token_id=7)
    with pytest.raises(ValueError, match="logits must have 1 rows, one per prompt, got"):
        search.step(np.zeros((2, 9), np.float32))
    with pytest.raises(ValueError, match=r"eos_token_id must have tokens in \[0, 4\), got 7"):
        search.step(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match=r"scorer must return one score per candidate \(4\), got 1"):
        search.step(np.zeros((1, 9), np.float32), scorer=lambda candidates: [1.0])
    assert len(search.step(np.zeros((1, 9), np.float32)).tokens) == 2
    with pytest.raises(ValueError, match="logits must have 2 rows, one per live beam, got"):
        search.step(np.zeros((1, 9), np.float32))
    with pytest.raises(ValueError, match=r"num_return must be at most num_beams \(2\), got 3"):
        search.finish(3)
    with pytest.raises(ValueError, match=r"preset must be 'transformers', .*, got 'bert'"):
        td.BeamSearch.preset("bert", 2, max_new_tokens=3)


def test_bad_rows_of_a_search():
    model, prompts = TableModel(6, 1), [[1], [2]]
    for name, value in (("mask", np.ones((3, 6), bool)), ("bias", np.zeros((1, 6), np.float32))):
        with pytest.raises(
            ValueError, match=rf"{name} must be one value or one per prompt \(2\), got {len(value)}"
        ):
            td.beam_search(model, prompts, num_beams=2, max_new_tokens=2, **{name: value})


def test_a_scorer_must_return_numbers():
    with pytest.raises(ValueError, match="could not convert string to float"):
        td.BeamSearch(2, max_new_tokens=2).step(np.zeros((1, 4), np.float32), scorer=lambda found: ["x"] * 4)


def test_presets_are_the_rules_they_name():
    model = TableModel(9, 4)
    rules: dict[str, dict[str, Any]] = {
        "transformers": {},
        "ctranslate2": {"candidates": 2, "length": "generated_without_eos", "early_stopping": True},
        "tensorrt-llm": {"candidates": 2},
        "onnxruntime-genai": {"candidates": 2, "length": "sequence_without_eos"},
        "vllm": {
            "candidates": 2,
            "length": "sequence_without_eos",
            "early_stopping": "exhaust",
            "finishing": "all",
        },
    }
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6, "eos_token_id": (0, 4)}
    for name, differences in rules.items():
        expected = reference.beam_search(
            model.row, [1, 2], **{"early_stopping": False, **options, **differences}
        )
        search = td.BeamSearch.preset(name, 3, prompts=[[1, 2]], max_new_tokens=6, eos_token_id=(0, 4))
        state, logits = model.start([[1, 2]])
        while True:
            step = search.step(logits)
            if not search.num_live:
                break
            state, logits = model.step(model.select(state, step.parents), step.tokens)
        assert [h.tokens for h in search.finish()[0]] == [tokens for tokens, _, _ in expected], name

# SPDX-License-Identifier: Apache-2.0
"""generate with a draft: the target's text and nothing else, and fewer calls of the target."""

from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tests.draw.statistics import chi_square

ALARM = 1e-6
Case = dict[str, Any]


class TableModel:
    """A model whose logits depend on the last token; it counts its calls and has no `extend` of its own."""

    bos_token_id = 0

    def __init__(self, table: np.ndarray, eos: int | None = None) -> None:
        self.table = table
        self.vocab_size = table.shape[-1]
        self.eos_token_id = eos
        self.calls = 0

    def start(self, prompts: Any) -> Any:
        state = np.array([prompt[-1] for prompt in prompts])
        state.setflags(write=False)
        return state, self.table[state]

    def step(self, state: Any, tokens: Any) -> Any:
        self.calls += 1
        assert len(state) == len(tokens)
        assert (np.asarray(tokens) >= 0).all()
        return np.asarray(tokens), self.table[tokens]

    def select(self, state: Any, rows: Any) -> Any:
        return state[rows]


class WideModel(TableModel):
    """The same with `extend` and `concat`."""

    def extend(self, state: Any, tokens: Any) -> Any:
        self.calls += 1
        states = []
        for column in np.asarray(tokens).T:
            state = np.where(column >= 0, column, state)
            states.append(state)
        logits = np.where(np.asarray(tokens)[..., None] >= 0, self.table[np.stack(states, axis=1)], 0)
        return states, logits.astype(np.float32)

    def concat(self, states: Any) -> Any:
        return np.concatenate(states)


class Fixed:
    """Proposes the same tokens always."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = list(tokens)

    def propose(self, sequences: Any) -> Any:
        return [self.tokens] * len(sequences)


def table(vocab: int, seed: int, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (vocab, vocab)).astype(np.float32)


VOCAB = 12
TARGET, DRAFT = table(VOCAB, 1, 2.0), table(VOCAB, 1, 2.0) + table(VOCAB, 2)
DRAFTS = {
    "model": TableModel(DRAFT),
    "wide model": WideModel(DRAFT),
    "itself": WideModel(TARGET),
    "prompt-lookup": "prompt-lookup",
    "proposer": Fixed(3, 1, 4, 1, 5, 9),
    "nothing": Fixed(),
}
OPTIONS: dict[str, Case] = {
    "plain": {},
    "samples": {"n": 3},
    "eos": {"eos_token_id": 4},
    "stop token": {"stop": [2]},
    "limits": {"max_new_tokens": [1, 17, 0]},
    "penalties": {"repetition_penalty": 1.4, "dry_multiplier": 0.7, "dry_allowed_length": 1},
    "min_tokens": {"eos_token_id": [4, 5], "min_tokens": 9},
    "mask": {"mask": np.arange(VOCAB) % 5 != 3},
    "bias": {"bias": table(VOCAB, 5)[:3]},
}
PROMPTS = [[1], [2, 3, 2, 3, 2], [7, 1, 2, 8, 1, 2]]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("draft", DRAFTS)
def test_greedy_text_is_that_of_the_target(draft: str, options: str) -> None:
    given: Case = {"max_new_tokens": 25, "temperature": 0, "seed": 1, "logprobs": 2, **OPTIONS[options]}
    plain = td.generate(WideModel(TARGET), PROMPTS, **given)
    drafted = td.generate(WideModel(TARGET), PROMPTS, draft=DRAFTS[draft], **given)
    for one, other in zip(drafted, plain, strict=True):
        assert one.tokens == other.tokens
        assert one.finish_reason == other.finish_reason
        assert one.logprobs == other.logprobs
        assert np.allclose(one.raw_logprobs, other.raw_logprobs, rtol=1e-6)
        assert [[token for token, _ in best] for best in one.top_logprobs] == [
            [token for token, _ in best] for best in other.top_logprobs
        ]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("draft", DRAFTS)
def test_logprobs_are_those_of_the_target(draft: str, options: str) -> None:
    """A sequence with its tokens forced one after another has the same log-probabilities."""
    given: Case = {"max_new_tokens": 12, "top_p": 0.9, "seed": 5, "logprobs": 2, **OPTIONS[options]}
    drafted = td.generate(TableModel(TARGET), PROMPTS, draft=DRAFTS[draft], **given)
    for place, one in enumerate(drafted):
        prompt = PROMPTS[place // given.get("n", 1)]
        for position, token in enumerate(one.tokens):
            before = [*prompt, *one.tokens[:position]]
            filters = {
                name: given[name]
                for name in ("repetition_penalty", "dry_multiplier", "dry_allowed_length", "mask", "top_p")
                if name in given
            }
            if "bias" in given:
                filters["bias"] = given["bias"][place // given.get("n", 1)]
            if "min_tokens" in given:
                filters |= {"min_tokens": 9, "eos_token_id": [4, 5], "step": position, "seed": 0}
            logits = TARGET[before[-1]]
            history = {"history": [before]} if "repetition_penalty" in given else {}
            processed = td.log_softmax(logits, **filters, **history)
            assert one.logprobs[position] == pytest.approx(float(processed[token]), abs=1e-6)
            raw = float(td.log_softmax(logits)[token])
            assert one.raw_logprobs[position] == pytest.approx(raw, abs=1e-6)


@pytest.mark.parametrize("draft", DRAFTS)
def test_a_sequence_alone_and_in_a_batch(draft: str) -> None:
    given: Case = {"seed": 3, "top_p": 0.95, "draft": DRAFTS[draft], "eos_token_id": 4}
    limits = [30, 4, 50]
    batch = td.generate(WideModel(TARGET), PROMPTS, max_new_tokens=limits, **given)
    for place, prompt in enumerate(PROMPTS):
        [alone] = td.generate(
            TableModel(TARGET), [prompt], max_new_tokens=limits[place], stream=place, **given
        )
        assert alone.tokens == batch[place].tokens
        assert (alone.proposed, alone.accepted) == (batch[place].proposed, batch[place].accepted)


@pytest.mark.parametrize("draft", [name for name in DRAFTS if name != "nothing"])
def test_sequences_follow_the_target(draft: str) -> None:
    """Pairs of the second and third token, which follow a round of drafts. One false alarm in a million."""
    vocab, count = 4, 8000
    small = {
        "model": TableModel(table(vocab, 8)),
        "wide model": WideModel(table(vocab, 8)),
        "itself": WideModel(table(vocab, 7)),
        "proposer": Fixed(3, 1, 2),
    }
    target = WideModel(table(vocab, 7))
    made = td.generate(
        target, [[1, 2, 1]], max_new_tokens=3, n=count, seed=9, draft=small.get(draft, draft), draft_tokens=2
    )
    text = np.array([each.tokens for each in made])
    step = td.softmax(target.table).astype(np.float64)
    probs = (step[1][:, None, None] * step[:, :, None] * step[None]).ravel()
    counts = np.bincount(np.ravel_multi_index(tuple(text.T), (vocab,) * 3), minlength=vocab**3)
    assert chi_square(counts, probs / probs.sum()) > ALARM


def test_fewer_calls_of_the_target() -> None:
    target, plain = WideModel(TARGET), WideModel(TARGET)
    td.generate(plain, [[1]], max_new_tokens=60, seed=1)
    [found] = td.generate(target, [[1]], max_new_tokens=60, seed=1, draft=WideModel(TARGET), draft_tokens=5)
    assert plain.calls == 59
    assert target.calls == 10  # the first token, nine rounds of six, and one of five
    assert found.proposed == found.accepted == 49


def test_counts_of_drafts() -> None:
    [found] = td.generate(WideModel(TARGET), [[1]], max_new_tokens=40, seed=1, draft=WideModel(DRAFT))
    assert 0 < found.accepted < found.proposed
    [plain] = td.generate(WideModel(TARGET), [[1]], max_new_tokens=40, seed=1)
    assert (plain.proposed, plain.accepted) == (0, 0)


def test_drafts_end_where_a_text_ends() -> None:
    """Nothing is proposed after an end token, nor past the limit."""
    chain = np.full((5, 5), -20, dtype=np.float32)
    chain[np.arange(5), (np.arange(5) + 1) % 5] = 20
    for draft in (WideModel(chain), Fixed(2, 3, 4, 0, 1)):
        [found] = td.generate(WideModel(chain), [[0]], max_new_tokens=50, draft=draft, eos_token_id=3, seed=1)
        assert (found.tokens, found.finish_reason) == ([1, 2, 3], "eos")
        assert (found.proposed, found.accepted) == (2, 2)
        [found] = td.generate(WideModel(chain), [[0]], max_new_tokens=3, draft=draft, seed=1)
        assert (found.tokens, found.finish_reason) == ([1, 2, 3], "length")
        assert (found.proposed, found.accepted) == (1, 1)


def test_stop_strings_inside_accepted_drafts() -> None:
    model = td.models.load("kjv")
    given: Case = {"max_new_tokens": 60, "temperature": 0, "stop": ["Moses", "the LORD"]}
    prompts = ["And God said, Let there be", "And the LORD spake unto"]
    plain = td.generate(model, prompts, **given)
    for draft in (td.models.load("kjv-draft"), model, "prompt-lookup"):
        drafted = td.generate(model, prompts, draft=draft, **given)
        assert [(one.text, one.finish_reason) for one in drafted] == [
            (one.text, one.finish_reason) for one in plain
        ]


def test_a_stream_of_tokens() -> None:
    given: Case = {"max_new_tokens": 20, "seed": 4, "draft": WideModel(DRAFT)}
    stream = td.stream_generate(WideModel(TARGET), PROMPTS, keep_logits=True, **given)
    tokens = list(stream)
    made = td.generate(WideModel(TARGET), PROMPTS, **given)
    assert stream.results() == made
    for index, one in enumerate(made):
        own = [token for token in tokens if token.index == index]
        assert [token.token for token in own] == one.tokens
        assert [token.position for token in own] == list(range(20))
        before = [PROMPTS[index][-1], *one.tokens[:-1]]
        assert all(
            np.array_equal(token.logits, TARGET[last]) for token, last in zip(own, before, strict=True)
        )


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_rows_that_become_invalid(broken: float) -> None:
    chain = np.full((5, 5), -20, dtype=np.float32)
    chain[np.arange(5), (np.arange(5) + 1) % 5] = 20
    faulty = chain.copy()
    faulty[3] = broken
    for draft in (WideModel(chain), Fixed(2, 3, 4, 0, 1), WideModel(faulty)):
        given: Case = {"max_new_tokens": 9, "draft": draft, "seed": 1}
        found = td.generate(WideModel(faulty), [[0], [4]], on_invalid="mark", **given)
        assert [one.tokens for one in found] == [[1, 2, 3], [0, 1, 2, 3]]
        assert [one.finish_reason for one in found] == ["invalid", "invalid"]
        with pytest.raises(td.InvalidLogitsError):
            td.generate(WideModel(faulty), [[0], [4]], **given)


def test_torch_logits() -> None:
    torch = pytest.importorskip("torch")

    class TorchModel(WideModel):
        def start(self, prompts: Any) -> Any:
            state, logits = super().start(prompts)
            return state, torch.from_numpy(logits)

        def step(self, state: Any, tokens: Any) -> Any:
            state, logits = super().step(state, np.asarray(tokens))
            return state, torch.from_numpy(logits)

        def extend(self, state: Any, tokens: Any) -> Any:
            states, logits = super().extend(state, tokens)
            return states, torch.from_numpy(logits)

    given: Case = {"max_new_tokens": 20, "seed": 4, "logprobs": 2}
    plain = td.generate(WideModel(TARGET), PROMPTS, draft=WideModel(DRAFT), **given)
    assert td.generate(TorchModel(TARGET), PROMPTS, draft=TorchModel(DRAFT), **given) == plain


# --- What can be a draft -----------------------------------------------------------------------------------

WRONG: dict[str, tuple[Case, type[Exception], str]] = {
    "another vocabulary": (
        {"draft": TableModel(table(5, 1))},
        ValueError,
        "draft must have the vocabulary of the model, 12 tokens, got 5",
    ),
    "a name": ({"draft": "kjv-draft"}, ValueError, 'draft must be a model, "prompt-lookup".*got .kjv-draft'),
    "a number": ({"draft": 4}, TypeError, 'draft must be a model, "prompt-lookup" or have propose, got int'),
    "no tokens": ({"draft_tokens": 0}, ValueError, "draft_tokens must be >= 1, got 0"),
    "half a token": ({"draft_tokens": 1.5}, TypeError, "draft_tokens must be an integer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    change, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        td.stream_generate(WideModel(TARGET), [[1]], max_new_tokens=5, **{"draft": "prompt-lookup", **change})


def test_bad_proposals() -> None:
    with pytest.raises(ValueError, match=r"proposed tokens must be in \[0, 12\), got 99"):
        td.generate(WideModel(TARGET), [[1]], max_new_tokens=5, draft=Fixed(99))

    class Short:
        def propose(self, sequences: Any) -> Any:
            return []

    with pytest.raises(ValueError, match=r"propose must return one list per sequence \(1\), got 0"):
        td.generate(WideModel(TARGET), [[1]], max_new_tokens=5, draft=Short())


# --- Prompt lookup -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ([], []),
        ([1], []),
        ([1, 1], [1]),
        ([1, 2, 3], []),
        ([1, 2, 3, 1], [2, 3, 1]),
        ([1, 2, 9, 1, 2, 8, 1, 2], [8, 1, 2]),  # the latest place
        ([1, 2, 3, 9, 2, 3, 8, 1, 2, 3], [9, 2, 3, 8]),  # the longest match, though earlier
        ([5, 5, 5, 5], [5]),
    ],
)
def test_prompt_lookup(text: list[int], proposed: list[int]) -> None:
    assert td.PromptLookup(4).propose([text]) == [proposed]


def test_prompt_lookup_needs_as_many_tokens_as_it_is_told() -> None:
    text = [1, 2, 3, 4, 9, 3, 4, 7, 5, 2, 3, 4]
    assert td.PromptLookup(2, max_ngram=1).propose([text]) == [[7, 5]]
    assert td.PromptLookup(2, max_ngram=3).propose([text]) == [[9, 3]]
    assert td.PromptLookup(2, min_ngram=4, max_ngram=5).propose([text]) == [[]]
    for wrong in ({"max_tokens": 0}, {"min_ngram": 0}, {"max_ngram": 1, "min_ngram": 2}):
        with pytest.raises(ValueError, match="must be >="):
            td.PromptLookup(**wrong)


def test_a_text_that_repeats_itself_is_looked_up() -> None:
    chain = np.full((6, 6), -20, dtype=np.float32)
    chain[np.arange(6), (np.arange(6) + 1) % 6] = 20
    target = WideModel(chain)
    [found] = td.generate(target, [[0]], max_new_tokens=61, draft="prompt-lookup", draft_tokens=6, seed=1)
    assert found.tokens == [(1 + place) % 6 for place in range(61)]
    assert found.accepted > 40
    assert target.calls < 20

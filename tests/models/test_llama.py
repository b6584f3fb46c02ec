# SPDX-License-Identifier: Apache-2.0
"""The network against a forward pass over the whole text in float64, and states as values."""

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokendraw as td
from tests.models.tiny_llama import METADATA, VOCAB, expected_logits, random_tensors, write_gguf
from tokendraw.models.base import Model, complete
from tokendraw.models.gguf_llama import read_llama
from tokendraw.models.llama import LlamaModel, LlamaShape, LlamaState, LlamaWeights

PROMPTS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5], [8, 9]]


def close(left: Any, right: Any) -> None:
    np.testing.assert_allclose(left, right, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    return read_llama(write_gguf(tmp_path_factory.mktemp("llama") / "tiny.gguf", random_tensors()))


def after(model: LlamaModel, tokens: list[int]) -> Any:
    """Return the logits after a text that is read alone."""
    return model.start([tokens])[1][0]


class TestNetwork:
    @pytest.mark.parametrize("tied", [False, True])
    def test_logits_are_those_of_a_full_forward_pass(self, tmp_path: Path, tied: bool) -> None:
        tensors = random_tensors(tied=tied)
        model = read_llama(write_gguf(tmp_path / "a.gguf", tensors))
        assert (model.weights.output is model.weights.embedding) == tied
        text = [int(token) for token in np.random.default_rng(1).integers(0, VOCAB, size=17)]
        wanted = expected_logits(tensors, text)
        assert np.abs(wanted).max() > 1
        close(model.extend(model.start([text[:1]])[0], [text[1:]])[1][0], wanted[1:])
        for length in (1, 2, 17):
            close(after(model, text[:length]), wanted[length - 1])

    def test_frequencies_are_divided_by_the_factors_of_the_file(self, tmp_path: Path) -> None:
        factors = [1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 8.0, 8.0]
        tensors = random_tensors()
        path = write_gguf(
            tmp_path / "a.gguf", tensors | {"rope_freqs.weight": np.array(factors, dtype=np.float32)}
        )
        text = [7, 8, 9, 10, 11]
        close(after(read_llama(path), text), expected_logits(tensors, text, factors)[-1])
        assert np.abs(expected_logits(tensors, text)[-1] - after(read_llama(path), text)).max() > 1e-3

    def test_only_some_components_may_be_rotated(self, tmp_path: Path) -> None:
        """The others are as if their angle were zero."""
        tensors = random_tensors()
        path = write_gguf(tmp_path / "a.gguf", tensors, METADATA | {"llama.rope.dimension_count": 2})
        text = [7, 8, 9, 10, 11]
        close(after(read_llama(path), text), expected_logits(tensors, text, [1.0, *[np.inf] * 7])[-1])

    def test_a_long_prompt_is_read_in_pieces(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = read_llama(write_gguf(tmp_path / "a.gguf", random_tensors()))
        text = [int(token) for token in np.random.default_rng(2).integers(0, VOCAB, size=40)]
        prompts = [text, text[:5], text[:23]]
        whole = model.start(prompts)
        monkeypatch.setattr("tokendraw.models.llama._TOKENS_AT_ONCE", 12)
        pieces = model.start(prompts)
        close(pieces[1], whole[1])
        close(model.step(pieces[0], [1, 2, 3])[1], model.step(whole[0], [1, 2, 3])[1])

    def test_many_rows_are_as_one(self, model: LlamaModel) -> None:
        rows = [[token % VOCAB, 1 + token % 7] for token in range(50)]
        logits = model.start(rows)[1]
        for row in (0, 17, 49):
            close(logits[row], after(model, rows[row]))

    def test_large_gates_do_not_overflow(self, model: LlamaModel) -> None:
        layers = tuple(layer._replace(gate_up=layer.gate_up * 1e4) for layer in model.weights.layers)
        loud = dataclasses.replace(model, weights=model.weights._replace(layers=layers))
        assert np.isfinite(after(loud, [1, 2, 3])).all()


class TestScoring:
    @pytest.mark.parametrize("always", [False, True])
    def test_windows_fill_the_context_and_no_more(self, model: LlamaModel, always: bool) -> None:
        model = dataclasses.replace(model, bos_token_id=2, begins_with_bos=always)
        document = [int(token) for token in np.random.default_rng(3).integers(0, VOCAB, size=60)]
        found = td.score_corpus(model, [document, document[:5]], prefix=[7], stride=9, per_token=True)
        prefix = [2, 7] if always else [7]
        assert model.context_length == METADATA["llama.context_length"] == 48
        ends = [min(60, 49 - len(prefix) + 9 * window) for window in range(3)]
        for place, token in enumerate(document):
            end = next(end for end in ends if place < end)
            first = max(0, end - 1 - (48 - len(prefix)))
            wanted = td.token_logprobs(after(model, [*prefix, *document[first:place]]), token)
            assert found.token_logprobs is not None
            assert found.token_logprobs[0][place] == pytest.approx(wanted, abs=1e-4)

    def test_prefixes_count(self, model: LlamaModel) -> None:
        model = dataclasses.replace(model, bos_token_id=2, begins_with_bos=True)
        assert np.isfinite(td.score_corpus(model, [[1] * 200], prefix=[7] * 47).logprobs[0])
        with pytest.raises(ValueError, match=r"^prefix must have at most 48 tokens for this model, got 49$"):
            td.score_corpus(model, [[1] * 200], prefix=[7] * 48)


class TestInterface:
    def test_it_is_a_complete_model(self, model: LlamaModel) -> None:
        assert isinstance(model, Model)
        assert complete(model) is model
        assert (model.vocab_size, model.direction) == (VOCAB, "forward")
        assert model.parameter_count == sum(tensor.size for tensor in random_tensors().values())
        with pytest.raises(dataclasses.FrozenInstanceError):
            model.tokenizer = None  # type: ignore[misc]

    def test_ragged_start_equals_one_by_one(self, model: LlamaModel) -> None:
        state, logits = model.start(PROMPTS)
        assert (logits.shape, logits.dtype) == ((4, VOCAB), np.float32)
        assert state.lengths.tolist() == [3, 1, 7, 2]
        stepped = model.step(state, [9, 8, 7, 6])[1]
        for row, (prompt, token) in enumerate(zip(PROMPTS, [9, 8, 7, 6], strict=True)):
            close(logits[row], after(model, prompt))
            close(stepped[row], after(model, [*prompt, token]))

    def test_steps_through_many_growths_equal_a_full_pass(self, model: LlamaModel) -> None:
        text = [int(token) for token in np.random.default_rng(3).integers(0, VOCAB, size=48)]
        state, logits = model.start([text[:1]])
        for length in range(2, 49):
            state, logits = model.step(state, [text[length - 1]])
            if length in (2, 33, 34, 48):
                close(logits[0], expected_logits(random_tensors(), text[:length])[-1])

    def test_select_repeats_and_reorders(self, model: LlamaModel) -> None:
        rows = [3, 0, 0, 2]
        selected = model.select(model.start(PROMPTS)[0], rows)
        stepped = model.step(selected, [9, 8, 7, 6])[1]
        for place, (row, token) in enumerate(zip(rows, [9, 8, 7, 6], strict=True)):
            close(stepped[place], after(model, [*PROMPTS[row], token]))

    def test_all_rows_in_order_are_the_same_state(self, model: LlamaModel) -> None:
        state, _ = model.start(PROMPTS)
        assert model.select(state, [0, 1, 2, 3]) is state
        assert len(model.select(state, [0, 1, 2])) == 3

    def test_extend_equals_steps_wherever_the_gaps_are(self, model: LlamaModel) -> None:
        tokens = np.array([[10, 20, 30], [-1, 5, -1], [7, -1, 8], [-1, -1, -1]])
        states, logits = model.extend(model.start(PROMPTS)[0], tokens)
        assert logits.shape == (4, 3, VOCAB)
        texts = [list(prompt) for prompt in PROMPTS]
        for place, column in enumerate(tokens.T):
            for row, token in enumerate(column):
                texts[row] += [int(token)] if token >= 0 else []
                close(logits[row, place], after(model, texts[row]) if token >= 0 else np.zeros(VOCAB))
            stepped = model.step(states[place], [1, 2, 3, 4])[1]
            for row, text in enumerate(texts):
                close(stepped[row], after(model, [*text, row + 1]))

    @pytest.mark.parametrize("tokens", [np.full((4, 2), -1), np.empty((4, 0), dtype=int)])
    def test_extend_by_nothing(self, model: LlamaModel, tokens: Any) -> None:
        state, _ = model.start(PROMPTS)
        states, logits = model.extend(state, tokens)
        assert logits.shape == (*tokens.shape, VOCAB)
        assert not logits.any()
        assert [own.lengths.tolist() for own in states] == [state.lengths.tolist()] * tokens.shape[1]

    def test_concat_joins_rows(self, model: LlamaModel) -> None:
        parts = [model.start(PROMPTS[:1])[0], model.start([])[0], model.start(PROMPTS[1:])[0]]
        stepped = model.step(model.concat(parts), [9, 8, 7, 6])[1]
        close(stepped, model.step(model.start(PROMPTS)[0], [9, 8, 7, 6])[1])

    def test_no_rows(self, model: LlamaModel) -> None:
        state, logits = model.start([])
        assert logits.shape == (0, VOCAB)
        assert model.step(state, [])[1].shape == (0, VOCAB)
        assert len(model.select(model.start(PROMPTS)[0], [])) == 0

    def test_the_loop_runs_on_it(self, model: LlamaModel) -> None:
        """Sequences of one batch, one of which ends early, are those that greedy steps give alone."""
        ends = [int(after(model, [5, 5]).argmax())]
        batch = td.generate(model, [[5, 5], [1, 2, 3]], max_new_tokens=6, top_k=1, eos_token_id=ends)
        text = [1, 2, 3]
        for _ in range(6):
            text.append(int(after(model, text).argmax()))
        assert batch[0].tokens == ends
        assert batch[1].tokens == text[3:][: len(batch[1].tokens)]


class TestStatesAreValues:
    def test_two_ways_from_one_state(self, model: LlamaModel) -> None:
        """The second step cannot have the place that the first has taken."""
        state, _ = model.start([[1, 2, 3]])
        one, logits_of_one = model.step(state, [4])
        two, logits_of_two = model.step(state, [5])
        assert one._cache is state._cache
        assert two._cache is not state._cache
        np.testing.assert_array_equal(model.step(state, [4])[1], logits_of_one)
        close(logits_of_two[0], after(model, [1, 2, 3, 5]))
        close(model.step(one, [6])[1][0], after(model, [1, 2, 3, 4, 6]))
        close(model.step(two, [6])[1][0], after(model, [1, 2, 3, 5, 6]))

    def test_a_chain_of_steps_copies_seldom(self, model: LlamaModel) -> None:
        state, _ = model.start([[1]])
        caches = [state._cache]
        for _ in range(47):
            state, _ = model.step(state, [2])
            if state._cache is not caches[-1]:
                caches.append(state._cache)
        assert len(caches) == 2

    def test_states_can_not_be_written(self, model: LlamaModel) -> None:
        state, _ = model.start([[1]])
        with pytest.raises(ValueError, match="read-only"):
            state.lengths[0] = 5
        with pytest.raises(dataclasses.FrozenInstanceError):
            state.lengths = state.lengths  # type: ignore[misc]

    def test_states_can_be_copied_and_pickled(self, model: LlamaModel) -> None:
        state, _ = model.start([[1, 2], [3]])
        _, wanted = model.step(state, [4, 5])
        for copied in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
            np.testing.assert_array_equal(model.step(copied, [4, 5])[1], wanted)

    def test_logits_belong_to_the_caller(self, model: LlamaModel) -> None:
        state, logits = model.start([[1]])
        kept = logits.copy()
        logits[:] = 0
        model.step(state, [2])
        np.testing.assert_array_equal(model.start([[1]])[1], kept)

    def test_threads_go_different_ways_from_one_state(self, model: LlamaModel) -> None:
        state, _ = model.start([[1, 2, 3]])

        def write(first: int) -> list[int]:
            own, token, text = state, first, []
            for _ in range(20):
                own, logits = model.step(own, [token])
                token = int(logits[0].argmax())
                text.append(token)
            return text

        wanted = [write(first) for first in range(8)]
        assert len(set(map(tuple, wanted))) > 1
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(write, range(8))) == wanted

    @given(data=st.data())
    def test_any_use_of_any_states_leaves_all_of_them(self, model: LlamaModel, data: st.DataObject) -> None:
        """Each state must go on as a fresh one that has read the same tokens."""
        token = st.integers(0, VOCAB - 1)
        known: list[tuple[LlamaState, list[list[int]]]] = []
        rows = data.draw(st.lists(st.lists(token, min_size=1, max_size=4), min_size=1, max_size=3))
        known.append((model.start(rows)[0], rows))
        for _ in range(data.draw(st.integers(1, 6))):
            state, rows = data.draw(st.sampled_from(known))
            use = data.draw(st.sampled_from(["step", "extend", "select", "concat"]))
            if use == "step":
                tokens = data.draw(st.lists(token, min_size=len(rows), max_size=len(rows)))
                state, _ = model.step(state, tokens)
                known.append((state, [[*row, own] for row, own in zip(rows, tokens, strict=True)]))
            elif use == "extend":
                columns = data.draw(
                    st.lists(
                        st.lists(st.integers(-1, VOCAB - 1), min_size=len(rows), max_size=len(rows)),
                        min_size=1,
                        max_size=3,
                    )
                )
                states, _ = model.extend(state, np.array(columns).T.reshape(len(rows), -1))
                for own, column in zip(states, columns, strict=True):
                    rows = [
                        [*row, token] if token >= 0 else row for row, token in zip(rows, column, strict=True)
                    ]
                    known.append((own, rows))
            elif use == "select":
                chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=4)) if rows else []
                known.append((model.select(state, chosen), [rows[row] for row in chosen]))
            else:
                other, more = data.draw(st.sampled_from(known))
                known.append((model.concat([state, other]), rows + more))
        for state, rows in known:
            assert state.lengths.tolist() == [len(row) for row in rows]
            stepped = model.step(state, [7] * len(rows))[1]
            close(stepped, model.start([[*row, 7] for row in rows])[1])


class TestFirstTokens:
    def test_an_empty_prompt_begins_with_bos(self, model: LlamaModel) -> None:
        begun = dataclasses.replace(model, bos_token_id=6)
        close(begun.start([[], [3]])[1], model.start([[6], [3]])[1])

    def test_every_row_begins_with_it_where_the_file_says_so(self, model: LlamaModel) -> None:
        begun = dataclasses.replace(model, bos_token_id=6, begins_with_bos=True)
        close(begun.start([[], [3, 4], [6, 3]])[1], model.start([[6], [6, 3, 4], [6, 3]])[1])

    def test_there_may_be_none(self, model: LlamaModel) -> None:
        with pytest.raises(
            ValueError, match=r"^a prompt must not be empty .* without bos_token_id \(row 1\)$"
        ):
            model.start([[1], []])
        with pytest.raises(ValueError, match=r"^a model whose rows begin with bos_token_id must have one$"):
            dataclasses.replace(model, begins_with_bos=True)


class TestRefusals:
    @pytest.mark.parametrize("token", [-1, VOCAB])
    def test_token_outside(self, model: LlamaModel, token: int) -> None:
        message = rf"^token ids must be in \[0, {VOCAB}\), got {token}$"
        with pytest.raises(ValueError, match=message):
            model.start([[1], [token]])
        with pytest.raises(ValueError, match=message):
            model.step(model.start([[1]])[0], [token])

    def test_prompts(self, model: LlamaModel) -> None:
        with pytest.raises(ValueError, match=r"^prompts must be a list with one list of token ids per row$"):
            model.start([1, 2])  # type: ignore[list-item]
        with pytest.raises(TypeError, match=r"^token ids must be integers, got float64$"):
            model.start([[1.5]])  # type: ignore[list-item]

    def test_shapes(self, model: LlamaModel) -> None:
        state, _ = model.start([[1], [2]])
        with pytest.raises(ValueError, match=r"^tokens must have shape \(2,\), one per row, got \(1,\)$"):
            model.step(state, [1])
        with pytest.raises(ValueError, match=r"^tokens must have shape \(2, n\), got \(2,\)$"):
            model.extend(state, [1, 2])
        with pytest.raises(ValueError, match=r"^rows must be in \[0, 2\), got 2$"):
            model.select(state, [0, 2])

    def test_rows_longer_than_the_context(self, model: LlamaModel) -> None:
        state, _ = model.start([[1], [2] * 48])
        message = r"^a row must have at most 48 tokens, got 49 \(row 1\)$"
        with pytest.raises(ValueError, match=message):
            model.step(state, [1, 1])
        with pytest.raises(ValueError, match=message):
            model.start([[1], [2] * 49])
        assert model.extend(state, [[1], [-1]])[0][0].lengths.tolist() == [2, 48]

    def test_numbers_that_do_not_fit(self, model: LlamaModel) -> None:
        def refused(**changes: Any) -> str:
            with pytest.raises(ValueError, match="must be") as refusal:
                dataclasses.replace(model, shape=LlamaShape(**(model.shape._asdict() | changes)))
            return str(refusal.value)

        assert refused(key_heads=3) == "heads must be a multiple of key heads, got 4 and 3"
        for size in (0, 7, 18):
            message = f"rotated components must be an even number up to 16, got {size}"
            assert refused(rope_size=size) == message
        assert refused(layers=3) == "there must be 3 layers, got 2"

    def test_weights_that_do_not_fit(self, model: LlamaModel) -> None:
        def refused(weights: LlamaWeights) -> str:
            with pytest.raises(ValueError, match="must be float32") as refusal:
                dataclasses.replace(model, weights=weights)
            return str(refusal.value)

        weights, layer = model.weights, model.weights.layers[0]
        assert refused(weights._replace(norm=weights.norm[1:])) == (
            "weights 'norm' must be float32 (64,), got float32 (63,)"
        )
        wide = weights.embedding.astype(np.float64)
        assert refused(weights._replace(embedding=wide)) == (
            "weights 'embedding' must be float32 (40, 64), got float64 (40, 64)"
        )
        bent = layer._replace(down=layer.down.T)
        assert refused(weights._replace(layers=(weights.layers[0], bent))) == (
            "weights 'down' must be float32 (64, 96), got float32 (96, 64)"
        )
        with pytest.raises(ValueError, match=r"^eos_token_id must be in \[0, 40\), got 40$"):
            dataclasses.replace(model, eos_token_id=VOCAB)

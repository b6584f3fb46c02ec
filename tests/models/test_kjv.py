# SPDX-License-Identifier: Apache-2.0
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tokendraw.models import load
from tokendraw.models.catalog import EMBEDDED
from tokendraw.models.kjv import GruModel, GruWeights, read_model, write_model
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer

HELD_OUT = Path(__file__).parent / "held_out"
EXPECTED: dict[str, dict[str, float]] = json.loads((HELD_OUT / "bits_per_byte.json").read_text())
PROMPTS = [[300, 301, 302], [], [65], [400, 500, 600, 700, 800]]


def close(left: Any, right: Any) -> None:
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-4)


def random_weights(vocab: int = 260, units: int = 6, width: int = 4) -> GruWeights:
    random = np.random.default_rng(0)
    gates = 3 * units
    shapes = [(vocab, width), (gates, width), (gates, units), (width, units), gates, gates, width, vocab]
    return GruWeights(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


TINY = Tokenizer([(97, 98), (97, 99), (97, 100)])


@pytest.fixture(params=EMBEDDED)
def model(request: pytest.FixtureRequest) -> GruModel:
    return load(request.param)


class TestEmbedded:
    @pytest.mark.parametrize("chapter", ["genesis-11", "ecclesiastes-12"])
    def test_held_out_chapters_need_the_expected_bits(self, chapter: str) -> None:
        text = (HELD_OUT / f"{chapter}.txt").read_text(encoding="utf-8").rstrip("\n")
        found = {name: td.score_corpus(load(name), [text], score_end=True).bits_per_byte for name in EMBEDDED}
        assert found == pytest.approx(EXPECTED[chapter], abs=1e-4)

    def test_weights_fit_in_three_megabytes(self) -> None:
        folder = resources.files("tokendraw.models") / "weights"
        sizes = [len(file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".npz")]
        assert len(sizes) == len(EMBEDDED)
        assert sum(sizes) <= 3_000_000

    def test_models_share_one_vocabulary(self) -> None:
        forward, backward, draft = map(load, EMBEDDED)
        assert forward.tokenizer.merges == backward.tokenizer.merges == draft.tokenizer.merges
        assert [forward.direction, backward.direction, draft.direction] == ["forward", "backward", "forward"]

    def test_separator_begins_and_ends(self, model: GruModel) -> None:
        assert model.bos_token_id == model.eos_token_id == SEPARATOR
        assert model.tokenizer.token_bytes(SEPARATOR) == b""

    def test_forward_continues_and_backward_precedes(self) -> None:
        for name, known, wanted in [
            ("kjv", "In the beginning God created the heaven and the", " earth"),
            ("kjv", "And it came to", " pass"),
            ("kjv-backward", " unto Moses, saying,", " spake"),
        ]:
            model = load(name)
            ids = model.tokenizer.encode(known)
            _, logits = model.start([ids])
            assert model.tokenizer.decode([logits[0].argmax()]) == wanted


class TestInterface:
    def test_ragged_start_equals_one_by_one(self, model: GruModel) -> None:
        state, logits = model.start(PROMPTS)
        assert logits.shape == (len(PROMPTS), model.vocab_size)
        assert logits.dtype == np.float32
        for row, prompt in enumerate(PROMPTS):
            alone, own = model.start([prompt])
            close(own[0], logits[row])
            close(model.step(alone, [99])[1][0], model.step(state, [99] * len(PROMPTS))[1][row])

    def test_start_equals_steps_from_the_separator(self, model: GruModel) -> None:
        state, logits = model.start([[]])
        for token in PROMPTS[3]:
            state, logits = model.step(state, [token])
        close(logits, model.start([PROMPTS[3]])[1])

    def test_a_first_separator_is_not_read_twice(self, model: GruModel) -> None:
        close(model.start([[SEPARATOR, 65]])[1], model.start([[65]])[1])

    def test_states_are_values(self, model: GruModel) -> None:
        state, _ = model.start(PROMPTS)
        kept = state.hidden.copy()
        first = model.step(state, [1, 2, 3, 4])[1]
        model.select(state, [0, 0])
        model.extend(state, [[5], [6], [-1], [7]])
        model.concat([state, state])
        np.testing.assert_array_equal(state.hidden, kept)
        np.testing.assert_array_equal(model.step(state, [1, 2, 3, 4])[1], first)
        with pytest.raises(ValueError, match="read-only"):
            state.hidden[0, 0] = 1

    def test_logits_belong_to_the_caller(self, model: GruModel) -> None:
        state, logits = model.start([[65]])
        kept = logits.copy()
        logits[:] = 0
        model.step(state, [66])
        np.testing.assert_array_equal(model.start([[65]])[1], kept)

    def test_select_repeats_and_reorders(self, model: GruModel) -> None:
        state, _ = model.start(PROMPTS)
        rows = [3, 0, 0, 2]
        stepped = model.step(model.select(state, rows), [9, 8, 7, 6])[1]
        for place, (row, token) in enumerate(zip(rows, [9, 8, 7, 6], strict=True)):
            alone, _ = model.start([PROMPTS[row]])
            close(stepped[place], model.step(alone, [token])[1][0])

    def test_extend_equals_steps(self, model: GruModel) -> None:
        tokens = np.array([[10, 20, 30], [40, 50, -1], [60, -1, -1], [-1, -1, -1]])
        start, _ = model.start(PROMPTS)
        states, logits = model.extend(start, tokens)
        for row, ids in enumerate(tokens):
            state = model.select(start, [row])
            for place, token in enumerate(ids):
                wanted = np.zeros((1, model.vocab_size), dtype=np.float32)
                if token >= 0:
                    state, wanted = model.step(state, [token])
                close(logits[row, place], wanted[0])
                close(states[place].hidden[row], state.hidden[0])

    def test_concat_joins_rows(self, model: GruModel) -> None:
        parts = [model.start(PROMPTS[:1])[0], model.start(PROMPTS[1:])[0]]
        close(model.concat(parts).hidden, model.start(PROMPTS)[0].hidden)

    def test_no_rows(self, model: GruModel) -> None:
        state, logits = model.start([])
        assert logits.shape == (0, model.vocab_size)
        assert model.step(state, [])[1].shape == (0, model.vocab_size)

    def test_a_whole_text_read_in_float64_gives_the_same_logits(self) -> None:
        """The recurrence written out, one matrix at a time."""
        weights, ids = random_weights(), [7, 256, 259, 8]
        wide = GruWeights(*(array.astype(np.float64) for array in weights))
        hidden = np.zeros(6)
        for token in [SEPARATOR, *ids]:
            inputs = wide.input @ wide.embedding[token] + wide.input_bias
            products = wide.recurrent @ hidden + wide.recurrent_bias
            reset, update = (1 / (1 + np.exp(-(inputs + products)[:12]))).reshape(2, 6)
            candidate = np.tanh(inputs[12:] + reset * products[12:])
            hidden = (1 - update) * candidate + update * hidden
        projected = wide.projection @ hidden + wide.projection_bias
        wanted = wide.embedding @ projected + wide.output_bias
        np.testing.assert_allclose(GruModel(weights, TINY).start([ids])[1][0], wanted, rtol=1e-4, atol=1e-5)


class TestRefusals:
    @pytest.mark.parametrize("token", [-1, 1024])
    def test_token_outside(self, draft: GruModel, token: int) -> None:
        message = rf"^token ids must be in \[0, 1024\), got {token}$"
        with pytest.raises(ValueError, match=message):
            draft.start([[token]])
        with pytest.raises(ValueError, match=message):
            draft.step(draft.start([[]])[0], [token])

    def test_prompts(self, draft: GruModel) -> None:
        with pytest.raises(ValueError, match=r"^prompts must be a list with one list of token ids per row$"):
            draft.start([1, 2])  # type: ignore[list-item]
        with pytest.raises(TypeError, match=r"^token ids must be integers, got float64$"):
            draft.start([[1.5]])  # type: ignore[list-item]

    def test_shapes(self, draft: GruModel) -> None:
        state, _ = draft.start([[], []])
        with pytest.raises(ValueError, match=r"^tokens must have shape \(2,\), one per row, got \(1,\)$"):
            draft.step(state, [1])
        with pytest.raises(ValueError, match=r"^tokens must have shape \(2, n\), got \(2,\)$"):
            draft.extend(state, [1, 2])
        with pytest.raises(ValueError, match=r"^token ids must be in \[-1, 1024\), got -2$"):
            draft.extend(state, [[1], [-2]])

    @pytest.mark.parametrize("row", [-1, 2])
    def test_rows(self, draft: GruModel, row: int) -> None:
        with pytest.raises(ValueError, match=rf"^rows must be in \[0, 2\), got {row}$"):
            draft.select(draft.start([[], []])[0], [0, row])

    def test_a_mask_is_no_list_of_rows(self, draft: GruModel) -> None:
        with pytest.raises(TypeError, match=r"^rows must be integers, got bool$"):
            draft.select(draft.start([[], []])[0], [False, True])


class TestFiles:
    def test_a_written_model_is_read_within_rounding(self, tmp_path: Path) -> None:
        weights = random_weights()
        write_model(tmp_path / "a.npz", weights, TINY.reversed(), {"seed": 5})
        model = load(tmp_path / "a.npz")
        assert (model.direction, model.metadata, model.tokenizer.merges) == (
            "backward",
            {"seed": 5},
            TINY.merges,
        )
        wanted = GruModel(weights, TINY).start([[7, 8]])[1]
        np.testing.assert_allclose(model.start([[7, 8]])[1], wanted, atol=0.3)

    def test_writing_what_was_read_loses_nothing(self, tmp_path: Path) -> None:
        write_model(tmp_path / "a.npz", random_weights(), TINY)
        once = load(str(tmp_path / "a.npz"))
        write_model(tmp_path / "b.npz", once.weights, once.tokenizer)
        for first, second in zip(once.weights, load(tmp_path / "b.npz").weights, strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-6)

    def test_a_row_of_zeros(self, tmp_path: Path) -> None:
        weights = random_weights()
        weights.embedding[3] = 0
        write_model(tmp_path / "a.npz", weights, TINY)
        assert np.isfinite(load(tmp_path / "a.npz").start([[3]])[1]).all()

    def test_unknown_name(self) -> None:
        known = "'kjv', 'kjv-backward', 'kjv-draft', 'smollm2'"
        message = f"^model must be {known} or the path of an .npz or .gguf file, got 'smollm3'$"
        with pytest.raises(ValueError, match=message):
            load("smollm3")

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
    def test_other_files(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"^a model file must come from tokendraw.models.train, got .*a\.npz$"
        ):
            load(tmp_path / "a.npz")

    def test_other_arrays(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", some=np.zeros(3))
        np.save(tmp_path / "b.npy", np.zeros(3))
        header = np.frombuffer(b'{"format": "of the future"}', dtype=np.uint8)
        np.savez(tmp_path / "c.npz", header=header)
        for name in ("a.npz", "b.npy", "c.npz"):
            with pytest.raises(ValueError, match=r"^a model file must come from"):
                read_model(tmp_path / name)

    def test_weights_that_do_not_fit(self) -> None:
        weights = random_weights()
        with pytest.raises(
            ValueError, match=r"^weights 'projection' must have shape \(4, 6\), got \(4, 5\)$"
        ):
            GruModel(weights._replace(projection=weights.projection[:, :5]), TINY)
        with pytest.raises(ValueError, match=r"^the tokenizer must have 260 ids, got 257$"):
            GruModel(weights, Tokenizer([]))

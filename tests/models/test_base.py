# SPDX-License-Identifier: Apache-2.0
"""The fallbacks for `extend` and `concat` must do what the embedded model does natively."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tokendraw.models.base import Model, complete, fill_empty_prompts
from tokendraw.models.kjv import GruModel

PROMPTS = [[300, 301], [], [65], [400, 500, 600]]
TOKENS = np.array([[10, 20, 30], [40, -1, -1], [-1, -1, -1], [50, 60, -1]])


class Least:
    """A model with only what every model must have."""

    def __init__(self, model: GruModel, convert: Callable[[Any], Any] = lambda logits: logits) -> None:
        self.vocab_size = model.vocab_size
        self.tokenizer = model.tokenizer
        self._model = model
        self._convert = convert

    def start(self, prompts: Any) -> Any:
        state, logits = self._model.start(prompts)
        return state, self._convert(logits)

    def step(self, state: Any, tokens: Any) -> Any:
        state, logits = self._model.step(state, tokens)
        return state, self._convert(logits)

    def select(self, state: Any, rows: Any) -> Any:
        return self._model.select(state, rows)


class WithConcat(Least):
    def concat(self, states: Any) -> Any:
        return self._model.concat(states)


class WithExtend(Least):
    def extend(self, state: Any, tokens: Any) -> Any:
        states, logits = self._model.extend(state, tokens)
        return states, self._convert(logits)


def close(left: Any, right: Any) -> None:
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=0, atol=1e-4)


@pytest.fixture(params=[Least, WithConcat, WithExtend, GruModel])
def partial(request: pytest.FixtureRequest, draft: GruModel) -> Any:
    return draft if request.param is GruModel else request.param(draft)


class TestFallbacks:
    def test_extend(self, partial: Any, draft: GruModel) -> None:
        model = complete(partial)
        states, logits = model.extend(model.start(PROMPTS)[0], TOKENS)
        wanted_states, wanted = draft.extend(draft.start(PROMPTS)[0], TOKENS)
        close(logits, wanted)
        assert not np.asarray(logits)[TOKENS < 0].any()
        for state, wanted_state in zip(states, wanted_states, strict=True):
            close(model.step(state, [1, 2, 3, 4])[1], draft.step(wanted_state, [1, 2, 3, 4])[1])

    def test_concat_then_everything_else(self, partial: Any, draft: GruModel) -> None:
        model = complete(partial)
        joined = model.concat([model.start(PROMPTS[:1])[0], model.start(PROMPTS[1:3])[0], model.start([])[0]])
        joined = model.concat([joined, model.start(PROMPTS[3:])[0]])
        wanted = draft.start(PROMPTS)[0]
        close(model.step(joined, [7, 8, 9, 10])[1], draft.step(wanted, [7, 8, 9, 10])[1])
        close(model.extend(joined, TOKENS)[1], draft.extend(wanted, TOKENS)[1])
        for rows in ([3, 0, 0, 2, 1], [1, 2], [3], []):
            tokens = list(range(len(rows)))
            selected = model.step(model.select(joined, rows), tokens)[1]
            close(selected, draft.step(draft.select(wanted, rows), tokens)[1])

    @pytest.mark.parametrize("tokens", [np.full((4, 2), -1), np.empty((4, 0), dtype=int)])
    def test_extend_by_nothing(self, partial: Any, tokens: Any) -> None:
        model = complete(partial)
        state, _ = model.start(PROMPTS)
        states, logits = model.extend(state, tokens)
        assert logits.shape == (*tokens.shape, model.vocab_size)
        assert len(states) == tokens.shape[1]
        assert not logits.any()

    def test_attributes_are_handed_on(self, partial: Any) -> None:
        assert complete(partial).vocab_size == partial.vocab_size
        assert complete(partial).tokenizer is partial.tokenizer


def test_a_complete_model_is_returned_as_it_is(draft: GruModel) -> None:
    assert complete(draft) is draft
    assert isinstance(draft, Model)


def test_logits_stay_torch_tensors(draft: GruModel) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = complete(Least(draft, lambda logits: torch.from_numpy(logits).to(torch.bfloat16)))
    state = model.concat([model.start(PROMPTS[:2])[0], model.start(PROMPTS[2:])[0]])
    _, logits = model.extend(state, TOKENS)
    assert logits.dtype == torch.bfloat16
    wanted = draft.extend(draft.start(PROMPTS)[0], TOKENS)[1]
    np.testing.assert_allclose(logits.float().numpy(), wanted, rtol=1e-2, atol=1e-2)


def test_models_with_fallbacks_can_be_copied(draft: GruModel) -> None:
    model = copy.deepcopy(complete(Least(draft)))
    close(model.start(PROMPTS)[1], draft.start(PROMPTS)[1])


def test_what_is_no_model() -> None:
    with pytest.raises(
        TypeError, match=r"^a model must have vocab_size, start, step, select, got list without$"
    ):
        complete([])  # type: ignore[arg-type]


def test_empty_prompts(draft: GruModel) -> None:
    assert fill_empty_prompts(draft, [[], [5]]) == [[256], [5]]
    assert fill_empty_prompts(Least(draft), [[1], [5]]) == [[1], [5]]
    with pytest.raises(ValueError, match=r"a prompt must not be empty .* \(row 1\)"):
        fill_empty_prompts(Least(draft), [[1], []])

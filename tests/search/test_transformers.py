# SPDX-License-Identifier: Apache-2.0
"""Beams against those of transformers: its own `generate` on a tiny model with random weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import tokendraw as td

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB = 60


class TorchModel:
    """A transformers model under our protocol, without a cache."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.vocab_size = VOCAB

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        return self._read(torch.tensor(prompts))

    def step(self, state: Any, tokens: Any) -> tuple[Any, Any]:
        return self._read(
            torch.cat([state, torch.as_tensor(np.asarray(tokens), dtype=torch.long)[:, None]], 1)
        )

    def select(self, state: Any, rows: Any) -> Any:
        return state[torch.as_tensor(np.asarray(rows))]

    def _read(self, ids: Any) -> tuple[Any, Any]:
        with torch.no_grad():
            return ids, self.network(ids).logits[:, -1]


@pytest.fixture(scope="module", params=[0, pytest.param(1, marks=pytest.mark.slow)])
def network(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(request.param)
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=32, n_embd=32, n_layer=2, n_head=2, initializer_range=0.6
    )
    return transformers.GPT2LMHeadModel(config).eval()


def theirs(network: Any, prompts: list[list[int]], **options: Any) -> list[list[tuple[list[int], float]]]:
    """Return the sequences and scores of `generate`, cut after the first end."""
    ends = options["eos_token_id"] or []
    width = options["num_beams"]
    found = network.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.long),
        num_return_sequences=width,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        pad_token_id=VOCAB - 1,
        **{**options, "eos_token_id": ends or None},
    )
    rows = []
    for row, score in zip(
        found.sequences[:, len(prompts[0]) :].tolist(), found.sequences_scores.tolist(), strict=True
    ):
        end = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
        rows.append((row[: end + 1], score))
    return [rows[first : first + width] for first in range(0, len(rows), width)]


def check(model: TorchModel, prompt: list[int], ours: Any = None, **options: Any) -> None:
    """Their scores are sums in float32."""
    [expected] = theirs(model.network, [prompt], **options)
    options.pop("prefix_allowed_tokens_fn", None)
    found = td.beam_search(model, prompt, num_return=options["num_beams"], constraint=ours, **options)
    assert [h.tokens for h in found] == [tokens for tokens, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -0.5])
@pytest.mark.parametrize("eos_token_id", [[3], [3, 17, 40], []], ids=str)
def test_beams_are_theirs(
    network: Any, early_stopping: bool | str, length_penalty: float, eos_token_id: list[int]
):
    """Hypotheses and scores; a prompt alone, since a batch of theirs stops as one."""
    model = TorchModel(network)
    for prompt, width in (([5, 9, 1], 2), ([7, 8, 7, 8, 7], 5)):
        check(
            model,
            prompt,
            num_beams=width,
            max_new_tokens=9,
            early_stopping=early_stopping,
            length_penalty=length_penalty,
            eos_token_id=eos_token_id,
        )


@pytest.mark.parametrize(
    "rules",
    [{"no_repeat_ngram_size": 2}, {"min_new_tokens": 4}, {"no_repeat_ngram_size": 3, "min_new_tokens": 2}],
    ids=str,
)
def test_rules_are_theirs(network: Any, rules: dict[str, int]):
    for prompt in ([5, 9, 1], [7, 8, 7, 8, 7]):
        check(TorchModel(network), prompt, num_beams=4, max_new_tokens=10, eos_token_id=[3, 17], **rules)


def test_allowed_tokens_are_theirs(network: Any):
    """A constraint that leaves every other token, by place."""
    allowed = [list(range(start, VOCAB, 2)) for start in (0, 1)]
    check(
        TorchModel(network),
        [5, 9],
        lambda _, generated: allowed[len(generated) % 2],
        num_beams=4,
        max_new_tokens=8,
        eos_token_id=[4],
        prefix_allowed_tokens_fn=lambda _, ids: allowed[len(ids) % 2],
    )

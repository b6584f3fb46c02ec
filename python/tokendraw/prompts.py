# SPDX-License-Identifier: Apache-2.0
"""What every loop over a model is given: prompts, end tokens, numbers; checked before the model runs."""

from __future__ import annotations

import itertools
import operator
import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokendraw.models.base import Model, Tokenizer

__all__ = [
    "PerPrompt",
    "Prompt",
    "as_batch",
    "check_count",
    "check_logits",
    "encode_prompt",
    "end_tokens",
    "integer",
    "is_one_prompt",
    "listed",
    "noise_of",
    "per_prompt",
    "rows_or_shared",
    "select_rows",
    "token_ids",
    "tokenizer_of",
]

Prompt: TypeAlias = str | Sequence[int] | NDArray[np.integer[Any]]
PerPrompt: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]]


def as_batch(prompts: Prompt | Sequence[Prompt]) -> list[Any]:
    """Return a list of prompts; one alone is a batch of one."""
    if isinstance(prompts, bytes):
        raise TypeError("a prompt must be text or token ids, got bytes")
    return [prompts] if is_one_prompt(prompts) else list(prompts)


def is_one_prompt(prompts: Prompt | Sequence[Prompt]) -> bool:
    """Return whether this is one prompt rather than a batch; an empty list is an empty batch."""
    if isinstance(prompts, str):
        return True
    return len(prompts) > 0 and all(not isinstance(item, str) and np.ndim(item) == 0 for item in prompts)


def encode_prompt(model: Model[Any], prompt: Prompt, place: int) -> list[int]:
    """Return a prompt as token ids."""
    where = f" (prompt {place})"
    if isinstance(prompt, str):
        tokenizer = tokenizer_of(model)
        if tokenizer is None:
            raise ValueError(f"a text prompt needs a model with a tokenizer, got {prompt!r}{where}")
        return list(tokenizer.encode(prompt))
    if isinstance(prompt, bytes) or np.ndim(prompt) != 1:
        raise TypeError(f"a prompt must be text or token ids, got {prompt!r}{where}")
    return token_ids("prompt tokens", prompt, model, where)


def tokenizer_of(model: Model[Any]) -> Tokenizer | None:
    """Return the model's tokenizer, if it has one."""
    return getattr(model, "tokenizer", None)


def listed(value: Any) -> list[Any]:
    """Return the items of an iterable, a single item as a list, None as an empty one."""
    if value is None:
        return []
    return [value] if isinstance(value, str) or np.ndim(value) == 0 else list(value)


def token_ids(name: str, values: Iterable[Any], model: Model[Any], where: str = "") -> list[int]:
    """Return ids that lie in the model's vocabulary."""
    return [integer(name, value, limit=model.vocab_size, where=where) for value in values]


def integer(name: str, value: Any, *, least: int = 0, limit: int | None = None, where: str = "") -> int:
    """Return an integer that is at least `least` and below the limit."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, got {value!r}{where}")
    if number < least or (limit is not None and number >= limit):
        power = {1 << bits: f"2^{bits}" for bits in (24, 31, 32, 56, 64)}
        rule = f">= {least}" if limit is None else f"in [{least}, {power.get(limit, limit)})"
        raise ValueError(f"{name} must be {rule}, got {number}{where}")
    return number


def check_logits(logits: Any, rows: int) -> None:
    """Raise ValueError unless a model returned one row of logits per row it was given."""
    shape = tuple(logits.shape)
    if len(shape) != 2 or shape[0] != rows:
        raise ValueError(f"a model must return logits of shape ({rows}, vocab), got {shape}")


def end_tokens(model: Model[Any], eos_token_id: int | Iterable[int] | None) -> list[int]:
    """Return the tokens that end a sequence: the given ones, else the model's own; ``()`` is none."""
    if eos_token_id is None:
        eos_token_id = getattr(model, "eos_token_id", None)
    return token_ids("eos_token_id", listed(eos_token_id), model)


def check_count(name: str, length: int, count: int) -> None:
    """Raise ValueError unless there is one value per prompt."""
    if length != count:
        raise ValueError(f"{name} must be one value or one per prompt ({count}), got {length}")


def per_prompt(name: str, value: PerPrompt, count: int, *, bits: int, least: int = 0) -> list[int]:
    """Return one integer of so many bits per prompt."""
    if np.ndim(value) == 0:
        return [integer(name, value, least=least, limit=1 << bits)] * count
    values = list(cast("Sequence[int]", value))
    check_count(name, len(values), count)
    return [
        integer(name, each, least=least, limit=1 << bits, where=f" (prompt {place})")
        for place, each in enumerate(values)
    ]


def noise_of(
    seed: PerPrompt | None, stream: PerPrompt | None, widths: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the seed and the first stream of every prompt, so that no sequences share their noise."""
    count = len(widths)
    seeds = per_prompt("seed", secrets.randbits(64) if seed is None else seed, count, bits=64)
    if stream is not None:
        return seeds, per_prompt("stream", stream, count, bits=56)
    has_one_seed = seed is None or np.ndim(seed) == 0
    before = [0, *itertools.accumulate(widths)][:count]
    return seeds, before if has_one_seed else [0] * count


def rows_or_shared(name: str, value: Any, count: int) -> Any:
    """Return a mask or bias that rows can be selected from, if it has rows."""
    if np.ndim(value) != 2:
        return value
    check_count(name, len(value), count)
    return value if hasattr(value, "shape") else np.asarray(value)


def select_rows(value: Any, rows: Any) -> Any:
    """Return these rows of what `rows_or_shared` returned."""
    return value[rows] if np.ndim(value) == 2 else value

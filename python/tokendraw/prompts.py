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

from tokendraw.models.base import fill_empty_prompts

if TYPE_CHECKING:
    from tokendraw.models.base import Model, Tokenizer

__all__ = [
    "PerPrompt",
    "Prompt",
    "as_batch",
    "check_count",
    "check_logits",
    "delimited",
    "encode_continuations",
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


def encode_continuations(
    model: Model[Any],
    prompt: Prompt,
    place: int,
    continuations: Sequence[Prompt],
    *,
    kind: str,
    first: int = 0,
    delimiter: str = "",
) -> tuple[list[int], list[list[int]]]:
    """Return a prompt, not empty, and what may follow it as token ids.

    Where all is text, the ids are those of the joined texts: the prompt then ends where the first of them
    differs from the prompt alone. `kind` and `first` name and number the continuations in messages.
    """
    is_empty = isinstance(prompt, str) and prompt == ""
    alone = [] if is_empty else encode_prompt(model, prompt, place)
    texts = [each for each in continuations if isinstance(each, str)]
    if isinstance(prompt, str) and tokenizer_of(model) is not None and len(texts) == len(continuations):
        joined = _joined(model, prompt, alone, [delimited(model, text, delimiter) for text in texts])
        if joined is not None:
            return joined
    tokens = [
        _continuation_tokens(model, each, delimiter, kind, f" ({kind} {number})")
        for number, each in enumerate(continuations, first)
    ]
    return fill_empty_prompts(model, [alone])[0], tokens


def _joined(
    model: Model[Any], prompt: str, alone: list[int], texts: Sequence[str]
) -> tuple[list[int], list[list[int]]] | None:
    """Return the beginning that the tokens of all joined texts share with the prompt's, and what follows."""
    tokenizer = tokenizer_of(model)
    assert tokenizer is not None, "the prompt was encoded"
    leftward = _is_leftward(model)
    whole = [list(tokenizer.encode(text + prompt if leftward else prompt + text)) for text in texts]
    shared = min((_common_length(alone, each) for each in whole), default=0)
    if shared == 0 and getattr(model, "bos_token_id", None) is None:
        return None
    [start] = fill_empty_prompts(model, [alone[:shared]])
    return start, [each[shared:] for each in whole]


def _is_leftward(model: Model[Any]) -> bool:
    return bool(getattr(tokenizer_of(model), "right_to_left", False))


def delimited(model: Model[Any], text: str, delimiter: str) -> str:
    """Return a text with the delimiter on the side of the prompt."""
    return text + delimiter if _is_leftward(model) else delimiter + text


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _continuation_tokens(
    model: Model[Any], given: Prompt, delimiter: str, kind: str, where: str
) -> list[int]:
    if isinstance(given, str):
        tokenizer = tokenizer_of(model)
        if tokenizer is None:
            raise ValueError(f"a text {kind} needs a model with a tokenizer, got {given!r}{where}")
        return list(tokenizer.encode(delimited(model, given, delimiter)))
    if isinstance(given, bytes) or np.ndim(given) != 1:
        article = "an" if kind[0] in "aeiou" else "a"
        raise TypeError(f"{article} {kind} must be text or token ids, got {given!r}{where}")
    return token_ids(f"{kind} tokens", given, model, where)


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

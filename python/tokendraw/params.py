# SPDX-License-Identifier: Apache-2.0
"""The parameters of the steps as one validated value, and the rules of six other systems by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokendraw._core import _check_filters

__all__ = ["SamplingParams"]

Real: TypeAlias = Any  # a number, or an array or sequence of them
Integer: TypeAlias = Any

SHARED = frozenset(
    {
        "dry_breakers",
        "eos_token_id",
        "steps",
        "top_k_ties",
        "top_p_boundary",
        "top_p_ties",
        "top_p_mass",
        "penalty_history",
    }
)
"""The parameters that are the same for all rows, whatever their shape."""

READS_HISTORY = {
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "dry_multiplier": 0.0,
}
"""The parameters that need a history, and the values at which they do not."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SamplingParams:
    """Parameters of the steps, checked when made and never changed.

    Every number is a scalar, or an array with one value per row of the logits it will be used with. A step at
    its default changes nothing.

    Parameters
    ----------
    temperature : float >= 0
        Divides the logits; 0 takes the first token of the total order.
    top_k : int >= 0 or None
        Keep the k first tokens of the total order; 0 or None keeps all.
    top_p : float in (0, 1]
        Keep the shortest beginning of the total order whose mass reaches this share.
    min_p : float in [0, 1]
        Keep tokens at least this fraction as probable as the best one.
    typical_p : float in (0, 1]
        Keep the tokens whose surprise is nearest to the entropy, up to this share of the mass.
    epsilon_cutoff : float in [0, 1)
        Keep tokens of at least this probability, and the best one.
    eta_cutoff : float in [0, 1)
        Keep tokens of at least this probability, or of less where the entropy is high, and the best one.
    top_n_sigma : float >= 0
        Keep scores within this many standard deviations of the best one; 0 keeps all.
    xtc_probability : float in [0, 1]
        How often to remove the most probable tokens but for the last of them ("exclude top choices").
    xtc_threshold : float in [0, 1]
        The probability from which a token is one of those; above 0.5 nothing is removed.
    repetition_penalty : float > 0
        Divides positive and multiplies negative logits of tokens in the history.
    frequency_penalty : float
        Subtracted from a token's logit for each time that it occurs in the history.
    presence_penalty : float
        Subtracted from the logits of tokens in the history.
    dry_multiplier : float >= 0
        What continuing a repetition of the allowed length costs ("don't repeat yourself").
    dry_base : float >= 1
        Multiplies that cost for each token of the repetition beyond the allowed length.
    dry_allowed_length : int >= 0
        Repetitions shorter than this are free.
    dry_last_n : int >= -1
        How many tokens of the history are searched for repetitions; -1 searches all.
    dry_breakers : sequence of int
        Tokens that no repetition reaches across.
    min_tokens : int >= 0
        Forbid the tokens of `eos_token_id` while fewer were drawn, that is while `step` is below.
    eos_token_id : int, sequence of int or None
        The tokens that end a sequence.
    steps : sequence of str or None
        Names of the steps in the order in which they shall run: `temperature`, `top_k`, `top_p`, `min_p`,
        `typical`, `epsilon`, `eta`, `top_n_sigma`, `xtc`, which is the order for None, and `top_k_top_p`,
        which applies both to the same distribution. `mask`, `bias` and `penalties` always run first. Every
        step that is used must be named.
    top_k_ties : {"exact", "all"}
        Whether top_k keeps exactly k tokens, or also all that are equal to the last.
    top_p_boundary : {"reach", "exceed"}
        Whether the mass must reach `top_p`, or exceed it.
    top_p_ties : {"lowest", "highest", "all"}
        Which of the tokens that are equal to the last one top_p keeps: as many as it needs, from the lowest
        or from the highest ids, or all.
    top_p_mass : {"left", "original"}
        Whether top_p is a share of what earlier steps left, or of all finite tokens.
    penalty_history : {"all", "output"} or mapping
        Whether penalties see the whole history, or what comes after the prompt; or this for each of
        `repetition`, `frequency`, `presence` and `dry`.

    Raises
    ------
    ValueError, TypeError
        For an illegal value, in one sentence with the rule, the value and the row.

    Notes
    -----
    A share or threshold between 0 and 2**-1000 (9.3e-302) counts as 2**-1000.

    Examples
    --------
    >>> import tokendraw as td
    >>> params = td.SamplingParams(temperature=0.8, top_p=0.95)
    >>> params
    SamplingParams(temperature=0.8, top_p=0.95)
    >>> params.replace(top_k=50)
    SamplingParams(temperature=0.8, top_k=50, top_p=0.95)
    >>> td.SamplingParams(top_p=1.5)
    Traceback (most recent call last):
    ValueError: top_p must be in (0, 1], got 1.5
    """

    temperature: Real = 1.0
    top_k: Integer = 0
    top_p: Real = 1.0
    min_p: Real = 0.0
    typical_p: Real = 1.0
    epsilon_cutoff: Real = 0.0
    eta_cutoff: Real = 0.0
    top_n_sigma: Real = 0.0
    xtc_probability: Real = 0.0
    xtc_threshold: Real = 0.1
    repetition_penalty: Real = 1.0
    frequency_penalty: Real = 0.0
    presence_penalty: Real = 0.0
    dry_multiplier: Real = 0.0
    dry_base: Real = 1.75
    dry_allowed_length: Integer = 2
    dry_last_n: Integer = -1
    dry_breakers: Sequence[int] = ()
    min_tokens: Integer = 0
    eos_token_id: int | Sequence[int] | None = None
    steps: Sequence[str] | None = None
    top_k_ties: str = "exact"
    top_p_boundary: str = "reach"
    top_p_ties: str = "lowest"
    top_p_mass: str = "left"
    penalty_history: str | Mapping[str, str] = "all"

    def __post_init__(self) -> None:
        _check_filters(**self.as_dict())
        for name in SHARED:
            object.__setattr__(self, name, _owned(getattr(self, name)))
        # What a call reads of it: looking up a few values costs less than two dozen attributes.
        object.__setattr__(self, "_given", dict(self._changes()))

    @classmethod
    def preset(cls, name: str, **params: Any) -> SamplingParams:
        """Return parameters that run in the order and by the rules of another system.

        With the values that the system is given, the same number of tokens is kept. Where the system leaves
        open which of equal tokens survive, the total order decides. Values and defaults are the caller's: a
        preset sets none.

        Parameters
        ----------
        name : str
            One of

            - ``"transformers"``: 5.23.0. top_k keeps all ties; top_p cuts a `torch.sort`, which leaves open
              in which order equal tokens come.
            - ``"vllm"``: 0.33.0, its PyTorch sampler. min_p runs before top_k; ties are as in transformers;
              the frequency and presence penalties see the output.
            - ``"sglang"``: 0.5.23, its "pytorch" backend. top_p is measured before top_k and must be
              exceeded; penalties see the output, and are subtracted after the repetition penalty here,
              before it there. Its "flashinfer" backend is, without min_p, the preset ``"flashinfer"`` with
              ``steps=("temperature", "top_k_top_p")``.
            - ``"llama.cpp"``: as in llama-cpp-python 0.3.36, its default chain on the CPU. Temperature runs
              last. What its windows hold (`penalty_last_n`) is for the caller to cut from the history.
            - ``"mlx"``: mlx-lm 0.32.2. Temperature runs last, and top_p keeps all ties. Its penalties see the
              last 20 tokens, which is for the caller to cut.
            - ``"flashinfer"``: 0.7.2, its sampling kernels with "top_k_first". top_k and top_p keep all ties
              (but for one k of at most 256 on a vocabulary of at least 65536, where top_k is exact).
        **params
            Fields of `SamplingParams`; a rule given here goes before that of the preset.

        Raises
        ------
        ValueError
            For an unknown name, or where a step is used that the system does not have.

        Examples
        --------
        >>> import numpy as np
        >>> import tokendraw as td
        >>> logits = np.log(np.float32([0.25, 0.25, 0.25, 0.25]))
        >>> for name in ("llama.cpp", "sglang", "flashinfer"):
        ...     td.kept_set(logits, params=td.SamplingParams.preset(name, top_p=0.5)).tokens.tolist()
        [0, 1]
        [0, 1, 2]
        [0, 1, 2, 3]
        """
        if name not in _PRESETS:
            raise ValueError(f"preset must be one of {', '.join(_PRESETS)}, got {name!r}")
        return cls(**{**_PRESETS[name], **params})

    def _changes(self) -> Iterator[tuple[str, Any]]:
        """Yield the parameters that are not at their default."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not type(field.default) or value != field.default:
                yield field.name, value

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as keyword arguments of `sample`."""
        named = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in named}

    def replace(self, **changes: Any) -> SamplingParams:
        """Return a copy with other values for some parameters."""
        return dataclasses.replace(self, **changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SamplingParams):
            return NotImplemented
        mine, theirs = self.as_dict(), other.as_dict()
        return all(_are_equal(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash(tuple(_hashable(value) for value in self.as_dict().values()))

    def __repr__(self) -> str:
        defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(self)}
        given = self.as_dict().items()
        changed = [f"{name}={value!r}" for name, value in given if not _are_equal(value, defaults[name])]
        return f"SamplingParams({', '.join(changed)})"


def _owned(value: Any) -> Any:
    """Return a value that the caller cannot change, of a parameter that all rows share."""
    if isinstance(value, Mapping):
        return dict(value)
    if value is None or isinstance(value, str) or np.ndim(value) == 0:
        return value
    return tuple(value.tolist() if hasattr(value, "tolist") else value)


def _is_numeric(value: Any) -> bool:
    return not (value is None or isinstance(value, str | Mapping)) and np.asarray(value).dtype.kind in "biuf"


def _are_equal(one: Any, other: Any) -> bool:
    if _is_numeric(one) and _is_numeric(other):
        return np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted(value.items()))
    # A zero of either sign is the same value.
    if _is_numeric(value):
        return (np.asarray(value, dtype=np.float64) + 0.0).tobytes()
    return tuple(value) if isinstance(value, list) else value


_PRESETS: dict[str, dict[str, Any]] = {
    "transformers": {
        "steps": ("temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"),
        "top_k_ties": "all",
    },
    "vllm": {
        "steps": ("temperature", "min_p", "top_k", "top_p"),
        "top_k_ties": "all",
        "penalty_history": {"frequency": "output", "presence": "output"},
    },
    "sglang": {
        "steps": ("temperature", "top_k", "top_p", "min_p"),
        "top_p_boundary": "exceed",
        "top_p_mass": "original",
        "penalty_history": "output",
    },
    "llama.cpp": {
        "steps": ("top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc", "temperature"),
    },
    "mlx": {
        "steps": ("top_p", "min_p", "xtc", "top_k", "temperature"),
        "top_p_ties": "all",
    },
    "flashinfer": {
        "steps": ("temperature", "top_k", "top_p", "min_p"),
        "top_k_ties": "all",
        "top_p_ties": "all",
    },
}


def merged_params(
    function: str, params: SamplingParams | None, sampling: Mapping[str, Any], **own: Any
) -> SamplingParams:
    """Return what a function was given as `params` and as keywords, which take precedence."""
    unknown = sampling.keys() - {field.name for field in dataclasses.fields(SamplingParams)}
    if unknown:
        raise TypeError(f"{function}() got an unexpected keyword argument {min(unknown)!r}")
    return (SamplingParams() if params is None else params).replace(**own, **sampling)


def columns_of(params: SamplingParams) -> dict[str, NDArray[Any]]:
    """Return the parameters that are given per row."""
    named = params.as_dict().items()
    return {name: np.asarray(value) for name, value in named if name not in SHARED and np.ndim(value) > 0}

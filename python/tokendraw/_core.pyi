# SPDX-License-Identifier: Apache-2.0
# The typed face of the extension; stubtest compares it with what was compiled.
from collections.abc import Mapping, Sequence
from typing import (
    Any,
    Literal,
    Protocol,
    SupportsFloat,
    SupportsIndex,
    SupportsInt,
    TypeAlias,
    TypedDict,
    TypeVar,
    final,
    overload,
)

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from tokendraw.params import SamplingParams
from tokendraw.sampler import Draws, KeptSet
from tokendraw.speculative import Verified

class _SupportsDLPack(Protocol):
    def __dlpack__(self, *, stream: Any = ...) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...

class _BuildInfo(TypedDict):
    version: str
    isa: str
    isas: tuple[str, ...]
    cuda: bool
    threads: int
    compiler: str

_Array: TypeAlias = Buffer | _SupportsDLPack
_ArrayT = TypeVar("_ArrayT", bound=_SupportsDLPack)
_OutT = TypeVar("_OutT", bound=_Array)
# One for all rows, or one per row.
_Reals: TypeAlias = float | Sequence[float] | _Array
_Integers: TypeAlias = int | Sequence[int] | _Array
_History: TypeAlias = Sequence[int] | Sequence[Sequence[int] | _Array] | _Array
_Past: TypeAlias = Literal["all", "output"]
_PenaltyHistory: TypeAlias = _Past | Mapping[Literal["repetition", "frequency", "presence", "dry"], _Past]
_Step: TypeAlias = Literal[
    "mask",
    "bias",
    "penalties",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "epsilon",
    "eta",
    "top_n_sigma",
    "xtc",
    "top_k_top_p",
]
_OnInvalid: TypeAlias = Literal["raise", "mark"]

__version__: str

def build_info() -> _BuildInfo: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: SupportsIndex | None) -> None: ...

# An int for logits [vocab], else an array of the caller's kind: which, the type of the logits does not say.
@overload
def sample(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: _OutT,
    threads: int | None = None,
) -> _OutT: ...
@overload
def sample(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> Any: ...
@overload
def greedy(
    logits: _Array,
    *,
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    on_invalid: _OnInvalid | None = None,
    out: _OutT,
    threads: int | None = None,
) -> _OutT: ...
@overload
def greedy(
    logits: _Array,
    *,
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> Any: ...
def draw(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    threads: int | None = None,
    logprobs: int = 0,
) -> Draws: ...

# Whole rows, as an array of the caller's kind; what is known by its buffer alone comes back as NumPy's.
@overload
def softmax(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: _OutT,
    threads: int | None = None,
) -> _OutT: ...
@overload
def softmax(
    logits: Buffer,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> NDArray[np.float32]: ...
@overload
def softmax(
    logits: _ArrayT,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> _ArrayT: ...
@overload
def log_softmax(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: _OutT,
    threads: int | None = None,
) -> _OutT: ...
@overload
def log_softmax(
    logits: Buffer,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> NDArray[np.float32]: ...
@overload
def log_softmax(
    logits: _ArrayT,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> _ArrayT: ...
@overload
def filter_logits(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: _OutT,
    threads: int | None = None,
) -> _OutT: ...
@overload
def filter_logits(
    logits: Buffer,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> NDArray[np.float32]: ...
@overload
def filter_logits(
    logits: _ArrayT,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    out: None = None,
    threads: int | None = None,
) -> _ArrayT: ...
def kept_set(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    threads: int | None = None,
) -> KeptSet: ...
@overload
def top_k(
    logits: Buffer,
    k: SupportsIndex,
    *,
    on_invalid: _OnInvalid | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]: ...
@overload
def top_k(
    logits: _ArrayT,
    k: SupportsIndex,
    *,
    on_invalid: _OnInvalid | None = None,
    threads: int | None = None,
) -> tuple[_ArrayT, _ArrayT]: ...

# Of one row a number; else arrays of the kind of logits.
def token_logprobs(
    logits: _Array,
    tokens: _Integers,
    ranks: bool = False,
    *,
    temperature: _Reals = 1.0,
    on_invalid: _OnInvalid | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> Any: ...
def logsumexp(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    on_invalid: _OnInvalid | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> Any: ...
def entropy(
    logits: _Array,
    *,
    temperature: _Reals = 1.0,
    on_invalid: _OnInvalid | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> Any: ...

# A number, with "none" an array; beside the gradient where that is asked for.
def cross_entropy(
    logits: _Array,
    tokens: _Integers,
    reduction: Literal["mean", "sum", "none"] = "mean",
    ignore_index: SupportsIndex = -100,
    *,
    label_smoothing: float = 0.0,
    temperature: _Reals = 1.0,
    gradient: bool = False,
    scale: _Reals = 1.0,
    on_invalid: _OnInvalid | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> Any: ...
def kl_divergence(
    logits: _Array,
    other_logits: _Array,
    *,
    temperature: _Reals = 1.0,
    on_invalid: _OnInvalid | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> Any: ...
def js_divergence(
    logits: _Array,
    other_logits: _Array,
    *,
    temperature: _Reals = 1.0,
    on_invalid: _OnInvalid | None = None,
    out: _Array | None = None,
    threads: int | None = None,
) -> Any: ...

# The arrays are of the kind of logits.
@overload
def top_continuations(
    logits: Buffer,
    scores: _Array,
    k: SupportsIndex,
    *,
    on_invalid: _OnInvalid | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]: ...
@overload
def top_continuations(
    logits: _ArrayT,
    scores: _Array,
    k: SupportsIndex,
    *,
    on_invalid: _OnInvalid | None = None,
    threads: int | None = None,
) -> tuple[_ArrayT, _ArrayT, _ArrayT]: ...
def verify_draft(
    draft_tokens: Sequence[int] | Sequence[Sequence[int]] | _Array,
    draft_logits: _Array | None,
    target_logits: _Array,
    *,
    parents: Sequence[int] | Sequence[Sequence[int]] | _Array | None = None,
    replacement: bool = False,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    history: _History | None = None,
    prompt_lengths: _Integers = 0,
    seed: _Integers | None = None,
    stream: _Integers | None = None,
    step: _Integers = 0,
    params: SamplingParams | None = None,
    on_invalid: _OnInvalid | None = None,
    threads: int | None = None,
) -> Verified: ...

# Private: for BeamSearch.
@final
class _BeamSearch:
    def __init__(
        self, prompts: list[tuple[list[int], int, int, int, int]], options: dict[str, Any]
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def allocated(self) -> int: ...
    @property
    def tokens(self) -> list[int]: ...
    @property
    def parents(self) -> list[int]: ...
    @property
    def done(self) -> list[bool]: ...
    @property
    def row_prompts(self) -> list[int]: ...
    @property
    def row_scores(self) -> list[float]: ...
    @property
    def histories(self) -> list[list[int]]: ...
    def best(
        self, prompt: int, count: int
    ) -> list[tuple[list[int], float, float, list[float], bool, float]]: ...

def _beam_step(search: _BeamSearch, logits: _Array, **params: Any) -> tuple[Any, Any, Any]: ...

# Private: for best_first_search.
@final
class _BestFirst:
    def __init__(
        self,
        max_length: SupportsInt | SupportsIndex,
        num_return: SupportsInt | SupportsIndex,
        length_penalty: SupportsFloat | SupportsIndex,
        ends: Sequence[SupportsInt | SupportsIndex],
    ) -> None: ...
    def next(self, count: SupportsInt | SupportsIndex) -> list[tuple[int, int, int, int, int]]: ...
    def expand(
        self,
        nodes: Sequence[SupportsInt | SupportsIndex],
        tokens: NDArray[np.int32],
        logprobs: NDArray[np.float32],
        more: Sequence[bool],
    ) -> None: ...
    def drop(self, node: SupportsInt | SupportsIndex) -> None: ...
    def bound(self) -> float: ...
    def proved(self) -> bool: ...
    def found(self) -> list[tuple[int, int, float, float, float]]: ...
    def path(self, node: SupportsInt | SupportsIndex) -> tuple[list[int], list[int], list[float]]: ...
    def logprob(self, node: SupportsInt | SupportsIndex) -> float: ...
    def promises(self, nodes: Sequence[SupportsInt | SupportsIndex]) -> list[float]: ...

# Private: for SamplingParams, and for tests.
def _check_filters(
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    typical_p: _Reals = 1.0,
    epsilon_cutoff: _Reals = 0.0,
    eta_cutoff: _Reals = 0.0,
    top_n_sigma: _Reals = 0.0,
    xtc_probability: _Reals = 0.0,
    xtc_threshold: _Reals = 0.1,
    repetition_penalty: _Reals = 1.0,
    frequency_penalty: _Reals = 0.0,
    presence_penalty: _Reals = 0.0,
    dry_multiplier: _Reals = 0.0,
    dry_base: _Reals = 1.75,
    dry_allowed_length: _Integers = 2,
    dry_last_n: _Integers = -1,
    dry_breakers: Sequence[int] | _Array = (),
    min_tokens: _Integers = 0,
    eos_token_id: _Integers | None = None,
    steps: Sequence[_Step] | None = None,
    top_k_ties: Literal["exact", "all"] = "exact",
    top_p_boundary: Literal["reach", "exceed"] = "reach",
    top_p_ties: Literal["lowest", "highest", "all"] = "lowest",
    top_p_mass: Literal["left", "original"] = "left",
    penalty_history: _PenaltyHistory = "all",
) -> None: ...
def _set_isa(name: str) -> None: ...
def _philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]: ...
def _describe_array(array: object, name: str = "array") -> dict[str, Any]: ...
def _copy_like(array: object) -> Any: ...
def _fill_output(out: object, value: float, shape: Sequence[int] | None = None) -> None: ...

# Private: for tokendraw.cuda, and for tests.
@final
class _CudaMemory:
    def __init__(self, device: SupportsInt | SupportsIndex) -> None: ...
    @property
    def device(self) -> int: ...
    @property
    def bytes(self) -> int: ...

def _swap_cuda_memory(memory: _CudaMemory | None) -> _CudaMemory | None: ...
def _cuda_problem(device: SupportsInt | SupportsIndex) -> str: ...
def _cuda_device_of(logits: object) -> int: ...
def _set_cuda_warm(logits: object) -> None: ...
def _use_cuda(capsule: object) -> None: ...

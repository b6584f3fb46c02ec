# SPDX-License-Identifier: Apache-2.0
# The typed face of the extension; stubtest compares it with what was compiled.
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, SupportsIndex, TypeAlias, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from tokendraw.params import SamplingParams
from tokendraw.sampler import Draws, KeptSet

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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
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

# Private: for SamplingParams, and for tests.
def _check_filters(
    *,
    temperature: _Reals = 1.0,
    top_k: _Integers | None = 0,
    top_p: _Reals = 1.0,
    min_p: _Reals = 0.0,
    mask: _Array | None = None,
    bias: Mapping[Any, float] | _Array | None = None,
    params: SamplingParams | None = None,
) -> None: ...
def _set_isa(name: str) -> None: ...
def _philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]: ...
def _describe_array(array: object, name: str = "array") -> dict[str, Any]: ...
def _copy_like(array: object) -> Any: ...
def _fill_output(out: object, value: float, shape: Sequence[int] | None = None) -> None: ...

# SPDX-License-Identifier: Apache-2.0
"""CUDA: whether it is there, what comes before a graph is captured, and whose memory kernels work in."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from tokendraw import _core

__all__ = ["Workspace", "available", "problem", "warmup"]


def problem(device: int = 0) -> str | None:
    """Why logits on a CUDA device cannot be worked on, or None where they can.

    Parameters
    ----------
    device : int

    Returns
    -------
    str or None
        That this build has no CUDA, that there is no driver or one that is too old, no such device, or no
        kernel for it.

    Examples
    --------
    >>> import tokendraw as td
    >>> td.cuda.available() == (td.cuda.problem() is None)
    True
    """
    return _core._cuda_problem(device) or None


def available(device: int = 0) -> bool:
    """Whether logits on a CUDA device can be worked on.

    Parameters
    ----------
    device : int

    Returns
    -------
    bool
    """
    return problem(device) is None


# Together they start every kernel that logits of one shape and dtype may need.
_FILTERS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"min_p": 0.05},
    {"top_k": 50},
    {"top_p": 0.9},
    {"top_k": 50, "top_p": 0.9, "min_p": 0.05},
    {"top_k": 2000, "top_p": 0.9},
)


# A captured beam step may ask for as many.
_CONTINUATIONS = 64


def warmup(logits: Any) -> None:
    """Make calls on such logits safe while a CUDA graph is captured, on their device and the current stream.

    A kernel is loaded when it is first started, and memory is allocated when it is first needed; neither may
    happen during a capture. This starts every kernel once and sets memory aside, for the current stream and
    for one captured stream more; then it waits. Call it for the largest batch, before each capture on a
    stream of its own. Beam steps are prepared for 64 continuations, gradients for float32.

    Parameters
    ----------
    logits : array of shape [rows, vocab] on a CUDA device
        Of the shape and dtype that will be captured. What it holds does not matter.

    Raises
    ------
    RuntimeError
        Where `problem` has one.
    """
    _core._cuda_device_of(logits)
    edits: tuple[dict[str, Any], ...] = ({}, {"bias": {0: 0.0}})
    for edit in edits:
        _core.greedy(logits, **edit)
        for filters in _FILTERS:
            _core.sample(logits, seed=0, **filters, **edit)
            _core.draw(logits, seed=0, logprobs=2, **filters, **edit)
            for transform in (_core.softmax, _core.log_softmax, _core.filter_logits):
                transform(logits, **filters, **edit)
    for k in (1, 50, 2000):
        _core.top_k(logits, k)
    for temperature in (0.0, 1.0):
        _core.token_logprobs(logits, 0, ranks=True, temperature=temperature)
        _core.entropy(logits, temperature=temperature)
    _core.logsumexp(logits)
    for reduction in ("mean", "none"):
        _core.cross_entropy(logits, 0, reduction)
    if len(logits.shape) > 1:
        _core.top_continuations(logits, np.zeros(logits.shape[:-1]), _CONTINUATIONS)
    _core._set_cuda_warm(logits)


class Workspace:
    """Memory of a CUDA device that calls inside of ``with`` use, instead of that of their stream.

    A graph keeps the memory that it was captured with. Give it a workspace of its own where it will be
    replayed at the same time as other calls of the stream that captured it, or as other graphs. One at a time
    may use it.

    Parameters
    ----------
    device : int

    Attributes
    ----------
    device : int
    bytes : int
        Grows with what calls need, outside of captures: run the call once before it is captured.
    """

    def __init__(self, device: int = 0) -> None:
        self._memory = _core._CudaMemory(device)
        self._before: list[Any] = []

    @property
    def device(self) -> int:
        """The number of its device."""
        return self._memory.device

    @property
    def bytes(self) -> int:
        """How much memory it has taken."""
        return self._memory.bytes

    def __enter__(self) -> Workspace:
        self._before.append(_core._swap_cuda_memory(self._memory))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core._swap_cuda_memory(self._before.pop())

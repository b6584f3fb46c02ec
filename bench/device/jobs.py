# SPDX-License-Identifier: Apache-2.0
"""What is timed on a GPU: the jobs of the budget table, and three that have no budget."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from bench.device.arrays import Library
from tokendraw.budgets import JOBS, Job, make_rows

DEVICE_JOBS = {
    **JOBS,
    "cross_entropy": Job("cross-entropy", "cross_entropy", "peaked", {}, {}),
    "softmax": Job("softmax", "softmax", "peaked", {}, {}),
    "top_k_list": Job("top_k, list of 50", "top_k", "peaked", {"k": 50}, {}),
}
DIFFERENT_ROWS = 64
"""So many are made; larger batches repeat them."""


def inputs_of(name: str, shape: tuple[int, int]) -> tuple[NDArray[Any], ...]:
    """Return what a job takes beside logits of this shape."""
    same = "token_logprobs" if name == "cross_entropy" else name
    return DEVICE_JOBS[same].inputs(shape)


def call_of(name: str, library: Library, shape: tuple[int, int]) -> Callable[[Any], Any]:
    """Return tokendraw's call as a function of logits on the device; nothing it takes is on the host."""
    job = DEVICE_JOBS[name]
    function = getattr(td, job.function)
    inputs = [library.put(values) for values in inputs_of(name, shape)]
    parameters = dict(job.parameters) | ({"seed": 1} if job.function == "sample" else {})
    return lambda logits: function(logits, *inputs, **parameters)


def logits_of(kind: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return rows of a kind in host memory."""
    rows, vocab = shape
    different = make_rows(kind, min(rows, DIFFERENT_ROWS), vocab)
    return np.resize(different, shape)

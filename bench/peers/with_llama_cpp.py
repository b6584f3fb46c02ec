# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's sampler chains, by llama-cpp-python, with the candidate array built for every row."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.peers import Peer
from tokendraw.budgets import JOBS

SAMPLING_JOBS = ("temperature", "top_k", "top_p_peaked", "top_p_flat", "top_k_top_p", "min_p")
SEED = 7


def peer() -> Peer:
    import llama_cpp

    candidate = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    assert candidate.itemsize == ctypes.sizeof(llama_cpp.llama_token_data)

    def apply(chain: Any, row: Any, candidates: Any) -> int:
        candidates["id"] = np.arange(row.size, dtype=np.int32)
        candidates["logit"] = row
        array = llama_cpp.llama_token_data_array(
            data=candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
            size=row.size,
            selected=-1,
            sorted=False,
        )
        llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def sampler(*steps: Any) -> Callable[[Any], Any]:
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for step in steps:
            llama_cpp.llama_sampler_chain_add(chain, step)

        def draw(logits: Any) -> Any:
            candidates = np.empty(logits.shape[1], candidate)
            return np.array([apply(chain, row, candidates) for row in logits])

        return draw

    def steps_of(parameters: Any) -> Any:
        """Keep the tokens the table asks for: top_k may as well come before temperature."""
        if "top_k" in parameters:
            yield llama_cpp.llama_sampler_init_top_k(parameters["top_k"])
        if "temperature" in parameters:
            yield llama_cpp.llama_sampler_init_temp(parameters["temperature"])
        if "top_p" in parameters:
            yield llama_cpp.llama_sampler_init_top_p(parameters["top_p"], 1)
        if "min_p" in parameters:
            yield llama_cpp.llama_sampler_init_min_p(parameters["min_p"], 1)
        yield llama_cpp.llama_sampler_init_dist(SEED)

    jobs = {name: sampler(*steps_of(JOBS[name].parameters)) for name in SAMPLING_JOBS}
    return Peer({"greedy": sampler(llama_cpp.llama_sampler_init_greedy()), **jobs})

# SPDX-License-Identifier: Apache-2.0
"""The logits warpers of transformers, one after the other, and torch's draw, as `generate` does it."""

from collections.abc import Callable
from typing import Any

from bench.peers import Peer
from tokendraw.budgets import JOBS

SAMPLING_JOBS = ("temperature", "top_k", "top_p_peaked", "top_p_flat", "top_k_top_p", "min_p")


def peer() -> Peer:
    import torch
    from transformers import generation

    torch.set_num_threads(1)
    warpers = {
        "temperature": generation.TemperatureLogitsWarper,
        "top_k": generation.TopKLogitsWarper,
        "top_p": generation.TopPLogitsWarper,
        "min_p": generation.MinPLogitsWarper,
    }

    def sampler(parameters: Any) -> Callable[[Any], Any]:
        chain = [warper(parameters[name]) for name, warper in warpers.items() if name in parameters]

        def draw(logits: Any) -> Any:
            for warper in chain:
                logits = warper(None, logits)
            return torch.multinomial(torch.softmax(logits, -1), 1)[:, 0]

        return draw

    return Peer({name: sampler(JOBS[name].parameters) for name in SAMPLING_JOBS}, torch.from_numpy)

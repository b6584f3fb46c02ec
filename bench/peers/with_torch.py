# SPDX-License-Identifier: Apache-2.0
"""torch on the host: a nucleus is looked for among the highest tokens before everything is sorted."""

from typing import Any

from bench.peers import Peer
from tokendraw.budgets import JOBS

GUESS = 1024


def peer() -> Peer:
    import torch

    torch.set_num_threads(1)

    def draw(probs: Any) -> Any:
        return torch.multinomial(probs, 1)

    def draw_temperature(logits: Any) -> Any:
        return draw(torch.softmax(logits / JOBS["temperature"].parameters["temperature"], -1))[:, 0]

    def draw_top_k(logits: Any) -> Any:
        parameters = JOBS["top_k"].parameters
        best, tokens = torch.topk(logits, parameters["top_k"])
        return tokens.gather(-1, draw(torch.softmax(best / parameters["temperature"], -1)))[:, 0]

    def draw_top_k_top_p(logits: Any) -> Any:
        parameters = JOBS["top_k_top_p"].parameters
        best, tokens = torch.topk(logits, parameters["top_k"])
        probs = torch.softmax(best / parameters["temperature"], -1)
        return draw_nucleus(probs, tokens, parameters["top_p"])

    def draw_top_p(logits: Any) -> Any:
        top_p = JOBS["top_p_peaked"].parameters["top_p"]
        probs = torch.softmax(logits, -1)
        likely, tokens = torch.topk(probs, min(GUESS, probs.shape[-1]))
        if bool((likely.sum(-1) < top_p).any()):
            likely, tokens = torch.sort(probs, descending=True)
        return draw_nucleus(likely, tokens, top_p)

    def draw_nucleus(probs: Any, tokens: Any, top_p: float) -> Any:
        """Draw from the beginning of rows in descending order that reaches `top_p`."""
        before = probs.cumsum(-1) - probs
        return tokens.gather(-1, draw(probs.masked_fill(before >= top_p, 0)))[:, 0]

    def draw_min_p(logits: Any) -> Any:
        probs = torch.softmax(logits, -1)
        lowest = JOBS["min_p"].parameters["min_p"] * probs.amax(-1, keepdim=True)
        return draw(probs.masked_fill_(probs < lowest, 0))[:, 0]

    def token_logprobs(logits: Any, tokens: Any) -> Any:
        return torch.log_softmax(logits, -1).gather(-1, tokens[:, None])[:, 0]

    def continue_beams(logits: Any, scores: Any) -> Any:
        total = torch.log_softmax(logits, -1) + scores[:, None]
        best, places = torch.topk(total.flatten(), JOBS["beam_step"].parameters["k"])
        return best, places // logits.shape[-1], places % logits.shape[-1]

    return Peer(
        {
            "greedy": lambda logits: torch.argmax(logits, -1),
            "temperature": draw_temperature,
            "token_logprobs": token_logprobs,
            "top_k": draw_top_k,
            "top_p_peaked": draw_top_p,
            "top_p_flat": draw_top_p,
            "top_k_top_p": draw_top_k_top_p,
            "min_p": draw_min_p,
            "beam_step": continue_beams,
        },
        torch.from_numpy,
    )

# SPDX-License-Identifier: Apache-2.0
"""The functions that take logits on a device, each with arguments that a graph may record."""

from collections.abc import Callable
from typing import Any

import tokendraw as td

FUNCTIONS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "greedy": lambda logits: (td.greedy(logits),),
    "sample": lambda logits: (td.sample(logits, seed=1),),
    "sample with bias": lambda logits: (td.sample(logits, seed=1, bias={5: 2.0}),),
    "sample with min_p": lambda logits: (td.sample(logits, seed=1, min_p=0.05),),
    "sample with top_k": lambda logits: (td.sample(logits, seed=1, top_k=7),),
    "sample with top_p": lambda logits: (td.sample(logits, seed=1, top_p=0.8),),
    "sample with all": lambda logits: (td.sample(logits, seed=1, top_k=7, top_p=0.8, min_p=0.01),),
    "draw": lambda logits: td.draw(logits, seed=1, top_k=9, logprobs=3),
    "softmax": lambda logits: (td.softmax(logits),),
    "log_softmax with top_k": lambda logits: (td.log_softmax(logits, top_k=9),),
    "filter_logits with top_p": lambda logits: (td.filter_logits(logits, top_p=0.7, temperature=0.5),),
    "top_k": lambda logits: td.top_k(logits, 5),
    "top_k beyond a list": lambda logits: td.top_k(logits, 1050),
    "token_logprobs": lambda logits: (td.token_logprobs(logits, 3),),
    "token_logprobs with ranks": lambda logits: td.token_logprobs(logits, 3, ranks=True, temperature=0.7),
    "logsumexp": lambda logits: (td.logsumexp(logits, temperature=2.0),),
    "entropy": lambda logits: (td.entropy(logits),),
    "cross_entropy": lambda logits: (td.cross_entropy(logits, 3),),
    "cross_entropy with its gradient": lambda logits: td.cross_entropy(
        logits, 3, "none", label_smoothing=0.1, gradient=True
    ),
    "top_continuations": lambda logits: td.top_continuations(logits, td.entropy(logits), 8),
}

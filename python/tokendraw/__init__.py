# SPDX-License-Identifier: Apache-2.0
"""Turn a language model's logits into tokens: exact, fused, reproducible."""

from tokendraw import models
from tokendraw._core import (
    __version__,
    build_info,
    draw,
    filter_logits,
    get_num_threads,
    greedy,
    kept_set,
    log_softmax,
    sample,
    set_num_threads,
    softmax,
    top_continuations,
    top_k,
    verify_draft,
)
from tokendraw.errors import InvalidLogitsError
from tokendraw.generation import GeneratedToken, Generation, TokenStream, generate, stream_generate
from tokendraw.params import SamplingParams
from tokendraw.sampler import Draws, KeptSet, Sampler
from tokendraw.speculative import PromptLookup, Verified

__all__ = [
    "Draws",
    "GeneratedToken",
    "Generation",
    "InvalidLogitsError",
    "KeptSet",
    "PromptLookup",
    "Sampler",
    "SamplingParams",
    "TokenStream",
    "Verified",
    "__version__",
    "build_info",
    "draw",
    "filter_logits",
    "generate",
    "get_num_threads",
    "greedy",
    "kept_set",
    "log_softmax",
    "models",
    "sample",
    "set_num_threads",
    "softmax",
    "stream_generate",
    "top_continuations",
    "top_k",
    "verify_draft",
]

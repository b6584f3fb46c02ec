# SPDX-License-Identifier: Apache-2.0
"""Turn a language model's logits into tokens: exact, fused, reproducible."""

from tokendraw import cuda, models
from tokendraw._core import (
    __version__,
    build_info,
    cross_entropy,
    draw,
    entropy,
    filter_logits,
    get_num_threads,
    greedy,
    js_divergence,
    kept_set,
    kl_divergence,
    log_softmax,
    logsumexp,
    sample,
    set_num_threads,
    softmax,
    token_logprobs,
    top_continuations,
    top_k,
    verify_draft,
)
from tokendraw.best_first import Search, SearchProgress, best_first_search
from tokendraw.choices import Choice, TokenTrie, choose
from tokendraw.corpus import CorpusProgress, CorpusScore, score_corpus
from tokendraw.errors import InvalidLogitsError
from tokendraw.generation import GeneratedToken, Generation, TokenStream, generate, stream_generate
from tokendraw.hypothesis import Hypothesis
from tokendraw.params import SamplingParams
from tokendraw.sampler import Draws, KeptSet, Sampler
from tokendraw.scoring import Score, score
from tokendraw.search import BeamCandidates, BeamSearch, BeamStep, beam_search
from tokendraw.speculative import PromptLookup, Verified
from tokendraw.tree import SearchTree

__all__ = [
    "BeamCandidates",
    "BeamSearch",
    "BeamStep",
    "Choice",
    "CorpusProgress",
    "CorpusScore",
    "Draws",
    "GeneratedToken",
    "Generation",
    "Hypothesis",
    "InvalidLogitsError",
    "KeptSet",
    "PromptLookup",
    "Sampler",
    "SamplingParams",
    "Score",
    "Search",
    "SearchProgress",
    "SearchTree",
    "TokenStream",
    "TokenTrie",
    "Verified",
    "__version__",
    "beam_search",
    "best_first_search",
    "build_info",
    "choose",
    "cross_entropy",
    "cuda",
    "draw",
    "entropy",
    "filter_logits",
    "generate",
    "get_num_threads",
    "greedy",
    "js_divergence",
    "kept_set",
    "kl_divergence",
    "log_softmax",
    "logsumexp",
    "models",
    "sample",
    "score",
    "score_corpus",
    "set_num_threads",
    "softmax",
    "stream_generate",
    "token_logprobs",
    "top_continuations",
    "top_k",
    "verify_draft",
]

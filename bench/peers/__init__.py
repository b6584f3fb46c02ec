# SPDX-License-Identifier: Apache-2.0
"""Other libraries that do the jobs of the budget table, each as well as its users would know how to.

A module per library has a function `peer()`, which imports it and returns what it can do. Whatever a library
does once for many calls (compiling, building a graph, choosing a number of threads) is done there, untimed.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

NAMES = {
    "numpy": "with_numpy",
    "torch": "with_torch",
    "transformers": "with_transformers",
    "onnxruntime": "with_onnxruntime",
    "numba": "with_numba",
    "llama.cpp": "with_llama_cpp",
}


class Peer(NamedTuple):
    """What a library can do, on one thread.

    `jobs` holds functions by the names of the budget table. They take logits, and what the job takes beside
    them, as the library's own arrays, which `wrap` makes from NumPy's without a copy. They return an array of
    tokens unless the job asks for something else.
    """

    jobs: Mapping[str, Callable[..., Any]]
    wrap: Callable[[Any], Any] = lambda array: array


@cache
def load(name: str) -> Peer | str:
    """Return a library's peer, or the reason why there is none."""
    try:
        return importlib.import_module(f"bench.peers.{NAMES[name]}").peer()
    except ImportError as error:
        return f"{name} is not installed: {error}"

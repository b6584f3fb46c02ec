# SPDX-License-Identifier: Apache-2.0
"""Other libraries' ways to do the jobs on a GPU, on torch's tensors, as their users call them.

Half types are widened first: probabilities of bfloat16 have three digits. A module is imported, and whatever
it compiles compiled, in the part `peers`: a library that takes too long there takes no part in the timing.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from bench import peers
from bench.device import Case, Extent, LeftOutError
from bench.device.arrays import Library
from bench.device.jobs import inputs_of, logits_of
from tokendraw.budgets import JOBS

Calls = Mapping[str, Callable[..., Any]]

PROBE = (2, 4096)
"""The shape on which the part `peers` calls everything once."""


def torch_calls(_shape: tuple[int, int]) -> Calls:
    import torch

    of_host = peers.load("torch")
    if isinstance(of_host, str):
        raise LeftOutError(of_host)
    jobs = {
        **of_host.jobs,
        "cross_entropy": torch.nn.functional.cross_entropy,
        "softmax": partial(torch.softmax, dim=-1),
        "top_k_list": lambda logits: torch.topk(logits, 50),
    }
    return {name: _widened(call) for name, call in jobs.items()}


def _widened(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, *inputs: call(logits.float(), *inputs)


def flashinfer_calls(_shape: tuple[int, int]) -> Calls:
    from flashinfer import sampling

    def probs(logits: Any, temperature: float = 1.0) -> Any:
        return sampling.softmax(logits, temperature=temperature)

    def of(name: str) -> Mapping[str, Any]:
        return JOBS[name].parameters

    def draw_top_p(logits: Any) -> Any:
        return sampling.top_p_sampling_from_probs(probs(logits), of("top_p_peaked")["top_p"])

    def draw_top_k(logits: Any) -> Any:
        parameters = of("top_k")
        return sampling.top_k_sampling_from_probs(
            probs(logits, parameters["temperature"]), parameters["top_k"]
        )

    def draw_top_k_top_p(logits: Any) -> Any:
        parameters = of("top_k_top_p")
        scores = logits.float() / parameters["temperature"]
        return sampling.top_k_top_p_sampling_from_logits(scores, parameters["top_k"], parameters["top_p"])

    return {
        "temperature": lambda logits: sampling.sampling_from_probs(
            probs(logits, of("temperature")["temperature"])
        ),
        "top_k": draw_top_k,
        "top_p_peaked": draw_top_p,
        "top_p_flat": draw_top_p,
        "top_k_top_p": draw_top_k_top_p,
        "min_p": lambda logits: sampling.min_p_sampling_from_probs(probs(logits), of("min_p")["min_p"]),
        "softmax": probs,
    }


def vllm_calls(shape: tuple[int, int]) -> Calls:
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    sampler = TopKTopPSampler()
    rows = shape[0]

    def prepared(name: str) -> Callable[[Any], Any]:
        parameters = JOBS[name].parameters
        k, p = parameters.get("top_k"), parameters.get("top_p")
        device = "cuda:0"
        top_k = None if k is None else torch.full((rows,), k, dtype=torch.int32, device=device)
        top_p = None if p is None else torch.full((rows,), p, dtype=torch.float32, device=device)

        def draw(logits: Any) -> Any:
            # The sampler writes into logits, which an engine makes anew for each step.
            scores = logits.to(torch.float32, copy=True).div_(parameters.get("temperature", 1.0))
            drawn = sampler(scores, {}, top_k, top_p)
            return drawn[0] if isinstance(drawn, tuple) else drawn

        return draw

    return {
        name: prepared(name) for name in ("temperature", "top_k", "top_p_peaked", "top_p_flat", "top_k_top_p")
    }


PEERS: dict[str, Callable[[tuple[int, int]], Calls]] = {
    "torch": torch_calls,
    "flashinfer": flashinfer_calls,
    "vllm": vllm_calls,
}


def load(name: str, library: Library, shape: tuple[int, int]) -> dict[str, Callable[[Any], Any]]:
    """Return a library's calls as functions of logits of this shape. LeftOutError says why there are none."""
    if not library.name.startswith("torch"):
        raise LeftOutError(f"{name} works on torch's tensors, and arrays here are those of {library.name}")
    try:
        calls = PEERS[name](shape)
    except ImportError as error:
        raise LeftOutError(f"{name} is not installed: {error}") from error
    return {job: _with_inputs(call, job, library, shape) for job, call in calls.items()}


def _with_inputs(
    call: Callable[..., Any], job: str, library: Library, shape: tuple[int, int]
) -> Callable[[Any], Any]:
    inputs = [library.put(values) for values in inputs_of(job, shape)]
    return (lambda logits: call(logits, *inputs)) if inputs else call


def cases(_extent: Extent, library: Library) -> Iterator[Case]:
    """Yield the first calls of each library, which may compile for a minute."""
    for name in PEERS:
        yield Case(name, partial(_try_out, name, library))


def _try_out(name: str, library: Library) -> dict[str, Any]:
    import importlib

    calls = load(name, library, PROBE)
    logits = library.put(logits_of("peaked", PROBE))
    failed = {}
    for job, call in calls.items():
        try:
            call(logits)
            library.wait()
        except RuntimeError as error:
            failed[job] = str(error)
    version = getattr(importlib.import_module(name), "__version__", "of an unknown version")
    return {"version": version, "jobs": sorted(set(calls) - set(failed)), "failed": failed}

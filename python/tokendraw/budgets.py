# SPDX-License-Identifier: Apache-2.0
"""The budget table: what is timed, on which rows, beside what, and how long it may take.

Times are told as ratios to `np.max` over the same float32 rows, which reads every logit once and does next to
nothing with it: the floor. A ratio is the median over rounds in which everybody takes a turn, with its 95 %
interval. `tokendraw bench` prints the table; the benches of the repository add other libraries to the rounds.

Examples
--------
>>> job = JOBS["min_p"]
>>> rows = make_rows(job.rows, 1, 4096)
>>> call = job.prepare(rows.shape)
>>> int(call(rows)[0]) < 4096
True
"""

from __future__ import annotations

import inspect
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tokendraw as td

__all__ = [
    "BATCH",
    "FLOOR",
    "JOBS",
    "ROUNDS",
    "ROWS",
    "STEPS",
    "VOCAB",
    "Contestant",
    "Job",
    "Ratio",
    "copies",
    "floor_of",
    "is_cached",
    "machine",
    "make_rows",
    "present",
    "time_in_turn",
]

VOCAB = 128256
BATCH = 64
ROUNDS = 41
FLOOR = "np.max"

Rows = NDArray[np.float32]
Call = Callable[[Any], Any]

# --- Rows --------------------------------------------------------------------------------------------------


def _peaked(random: np.random.Generator, rows: int, vocab: int) -> Rows:
    """Like a model that has something to say: a few hundred tokens hold nearly all of the mass."""
    logits = random.normal(0, 2, (rows, vocab)).astype(np.float32)
    count = min(300, vocab // 4 + 1)
    likely = random.integers(0, vocab, (rows, count))
    heights = np.float32(18) - random.exponential(3, (rows, count)).astype(np.float32)
    np.put_along_axis(logits, likely, heights, 1)
    return logits


def _flat(random: np.random.Generator, rows: int, vocab: int) -> Rows:
    """Half of the vocabulary in the nucleus."""
    return random.normal(0, 1, (rows, vocab)).astype(np.float32)


def _tied(random: np.random.Generator, rows: int, vocab: int) -> Rows:
    """Few different values, each shared by thousands of tokens: what half types do to logits."""
    return np.round(random.normal(0, 2, (rows, vocab)) * 2).astype(np.float32) / np.float32(2)


def _heavy_tailed(random: np.random.Generator, rows: int, vocab: int) -> Rows:
    """Student's t with two degrees of freedom: maxima far away from everything else."""
    return random.standard_t(2, (rows, vocab)).astype(np.float32)


ROWS: dict[str, Callable[[np.random.Generator, int, int], Rows]] = {
    "peaked": _peaked,
    "flat": _flat,
    "tied": _tied,
    "heavy-tailed": _heavy_tailed,
}
"""How synthetic rows are made, by name."""


def make_rows(kind: str, rows: int, vocab: int = VOCAB) -> Rows:
    """Make synthetic logits: the same ones at every call.

    Parameters
    ----------
    kind : str
        A key of `ROWS`.
    rows, vocab : int
        The shape.

    Returns
    -------
    ndarray
        float32 `[rows, vocab]`.

    Examples
    --------
    >>> make_rows("flat", 2, 1000).shape
    (2, 1000)
    """
    return ROWS[kind](np.random.default_rng(1), rows, vocab)


# --- Jobs --------------------------------------------------------------------------------------------------


def _tokens(rows: int, vocab: int) -> NDArray[np.int64]:
    return np.random.default_rng(2).integers(0, vocab, rows)


def _scores(rows: int, vocab: int) -> NDArray[np.float32]:
    return -np.arange(1, rows + 1, dtype=np.float32)


_INPUTS: dict[str, Callable[[int, int], NDArray[Any]]] = {
    "token_logprobs": _tokens,
    "top_continuations": _scores,
}
"""What a function takes beside the logits."""


class Job(NamedTuple):
    """A line of the budget table.

    Attributes
    ----------
    title : str
        What a reader sees.
    function : str
        The function of `tokendraw` that does it; where there is none, the job is left out.
    rows : str
        The kind of rows it is judged on, a key of `ROWS`.
    parameters : mapping
        Its keyword arguments; one that depends on the shape is a function of rows and vocab.
    budgets : mapping
        By number of rows, how many times the time of `np.max` it may take; None where nothing was promised.
    lead : float or None
        How many times faster it has to be than the fastest other library.
    """

    title: str
    function: str
    rows: str
    parameters: Mapping[str, Any]
    budgets: Mapping[int, float | None]
    lead: float | None = None

    @property
    def is_present(self) -> bool:
        """Whether this version of tokendraw has the function, and the function these parameters."""
        function = getattr(td, self.function, None)
        return function is not None and set(self.parameters) <= set(inspect.signature(function).parameters)

    def inputs(self, shape: tuple[int, int]) -> tuple[NDArray[Any], ...]:
        """Return what the function takes beside logits of this shape."""
        return (_INPUTS[self.function](*shape),) if self.function in _INPUTS else ()

    def prepare(self, shape: tuple[int, int], threads: int = 1) -> Call:
        """Return the call that is timed: a function of logits `[rows, vocab]`."""
        function, inputs = getattr(td, self.function), self.inputs(shape)
        parameters = {name: value(*shape) if callable(value) else value for name, value in self._given}
        if not inputs:
            return partial(function, **parameters, threads=threads)
        return lambda logits: function(logits, *inputs, **parameters, threads=threads)

    @property
    def _given(self) -> Iterator[tuple[str, Any]]:
        yield from self.parameters.items()
        if self.function == "sample":
            yield "seed", 1


def present(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Return the jobs that this version of tokendraw can do.

    Examples
    --------
    >>> "greedy" in present(JOBS)
    True
    """
    return {name: job for name, job in jobs.items() if job.is_present}


JOBS = {
    "greedy": Job("greedy", "greedy", "peaked", {}, {1: 1.1, BATCH: 1.1}, 1.0),
    "temperature": Job(
        "temperature 0.8", "sample", "peaked", {"temperature": 0.8}, {1: 3.0, BATCH: 1.8}, 4.0
    ),
    "token_logprobs": Job("log-softmax + gather", "token_logprobs", "peaked", {}, {1: 3.0, BATCH: 1.8}, 2.5),
    "top_k": Job(
        "top_k 50", "sample", "peaked", {"temperature": 0.8, "top_k": 50}, {1: 1.7, BATCH: 1.5}, 2.5
    ),
    "top_p_peaked": Job(
        "top_p 0.95, peaked rows", "sample", "peaked", {"top_p": 0.95}, {1: 3.5, BATCH: 2.1}, 15.0
    ),
    "top_p_flat": Job("top_p 0.95, flat rows", "sample", "flat", {"top_p": 0.95}, {1: 7.0, BATCH: 4.5}, 15.0),
    "top_k_top_p": Job(
        "top_k 50 + top_p 0.95",
        "sample",
        "peaked",
        {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
        {1: 1.8, BATCH: 1.6},
        2.5,
    ),
    "min_p": Job("min_p 0.05", "sample", "peaked", {"min_p": 0.05}, {1: 1.7, BATCH: 1.5}, 4.0),
    "beam_step": Job("beam step, 8 of 4 x vocab", "top_continuations", "peaked", {"k": 8}, {4: 3.3}, 2.5),
}
"""The budget table, by name. A budget holds for one thread and a vocabulary of `VOCAB`."""


def _history(rows: int, vocab: int) -> NDArray[np.int32]:
    return np.random.default_rng(3).integers(0, vocab, (rows, 200), dtype=np.int32)


def _mask(rows: int, vocab: int) -> NDArray[np.bool_]:
    return np.random.default_rng(4).random((rows, vocab)) < 0.5


def _bitmask(rows: int, vocab: int) -> NDArray[np.int32]:
    words = -(-vocab // 32)
    bits = np.random.default_rng(4).integers(-(2**31), 2**31, (rows, words), dtype=np.int32)
    bits[:, -1] &= 2 ** (vocab % 32 or 31) - 1  # nothing is allowed past the vocab
    return bits


def _bias(rows: int, vocab: int) -> dict[int, float]:
    return dict.fromkeys(range(0, min(vocab, 2000), 20), -1.5)


def _step(title: str, rows: str = "peaked", **parameters: Any) -> Job:
    return Job(title, "sample", rows, parameters, {1: None, BATCH: None})


STEPS = {
    "mask": _step("mask, bool", mask=_mask),
    "bitmask": _step("mask, packed bits", mask=_bitmask),
    "bias": _step("bias of 100 tokens", bias=_bias),
    "repetition_penalty": _step("repetition penalty, 200 tokens", repetition_penalty=1.1, history=_history),
    "penalties": _step(
        "frequency and presence penalties", frequency_penalty=0.5, presence_penalty=0.5, history=_history
    ),
    "dry": _step("DRY, 200 tokens", dry_multiplier=0.8, history=_history),
    "min_tokens": _step("min_tokens", min_tokens=500, eos_token_id=2, history=_history),
    "typical": _step("typical_p 0.9", typical_p=0.9),
    "epsilon": _step("epsilon cutoff 3e-4", epsilon_cutoff=3e-4),
    "eta": _step("eta cutoff 3e-4", eta_cutoff=3e-4),
    "top_n_sigma": _step("top_n_sigma 1", top_n_sigma=1.0),
    "xtc": _step("XTC", xtc_probability=0.5, xtc_threshold=0.1),
}
"""The other steps: timed, but nothing was promised."""

# --- Ratios ------------------------------------------------------------------------------------------------


class Ratio(NamedTuple):
    """The median of the ratios of paired times, with its 95 % interval by order statistics."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float], floor: Sequence[float]) -> Ratio:
        """Compare two series that were timed in turn; what the longer one has more is left out.

        Examples
        --------
        >>> Ratio.of([2.0] * 7, [1.0] * 7)
        Ratio(low=2.0, median=2.0, high=2.0)
        """
        return cls._of_ordered(sorted(a / b for a, b in zip(seconds, floor, strict=False)))

    @classmethod
    def of_differences(cls, seconds: Sequence[float], floor: Sequence[float]) -> Ratio:
        """Return what one series takes longer than the other, in seconds."""
        return cls._of_ordered(sorted(a - b for a, b in zip(seconds, floor, strict=False)))

    @classmethod
    def _of_ordered(cls, ordered: Sequence[float]) -> Ratio:
        cut = _places_to_cut(len(ordered))
        return cls(ordered[cut], statistics.median(ordered), ordered[-1 - cut])

    def meets(self, budget: float) -> bool:
        """Return whether the interval includes the budget or lies below it.

        Examples
        --------
        >>> Ratio(1.4, 1.6, 1.7).meets(1.5)
        True
        """
        return self.low <= budget


def _places_to_cut(count: int) -> int:
    """Return how many ordered values lie outside of the median's 95 % interval on either side.

    The number of values below the median is binomial with p = 1/2. Below 6 values the interval is all there
    is, and its level is lower.
    """
    cut, tail = 0, 1.0
    while (tail + math.comb(count, cut + 1)) / 2.0**count <= 0.025:
        cut += 1
        tail += math.comb(count, cut)
    return cut


# --- Timing ------------------------------------------------------------------------------------------------

_CACHED_BYTES = 2**21
"""Up to here a batch is timed where it lies after being used; a larger one is read from memory."""

_SAMPLE_SECONDS = 5e-4
"""What is shorter is called several times for one reading of the clock."""

_LONG_SECONDS = 0.05
"""What is longer is not called once more to make its own caches warm."""

_FEWEST_ROUNDS = 7
"""So many a median with an interval needs."""


def is_cached(batch: Any) -> bool:
    """Return whether a batch is timed from the processor's caches rather than from memory.

    Examples
    --------
    >>> is_cached(np.zeros((1, 128256), np.float32)), is_cached(np.zeros((64, 128256), np.float32))
    (True, False)
    """
    return bool(batch.nbytes <= _CACHED_BYTES)


def _last_cache_bytes() -> int:
    """Return the size of the largest cache, where the system tells it."""
    units = {"K": 2**10, "M": 2**20}
    sizes = [2**25]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        if text[:-1].isdecimal() and text[-1] in units:
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes)


def copies(batch: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the batch, and of one from memory copies that together are twice as large as the largest cache.

    Examples
    --------
    >>> len(copies(np.zeros((1, 1000), np.float32)))
    1
    """
    if is_cached(batch):
        return [batch]
    # No more than a gigabyte: what is left of a cache that large is then a part of the answer.
    count = -(-min(2 * _last_cache_bytes(), 2**30) // batch.nbytes)
    return [batch, *(batch.copy() for _ in range(count))]


class Contestant:
    """A call and the batches it is timed on, each of them in turn.

    Parameters
    ----------
    call : callable
        Takes a batch.
    batches : sequence
        From `copies`.

    Attributes
    ----------
    seconds : list of float
        The time of a call, one value per round.

    Examples
    --------
    >>> rows = make_rows("flat", 1, 1000)
    >>> bool(Contestant(np.argmax, copies(rows)).run() == rows.argmax())
    True
    """

    def __init__(self, call: Call, batches: Sequence[Any]) -> None:
        self.seconds: list[float] = []
        self._call = call
        self._batches = cycle(batches)
        self._calls = 0
        self._is_long = False

    def run(self) -> Any:
        """Call it once, untimed, and return what it answers."""
        return self._call(next(self._batches))

    def take_turn(self) -> None:
        """Time it once, after an untimed call: what the one before left in the caches is no part of it."""
        if self._calls == 0:
            self._calibrate()
        elif not self._is_long:
            self.run()
        self.seconds.append(self._time(self._calls))

    @property
    def spent(self) -> float:
        """About how long its turns took, in seconds."""
        return sum(self.seconds) * (self._calls + (not self._is_long))

    def _calibrate(self) -> None:
        """Find how many calls make a sample. The first call may compile or allocate and does not count."""
        self.run()
        seconds = self._time(1)
        self._calls = max(1, math.ceil(_SAMPLE_SECONDS / seconds))
        self._is_long = seconds > _LONG_SECONDS

    def _time(self, calls: int) -> float:
        call = self._call
        batches = [next(self._batches) for _ in range(calls)]
        start = time.perf_counter()
        for batch in batches:
            call(batch)
        return (time.perf_counter() - start) / calls


def floor_of(batches: Sequence[Any]) -> Contestant:
    """Return the floor over float32 batches.

    Examples
    --------
    >>> floor_of(copies(make_rows("flat", 3, 1000))).run().shape
    (3,)
    """
    return Contestant(partial(np.max, axis=-1), batches)


def time_in_turn(
    contestants: Mapping[str, Contestant],
    rounds: int = ROUNDS,
    limits: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[int]:
    """Time everybody once per round, and yield after each round.

    Parameters
    ----------
    contestants : mapping
        By name; their `seconds` grow.
    rounds : int
        How many.
    limits : mapping
        Seconds by name, after which a slow one sits out the rest, when it took part in seven rounds.

    Yields
    ------
    int
        The number of rounds done.

    Examples
    --------
    >>> floor = floor_of(copies(make_rows("flat", 1, 1000)))
    >>> list(time_in_turn({"np.max": floor}, rounds=3))
    [1, 2, 3]
    >>> len(floor.seconds)
    3
    """
    for done in range(1, rounds + 1):
        for name, contestant in contestants.items():
            is_due = contestant.spent < limits.get(name, math.inf)
            if is_due or len(contestant.seconds) < _FEWEST_ROUNDS:
                contestant.take_turn()
        yield done


def machine() -> str:
    """Describe in one line what times were taken on, and how busy it is with other work.

    Examples
    --------
    >>> "NumPy" in machine()
    True
    """
    build = td.build_info()
    cache = f"{_last_cache_bytes() / 2**20:.0f} MiB of last-level cache"
    return (
        f"{_processor()}, {os.cpu_count()} processors, {cache}; Python {platform.python_version()},"
        f" NumPy {np.__version__}, tokendraw {build['version']} ({build['isa']}, {build['compiler']});"
        f" load average {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

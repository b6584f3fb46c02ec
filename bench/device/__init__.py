# SPDX-License-Identifier: Apache-2.0
"""The parts of `python -m bench.gpu`, and what they share: cases, each of which is one thing done on a GPU.

A part is a list of cases that a process of its own works through, writing a line about each: what a kernel
breaks is that case, and what a part has no time for is named.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tokendraw.budgets import ROWS

PARTS = ("machine", "peers", "tests", "agreement", "timing")


class Extent(NamedTuple):
    """What is compared and timed."""

    rows: tuple[int, ...] = (1, 8, 64, 512)
    vocabs: tuple[int, ...] = (128256, 32000, 262144)
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    kinds: tuple[str, ...] = tuple(ROWS)
    """Of rows that are compared; a job has its own."""
    rounds: int = 15
    calls: int = 10
    """Calls in one graph: to start a replay may take longer than a kernel."""
    every: int = 1
    """Of the kept draws, one batch in so many is drawn again; where that is not all, some rows of it."""


class Case(NamedTuple):
    """One thing that is done: its name, and what it found out as what JSON can hold."""

    name: str
    run: Callable[[], Mapping[str, Any]]


class LeftOutError(Exception):
    """Why a case cannot be done, which is nobody's failure."""

# SPDX-License-Identifier: Apache-2.0
"""How far something is, shown on a terminal and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["Advance", "progress_bar"]

Advance = Callable[[str, int], object]
"""Tells what is being done, and how much more of the total is done."""


@contextmanager
def progress_bar(total: int, stream: TextIO | None = None) -> Iterator[Advance]:
    """Show how far it is: a bar where rich is installed, a counter where it is not.

    Parameters
    ----------
    total : int
        How much there is to do, in any unit.
    stream : file, optional
        Where it is shown, if that is a terminal; by default standard error.

    Yields
    ------
    callable
        To be called with a title and how much more is done.

    Examples
    --------
    >>> from tokendraw.progress import progress_bar
    >>> with progress_bar(2) as advance:
    ...     for place in ("first", "second"):
    ...         _ = advance(place, 1)
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield lambda title, more: None
        return
    try:
        import rich.console
        import rich.progress
    except ImportError:
        yield _counter(total, stream)
        stream.write("\r\x1b[K")
        return
    console = rich.console.Console(file=stream)
    with rich.progress.Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda title, more: bar.update(task, description=title, advance=more)


def _counter(total: int, stream: TextIO) -> Advance:
    done = 0

    def advance(title: str, more: int) -> None:
        nonlocal done
        done += more
        stream.write(f"\r\x1b[K{100 * done // total:3} %  {title}")
        stream.flush()

    return advance

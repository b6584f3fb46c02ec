# SPDX-License-Identifier: Apache-2.0
"""`tokendraw score`: what the documents of files cost a model, as a table and as JSON lines."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tokendraw.corpus import CorpusProgress, CorpusScore, score_corpus
from tokendraw.options import add_model, positive
from tokendraw.progress import Advance, progress_bar

__all__ = ["add_options", "run", "table"]

_TOLD = 10  # so many skipped documents are named


class _Source(NamedTuple):
    """A file, by name, and its documents."""

    name: str
    documents: list[str]
    is_whole: bool

    @property
    def names(self) -> list[str]:
        """What its documents are called."""
        if self.is_whole:
            return [self.name]
        return [f"{self.name}:{number}" for number in range(1, len(self.documents) + 1)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tokendraw score`."""
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="UTF-8 text, documents separated by empty lines; - is stdin")
    add_model(parser)
    add("--whole", action="store_true", help="a file is one document")
    add("--context", type=positive, metavar="N", help="tokens before a token, at most (default: the model's)")
    add("--stride", type=positive, metavar="N", help="tokens that each window scores (default: context / 2)")
    add("--prefix", default="", metavar="TEXT", help="what each window begins with, not scored")
    add("--end", action="store_true", help="score the end of each document too")
    add("--batch-size", type=positive, default=16, metavar="N", help="windows read at once (default 16)")
    add("--skip-bad", action="store_true", help="skip documents that can not be encoded, and say which")
    add("--jsonl", metavar="OUT", help="write a line of JSON for each document as soon as it is finished")
    add("--per-token", action="store_true", help="write log-probability and rank of every token too")
    add("--resume", action="store_true", help="go on with OUT after an interruption")


def run(options: argparse.Namespace) -> None:
    """Score and print, as the options say.

    Parameters
    ----------
    options : Namespace
        What `add_options` adds.
    """
    from tokendraw.models import load

    if options.per_token and options.jsonl is None:
        raise ValueError("--per-token needs --jsonl, where to write them")
    sources = [_read(name, options.whole) for name in options.files]
    names = [name for source in sources for name in source.names]
    with _Shown(options.jsonl) as shown:
        found = score_corpus(
            load(options.model),
            [document for source in sources for document in source.documents],
            context=options.context,
            stride=options.stride,
            prefix=options.prefix,
            score_end=options.end,
            batch_size=options.batch_size,
            names=names,
            per_token=options.per_token,
            jsonl=options.jsonl,
            resume=options.resume,
            on_error="skip" if options.skip_bad else "raise",
            on_progress=shown.show,
        )
    sizes = [(source.name, len(source.documents)) for source in sources]
    print("\n".join([*table(found, sizes), *_remarks(found, names)]))


def _read(name: str, whole: bool) -> _Source:
    """Read a file; bytes that are no UTF-8 become what score_corpus refuses in their own document."""
    from tokendraw.models.train import documents_of

    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape").read()
    return _Source(name, [text.strip("\n")] if whole else documents_of(text), whole)


class _Shown:
    """A bar of tokens, and a word for whoever interrupts."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = path
        self._stack = ExitStack()
        self._advance: Advance | None = None
        self._last = CorpusProgress(0, 0, 0, 0)

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is KeyboardInterrupt and self._path is not None and self._last.num_documents:
            counts = f"{self._last.documents} of {self._last.num_documents}"
            print(f"tokendraw: {counts} documents are in {self._path}: --resume goes on", file=sys.stderr)

    def show(self, progress: CorpusProgress) -> None:
        """Show how far it is."""
        if self._advance is None:
            self._advance = self._stack.enter_context(progress_bar(max(1, progress.num_tokens)))
        title = f"{progress.documents} of {progress.num_documents} documents"
        self._advance(title, progress.tokens - self._last.tokens)
        self._last = progress


def table(found: CorpusScore, sources: Sequence[tuple[str, int]]) -> Iterator[str]:
    r"""Write what was measured as lines of text, one per file and their sum.

    Parameters
    ----------
    found : CorpusScore
        The documents of all files.
    sources : sequence of (str, int)
        The name of each file and how many documents it has.

    Yields
    ------
    str
        A line.

    Examples
    --------
    >>> from tokendraw import models, score_corpus
    >>> found = score_corpus(models.load("kjv"), ["Jesus wept.", "In the beginning God created the heaven."])
    >>> print("\n".join(table(found, [("text", 2)])))
    file  documents  tokens  bytes  bits/byte  bits/token  bits/word  perplexity
    text          2      20     51     1.5067      3.8422     8.5382       14.34
    """
    rows: list[tuple[str, ...]] = [
        ("file", "documents", "tokens", "bytes", "bits/byte", "bits/token", "bits/word", "perplexity")
    ]
    first = 0
    for name, count in sources:
        rows.append(_row(name, found.part(slice(first, first + count))))
        first += count
    if len(sources) > 1:
        rows.append(_row("all", found))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *figures in rows:
        right = (figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *right])


def _row(name: str, found: CorpusScore) -> tuple[str, ...]:
    size = 0 if found.num_bytes is None else int(found.num_bytes.sum())
    bits = (found.bits_per_byte, found.bits_per_token, found.bits_per_word)
    texts = [_figure(each, 4) for each in bits] + [_figure(found.perplexity, 2)]
    return (name, str(len(found) - len(found.skipped)), str(int(found.num_tokens.sum())), str(size), *texts)


def _figure(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"


def _remarks(found: CorpusScore, names: Sequence[str]) -> Iterator[str]:
    """Say what else is to be known of the figures."""
    if found.num_resumed:
        torn = " (a torn line was dropped)" if found.num_torn else ""
        yield f"{found.num_resumed} documents were known from an earlier run{torn}"
    if found.respelled:
        listed = _listed([names[place] for place in found.respelled])
        yield f"tokens stand for another text in {len(found.respelled)}: {listed}"
    if found.skipped:
        yield f"skipped {len(found.skipped)} of {len(found)} documents: " + _listed(
            [f"{names[place]}: {why}" for place, why in sorted(found.skipped.items())]
        )


def _listed(items: Sequence[str]) -> str:
    more = f"; and {len(items) - _TOLD} more" if len(items) > _TOLD else ""
    return "; ".join(items[:_TOLD]) + more

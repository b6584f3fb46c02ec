# SPDX-License-Identifier: Apache-2.0
"""The file of documents that were scored: JSON lines, added to as documents are finished, to go on from.

The first line says what the others depend on; a file is only continued where that is the same.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from tokendraw._core import log_softmax
from tokendraw.documents import Corpus
from tokendraw.scoring import ScoredRow

__all__ = ["Journal", "Record", "header_of"]

_FORMAT = "tokendraw-corpus-1"
_FIRST = b'{"format": "%s"' % _FORMAT.encode()
_PROBES = 16
_PROBE_TOLERANCE = 1e-3  # beyond what threads and processors change, and below what other weights do


class Record(NamedTuple):
    """A finished document, as a line of the file holds it."""

    document: int
    logprob: float
    skipped: str | None
    scored: ScoredRow | None


def header_of(
    model: Any, corpus: Corpus, settings: Mapping[str, Any], prefix: Sequence[int]
) -> dict[str, Any]:
    """Return what a file must have been begun with to be continued."""
    size = int(model.vocab_size)
    first = np.asarray(log_softmax(model.start([prefix])[1], on_invalid="mark"))[0]
    return {
        "format": _FORMAT,
        "vocab_size": size,
        "prefix": list(prefix),
        **settings,
        "num_documents": len(corpus.documents),
        "documents": corpus.digest,
        "model": [_as_json(first[place * size // _PROBES]) for place in range(_PROBES)],
    }


def _as_json(number: float) -> float | str:
    """Return a number that JSON can hold; those that it can not, as text that `float` reads."""
    return float(number) if math.isfinite(number) else str(float(number))


class Journal:
    """The file of finished documents: it is only ever added to, by whole lines. Without a path it is none."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        header: Mapping[str, Any],
        corpus: Corpus,
        resume: bool,
    ) -> None:
        self.records: dict[int, Record] = {}
        self.num_torn = 0
        self._corpus = corpus
        self._lengths = corpus.lengths
        self._file: Any = None
        if path is None:
            if resume:
                raise ValueError("resume needs jsonl, the file to go on with")
            return
        self._path = Path(path)
        if not self._path.exists():
            # Unbuffered: what was written is with the system, whatever becomes of this process.
            self._file = self._path.open("x+b", buffering=0)
        elif resume:
            self._file = self._path.open("r+b", buffering=0)
        else:
            raise FileExistsError(f"jsonl must be a new file where resume is not set, got {self._path}")
        try:
            self._continue(header)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _continue(self, header: Mapping[str, Any]) -> None:
        """Read what there is, drop a line that was not written to its end, and stand behind the rest."""
        *lines, torn = self._file.readall().split(b"\n")
        self.num_torn = int(torn != b"")
        if lines:
            self._check(self._parsed(lines[0], 1), header)
        elif not (_FIRST.startswith(torn) or torn.startswith(_FIRST)):
            raise ValueError(f"a file to resume must be one of score_corpus, got {self._path}")
        for number, line in enumerate(lines[1:], 2):
            record = self._record(self._parsed(line, number), number)
            self.records[record.document] = record
        self._file.seek(sum(len(line) + 1 for line in lines))
        self._file.truncate()
        if not lines:
            self._write_lines([header])

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"a file to resume must hold JSON lines, got {line[:40]!r} (line {number})")
        return found

    def _check(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """Raise ValueError unless a file was begun with the same documents, model and settings."""
        if found.get("format") != _FORMAT:
            raise ValueError(f"a file to resume must be one of score_corpus, got {self._path}")
        names = {"documents": "other documents", "model": "another model"}
        for name, value in header.items():
            theirs = found.get(name)
            is_same = _same_model(theirs, value) if name == "model" else theirs == value
            if not is_same:
                with_what = names.get(name, f"{name} {theirs}, not {value}")
                raise ValueError(f"{self._path} can not be resumed: it was begun with {with_what}")

    def _record(self, line: Mapping[str, Any], number: int) -> Record:
        place: Any = line.get("document")
        try:
            if place < 0 or self._lengths[place] != line["num_tokens"]:
                raise LookupError
            if "skipped" in line:
                return Record(place, math.nan, str(line["skipped"]), None)
            scored = None
            if "logprobs" in line:
                logprobs = np.array([float(each) for each in line["logprobs"]], dtype=np.float32)
                scored = ScoredRow(logprobs, np.array(line["ranks"], dtype=np.int64))
            return Record(place, float(line["logprob"]), None, scored)
        except (LookupError, TypeError, ValueError):
            raise ValueError(
                f"a line to resume must be a document of this run, got document {place!r} (line {number})"
            ) from None

    def write(self, records: Sequence[Record]) -> None:
        """Add finished documents."""
        if self._file is not None and records:
            self._write_lines([self._line(record) for record in records])

    def _line(self, record: Record) -> dict[str, Any]:
        document = self._corpus.documents[record.document]
        line: dict[str, Any] = {"document": record.document}
        if self._corpus.names is not None:
            line["name"] = self._corpus.names[record.document]
        line["num_tokens"] = len(document.tokens)
        if record.skipped is not None:
            return {**line, "skipped": record.skipped}
        line |= {"num_bytes": document.num_bytes, "num_words": document.num_words}
        line["logprob"] = _as_json(record.logprob)
        if record.scored is not None:
            line["logprobs"] = [_as_json(each) for each in record.scored.logprobs.tolist()]
            line["ranks"] = record.scored.ranks.tolist()
        return line

    def _write_lines(self, lines: Sequence[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
        while text:
            text = text[self._file.write(text) :]


def _same_model(theirs: Any, ours: Sequence[float | str]) -> bool:
    if not isinstance(theirs, list) or len(theirs) != len(ours):
        return False
    one, other = (np.array([float(each) for each in each_side]) for each_side in (theirs, ours))
    return bool(np.allclose(one, other, rtol=0.0, atol=_PROBE_TOLERANCE, equal_nan=True))

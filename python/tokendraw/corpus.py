# SPDX-License-Identifier: Apache-2.0
"""What a model makes of many texts: windows over long ones, batches of like lengths, a file to resume from.

Documents are read in an order and in batches that depend on the documents and the settings alone, so that a
run that was interrupted and continued ends with the bits of one that was not.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tokendraw.corpus_file import Journal, Record, header_of
from tokendraw.documents import Corpus
from tokendraw.errors import InvalidLogitsError
from tokendraw.prompts import Prompt, as_batch, encode_prompt, end_tokens, integer
from tokendraw.scoring import Row, ScoredRow, check_on_invalid, score_rows

if TYPE_CHECKING:
    from tokendraw.models.base import Model

__all__ = ["CorpusProgress", "CorpusScore", "Window", "score_corpus", "windows"]

OnInvalid: TypeAlias = Literal["raise", "mark"]
Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

# The memory of a model whose rows have a limit grows with every token that it reads: some 50 KB for each of
# these where it has a hundred million weights.
_TOKENS_AT_ONCE = 1 << 13


@dataclass(frozen=True, slots=True, eq=False)
class CorpusScore:
    """How probable documents are, one value per document in their order.

    Attributes
    ----------
    logprobs : ndarray, float64 [documents]
        The log-probability of each document, in nats; NaN where it was skipped.
    num_tokens : ndarray, int64 [documents]
        How many tokens were scored; 0 where the document was skipped, as in the next two.
    num_bytes, num_words : ndarray, int64 [documents], or None
        UTF-8 bytes of the text, and its words, separated by white space; None where the model has no
        tokenizer.
    skipped : dict of int to str
        Why documents were skipped, by their places.
    respelled : tuple of int
        Documents whose tokens stand for another text than the one given, because the tokenizer lacks a
        character or adds a space. They are scored, and the bytes are those of the text given.
    token_logprobs, token_ranks : list of ndarray [tokens], or None
        Log-probability (float32) and rank (int64) of every token, in the order in which the model reads;
        None unless `per_token` asked for it.
    num_resumed : int
        How many documents an earlier run had finished.
    num_torn : int
        How many torn lines were dropped from the end of its file, 0 or 1.

    Examples
    --------
    >>> import tokendraw as td
    >>> found = td.score_corpus(td.models.load("kjv"), ["Jesus wept.", "And God said, Let there be light"])
    >>> found.num_tokens, found.num_bytes
    (array([ 6, 10]), array([11, 32]))
    >>> (found.bits / found.num_bytes).round(2), round(found.bits_per_byte, 2)
    (array([2.27, 1.23]), 1.5)
    """

    logprobs: Floats
    num_tokens: Integers
    num_bytes: Integers | None
    num_words: Integers | None
    skipped: dict[int, str]
    respelled: tuple[int, ...] = ()
    token_logprobs: list[NDArray[np.float32]] | None = None
    token_ranks: list[Integers] | None = None
    num_resumed: int = 0
    num_torn: int = 0

    def __len__(self) -> int:
        """Return the number of documents, skipped ones included."""
        return len(self.logprobs)

    @property
    def bits(self) -> Floats:
        """What each document costs in bits; NaN where it was skipped."""
        return 0.0 - self.logprobs / math.log(2)

    @property
    def logprob(self) -> float:
        """The log-probability of all documents that were not skipped."""
        return float(self.logprobs[~np.isnan(self.logprobs)].sum())

    @property
    def bits_per_token(self) -> float:
        """Bits of all documents over their tokens; NaN where there is none, as in the next ones."""
        return self._bits_per(self.num_tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits of all documents over the bytes of their texts: the figure that compares tokenizers."""
        return self._bits_per(self.num_bytes)

    @property
    def bits_per_word(self) -> float:
        """Bits of all documents over their words."""
        return self._bits_per(self.num_words)

    @property
    def perplexity(self) -> float:
        """Two to the power of `bits_per_token`: between how many equal tokens the model is undecided."""
        try:
            return math.exp(self.bits_per_token * math.log(2))
        except OverflowError:
            return math.inf

    def _bits_per(self, counts: Integers | None) -> float:
        total = 0 if counts is None else int(counts.sum())
        return (0.0 - self.logprob / math.log(2)) / total if total else math.nan

    def part(self, documents: slice | Sequence[int] | NDArray[Any]) -> CorpusScore:
        """Return the same of some documents: those of one language, or of one file.

        Parameters
        ----------
        documents : slice, sequence of int or ndarray
            Which, as an index of an array.
        """
        places = np.arange(len(self))[documents]
        new = {int(place): number for number, place in enumerate(places)}

        def those(values: Any) -> Any:
            return None if values is None else [values[place] for place in places]

        return dataclasses.replace(
            self,
            logprobs=self.logprobs[places],
            num_tokens=self.num_tokens[places],
            num_bytes=None if self.num_bytes is None else self.num_bytes[places],
            num_words=None if self.num_words is None else self.num_words[places],
            skipped={new[place]: why for place, why in self.skipped.items() if place in new},
            respelled=tuple(new[place] for place in self.respelled if place in new),
            token_logprobs=those(self.token_logprobs),
            token_ranks=those(self.token_ranks),
        )


class CorpusProgress(NamedTuple):
    """How far the scoring of documents has come.

    Attributes
    ----------
    documents, num_documents : int
        How many are finished, and of how many.
    tokens, num_tokens : int
        How many tokens are scored, and of how many; those of an earlier run are among both.
    """

    documents: int
    num_documents: int
    tokens: int
    num_tokens: int


def score_corpus(
    model: Model[Any],
    documents: Prompt | Iterable[Prompt],
    *,
    context: int | None = None,
    stride: int | None = None,
    prefix: Prompt = "",
    score_end: bool = False,
    batch_size: int = 16,
    names: Sequence[str] | None = None,
    per_token: bool = False,
    jsonl: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    on_invalid: OnInvalid | None = None,
    on_progress: Callable[[CorpusProgress], object] | None = None,
) -> CorpusScore:
    """Return how probable documents are, and what they cost per byte, token and word.

    Every token of every document is scored once. A document that is longer than the context of the model is
    read in windows that overlap, so that each token has at least ``context - stride`` tokens before it, or
    all that there are; a shorter one is read whole.

    Parameters
    ----------
    model : Model
        Any object with `start`, `step` and `select`, see `tokendraw.models.base.Model`; with `extend` it
        reads many tokens at once.
    documents : iterable of str or of sequences of int, or one of these
        Texts, or token ids. All of them are encoded before the model runs.
    context : int, optional
        The most tokens, `prefix` included, that come before any token. By default the model's
        `context_length`; a model without reads its documents whole.
    stride : int, optional
        How many tokens each window after the first scores, from 1, where every token has as much context as
        there may be, to all that fit, where windows do not overlap. By default half of the context.
    prefix : str or sequence of int, default ""
        What every window begins with, and is not scored; the empty one is the model's first token. It is
        encoded apart from the documents.
    score_end : bool, default False
        If true, the end of each document is scored too, as one more token, the model's `eos_token_id`: what
        is counted is then what it takes to tell the documents apart.
    batch_size : int, default 16
        The most windows that the model reads at once; fewer where they are long and the model has a
        `context_length`, because its memory of a row grows with what it has read.
    names : sequence of str, optional
        One per document, for messages and the file.
    per_token : bool, default False
        If true, log-probability and rank of every token are kept, and written.
    jsonl : path, optional
        A file of JSON lines to write: a header, then one line per document as soon as it is finished. An
        interrupted run loses no document that it holds.
    resume : bool, default False
        If true and the file exists, what it holds is not computed again. The documents, the model and the
        settings must be those it was begun with, but for `batch_size`.
    on_error : {"raise", "skip"}, default "raise"
        What follows a document that can not be encoded: text that is no UTF-8 (lone surrogates, which stand
        for undecodable bytes of a file that was read with ``errors="surrogateescape"``), characters that the
        tokenizer refuses, ids outside the vocabulary.
    on_invalid : {"raise", "mark"}, optional
        What follows a row of logits with NaN or +inf: None and "raise" raise `InvalidLogitsError`, after the
        other documents of its batches were scored and written; with "mark" the document is skipped.
    on_progress : callable, optional
        Called with a `CorpusProgress` at the start and after every batch.

    Returns
    -------
    CorpusScore
        Values per document, in their order, and totals. Documents without a token are among the skipped.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> documents = ["In the beginning God created the heaven and the earth.", "Jesus wept."]
    >>> found = td.score_corpus(model, documents)
    >>> found.logprobs.round(1), round(found.bits_per_byte, 2), round(found.perplexity, 1)
    (array([-40.6, -17.3]), 1.28, 12.4)

    In windows, one token at a time after the first eight, written to a file:

    >>> found = td.score_corpus(model, documents, context=8, stride=1, jsonl="scores.jsonl")
    >>> again = td.score_corpus(model, documents, context=8, stride=1, jsonl="scores.jsonl", resume=True)
    >>> again.num_resumed, (again.logprobs == found.logprobs).all()
    (2, np.True_)
    """
    marks = check_on_invalid(on_invalid)
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    settings = _Settings.of(model, context, stride, prefix, integer("batch_size", batch_size, least=1))
    end = _end_token(model) if score_end else None
    given: list[Any] = as_batch(cast("Any", documents if isinstance(documents, Sized) else list(documents)))
    if names is not None and len(names) != len(given):
        raise ValueError(f"names must be one per document ({len(given)}), got {len(names)}")
    corpus = Corpus.of(model, given, end, names, skips=on_error == "skip")
    fixed = {**settings.header(), "end": end, "per_token": bool(per_token)}
    header = {} if jsonl is None else header_of(model, corpus, fixed, settings.prefix)
    with Journal(jsonl, header, corpus, resume) as journal:
        run = _Run(model, corpus, settings, journal, per_token, marks)
        run.go(on_progress or (lambda progress: None))
    return _result(corpus, run.records, journal, per_token)


# --- Windows -----------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """Tokens [begin, end) of a document, scored after its tokens [first, begin)."""

    first: int
    begin: int
    end: int


def windows(length: int, capacity: int | None, stride: int) -> Iterator[Window]:
    """Yield the windows over a document, of which each reads at most `capacity` tokens; None is no limit.

    The last token of a window is scored and not read, so the first one scores a token more than it reads.

    Examples
    --------
    >>> list(windows(9, 4, 2))
    [Window(first=0, begin=0, end=5), Window(first=2, begin=5, end=7), Window(first=4, begin=7, end=9)]
    """
    end = length if capacity is None else min(length, capacity + 1)
    if length:
        yield Window(0, 0, end)
    while capacity is not None and end < length:
        begin, end = end, min(length, end + stride)
        yield Window(end - 1 - capacity, begin, end)


class _Settings(NamedTuple):
    """How documents are cut into windows, and windows put together."""

    prefix: list[int]
    context: int | None
    stride: int
    batch_size: int
    is_limited: bool

    @classmethod
    def of(
        cls, model: Any, context: int | None, stride: int | None, prefix: Prompt, batch_size: int
    ) -> _Settings:
        start = _prefix_tokens(model, prefix)
        limit = getattr(model, "context_length", None)
        if context is None:
            context = limit
        if context is None:
            if stride is not None:
                raise ValueError(f"stride needs a context, got {stride} alone")
            return cls(start, None, 1, batch_size, is_limited=False)
        if limit is not None and len(start) > limit:
            raise ValueError(f"prefix must have at most {limit} tokens for this model, got {len(start)}")
        above = None if limit is None else int(limit) + 1
        context = integer("context", context, least=len(start), limit=above)
        longest = context - len(start) + 1
        if stride is None:
            stride = max(1, min(context // 2, longest))
        stride = integer("stride", stride, least=1, limit=longest + 1)
        return cls(start, context, stride, batch_size, is_limited=limit is not None)

    @property
    def capacity(self) -> int | None:
        """How many tokens of a document a window reads."""
        return None if self.context is None else self.context - len(self.prefix)

    def header(self) -> dict[str, int | None]:
        """Return what the result depends on, beside the prefix."""
        return {"context": self.context, "stride": self.stride}

    def windows(self, length: int) -> list[Window]:
        return list(windows(length, self.capacity, self.stride))

    def rows_at_once(self, length: int) -> int:
        """Return how many windows of documents of this length are read together."""
        if not self.is_limited or self.context is None:
            return self.batch_size
        return min(self.batch_size, max(1, _TOKENS_AT_ONCE // min(self.context, len(self.prefix) + length)))

    def groups(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield documents that are finished together: shorter ones first, as many as fill a batch."""
        group: list[int] = []
        count = 0
        for place in sorted(
            (place for place, length in enumerate(lengths) if length), key=lengths.__getitem__
        ):
            own = len(self.windows(lengths[place]))
            if group and count + own > self.rows_at_once(lengths[place]):
                yield group
                group, count = [], 0
            group.append(place)
            count += own
        if group:
            yield group


def _prefix_tokens(model: Any, prefix: Prompt) -> list[int]:
    """Return what every window begins with, the token included that the model itself puts first."""
    first = getattr(model, "bos_token_id", None)
    tokens = [] if isinstance(prefix, str) and prefix == "" else encode_prompt(model, prefix, 0)
    if not tokens and first is None:
        raise ValueError("prefix must not be empty for a model without bos_token_id")
    always = getattr(model, "begins_with_bos", False)
    if first is not None and (not tokens or (always and tokens[0] != first)):
        tokens = [int(first), *tokens]
    return tokens


def _end_token(model: Model[Any]) -> int:
    ends = end_tokens(model, None)
    if not ends:
        raise ValueError("score_end needs a model with eos_token_id")
    return ends[0]


# --- The run -----------------------------------------------------------------------------------------------


class _Run:
    """Scores what the journal does not hold, group by group, and hands each group to the journal."""

    def __init__(
        self,
        model: Model[Any],
        corpus: Corpus,
        settings: _Settings,
        journal: Journal,
        per_token: bool,
        marks: bool,
    ) -> None:
        self._model = model
        self._corpus = corpus
        self._settings = settings
        self._journal = journal
        self._per_token = per_token
        self._marks = marks
        self._lengths = corpus.lengths
        self.records = dict(journal.records)

    def go(self, report: Callable[[CorpusProgress], object]) -> None:
        tokens, of_tokens = sum(self._lengths[place] for place in self.records), sum(self._lengths)

        def tell() -> None:
            report(CorpusProgress(len(self.records), len(self._lengths), tokens, of_tokens))

        skipped = self._corpus.skipped
        self._keep(Record(place, math.nan, skipped[place], None) for place in self._missing(skipped))
        tell()
        for group in self._settings.groups(self._lengths):
            wanted = self._missing(group)
            if not wanted:
                continue
            found = {place: ScoredRow.empty(self._lengths[place]) for place in group}
            for batch in self._batches(group):
                self._score(batch, found)
                tokens += sum(window.end - window.begin for place, window in batch if place in wanted)
                tell()
            self._finish({place: found[place] for place in wanted})
            tell()

    def _missing(self, places: Iterable[int]) -> list[int]:
        return [place for place in places if place not in self.records]

    def _batches(self, group: Sequence[int]) -> Iterator[list[tuple[int, Window]]]:
        """Yield the windows of documents in batches of nearly equal size, like lengths together."""
        own = [(place, window) for place in group for window in self._settings.windows(self._lengths[place])]
        own.sort(key=lambda each: each[1].end - each[1].first)
        count = -(-len(own) // self._settings.rows_at_once(self._lengths[group[-1]]))
        for part in range(count):
            yield own[part * len(own) // count : (part + 1) * len(own) // count]

    def _score(self, batch: Sequence[tuple[int, Window]], found: Mapping[int, ScoredRow]) -> None:
        rows = [self._row(*each) for each in batch]
        for (place, window), scored in zip(batch, score_rows(self._model, rows), strict=True):
            found[place].logprobs[window.begin : window.end] = scored.logprobs
            found[place].ranks[window.begin : window.end] = scored.ranks

    def _row(self, place: int, window: Window) -> Row:
        tokens = self._corpus.documents[place].tokens
        before = tokens[window.first : window.begin].tolist()
        return Row([*self._settings.prefix, *before], tokens[window.begin : window.end].tolist())

    def _finish(self, found: Mapping[int, ScoredRow]) -> None:
        """Keep what was found; raise InvalidLogitsError for documents that met invalid logits."""
        invalid = {
            place: scored.first_invalid for place, scored in found.items() if scored.first_invalid >= 0
        }
        valid = [
            Record(place, scored.total, None, scored if self._per_token else None)
            for place, scored in found.items()
            if place not in invalid
        ]
        if not invalid or self._marks:
            marked = [
                Record(place, math.nan, f"invalid logits for token {token}", None)
                for place, token in invalid.items()
            ]
            self._keep([*valid, *marked])
            return
        self._keep(valid)
        place, token = min(invalid.items())
        raise InvalidLogitsError(
            f"logits must hold no NaN and no +inf, and something finite, got others for token {token}"
            f"{self._corpus.where(place)}",
            rows=sorted(invalid),
        )

    def _keep(self, found: Iterable[Record]) -> None:
        new = list(found)
        self._journal.write(new)
        self.records |= {record.document: record for record in new}


def _result(corpus: Corpus, records: Mapping[int, Record], journal: Journal, per_token: bool) -> CorpusScore:
    """Put records of any order in the order of the documents."""
    ordered = [records[place] for place in range(len(corpus.documents))]
    scored = [record.skipped is None for record in ordered]

    def counts(values: Iterable[int | None]) -> Integers | None:
        known = [value if is_scored else 0 for value, is_scored in zip(values, scored, strict=True)]
        return None if None in known else np.array(known, dtype=np.int64)

    documents = corpus.documents
    tokens = [record.scored or ScoredRow.empty() for record in ordered]
    return CorpusScore(
        np.array([record.logprob for record in ordered], dtype=np.float64),
        np.array(corpus.lengths, dtype=np.int64) * np.array(scored, dtype=np.int64),
        counts(document.num_bytes for document in documents),
        counts(document.num_words for document in documents),
        {record.document: record.skipped for record in ordered if record.skipped is not None},
        tuple(place for place, document in enumerate(documents) if document.is_respelled and scored[place]),
        [each.logprobs for each in tokens] if per_token else None,
        [each.ranks for each in tokens] if per_token else None,
        len(journal.records),
        journal.num_torn,
    )

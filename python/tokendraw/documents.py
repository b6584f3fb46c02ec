# SPDX-License-Identifier: Apache-2.0
"""Documents as a model reads them: their tokens, the sizes of their texts, and why some are skipped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokendraw.models.base import integers
from tokendraw.prompts import tokenizer_of

if TYPE_CHECKING:
    from tokendraw.models.base import Model

__all__ = ["Corpus", "Document"]

_EMPTY = "empty"


class Document(NamedTuple):
    """A document as the model reads it; what is not known of its text is None."""

    tokens: NDArray[np.int64]
    num_bytes: int | None
    num_words: int | None
    is_respelled: bool = False


class Corpus(NamedTuple):
    """All documents; those that are skipped have no tokens."""

    documents: list[Document]
    skipped: dict[int, str]
    names: Sequence[str] | None

    @classmethod
    def of(
        cls,
        model: Model[Any],
        given: Sequence[Any],
        end: int | None,
        names: Sequence[str] | None,
        skips: bool,
    ) -> Corpus:
        """Encode documents; raise ValueError for one that can not be, or skip it."""
        nothing = Document(np.empty(0, dtype=np.int64), 0, 0)
        corpus = cls([], {}, names)
        for place, each in enumerate(given):
            _check_kind(model, each, corpus.where(place))
            try:
                document = _encoded(model, each, end)
            except ValueError as error:
                if not skips:
                    raise ValueError(f"{error}{corpus.where(place)}") from None
                document, corpus.skipped[place] = nothing, str(error)
            else:
                if not document.tokens.size:
                    corpus.skipped[place] = _EMPTY
            corpus.documents.append(document)
        return corpus

    def where(self, place: int) -> str:
        """Return the end of a message about a document."""
        return f" (document {place}{'' if self.names is None else f', {self.names[place]}'})"

    @property
    def lengths(self) -> list[int]:
        """How many tokens the documents have."""
        return [len(document.tokens) for document in self.documents]

    @property
    def digest(self) -> str:
        """A value that other tokens would not have."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(np.int64(len(document.tokens)).tobytes() + document.tokens.tobytes())
        return digest.hexdigest()


def _check_kind(model: Model[Any], document: Any, where: str) -> None:
    """Raise where no document like this can be encoded, whatever it holds."""
    if isinstance(document, str):
        if tokenizer_of(model) is None:
            raise ValueError(f"a text document needs a model with a tokenizer, got {document[:40]!r}{where}")
    elif isinstance(document, bytes) or np.ndim(document) != 1:
        raise TypeError(f"a document must be text or token ids, got {document!r}{where}")


def _encoded(model: Model[Any], document: Any, end: int | None) -> Document:
    tokenizer = tokenizer_of(model)
    ends = [] if end is None else [end]
    if not isinstance(document, str):
        tokens = integers(document, "document tokens", 0, int(model.vocab_size))
        whole = np.append(tokens, ends).astype(np.int64)
        if tokenizer is None:
            return Document(whole, None, None)
        size = sum(len(tokenizer.token_bytes(token)) for token in tokens.tolist())
        return Document(whole, size, len(tokenizer.decode(tokens.tolist()).split()))
    assert tokenizer is not None, "the kind was checked"
    size = len(_as_utf8(document))
    try:
        ids = list(tokenizer.encode(document))
    except (LookupError, ValueError) as error:
        raise ValueError(f"the tokenizer must know every character of a document, got {error!r}") from None
    respelled = tokenizer.decode(ids) != document
    return Document(
        np.array([*ids, *ends], dtype=np.int64), size, len(document.split()), is_respelled=respelled
    )


def _as_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        wrong = text[error.start : error.end]
        is_escaped = all("\udc80" <= character <= "\udcff" for character in wrong)
        got = wrong.encode("utf-8", "surrogateescape") if is_escaped else wrong
        place = "its end" if error.end == len(text) else f"character {error.start}"
        raise ValueError(f"a document must be UTF-8 text, got {got!r} at {place}") from None

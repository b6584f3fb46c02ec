# SPDX-License-Identifier: Apache-2.0
"""Byte-level byte-pair encoding, trained and run without any library.

Token ids are, in this order: the 256 bytes, the document separator, one id per merge.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["SEPARATOR", "Tokenizer"]

SEPARATOR = 256
"""Id of the document separator, which stands for no text."""

_FIRST_MERGE = SEPARATOR + 1
_CACHED_WORDS = 1 << 16

# Merges never cross the borders of these words. Every byte matches one branch, bytes of non-ASCII
# characters count as letters, and the cap on the length keeps encoding linear in the text.
_WORD = re.compile(
    rb" ?[A-Za-z\x80-\xff]{1,64}| ?[0-9]{1,64}| ?[^\sA-Za-z0-9\x80-\xff]{1,64}|\s{1,64}(?!\S)|\s"
)

Pair = tuple[int, int]


def _merge(parts: Sequence[int], pair: Pair, token: int) -> list[int]:
    """Replace each occurrence of `pair` in `parts`, from the left, by `token`."""
    merged: list[int] = []
    place, last = 0, len(parts) - 1
    while place <= last:
        if place < last and parts[place] == pair[0] and parts[place + 1] == pair[1]:
            merged.append(token)
            place += 2
        else:
            merged.append(parts[place])
            place += 1
    return merged


class _PairCounts:
    """Counts of adjacent pairs over distinct words, kept up to date while pairs are merged."""

    def __init__(self, texts: Iterable[str]) -> None:
        words = Counter(word for text in texts for word in _WORD.findall(text.encode()))
        self._parts = [list(word) for word in words]
        self._repeats = list(words.values())
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for word in range(len(self._parts)):
            self._add(word, self._repeats[word])

    def _add(self, word: int, times: int) -> None:
        parts = self._parts[word]
        for pair in pairwise(parts):
            self._counts[pair] += times
            self._places[pair].add(word)

    def most_frequent(self) -> Pair | None:
        """Return the most frequent pair, of equal ones the smallest; None if no pair occurs twice."""
        if not self._counts:
            return None
        pair = min(self._counts, key=lambda pair: (-self._counts[pair], pair))
        return pair if self._counts[pair] > 1 else None

    def merge(self, pair: Pair, token: int) -> None:
        """Replace `pair` by `token` in every word."""
        for word in self._places.pop(pair):
            self._add(word, -self._repeats[word])
            self._parts[word] = _merge(self._parts[word], pair, token)
            self._add(word, self._repeats[word])
        del self._counts[pair]


class Tokenizer:
    """A byte-level BPE tokenizer.

    Parameters
    ----------
    merges : sequence of (int, int)
        The pairs of ids that were merged, in order; the first one has id 257.
    right_to_left : bool, default False
        If true, sequences of ids are read from the end of the text to its start: `encode` returns the
        last token first and `decode` expects it first. Models that predict the previous token use this.

    Examples
    --------
    >>> tokenizer = Tokenizer.train(["the theme of the thesis"], vocab_size=260)
    >>> [tokenizer.token_bytes(token) for token in tokenizer.encode("the thesis")]
    [b'the', b' the', b's', b'i', b's']
    >>> tokenizer.decode(tokenizer.encode("any text: ça, 文"))
    'any text: ça, 文'
    """

    def __init__(self, merges: Sequence[Pair], *, right_to_left: bool = False) -> None:
        self.merges: tuple[Pair, ...] = tuple((int(left), int(right)) for left, right in merges)
        self.right_to_left = right_to_left
        self._bytes = [bytes([value]) for value in range(256)] + [b""]
        for token, (left, right) in enumerate(self.merges, start=_FIRST_MERGE):
            if not (0 <= left < token and 0 <= right < token and SEPARATOR not in (left, right)):
                raise ValueError(f"a merge joins two earlier tokens, got {(left, right)} for token {token}")
            self._bytes.append(self._bytes[left] + self._bytes[right])
        self._ids = {pair: token for token, pair in enumerate(self.merges, start=_FIRST_MERGE)}
        self._cache: dict[bytes, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 1024) -> Tokenizer:
        """Learn merges from texts.

        The result depends only on the texts' words and their counts: of equally frequent pairs the one
        with the smaller ids is merged first.

        Parameters
        ----------
        texts : iterable of str
            The texts to learn from, for example documents.
        vocab_size : int, default 1024
            Ids wanted, at least 257; fewer are made when no pair of the texts occurs twice.

        Returns
        -------
        Tokenizer
            The trained tokenizer, left to right.
        """
        if vocab_size < _FIRST_MERGE:
            raise ValueError(f"vocab_size must be at least {_FIRST_MERGE}, got {vocab_size}")
        counts = _PairCounts(texts)
        merges: list[Pair] = []
        while _FIRST_MERGE + len(merges) < vocab_size and (pair := counts.most_frequent()):
            counts.merge(pair, _FIRST_MERGE + len(merges))
            merges.append(pair)
        return cls(merges)

    @property
    def vocab_size(self) -> int:
        """Number of ids, the separator included."""
        return len(self._bytes)

    def reversed(self) -> Tokenizer:
        """Return a tokenizer with the same ids that reads in the other direction.

        Examples
        --------
        >>> tokenizer = Tokenizer([])
        >>> tokenizer.reversed().encode("abc")
        [99, 98, 97]
        >>> tokenizer.reversed().decode([99, 98, 97])
        'abc'
        """
        return Tokenizer(self.merges, right_to_left=not self.right_to_left)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; the separator is never among them.

        Parameters
        ----------
        text : str
            Any text that UTF-8 can express (no lone surrogates).

        Returns
        -------
        list of int
            Ids whose bytes, joined in the direction of reading, are the UTF-8 text.
        """
        return self.encode_bytes(text.encode())

    def encode_bytes(self, data: bytes) -> list[int]:
        r"""Return the ids of any bytes, valid UTF-8 or not.

        Examples
        --------
        >>> Tokenizer([]).encode_bytes(b"a\xff")
        [97, 255]
        """
        cache = self._cache
        ids: list[int] = []
        for word in _WORD.findall(data):
            ids += cache[word] if word in cache else self._encode_word(word)
        return ids[::-1] if self.right_to_left else ids

    def _encode_word(self, word: bytes) -> list[int]:
        parts = list(word)
        while len(parts) > 1:
            found = [self._ids[pair] for pair in pairwise(parts) if pair in self._ids]
            if not found:
                break
            first = min(found)
            parts = _merge(parts, self.merges[first - _FIRST_MERGE], first)
        if len(self._cache) < _CACHED_WORDS:
            self._cache[word] = parts
        return parts

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes one id stands for; none for the separator.

        Raises
        ------
        ValueError
            If the id is not in the vocabulary.
        """
        if not 0 <= token < len(self._bytes):
            raise ValueError(f"token ids must be in [0, {len(self._bytes)}), got {token}")
        return self._bytes[token]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that ids stand for."""
        parts = [self.token_bytes(token) for token in ids]
        return b"".join(reversed(parts) if self.right_to_left else parts)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, with U+FFFD where the bytes are not UTF-8.

        Examples
        --------
        >>> Tokenizer([]).decode([72, 105, 0xC3, SEPARATOR]) == "Hi" + chr(0xFFFD)
        True
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

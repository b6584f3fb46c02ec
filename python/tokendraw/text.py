# SPDX-License-Identifier: Apache-2.0
"""Text that grows token by token: characters split over tokens, and stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tokendraw.models.base import Tokenizer

__all__ = ["TextStream"]


class _Decoder(Protocol):
    def decode(self, data: bytes, final: bool = False, /) -> str: ...


class _LeftwardDecoder:
    """UTF-8 whose bytes arrive from the right: continuation bytes wait for the byte that leads them."""

    _LONGEST_TAIL = 3

    def __init__(self) -> None:
        self._tail = b""

    def decode(self, data: bytes, final: bool = False, /) -> str:
        data += self._tail
        cut = 0 if final else self._tail_length(data)
        self._tail = data[:cut]
        return data[cut:].decode("utf-8", errors="replace")

    def _tail_length(self, data: bytes) -> int:
        beginning = data[: self._LONGEST_TAIL]
        lead = (place for place, byte in enumerate(beginning) if byte & 0xC0 != 0x80)
        return next(lead, len(beginning))


class _StopFinder:
    """Pass text on until a stop string is complete, holding back what may become one.

    The first stop string to be complete counts, of those that end together the longest: so the result
    does not depend on how the text is cut into tokens.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.found = False
        self._stop = stop
        self._held = ""

    def push(self, text: str, last: bool) -> str:
        text = self._held + text
        ends = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if ends:
            self.found = True
            return text[: min(ends)[1]]
        certain = len(text) if last else len(text) - self._beginning_length(text)
        self._held = text[certain:]
        return text[:certain]

    def _beginning_length(self, text: str) -> int:
        """Return the length of the longest end of the text that a stop string begins with."""
        longest = min(len(text), max(map(len, self._stop), default=1) - 1)
        lengths = range(longest, 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in self._stop)), 0)


class TextStream:
    """The text of tokens that arrive one at a time.

    Pieces hold whole characters only, and nothing that may turn out to belong to a stop string. Where the
    tokenizer reads from right to left (its attribute ``right_to_left`` is true) each piece comes before
    the text so far.

    Parameters
    ----------
    tokenizer : Tokenizer
        Gives the bytes of a token.
    stop : sequence of str
        Strings that end the text; they are not part of it.

    Examples
    --------
    >>> class Bytes:
    ...     def token_bytes(self, token):
    ...         return bytes([token])
    >>> stream = TextStream(Bytes(), stop=["END"])
    >>> [stream.push(token) for token in "né.E".encode()]
    ['n', '', 'é', '.', '']
    >>> [stream.push(token) for token in b"ND"], stream.stopped, stream.text
    (['', ''], True, 'né.')
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._leftward = bool(getattr(tokenizer, "right_to_left", False))
        self._decoder: _Decoder = (
            _LeftwardDecoder() if self._leftward else codecs.getincrementaldecoder("utf-8")("replace")
        )
        self._stops = _StopFinder([self._in_order(string) for string in stop])
        self._pieces: list[str] = []

    def _in_order(self, text: str) -> str:
        """Turn text of either direction into the order in which its characters arrive, and back."""
        return text[::-1] if self._leftward else text

    def push(self, token: int | None, last: bool = False) -> str:
        """Return the text that one more token settles.

        Parameters
        ----------
        token : int or None
            The token; None stands for one without text, such as the end of the sequence.
        last : bool, default False
            If true, nothing is held back.
        """
        data = b"" if token is None else self._tokenizer.token_bytes(token)
        arrived = self._in_order(self._decoder.decode(data, last))
        piece = self._in_order(self._stops.push(arrived, last))
        self._pieces.append(piece)
        return piece

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._stops.found

    @property
    def text(self) -> str:
        """All pieces, joined in the order of reading."""
        return "".join(reversed(self._pieces) if self._leftward else self._pieces)

# SPDX-License-Identifier: Apache-2.0
"""The byte-pair tokenizer that a GGUF file describes, run by the package `tokenizers`.

What a token stands for is known here as bytes; text is only split and merged there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from tokendraw.models.gguf import optional_library

__all__ = ["GgufTokenizer", "read_tokenizer"]

# Token types of the format: control tokens stand for no text, user-defined ones for their own text.
_CONTROL, _USER_DEFINED = 3, 4

# How text is cut before merges, by the file's name for it. Source: llm_tokenizer_bpe in llama.cpp's
# src/llama-vocab.cpp; ByteLevel without a pattern of its own cuts as GPT-2 did.
_GPT2 = "gpt-2"
_DIGITS_ALONE = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_KNOWN = (_GPT2, *_DIGITS_ALONE, *_LLAMA3)


@cache
def _byte_of_character() -> dict[str, int]:
    """Return the alphabet of byte-level vocabularies: printable bytes as they are, the others from 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class GgufTokenizer:
    """A byte-level BPE tokenizer with the tables of a GGUF file.

    Control tokens such as ``<|im_start|>`` are found in text that is encoded, so that a chat can be written
    as text; they stand for no text themselves.

    Parameters
    ----------
    texts : sequence of str
        Every token, in the alphabet of byte-level vocabularies.
    merges : sequence of str
        The pairs that are merged, in order, each as two tokens with a space between.
    kinds : sequence of int, optional
        Token types of the format; by default all tokens are ordinary.
    splits : str, default "gpt-2"
        The format's name for the way in which text is cut before merging.
    """

    def __init__(
        self,
        texts: Sequence[str],
        merges: Sequence[str],
        kinds: Sequence[int] | None = None,
        splits: str = _GPT2,
    ) -> None:
        if splits not in _KNOWN:
            raise ValueError(f"tokenizer.ggml.pre must be one of {', '.join(_KNOWN)}, got {splits!r}")
        if kinds is not None and len(kinds) != len(texts):
            raise ValueError(f"there must be one type per token, got {len(kinds)} for {len(texts)} tokens")
        library = optional_library("tokenizers")
        self._texts = tuple(texts)
        self._kinds = {
            token: kind for token, kind in enumerate(kinds or ()) if kind in (_CONTROL, _USER_DEFINED)
        }
        pairs = [tuple(merge.split(" ")) for merge in merges]
        vocabulary = {text: token for token, text in enumerate(texts)}
        try:
            model = library.models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=splits in _LLAMA3)
        except Exception as error:  # which class the library raises is not promised
            raise ValueError(f"merges must join two tokens to a third: {error}") from error
        self._engine = library.Tokenizer(model)
        self._engine.pre_tokenizer = _pre_tokenizer(library, splits)
        self._engine.add_tokens(
            [library.AddedToken(texts[token], normalized=False, special=True) for token in self._kinds]
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._texts)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without a beginning or end of its own.

        Parameters
        ----------
        text : str
            Any text.

        Returns
        -------
        list of int
            Its ids.
        """
        ids: list[int] = self._engine.encode(text, add_special_tokens=False).ids
        return ids

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes one id stands for; none for a control token.

        Raises
        ------
        ValueError
            If the id is not in the vocabulary.
        """
        if not 0 <= token < len(self._texts):
            raise ValueError(f"token ids must be in [0, {len(self._texts)}), got {token}")
        kind, text = self._kinds.get(token), self._texts[token]
        if kind == _CONTROL:
            return b""
        alphabet = _byte_of_character()
        if kind == _USER_DEFINED or not all(character in alphabet for character in text):
            return text.encode()
        return bytes(alphabet[character] for character in text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, with U+FFFD where the bytes are not UTF-8."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")


def _pre_tokenizer(library: Any, splits: str) -> Any:
    cuts = library.pre_tokenizers
    as_gpt2 = cuts.ByteLevel(add_prefix_space=False)
    if splits == _GPT2:
        return as_gpt2
    if splits in _DIGITS_ALONE:
        return cuts.Sequence([cuts.Digits(individual_digits=True), as_gpt2])
    words = cuts.Split(library.Regex(_LLAMA3_WORDS), behavior="isolated")
    return cuts.Sequence([words, cuts.ByteLevel(add_prefix_space=False, use_regex=False)])


def read_tokenizer(metadata: Mapping[str, Any]) -> GgufTokenizer | None:
    """Return the tokenizer in the metadata of a GGUF file.

    Parameters
    ----------
    metadata : mapping
        As in `tokendraw.models.gguf.GgufFile`.

    Returns
    -------
    GgufTokenizer or None
        None where the file describes no tokenizer.

    Raises
    ------
    ValueError
        If it describes one of another kind.
    """
    model = metadata.get("tokenizer.ggml.model", "none")
    if model in ("none", "no_vocab"):
        return None
    if model != "gpt2":
        raise ValueError(f"tokenizer.ggml.model must be 'gpt2' (byte-level BPE), got {model!r}")
    texts, merges = _table(metadata, "tokens", str), _table(metadata, "merges", str)
    kinds = _table(metadata, "token_type", int) if "tokenizer.ggml.token_type" in metadata else None
    return GgufTokenizer(texts, merges, kinds, metadata.get("tokenizer.ggml.pre", _GPT2))


def _table(metadata: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        named = "strings" if kind is str else "integers"
        raise ValueError(f"tokenizer.ggml.{name} must be a list of {named}, got {repr(values)[:40]}")
    return values

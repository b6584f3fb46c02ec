# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokendraw as td
from tests.models.tiny_llama import METADATA, random_tensors, write_gguf
from tokendraw.models.gguf_tokenizer import GgufTokenizer, read_tokenizer

pytest.importorskip("tokenizers", reason='tokenizers is not installed: pip install "tokendraw[gguf]"')

CONTROL, USER_DEFINED = 3, 4


def alphabet() -> list[str]:
    """Return the characters that stand for the 256 bytes, as GPT-2's encoder.py makes them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(others)) for byte in range(256)]


# Ids are the bytes, then what is merged, then what stands apart.
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "1 2", "12 3", "Ġ Ġ", "o w"]
TEXTS = [*alphabet(), *(merge.replace(" ", "") for merge in MERGES), "<|end|>", "<name>"]
KINDS = [1] * (256 + len(MERGES)) + [CONTROL, USER_DEFINED]
END, NAME = len(TEXTS) - 2, len(TEXTS) - 1


def made(splits: str = "gpt-2") -> GgufTokenizer:
    return GgufTokenizer(TEXTS, MERGES, KINDS, splits)


def pieces(splits: str, text: str) -> list[bytes]:
    tokenizer = made(splits)
    return [tokenizer.token_bytes(token) for token in tokenizer.encode(text)]


class TestRoundTrip:
    @pytest.mark.parametrize("splits", ["gpt-2", "smollm", "llama-bpe"])
    @given(text=st.text())
    def test_any_text(self, splits: str, text: str) -> None:
        tokenizer = made(splits)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()

    def test_every_byte_has_its_token(self) -> None:
        assert [made().token_bytes(token) for token in range(256)] == [bytes([byte]) for byte in range(256)]

    def test_halves_of_characters(self) -> None:
        tokenizer = made()
        ids = tokenizer.encode("é")
        assert len(ids) == 2
        assert tokenizer.decode(ids[:1]) == "\ufffd"


class TestMerges:
    def test_merges_go_by_rank(self) -> None:
        assert pieces("gpt-2", "hello world") == [b"hello", b" w", b"o", b"r", b"l", b"d"]
        assert pieces("gpt-2", "low") == [b"l", b"ow"]

    def test_digits(self) -> None:
        """In words of digits; one by one; by three."""
        assert pieces("gpt-2", "12123") == [b"12", b"123"]
        assert pieces("smollm", "12123") == [b"1", b"2", b"1", b"2", b"3"]
        assert pieces("llama-bpe", "12123") == [b"12", b"1", b"2", b"3"]

    def test_only_one_kind_takes_whole_words_from_the_vocabulary(self) -> None:
        """A word that no merges lead to is a token where merges may be ignored."""
        texts = [*alphabet(), "xyz"]
        assert len(GgufTokenizer(texts, []).encode("xyz")) == 3
        assert GgufTokenizer(texts, [], splits="llama-bpe").encode("xyz") == [256]


class TestTokensApart:
    def test_they_are_found_in_text(self) -> None:
        tokenizer = made()
        assert tokenizer.encode("hello<|end|>hello") == [259, END, 259]
        assert tokenizer.encode("<name>") == [NAME]

    def test_control_tokens_have_no_text(self) -> None:
        tokenizer = made()
        assert tokenizer.token_bytes(END) == b""
        assert tokenizer.token_bytes(NAME) == b"<name>"
        assert tokenizer.decode([259, END, NAME]) == "hello<name>"


class TestRefusals:
    @pytest.mark.parametrize("token", [-1, len(TEXTS)])
    def test_ids(self, token: int) -> None:
        with pytest.raises(ValueError, match=rf"^token ids must be in \[0, {len(TEXTS)}\), got {token}$"):
            made().token_bytes(token)

    def test_tables(self) -> None:
        with pytest.raises(
            ValueError, match=r"^tokenizer.ggml.pre must be one of gpt-2, smollm, .*, got 'x'$"
        ):
            made("x")
        with pytest.raises(ValueError, match=r"^there must be one type per token, got 1 for 267 tokens$"):
            GgufTokenizer(TEXTS, MERGES, [1])
        with pytest.raises(ValueError, match=r"^merges must join two tokens to a third: "):
            GgufTokenizer(TEXTS, ["q z"])
        with pytest.raises(ValueError, match=r"^merges must join two tokens to a third: "):
            GgufTokenizer(TEXTS, ["h"])

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ({"model": "llama"}, "tokenizer.ggml.model must be 'gpt2' (byte-level BPE), got 'llama'"),
            ({"merges": ["a b"]}, "tokenizer.ggml.tokens must be a list of strings, got None"),
            ({"tokens": [1], "merges": []}, "tokenizer.ggml.tokens must be a list of strings, got [1]"),
            ({"tokens": ["a"], "merges": "a"}, "tokenizer.ggml.merges must be a list of strings, got 'a'"),
            (
                {"tokens": ["a"], "merges": [], "token_type": 1},
                "tokenizer.ggml.token_type must be a list of integers, got 1",
            ),
        ],
    )
    def test_metadata(self, metadata: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            read_tokenizer(named({"model": "gpt2"} | metadata))


TABLES: dict[str, Any] = {
    "model": "gpt2",
    "pre": "smollm",
    "tokens": TEXTS,
    "token_type": KINDS,
    "merges": MERGES,
    "bos_token_id": END,
    "eos_token_id": END,
}


def named(tables: dict[str, Any]) -> dict[str, Any]:
    return {f"tokenizer.ggml.{name}": value for name, value in tables.items()}


class TestInAModel:
    def written(self, tmp_path: Path, vocab: int = len(TEXTS), **tables: Any) -> Path:
        return write_gguf(tmp_path / "a.gguf", random_tensors(vocab), METADATA | named(TABLES | tables))

    def test_text_is_generated(self, tmp_path: Path) -> None:
        model = td.models.load(self.written(tmp_path))
        assert (model.bos_token_id, model.eos_token_id) == (END, END)
        [found] = td.generate(model, "hello 123", max_new_tokens=8, seed=1)
        ended = [token for token in found.tokens if token != END]
        assert found.text == model.tokenizer.decode(ended)
        assert td.generate(model, model.tokenizer.encode("hello 123"), max_new_tokens=8, seed=1) == [found]

    @pytest.mark.parametrize(
        ("tables", "begins"),
        [
            ({}, False),
            ({"add_bos_token": True}, True),
            ({"pre": "llama-bpe"}, True),
            ({"pre": "llama-bpe", "add_bos_token": False}, False),
        ],
    )
    def test_whether_rows_begin_with_bos(self, tmp_path: Path, tables: dict[str, Any], begins: bool) -> None:
        model = td.models.load(self.written(tmp_path, **tables))
        state, _ = model.start([[1, 2]])
        assert state.lengths.tolist() == [3 if begins else 2]

    def test_a_vocabulary_of_another_size(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"^the tokenizer must have 300 ids, got 267$"):
            td.models.load(self.written(tmp_path, vocab=300))

    def test_a_model_without_text(self, tmp_path: Path) -> None:
        model = td.models.load(write_gguf(tmp_path / "a.gguf", random_tensors()))
        assert model.tokenizer is None
        with pytest.raises(ValueError, match=r"^a text prompt needs a model with a tokenizer, got 'hello' "):
            td.generate(model, "hello", max_new_tokens=1)

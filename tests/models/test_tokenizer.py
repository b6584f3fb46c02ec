# SPDX-License-Identifier: Apache-2.0
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendraw.models import load
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer

TEXTS = [
    "And the LORD spake unto Moses, saying, Speak unto the children of Israel, and say unto them,",
    "Él habló: ¿qué?  Y a las 12 dijo... «ñandú»\n\n\tfin",
    "aaaa aaa aa a aaaaa",
]
SMALL = Tokenizer.train(TEXTS, vocab_size=270)
ENGLISH = load("kjv").tokenizer
utf8_text = st.text(st.characters(exclude_categories=["Cs"]))
likely_text = st.lists(st.sampled_from([" the", "LORD", "ñ", " ", "\n", "'s", "12", "—", "\x00"])).map(
    "".join
)


@pytest.mark.parametrize("tokenizer", [SMALL, ENGLISH, SMALL.reversed(), ENGLISH.reversed()])
class TestRoundTrip:
    @given(text=utf8_text | likely_text)
    def test_text(self, tokenizer: Tokenizer, text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    @given(data=st.binary())
    def test_bytes(self, tokenizer: Tokenizer, data: bytes) -> None:
        ids = tokenizer.encode_bytes(data)
        assert SEPARATOR not in ids
        assert tokenizer.decode_bytes(ids) == data

    def test_every_token_decodes_to_its_bytes(self, tokenizer: Tokenizer) -> None:
        for token in range(tokenizer.vocab_size):
            assert tokenizer.decode_bytes([token]) == tokenizer.token_bytes(token)


def test_ids_are_bytes_then_separator_then_merges() -> None:
    assert [SMALL.token_bytes(token) for token in range(256)] == [bytes([value]) for value in range(256)]
    assert SMALL.token_bytes(SEPARATOR) == b""
    assert all(len(SMALL.token_bytes(token)) > 1 for token in range(SEPARATOR + 1, SMALL.vocab_size))


def test_training_does_not_depend_on_the_order_of_texts() -> None:
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    assert shuffled != TEXTS
    assert Tokenizer.train(shuffled, vocab_size=270).merges == SMALL.merges


def test_the_most_frequent_pair_is_merged_first_and_ties_by_smallest_ids() -> None:
    assert Tokenizer.train(["xy\nxy\nab\nab\nab"], vocab_size=258).merges == ((ord("a"), ord("b")),)
    assert Tokenizer.train(["xy\nab\nxy\nab"], vocab_size=258).merges == ((ord("a"), ord("b")),)


def test_training_matches_a_recount_after_every_merge() -> None:
    """The counts are kept up to date by differences; here they are made anew for each merge."""
    words = [list(word.encode()) for word in ["abab", "ababa", "bab", "aab", "aaaa"]]
    merges = []
    for token in range(257, 263):
        counts: dict[tuple[int, int], int] = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < 2:
            break
        merges.append(best)
        for word in words:
            place = 0
            while place + 1 < len(word):
                if (word[place], word[place + 1]) == best:
                    word[place : place + 2] = [token]
                place += 1
    # A line end before each word keeps the words apart without becoming part of them.
    trained = Tokenizer.train(["abab\nababa\nbab\naab\naaaa"], vocab_size=257 + len(merges))
    assert trained.merges == tuple(merges)


def test_training_stops_when_no_pair_occurs_twice() -> None:
    assert Tokenizer.train(["abcd"]).vocab_size == 257
    assert Tokenizer.train([]).vocab_size == 257


def test_merges_apply_in_the_order_they_were_learned() -> None:
    tokenizer = Tokenizer([(ord("b"), ord("c")), (ord("a"), ord("b"))])
    assert tokenizer.encode("abc") == [ord("a"), 257]
    assert tokenizer.encode("ab") == [258]


def test_long_words_are_encoded_in_linear_time() -> None:
    ids = SMALL.encode("a" * 200_000)
    assert SMALL.decode(ids) == "a" * 200_000


def test_encoding_returns_a_new_list_each_time() -> None:
    SMALL.encode("the").clear()
    assert SMALL.decode(SMALL.encode("the")) == "the"


def test_reversed_reads_from_the_end() -> None:
    text = "And the LORD spake"
    assert ENGLISH.reversed().encode(text) == ENGLISH.encode(text)[::-1]
    assert ENGLISH.reversed().reversed().encode(text) == ENGLISH.encode(text)


def test_invalid_utf8_is_replaced() -> None:
    assert SMALL.decode([0xFF, ord("a"), 0xC3]) == "\ufffda\ufffd"


@pytest.mark.parametrize("token", [-1, 270])
def test_ids_outside_the_vocabulary(token: int) -> None:
    with pytest.raises(ValueError, match=rf"^token ids must be in \[0, 270\), got {token}$"):
        SMALL.decode([token])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="vocab_size must be at least 257, got 256"):
        Tokenizer.train(TEXTS, vocab_size=256)
    with pytest.raises(ValueError, match=r"a merge joins two earlier tokens, got \(97, 257\) for token 257"):
        Tokenizer([(97, 257)])
    with pytest.raises(UnicodeEncodeError):
        SMALL.encode("\ud800")

# SPDX-License-Identifier: Apache-2.0
"""Text that grows token by token equals the text of all tokens, however it is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendraw.text import TextStream


class Pieces:
    """A tokenizer whose token i stands for the i-th piece of bytes."""

    def __init__(self, pieces, right_to_left=False):
        self.pieces = pieces
        self.right_to_left = right_to_left

    def token_bytes(self, token):
        return self.pieces[token]


def stream_pieces(pieces, stop=(), right_to_left=False):
    """Return the settled texts up to the first complete stop string, and the stream."""
    if right_to_left:
        pieces = pieces[::-1]
    stream = TextStream(Pieces(pieces, right_to_left), stop)
    settled = []
    for token in range(len(pieces)):
        settled.append(stream.push(token, last=token == len(pieces) - 1))
        if stream.stopped:
            break
    return settled, stream


def cut(data, places):
    """Return the data in pieces."""
    borders = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(borders)]


places = st.lists(st.integers(0, 1000), max_size=8)
both_directions = pytest.mark.parametrize("right_to_left", [False, True])


@both_directions
@given(text=st.text(max_size=12), places=places)
def test_cut_characters_are_put_together(right_to_left, text, places):
    settled, stream = stream_pieces(cut(text.encode(), places), right_to_left=right_to_left)
    assert "".join(settled[::-1] if right_to_left else settled) == stream.text == text
    assert not stream.stopped


@both_directions
@given(data=st.binary(max_size=12), places=places)
def test_bytes_that_are_no_text_become_replacement_characters(right_to_left, data, places):
    _, stream = stream_pieces(cut(data, places), right_to_left=right_to_left)
    assert stream.text == data.decode("utf-8", errors="replace")


def first_stop(text, stops):
    """Return the text before the stop string that is complete first, None if there is none."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return None


@both_directions
@given(
    text=st.text("abé", max_size=12),
    stops=st.lists(st.text("abé", min_size=1, max_size=4), max_size=3),
    places=places,
)
def test_text_ends_before_the_stop_string_that_is_complete_first(right_to_left, text, stops, places):
    _, stream = stream_pieces(cut(text.encode(), places), stops, right_to_left)
    if right_to_left:
        expected = first_stop(text[::-1], [stop[::-1] for stop in stops])
        expected = expected and expected[::-1]
    else:
        expected = first_stop(text, stops)
    assert stream.stopped == (expected is not None)
    assert stream.text == (text if expected is None else expected)


def test_possible_beginnings_of_a_stop_string_are_held_back():
    settled, stream = stream_pieces([b"one\n", b"two\n", b"\nthree"], stop=["\n\n"])
    assert settled == ["one", "\ntwo", ""]
    assert stream.stopped


def test_held_text_is_settled_by_the_last_token():
    settled, stream = stream_pieces([b"one", b"\n"], stop=["\n\n"])
    assert settled == ["one", "\n"]
    assert not stream.stopped


def test_a_token_without_text_settles_what_was_held_back():
    stream = TextStream(Pieces([b"a\n", b"\xe2\x82"]), stop=["\n\n"])
    assert [stream.push(0), stream.push(1)] == ["a", ""]
    assert stream.push(None, last=True) == "\n\N{REPLACEMENT CHARACTER}"


def test_leftward_text_waits_for_the_byte_that_leads_a_character():
    settled, _ = stream_pieces([b"x\xf0\x9f", b"\x98", b"\x80"], right_to_left=True)
    assert settled == ["", "", "x\N{GRINNING FACE}"]

# SPDX-License-Identifier: Apache-2.0
"""Exercises: what is wrong is wrong in exactly one place, files say what is wrong with them."""

import json
import random
import re
from collections import Counter
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendraw.lab.exercises import (
    Corruption,
    Exercise,
    Lexicon,
    arithmetic,
    from_text,
    read_exercises,
    replace_name,
    replace_number,
    replace_word,
    split_steps,
    swap_words,
    verses,
    write_exercises,
    wrong_digit,
)

TEXT = """In the land of Uz lived two men, and their names were Bildad and Job.
And Bildad went up to see the land of Job, and he stayed seven days.
Then Job said to him, Go up and see the land, for I have seen it.

Now the days were long in the land, and the nights were short.
And the two men were glad of the nights, and they said to Bildad and to Job, Sing."""


def one_place(true: str, wrong: str) -> tuple[str, str]:
    """Return what differs between two texts, words of which the rest is equal."""
    ours, theirs = (re.findall(r"\w+(?:'\w+)*|\s+|[^\w\s]+", text) for text in (true, wrong))
    head = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))))
    left, right = ours[head:], theirs[head:]
    ends = zip(reversed(left), reversed(right), strict=False)
    tail = len(list(takewhile(lambda pair: pair[0] == pair[1], ends)))
    return "".join(left[: len(left) - tail]), "".join(right[: len(right) - tail])


def of_kind(exercises: list[Exercise], kind: str) -> list[tuple[str, str]]:
    pairs = [
        (step, each.text)
        for exercise in exercises
        for step, own in zip(exercise.steps, exercise.corruptions, strict=True)
        for each in own
        if each.kind == kind
    ]
    assert pairs, kind
    return [one_place(*pair) for pair in pairs]


# --- Corruptions of text -----------------------------------------------------------------------------------


@pytest.mark.parametrize("exercises", [verses(), from_text(TEXT, seed=3)], ids=["shipped", "made"])
class TestOnePlace:
    def test_swapped_words_are_neighbours(self, exercises):
        for true, wrong in of_kind(exercises, "swap"):
            first, second = true.split(" ")
            assert wrong == f"{second} {first}"
            assert first != second

    def test_a_word_is_replaced_by_one_word(self, exercises):
        for true, wrong in of_kind(exercises, "word"):
            assert re.fullmatch(r"[a-z]+(['-][a-z]+)*", true)
            assert re.fullmatch(r"[a-z]+(['-][a-z]+)*", wrong)
            assert abs(len(true) - len(wrong)) <= 2

    def test_a_name_is_replaced_by_a_name(self, exercises):
        for true, wrong in of_kind(exercises, "name"):
            assert true[0].isupper()
            assert wrong[0].isupper()
            assert true.isupper() == wrong.isupper()

    def test_a_number_is_replaced_by_a_number(self, exercises):
        for true, wrong in of_kind(exercises, "number"):
            assert replace_number(true, random.Random(0))
            assert replace_number(wrong, random.Random(0))

    def test_steps_have_at_least_two_kinds_nearly_always(self, exercises):
        counts = Counter(len(own) for each in exercises for own in each.corruptions)
        assert counts[0] == 0
        assert counts[1] <= 0.01 * counts.total()


@given(st.text(alphabet="ab .,A1", max_size=40), st.integers(0, 2**32))
def test_a_corruption_is_none_or_differs(text, seed):
    lexicon = Lexicon("a b ab ba aa bb. b A a B, A 1")
    for wrong in (
        swap_words(text, random.Random(seed)),
        replace_word(text, lexicon, random.Random(seed)),
        replace_name(text, lexicon, random.Random(seed)),
        replace_number(text, random.Random(seed)),
    ):
        assert wrong is None or wrong != text


@pytest.mark.parametrize("text", ["", "Selah.", "the the the", "GOD God"])
def test_what_cannot_be_swapped(text):
    assert swap_words(text, random.Random(0)) is None


def test_what_cannot_be_replaced():
    lexicon = Lexicon("one word, Then Peter")
    assert replace_word("Peter 17 two", lexicon, random.Random(0)) is None
    assert replace_name("one word", lexicon, random.Random(0)) is None
    assert replace_number("one word", random.Random(0)) is None


def test_names_stand_within_a_sentence_and_have_no_lower_case():
    lexicon = Lexicon(
        "Then saith Peter (Simon) to Andrew: The LORD and I go. And the Lord came, then Then went."
    )
    assert lexicon.names == {"Peter", "Simon", "Andrew", "LORD", "Lord"}
    assert Lexicon("Rain. (Snow came.) Hail! Then: Sun? Moon").names == set(), "each begins a sentence"


def test_words_of_like_frequency_come_first():
    common, rare = ["the", "and", "of"], ["oxen", "asps", "elms"]
    lexicon = Lexicon(" ".join([*common * 40, *rare]))
    assert lexicon.like("the") == ["and", "of"]
    assert lexicon.like("oxen") == ["asps", "elms"]
    assert lexicon.like("tree") == ["and", "asps", "elms", "of", "oxen", "the"], "none is as rare"
    assert lexicon.like("seventh") == [], "all are more than two letters shorter"
    assert lexicon.like("The") == [], "none has a capital"


@given(st.text(alphabet="ab ,.;\t", max_size=60))
def test_the_steps_of_a_line_are_the_line(line):
    steps = split_steps(line)
    assert "".join(steps) == line
    assert all(steps)


def test_exercises_from_a_text():
    made = from_text(TEXT, family="tale")
    assert [each.name for each in made] == ["1:2", "1:3", "2:2"]
    assert {each.family for each in made} == {"tale"}
    lines = TEXT.split("\n")
    assert made[1].prompt == lines[1] + "\n"
    assert "".join(made[1].steps) == lines[2]


def test_lines_are_taken_from_all_documents_alike():
    assert [each.name.split(":")[0] for each in from_text(TEXT, 2)] == ["1", "2"]


def test_the_seed_decides():
    assert from_text(TEXT, seed=1) == from_text(TEXT, seed=1)
    assert from_text(TEXT, seed=1) != from_text(TEXT, seed=2)
    assert arithmetic(5, seed=1) == arithmetic(5, seed=1)
    assert arithmetic(5, seed=1) != arithmetic(5, seed=2)


@pytest.mark.parametrize("text", ["", "One line only, and no other.", "Two.\n\nDocuments."])
def test_a_text_without_exercises(text):
    message = "a text must have a line after another, of two steps and at most 240 characters, got none"
    with pytest.raises(ValueError, match=message):
        from_text(text)


def test_the_count_of_a_text():
    with pytest.raises(ValueError, match="count must be >= 1, got 0"):
        from_text(TEXT, 0)


def test_the_shipped_verses():
    shipped = verses()
    assert len(shipped) == 234
    assert len({each.name for each in shipped}) == 234
    assert {each.family for each in shipped} == {"verses"}
    assert all(each.prompt.endswith("\n") and len(each.steps) >= 2 for each in shipped)
    assert len({each.name.split(":")[0] for each in shipped}) == 59, "every held-out chapter"


# --- Arithmetic --------------------------------------------------------------------------------------------

EQUATION = re.compile(r"([\d +*]+) = (\d+)")


def value_of(term: str) -> int:
    """Return the value of sums of products."""
    total = 0
    for product in term.split("+"):
        factors = 1
        for factor in product.split("*"):
            factors *= int(factor)
        total += factors
    return total


@pytest.mark.parametrize("operation", ["sum", "product"])
class TestArithmetic:
    def test_the_true_steps_are_true(self, operation):
        for exercise in arithmetic(200, operation=operation, seed=4):
            units, tens, answer = exercise.steps
            for term, value in EQUATION.findall(units + tens):
                assert value_of(term) == int(value)
            assert answer == f"Answer: {value_of(exercise.name)}\n"
            carry = int(re.search(r"carry (\d+)", units)[1])
            assert carry == int(EQUATION.search(units)[2]) // 10
            assert exercise.prompt.endswith(f"\n{exercise.name}\n")

    def test_one_number_is_wrong_and_as_long(self, operation):
        for exercise in arithmetic(50, operation=operation, seed=5):
            for step, own in zip(exercise.steps, exercise.corruptions, strict=True):
                assert len({each.text for each in own}) == len(own) >= 2
                assert [each.kind for each in own].count("result") == 2
                for each in own:
                    ours, theirs = (re.findall(r"\d+", text) for text in (step, each.text))
                    assert [len(number) for number in ours] == [len(number) for number in theirs]
                    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) == 1
                    assert re.sub(r"\d+", "#", step) == re.sub(r"\d+", "#", each.text)

    def test_what_the_prompt_shows_is_not_asked(self, operation):
        many = arithmetic(700, operation=operation)
        assert len({each.name for each in many}) == 700
        for each in many:
            assert each.prompt.splitlines().count(each.name) == 1


def test_a_wrong_digit_is_one_digit_or_two_exchanged():
    seen = {wrong_digit("a 47 b", 0, random.Random(seed)) for seed in range(400)}
    digits = {
        f"a {4 if place else digit}{digit if place else 7} b" for place in (0, 1) for digit in range(10)
    }
    assert seen == digits - {"a 47 b", "a 07 b"} | {"a 74 b"}


@pytest.mark.parametrize("count", [0, 8099])
def test_the_count_of_sums(count):
    with pytest.raises(ValueError, match=rf"count must be in \[1, 8098\], got {count}"):
        arithmetic(count)


def test_an_operation_that_is_none():
    with pytest.raises(ValueError, match="operation must be one of 'sum', 'product', got 'quotient'"):
        arithmetic(operation="quotient")


# --- Exercises and files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": []}, "an exercise must have at least one step, got none"),
        ({"steps": ["a", ""]}, r"a step must not be empty \(step 1\)"),
        ({"corruptions": [[Corruption("")]]}, r"a step must not be empty \(step 0\)"),
        ({"corruptions": [[Corruption("a")]]}, r"a corruption must differ from its step, got 'a' \(step 0\)"),
        ({"corruptions": [[], []]}, r"corruptions must be one list per step \(1\), got 2 of them"),
        ({"prompt": [1]}, "an exercise must be all text or all token ids, got both"),
        ({"prompt": 3}, "the prompt must be text or a list of token ids, got 3"),
        ({"prompt": b"x"}, "the prompt must be text or a list of token ids, got b'x'"),
        ({"steps": [[1, -1]]}, r"step 0 must be text or a list of token ids, got \[1, -1\]"),
        ({"steps": [[True]]}, r"step 0 must be text or a list of token ids, got \[True\]"),
    ],
)
def test_an_exercise_that_is_none(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Exercise(**{"prompt": "p", "steps": ["a"], **arguments})


def test_what_is_written_is_read(tmp_path):
    wrong = [[Corruption(" née", "word"), Corruption(" nee", "word"), Corruption(" n", "cut")], []]
    ours = [
        Exercise("Il est", [" né", "."], wrong, family="français", name="1"),
        Exercise([1, 2], [[3], [4, 5]], [[Corruption((4,))], [Corruption((5, 4))]]),
        Exercise("", ["x"]),
        *verses()[:5],
    ]
    write_exercises(tmp_path / "ours.jsonl", ours)
    assert read_exercises(tmp_path / "ours.jsonl") == ours


def test_empty_lines_are_passed_over(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'\n{"prompt": "a", "steps": ["b"]}\r\n\n  \n')
    assert read_exercises(path) == [Exercise("a", ["b"])]


GOOD = '{"prompt": "a", "steps": ["b"]}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"a line must be a JSON object: Expecting property name .*"),
        ("[1]", r"a line must be a JSON object, got \[1\]"),
        ("{}", "an exercise must have 'prompt', got nothing"),
        ('{"prompt": "a"}', "an exercise must have 'steps', got 'prompt'"),
        ('{"prompt": "a", "steps": []}', "an exercise must have at least one step, got none"),
        ('{"prompt": "a", "steps": "b"}', "'steps' must be a list, got 'b'"),
        ('{"prompt": "a", "steps": ["b", 1]}', "step 1 must be text or a list of token ids, got 1"),
        ('{"prompt": "a", "steps": ["b"], "step": 1}', "a key must be one of prompt, .*, got 'step'"),
        ('{"prompt": "a", "steps": ["b"], "name": 7}', "'name' must be text, got 7"),
        (
            '{"prompt": "a", "steps": ["b"], "corruptions": ["c"]}',
            "the corruptions of a step must be a list, or lists by kind, got 'c'",
        ),
        (
            '{"prompt": "a", "steps": ["b"], "corruptions": [{"swap": "c"}]}',
            "'corruptions' must be a list, got 'c'",
        ),
        (
            '{"prompt": "a", "steps": ["b"], "corruptions": [["b"]]}',
            r"a corruption must differ from its step, got 'b' \(step 0\)",
        ),
    ],
)
def test_a_line_that_is_no_exercise(tmp_path, line, message):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{message} \(line 3 of .*mine\.jsonl\)$"):
        read_exercises(path)


def test_a_file_that_ends_in_the_middle_of_a_character(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes((GOOD + "\n" + GOOD.replace("b", "né")).encode()[:-4])
    with pytest.raises(ValueError, match=r"must be UTF-8, got b'\\xc3' \(line 2 of .*mine\.jsonl\)$"):
        read_exercises(path)


def test_a_file_without_exercises(tmp_path):
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(
        ValueError, match=r"a file of exercises must hold at least one, got none in .*none\.jsonl"
    ):
        read_exercises(tmp_path / "none.jsonl")


def test_the_shipped_file_is_in_the_format_of_the_page(tmp_path):
    write_exercises(tmp_path / "again.jsonl", verses())
    first = json.loads((tmp_path / "again.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert list(first) == ["family", "name", "prompt", "steps", "corruptions"]
    assert set(first["corruptions"][0]) <= {"swap", "word", "name", "number"}

